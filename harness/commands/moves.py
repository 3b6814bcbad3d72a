"""What people do to a rollout: approve, waive, pause, resume, rollback. Each adds one record to the journal, or none and says why. It
waits for nothing: what the numbers that a person saw rest on is sealed by the controller afterwards.

Each reads where the rollout stands, refuses what cannot count, and appends behind the record that it read. If somebody was faster it
reads again: what was true of the old state must be true of the new one. Done again, it finds its own record and adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.config import durations
from harness.core.errors import HeadMoved, UsageError
from harness.core.reading import microseconds, timestamp
from harness.core.records import Author, body, parse
from harness.core.rollout import Rollout
from harness.core.stages import WAIVER_PEOPLE, Standing, State, counts_as_approval, fold, is_author, named, person, still_wanted
from harness.ports.clock import Clock
from harness.ports.journal import Journal
from harness.roles.standing import Follower

LONGEST_REASON = 1_000
TRIES = 20


class Refused(UsageError):
    """What cannot count where the rollout stands now, or of this person. Nothing was recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What became of a command. added: whether it added a record; says: the same for people; state: where the rollout stands now."""

    added: bool
    says: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """A record that a command would add, and what it says when it has."""

    kind: str
    by: Author
    says: Callable[[State], str]
    more: Mapping[str, Any] = field(default_factory=dict)


_Consider = Callable[[State], "_Record | str"]
"""A state to the record that follows, or to why there is nothing to add any more. Raises Refused."""


def document(name: str, moved: Moved) -> dict[str, Any]:
    """What became of a command, for machines."""
    state = moved.state
    return {
        "rollout": name, "recorded": moved.added, "says": moved.says, "standing": state.standing.value, "stage": state.stage,
        "head": state.head,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------- moves
def approve(
    rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, roles: Sequence[str], reason: str, verdict: Mapping[str, Any],
    stage: int | None = None,
) -> Moved:  # fmt: skip
    """One person's approval of the next stage. stage: its index, if the person named it; without, the one that is next now.

    roles: those that the person may speak in; the one that the stage asks for is recorded. verdict: what the person saw, the object
    of verdict.json. Raises Refused; UsageError for an empty reason.
    """
    target = _standing(journal).stage + 1 if stage is None else stage

    def consider(state: State) -> _Record | str:
        _not_ended(state)
        _is_next(rollout, state, target)
        wanted, what = rollout.stages[target], named(rollout, target)
        if is_author(state, by.name):
            raise Refused(f"{by.name} registered this config, and the author's own approval does not count; ask somebody else")
        role = next((role for role in roles if role in wanted.roles), None) if wanted.roles else next(iter(roles), None)
        if wanted.roles and role is None:
            has = f"has {', '.join(roles)}" if roles else "has none"
            raise Refused(f"{what} is approved in the role {' or '.join(wanted.roles)}; the token of {by.name} {has}")
        if any(person(said.by) == person(by.name) and counts_as_approval(wanted, state, said) for said in state.approvals):
            return f"{by.name} has approved {what} already"
        return _Record(
            kind="approved", by=replace(by, role=role), more={"stage": target, **_seen(verdict)},
            says=lambda state: f"approved: {what}; {still_wanted(wanted, state) or 'it has the approvals it needs'}",
        )  # fmt: skip

    return _add(rollout, journal, clock, by=by, reason=reason, consider=consider)


def waive(
    rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, reason: str, gate: str, expires: str, verdict: Mapping[str, Any]
) -> Moved:
    """One person's waiver of a gate in this stage; two people's count. expires: an RFC 3339 record time, or a duration after the last
    look (before the first one, after now). verdict: what the person saw. Raises Refused; UsageError."""
    look = microseconds(verdict["as_of"])
    after = clock.now() if look is None else look
    until = _until(expires, after)
    counted = [each.name for each in rollout.gates if each.counted]
    if gate not in counted:
        raise UsageError(f"gate {gate}: no gate of this name counts in rollout {rollout.name}; it has {', '.join(counted) or 'none'}")
    if until <= after:
        raise UsageError(f"expires: {timestamp(until)} is not after {timestamp(after)}, the record time that the verdict has reached")

    def consider(state: State) -> _Record | str:
        _not_ended(state)
        if is_author(state, by.name):
            raise Refused(f"{by.name} registered this config, and the author's own waiver does not count; ask somebody else")
        mine = [said for said in state.waivers if said.gate == gate and person(said.by) == person(by.name) and said.expires >= after]
        if mine:
            return f"{by.name} has waived {gate} already, until {timestamp(max(said.expires for said in mine))}"
        return _Record(
            kind="waived", by=by, more={"gate": gate, "expires": timestamp(until), **_seen(verdict)},
            says=lambda state: f"waived: {gate} until {timestamp(until)}; {_waivers(state, gate, after)}",
        )  # fmt: skip

    return _add(rollout, journal, clock, by=by, reason=reason, consider=consider)


def pause(rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, reason: str) -> Moved:
    """Nothing goes on until somebody resumes; what hurts still goes back. Raises Refused; UsageError for an empty reason."""

    def consider(state: State) -> _Record | str:
        _not_ended(state)
        if state.standing is Standing.PAUSED:
            return "it is paused already"
        return _Record(kind="paused", by=by, says=lambda state: f"paused in {named(rollout, state.stage)}")

    return _add(rollout, journal, clock, by=by, reason=reason, consider=consider)


def resume(rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, reason: str) -> Moved:
    """Ends a pause. Raises Refused; UsageError for an empty reason."""

    def consider(state: State) -> _Record | str:
        _not_ended(state)
        if state.standing is Standing.RUNNING:
            return "it is not paused"
        return _Record(kind="resumed", by=by, says=lambda state: f"resumed in {named(rollout, state.stage)}")

    return _add(rollout, journal, clock, by=by, reason=reason, consider=consider)


def rollback(
    rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, reason: str, verdict: Mapping[str, Any] | None = None
) -> Moved:
    """Back to the incumbent, for good, for everybody. verdict: what the person saw, and how many people the challenger served.

    Raises Refused; UsageError for an empty reason.
    """
    people = {name: (verdict or {}).get(name) for name in ("exposed", "exposed_harms")}
    seen = _seen(verdict) if verdict is not None else {}

    def consider(state: State) -> _Record | str:
        if state.standing is Standing.ROLLED_BACK:
            return "it is rolled back already"
        _not_ended(state)
        where = named(rollout, state.stage)
        return _Record(
            kind="rolled_back", by=by, says=lambda state: f"rolled back from {where}: the incumbent serves everybody",
            more={**seen, **({"people": people} if people["exposed"] else {})},
        )  # fmt: skip

    return _add(rollout, journal, clock, by=by, reason=reason, consider=consider)


# ------------------------------------------------------------------------------------------------------------------------ records
def _add(rollout: Rollout, journal: Journal, clock: Clock, *, by: Author, reason: str, consider: _Consider) -> Moved:
    """Reads, considers, appends; again when another record came between, whatever it was."""
    reason = checked_reason(reason)
    follower = Follower(journal)
    for _ in range(TRIES):
        state = _begun(rollout, follower.now())
        found = consider(state)
        if isinstance(found, str):
            return Moved(added=False, says=f"{rollout.name}: {found}; nothing was recorded", state=state)
        record = body(found.kind, rollout=rollout.name, at=clock.now(), by=found.by, reason=reason, **found.more)
        try:
            link = journal.append(record, after=state.head)
        except HeadMoved:
            continue
        state = fold(state, parse(record), head=link.hash)
        return Moved(added=True, says=f"{rollout.name}: {found.says(state)}", state=state)
    raise Refused(f"{rollout.name}: other records came between {TRIES} times; nothing was recorded, try again")


def _standing(journal: Journal) -> State:
    return Follower(journal).now()


def _begun(rollout: Rollout, state: State) -> State:
    if not state.n_records:
        raise Refused(f"{rollout.name}: its journal is empty; run `shadow up` with its config once, which registers it")
    return state


def _not_ended(state: State) -> None:
    if state.final:
        again = "" if state.standing is Standing.PROMOTED else "; `shadow amend` begins a new attempt"
        raise Refused(f"the rollout is {state.standing.value.replace('_', ' ')}, which is for good; nothing was recorded{again}")


def _is_next(rollout: Rollout, state: State, target: int) -> None:
    """An approval is of what comes next, and the person must have meant that."""
    following = state.stage + 1
    if target <= state.stage:
        raise Refused(f"{named(rollout, max(0, target))} has begun already; nothing was recorded")
    if following >= len(rollout.stages):
        raise Refused(f"{named(rollout, state.stage)} is the last one; there is nothing to approve")
    if target != following:
        raise Refused(f"the next stage is {named(rollout, following)}, and only that one can be approved")
    if not rollout.stages[following].people:
        raise Refused(f"{named(rollout, following)} begins without anybody's approval; there is nothing to approve")


def checked_reason(reason: str) -> str:
    """The reason as it will stand in the record. Raises UsageError for an empty or a long one."""
    reason = reason.strip()
    if not reason:
        raise UsageError("reason: empty; say why, it stands in the record for good")
    if len(reason) > LONGEST_REASON:
        raise UsageError(f"reason: {len(reason)} characters, at most {LONGEST_REASON}; put the rest where the reason can point to")
    return reason


def _seen(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """What a person knew: the verdict with all its numbers. The controller seals what it rests on, in a record that follows."""
    return {"verdict": verdict["verdict"], "as_of": verdict["as_of"], "seen": dict(verdict)}


def _until(text: str, after: int) -> int:
    found = microseconds(text)
    if found is not None:
        return found
    try:
        return after + round(durations.seconds(text) * 1e6)
    except ValueError:
        raise UsageError("expires: expected a time as in 2026-06-01T12:00:00Z, or a duration after the last look as in 24h") from None


def _waivers(state: State, gate: str, look: int) -> str:
    said = [said for said in state.waivers if said.gate == gate and said.expires >= look and not is_author(state, said.by)]
    people = {person(each.by) for each in said}
    return f"{len(people)} people have, it counts" if len(people) >= WAIVER_PEOPLE else f"{len(people)} of {WAIVER_PEOPLE} people have"
