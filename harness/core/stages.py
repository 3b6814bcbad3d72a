"""Where a rollout stands, as a fold of its records, and the whole table of moves. Pure: no clock, no store.

    RUNNING ---- paused ----> PAUSED            every stage: shadow, canary at rising percents, promote with its bake time
      |  ^------ resumed -------|
      |-- entered: the next stage, never two at once
      |-- promoted: the bake time of the last stage is over      -> PROMOTED      (final)
      |-- rolled_back: a gate failed, a count was reached, or a person said so  -> ROLLED_BACK (final; from PAUSED too)
      |-- expired: the stage found no answer within `expires`    -> EXPIRED       (final; from PAUSED too)
      `-- amended: a changed question or model, a new attempt    -> RUNNING       in the first stage, with nothing of the attempt before;
                                                                                   from PAUSED, ROLLED_BACK and EXPIRED too

What is not written down in `MOVES` cannot happen: a record that does not fit stops the fold, and whoever reads it takes the incumbent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from harness.core.errors import RecordError
from harness.core.reading import microseconds, timestamp
from harness.core.rollout import Rollout, Stage
from harness.core.verdicts import PROMOTE, ROLLBACK, Standpoint

Record = Mapping[str, Any]
"""The body of one record: `kind`, `at` (wall time), `by` {name, role, via}, `reason`, and what its kind needs."""


class Standing(StrEnum):
    """What a rollout is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    EXPIRED = "expired"


SAID = ("approved", "waived", "forgot", "sealed", "yielded")  # records that move nothing by themselves
MOVES: Mapping[Standing, Mapping[str, Standing]] = {
    Standing.RUNNING: {
        **dict.fromkeys(SAID, Standing.RUNNING), "entered": Standing.RUNNING, "amended": Standing.RUNNING, "paused": Standing.PAUSED,
        "promoted": Standing.PROMOTED, "rolled_back": Standing.ROLLED_BACK, "expired": Standing.EXPIRED,
    },
    Standing.PAUSED: {
        **dict.fromkeys(SAID, Standing.PAUSED), "resumed": Standing.RUNNING, "amended": Standing.RUNNING,
        "rolled_back": Standing.ROLLED_BACK, "expired": Standing.EXPIRED,
    },
    Standing.PROMOTED: {"forgot": Standing.PROMOTED, "sealed": Standing.PROMOTED},
    Standing.ROLLED_BACK: {"forgot": Standing.ROLLED_BACK, "sealed": Standing.ROLLED_BACK, "amended": Standing.RUNNING},
    Standing.EXPIRED: {"forgot": Standing.EXPIRED, "sealed": Standing.EXPIRED, "amended": Standing.RUNNING},
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One person's approval of the next stage, or waiver of one gate (`gate`, until record time `expires`, microseconds)."""

    by: str
    role: str | None = None
    gate: str | None = None
    expires: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The record that brought a rollout where it stands: what, who, when (RFC 3339) and why."""

    kind: str
    by: str
    at: str
    reason: str

    @property
    def words(self) -> str:
        """As in `rolled back by ada at 2026-01-05T00:00:00Z: it hurts`."""
        return f"{self.kind.replace('_', ' ')} by {self.by} at {self.at}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stage of an attempt, from record time `since` (microseconds; -1: the start) to the next one's, at the challenger's percent."""

    attempt: int = 0
    stage: int = 0
    since: int = -1
    percent: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """A record of a person that says what was seen, by its hash: an approval, a waiver or a rollback during a stage."""

    hash: str
    kind: str
    stage: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a rollout stands.

    stage: index into the config's stages. since: record time, microseconds, after which events count for this stage; -1 from the first
    event. attempt: 0 for the first question, one more with each amendment. config_sha256: of the question of this attempt. approvals: of
    the next stage. authors: who registered and amended the config. latest: the record that last changed stage or standing; None before
    the first. spans: every stage of every attempt so far, oldest first. unsealed: people's words of this attempt for which nothing was
    sealed yet, oldest first. head, n_records: of the chain this was folded from.
    """

    standing: Standing = Standing.RUNNING
    stage: int = 0
    since: int = -1
    approvals: tuple[Said, ...] = ()
    waivers: tuple[Said, ...] = ()
    attempt: int = 0
    config_sha256: str | None = None
    authors: tuple[str, ...] = ()
    latest: Latest | None = None
    spans: tuple[Span, ...] = ()
    unsealed: tuple[Word, ...] = ()
    head: str = ""
    n_records: int = 0

    @property
    def final(self) -> bool:
        """Whether this attempt has ended."""
        return self.standing not in (Standing.RUNNING, Standing.PAUSED)

    def waived(self, look: int) -> frozenset[str]:
        """The gates that two people waived, at a look (record time, microseconds). The config's authors do not count."""
        people: dict[str, set[str]] = {}
        for said in self.waivers:
            if said.gate is not None and look <= said.expires and not is_author(self, said.by):
                people.setdefault(said.gate, set()).add(person(said.by))
        return frozenset(gate for gate, names in people.items() if len(names) >= WAIVER_PEOPLE)


WAIVER_PEOPLE = 2


def fold(state: State, record: Record, *, head: str) -> State:
    """The state after one more record, whose hash is `head`. Raises RecordError for one that cannot follow."""
    kind, n = record.get("kind"), state.n_records
    if kind == "registered" and n == 0:
        return State(authors=_author(record), config_sha256=record.get("sha256"), spans=(Span(),), head=head, n_records=1)
    to = MOVES[state.standing].get(str(kind)) if n else None
    if to is None:
        raise RecordError(f"record {n}: {kind} cannot follow while the rollout is {state.standing.value}; the chain is damaged")
    state = replace(state, standing=to, head=head, n_records=n + 1)
    if kind not in SAID:
        who = record.get("by") or {}
        latest = Latest(kind=str(kind), by=who.get("name", ""), at=record.get("at", ""), reason=record.get("reason", ""))
        state = replace(state, latest=latest)
    state = replace(state, unsealed=_unsealed(state, record, head))
    match kind:
        case "amended":
            since = -1 if record["since"] is None else _time(record["since"], n)
            return replace(
                state, stage=0, since=since, attempt=state.attempt + 1, config_sha256=record["sha256"], approvals=(), waivers=(),
                spans=(*state.spans, Span(attempt=state.attempt + 1, since=since)),
                authors=tuple(dict.fromkeys((*state.authors, *_author(record)))),
            )  # fmt: skip
        case "entered":
            if record["stage"] != state.stage + 1:
                raise RecordError(f"record {n}: entered stage {record['stage']} from stage {state.stage}; stages are never skipped")
            span = Span(
                attempt=state.attempt, stage=record["stage"], since=_time(record["since"], n), percent=record.get("percent", 0.0)
            )
            return replace(state, stage=span.stage, since=span.since, approvals=(), waivers=(), spans=(*state.spans, span))
        case "approved":
            if record.get("stage") != state.stage + 1:
                found = f"approves stage {record.get('stage')} during stage {state.stage}"
                raise RecordError(f"record {n}: {found}; only the next one can be approved")
            return replace(state, approvals=(*state.approvals, Said(by=record["by"]["name"], role=record["by"].get("role"))))
        case "waived":
            said = Said(by=record["by"]["name"], gate=record["gate"], expires=_time(record["expires"], n))
            return replace(state, waivers=(*state.waivers, said))
    return state


def _unsealed(state: State, record: Record, head: str) -> tuple[Word, ...]:
    """The people's words for which nothing is sealed yet, after a record."""
    match record["kind"]:
        case "amended":
            return ()
        case "sealed":
            return tuple(word for word in state.unsealed if word.hash != record.get("of"))
    seen = record.get("seen")
    if isinstance(seen, Mapping) and seen.get("as_of") is not None:
        return (*state.unsealed, Word(hash=head, kind=record["kind"], stage=state.stage))
    return state.unsealed


def to_seal(rollout: Rollout, state: State) -> Word | None:
    """The oldest word of a person for which something may be sealed now. Sealing takes a moment, in which the controller makes no move:
    so not while people are served by the challenger in the stage of that word, but once it is over, or where nobody can be hurt."""
    if superseded(rollout, state) is not None:
        return None
    calm = state.final or percent(rollout, state) == 0.0
    return next((word for word in state.unsealed if calm or word.stage != state.stage), None)


def _author(record: Record) -> tuple[str, ...]:
    name = (record.get("by") or {}).get("name")
    return (name,) if name else ()


def _time(text: object, n: int) -> int:
    found = microseconds(text)
    if found is None:
        raise RecordError(f"record {n}: a time that is none; the chain is damaged")
    return found


def percent(rollout: Rollout, state: State) -> float:
    """The share of units that the challenger serves: 0 in shadow, after every end but promotion, and by a config of before an amendment."""
    match state.standing:
        case Standing.PROMOTED:
            return 100.0
        case Standing.RUNNING | Standing.PAUSED if superseded(rollout, state) is None:
            stage = rollout.stages[state.stage]
            return {"shadow": 0.0, "canary": stage.percent, "promote": 100.0}[stage.kind]
    return 0.0


def serves(state: State) -> bool:
    """Whether the challenger serves anybody, by the records alone: from its first canary until it goes back, and for good once promoted."""
    return state.standing is Standing.PROMOTED or (not state.final and bool(state.spans) and state.spans[-1].percent > 0.0)


def standpoint(rollout: Rollout, state: State, *, look: int | None = None, began: int | None = None, pairs: int = 0) -> Standpoint:
    """Where a verdict at a look stands. look, began: record times, microseconds. pairs: of this stage, folded."""
    return Standpoint(
        stage=state.stage, since=None if state.since < 0 else state.since, began=began, pairs=pairs, standing=state.standing.value,
        percent=percent(rollout, state), attempt=state.attempt, waived=frozenset() if look is None else state.waived(look),
    )  # fmt: skip


def is_of(verdict: Mapping[str, Any], state: State) -> bool:
    """Whether a verdict speaks of the stage and attempt that a rollout is in, and not of one before."""
    return (verdict.get("stage_index"), verdict.get("since"), verdict.get("attempt")) == (state.stage, since_text(state), state.attempt)


def superseded(rollout: Rollout, state: State) -> str | None:
    """Why this config is not the one that the rollout asks now, in words; None when it is."""
    if state.config_sha256 in (None, rollout.sha256):
        return None
    asked = (state.config_sha256 or "")[:12]
    return f"changed: the rollout was amended (config {asked}...), this is {rollout.sha256[:12]}...; start it with the new config"


def read_by(rollout: Rollout, state: State) -> State:
    """The state as a config can read it: the stage of another question is none of its own, and is read as the first."""
    return state if superseded(rollout, state) is None else replace(state, stage=0)


def alpha_share(attempt: int) -> float:
    """The part of alpha of an attempt: all of it for the first, 1/(v(v+1)) for the v-th retry, together at most twice alpha over any
    number (STATISTICS section 3)."""
    return 1.0 if attempt == 0 else 1.0 / (attempt * (attempt + 1))


# --------------------------------------------------------------------------------------------------------------------- moves
FORWARD = ("entered", "promoted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What the controller does next. kind: of the record. stage: the index that is entered; None when none is."""

    kind: str
    reasons: tuple[str, ...]
    stage: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do, and what it waits for."""

    reasons: tuple[str, ...]


def next_move(rollout: Rollout, state: State, verdict: Mapping[str, Any], *, stale: Sequence[str] = ()) -> Move | Wait:
    """The next move on a verdict (the object of verdict.json, with `stage_index` and `since`): a pure function, so two controllers agree.

    The order is the rule: an end; a verdict that is of another stage says nothing; what hurts stops; then time; a pause; and only
    then may time, pairs, gates and approvals, all of them, let the next stage begin. stale: why the verdict is too old, in words; an old
    one may still stop a rollout, and never lets it go on.
    """
    if state.final:
        what = "nothing" if state.standing is Standing.PROMOTED else "a new attempt (`shadow amend`)"
        return Wait(reasons=(f"{what}: the rollout is {state.standing.value.replace('_', ' ')}",))
    other = superseded(rollout, state)
    if other is not None:
        return Wait(reasons=(other,))
    stage = rollout.stages[state.stage]
    if not is_of(verdict, state):
        return Wait(reasons=(NOT_BEGUN,))
    hurt = _reached(stage, verdict) or (tuple(verdict["reasons"]) if verdict["verdict"] == ROLLBACK else ())
    if hurt:
        return Move(kind="rolled_back", reasons=hurt)
    look = microseconds(verdict["as_of"])
    if look is None:
        return Wait(reasons=(*stale, *verdict["reasons"]))
    began = state.since if state.since >= 0 else microseconds(verdict["began"])
    lasted = (look - began) / 1e6 if began is not None else 0.0
    if lasted >= rollout.expires_s and stage.kind != "promote" and verdict["verdict"] != PROMOTE:
        return Move(kind="expired", reasons=(f"the stage found no answer within {rollout.expires_s:g} s of record time",))
    if state.standing is Standing.PAUSED:
        return Wait(reasons=("paused by a person",))
    missing = (*stale, *_missing(rollout, state, stage, verdict, lasted))
    if missing:
        return Wait(reasons=missing)
    if state.stage + 1 < len(rollout.stages):
        return Move(kind="entered", stage=state.stage + 1, reasons=tuple(verdict["reasons"]))
    if stage.kind == "promote":
        return Move(kind="promoted", reasons=tuple(verdict["reasons"]))
    return Wait(reasons=("the last stage is over; the config names none that follows",))


NOT_BEGUN = "the analyst has not begun this stage yet"


def _reached(stage: Stage, verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """Counts of `stop_after` that were reached, in words."""
    counts = verdict.get("exposed_harms", {})
    return tuple(
        f"stop_after: {harm} happened {counts.get(harm, 0)} times to people whom the challenger served, {most} end the stage"
        for harm, most in stage.stop_after.items()
        if counts.get(harm, 0) >= most
    )


def _missing(rollout: Rollout, state: State, stage: Stage, verdict: Mapping[str, Any], lasted: float) -> tuple[str, ...]:
    """What the stage still lacks: time, pairs, gates, approvals."""
    said: list[str] = []
    least = stage.bake_s if stage.kind == "promote" else stage.at_least_s
    if lasted < least:
        said.append(f"the stage has lasted {lasted:g} s of record time, must last {least:g} s")
    if verdict["stage_pairs"] < stage.pairs:
        said.append(f"{verdict['stage_pairs']} pairs in this stage, must have {stage.pairs}")
    if verdict["verdict"] != PROMOTE:
        said.extend(verdict["reasons"])
    if state.stage + 1 < len(rollout.stages):
        wanted = still_wanted(rollout.stages[state.stage + 1], state)
        said.extend([wanted] if wanted else [])
    return tuple(said)


def still_wanted(following: Stage, state: State) -> str | None:
    """Which approvals the next stage still needs, in words; None when it needs none. The config's authors do not count."""
    given = {person(said.by) for said in state.approvals if counts_as_approval(following, state, said)}
    lacking = following.people - len(given)
    if lacking <= 0:
        return None
    roles = f" in the role {' or '.join(following.roles)}" if following.roles else ""
    return f"approval: {len(given)} of {following.people} people{roles} approved the next stage"


def counts_as_approval(following: Stage, state: State, said: Said) -> bool:
    """Whether a person's word counts: in one of the roles, and not an author's."""
    return not is_author(state, said.by) and (not following.roles or said.role in following.roles)


def person(name: str) -> str:
    """What stands for a person when people are counted: `Ada` and `ada` are one."""
    return name.strip().casefold()


def is_author(state: State, name: str) -> bool:
    """Whether this person registered or amended the config."""
    return person(name) in map(person, state.authors)


def named(rollout: Rollout, stage: int) -> str:
    """A stage in words, as in `stage 1 (canary 10 %)`."""
    found = rollout.stages[stage]
    return f"stage {stage} ({found.kind}{f' {found.percent:g} %' if found.kind == 'canary' else ''})"


def since_text(state: State) -> str | None:
    """`since` as verdicts and records write it; None from the first event."""
    return None if state.since < 0 else timestamp(state.since)


def folded(records: Sequence[tuple[Record, str]], state: State | None = None) -> State:
    """The state after (record, hash) pairs, oldest first."""
    state = state or State()
    for record, head in records:
        state = fold(state, record, head=head)
    return state
