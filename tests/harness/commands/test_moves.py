"""What people do to a rollout: what counts is recorded once, what cannot count is refused and says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.types import Gate, Metric
from harness.commands import moves
from harness.core.errors import RecordError, UsageError
from harness.core.reading import timestamp
from harness.core.records import CONTROLLER, Author, body
from harness.core.rollout import Stage
from harness.core.stages import Standing, State, still_wanted
from harness.ports.clock import ManualClock
from harness.ports.journal import ROOT, Link
from harness.roles.standing import Follower
from harness.testing.doubles import MemoryJournal
from harness.testing.samples import rollout

HOUR = 3_600_000_000
NOW = 1_000 * HOUR
GATE = Gate(name="it answers", metric=Metric(kind="missing", lane="challenger"), word="below", limit=0.01)
ROLLOUT = replace(
    rollout(),
    stages=(
        Stage(kind="shadow"),
        Stage(kind="canary", percent=1.0, people=2, roles=("policy", "legal")),
        Stage(kind="canary", percent=10.0),
        Stage(kind="promote", people=1),
    ),
    gates=(GATE, replace(GATE, name="only shown", dry_run=True)),
)
SEEN = {"verdict": "promote", "as_of": timestamp(NOW)}


class Racing(MemoryJournal):
    """A journal into which others write just before a command does: each in turn of `before`."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], object]] = []

    def append(self, body: bytes, *, after: str) -> Link:
        if self.before:
            self.before.pop(0)()
        return super().append(body, after=after)


class World:
    """A registered rollout, and people who act on it."""

    def __init__(self) -> None:
        self.journal, self.clock = Racing(), ManualClock(NOW)
        self.write("registered", by=Author(name="ada", via="up"), after=ROOT)

    def write(self, kind: str, *, by: Author = CONTROLLER, after: str | None = None, **more: Any) -> None:
        record = body(kind, rollout="sample", at=NOW, by=by, reason="so", **more)
        MemoryJournal.append(self.journal, record, after=self.state.head if after is None else after)

    def enter(self, stage: int) -> None:
        self.write("entered", stage=stage, since=timestamp(NOW))

    @property
    def state(self) -> State:
        return Follower(self.journal).now()

    @property
    def last(self) -> dict[str, Any]:
        return json.loads(self.journal.read()[-1].body)

    def do(self, move: Callable[..., moves.Moved], who: str = "bea", reason: str = "it is good", **more: Any) -> moves.Moved:
        return move(ROLLOUT, self.journal, self.clock, by=Author(name=who, via="cli"), reason=reason, **more)

    def approve(self, who: str = "bea", *roles: str, **more: Any) -> moves.Moved:
        return self.do(moves.approve, who, **{"roles": roles or ("policy",), "verdict": SEEN, **more})

    def waive(self, who: str = "bea", gate: str = "it answers", expires: str = "24h", **more: Any) -> moves.Moved:
        return self.do(moves.waive, who, gate=gate, expires=expires, **{"verdict": SEEN, **more})


@pytest.fixture
def world() -> World:
    return World()


# --------------------------------------------------------------------------------------------------------------------- approvals
def test_an_approval_says_of_which_stage_on_which_verdict_by_whom_and_why(world):
    """Who asks a year later sees what the person knew."""
    moved = world.approve("bea", "sales", "legal")
    assert (moved.added, moved.says) == (
        True, "sample: approved: stage 1 (canary 1 %); approval: 1 of 2 people in the role policy or legal approved the next stage"
    )  # fmt: skip
    assert world.last == {
        "kind": "approved", "rollout": "sample", "at": timestamp(NOW), "by": {"name": "bea", "role": "legal", "via": "cli"},
        "reason": "it is good", "stage": 1, "verdict": "promote", "as_of": timestamp(NOW), "seen": SEEN,
    }  # fmt: skip
    assert world.approve("cyd").says.endswith("it has the approvals it needs")
    assert still_wanted(ROLLOUT.stages[1], world.state) is None


def test_the_same_person_again_adds_nothing_and_is_told_so(world):
    """Whoever lost the answer sends it again; and one person never makes two."""
    world.approve("bea")
    for who in ("bea", "Bea"):
        again = world.approve(who, "legal")
        assert (again.added, again.says) == (False, f"sample: {who} has approved stage 1 (canary 1 %) already; nothing was recorded")
    assert len(world.journal.read()) == 2


@pytest.mark.parametrize(
    ("who", "more", "why"),
    [
        ("ada", {}, "ada registered this config, and the author's own approval does not count"),
        ("Ada", {}, "the author's own approval does not count"),
        ("bea", {"roles": ("sales",)}, "approved in the role policy or legal; the token of bea has sales"),
        ("bea", {"roles": ()}, "the token of bea has none"),
        ("bea", {"stage": 0}, r"stage 0 \(shadow\) has begun already"),
        ("bea", {"stage": -1}, r"stage 0 \(shadow\) has begun already"),
        ("bea", {"stage": 2}, r"the next stage is stage 1 \(canary 1 %\), and only that one"),
        ("bea", {"stage": 99}, r"the next stage is stage 1"),
        ("bea", {"reason": " \n"}, "reason: empty"),
        ("bea", {"reason": "x" * 1_001}, "reason: 1001 characters, at most 1000"),
    ],
)
def test_what_cannot_count_is_refused_and_not_recorded(world, who, more, why):
    """An approval that would not count must not look like one."""
    with pytest.raises(UsageError, match=why):
        world.approve(who, **more)
    assert len(world.journal.read()) == 1


def test_a_stage_that_asks_nobody_cannot_be_approved_nor_what_comes_after_the_last(world):
    """There is nothing to approve, and it says so."""
    world.enter(1)
    with pytest.raises(moves.Refused, match=r"stage 2 \(canary 10 %\) begins without anybody's approval"):
        world.approve()
    world.enter(2)
    assert world.approve("bea", stage=3).added
    assert world.last["by"]["role"] == "policy"
    world.enter(3)
    with pytest.raises(moves.Refused, match=r"stage 3 \(promote\) is the last one"):
        world.approve()


def test_an_approval_of_a_stage_that_the_controller_has_just_entered_is_refused(world):
    """Somebody approves stage 1 while the controller enters it: the word must not count for stage 2, which nobody has judged."""
    world.journal.before = [lambda: world.enter(1)]
    with pytest.raises(moves.Refused, match=r"stage 1 \(canary 1 %\) has begun already; nothing was recorded"):
        world.approve()
    assert (world.state.stage, world.state.approvals) == (1, ())


def test_two_people_at_the_same_moment_are_both_heard(world):
    """The second one reads again and appends behind the first."""
    world.journal.before = [lambda: world.approve("cyd"), lambda: world.do(moves.pause, "dan")]
    assert world.approve("bea").added
    assert [said.by for said in world.state.approvals] == ["cyd", "bea"]
    assert world.state.standing is Standing.PAUSED


def test_the_same_command_twice_at_the_same_moment_is_recorded_once(world):
    """A retry that overtakes its first try."""
    world.journal.before = [lambda: world.approve("bea")]
    assert not world.approve("bea").added
    assert len(world.state.approvals) == 1


def test_a_command_that_never_gets_its_turn_gives_up_and_says_that_nothing_was_recorded(world):
    """No wait without end."""
    who = [f"p{n}" for n in range(moves.TRIES)]
    world.journal.before = [lambda name=name: world.write("approved", by=Author(name=name, via="cli"), stage=1) for name in who]
    with pytest.raises(moves.Refused, match="other records came between 20 times; nothing was recorded, try again"):
        world.approve("bea")
    assert [said.by for said in world.state.approvals] == who


# ----------------------------------------------------------------------------------------------------------------------- waivers
def test_two_people_waive_a_gate_until_a_record_time(world):
    """One is not enough; a duration counts from the last look; both expiries are on record."""
    look = timestamp(NOW - HOUR)
    one = world.waive(verdict={"verdict": "hold", "as_of": look})
    until = timestamp(NOW + 23 * HOUR)
    assert (one.added, one.says) == (True, f"sample: waived: it answers until {until}; 1 of 2 people have")
    assert (world.last["gate"], world.last["expires"], world.last["as_of"]) == ("it answers", until, look)
    assert world.state.waived(NOW) == frozenset()
    two = world.waive("cyd", expires=timestamp(NOW + HOUR))
    assert two.says.endswith("2 people have, it counts")
    assert (world.state.waived(NOW + HOUR), world.state.waived(NOW + HOUR + 1)) == ({"it answers"}, frozenset())


def test_an_authors_waiver_is_refused_and_one_in_the_chain_is_not_counted(world):
    """As with an approval: nobody takes back a part of their own question."""
    with pytest.raises(moves.Refused, match="the author's own waiver does not count; ask somebody else"):
        world.waive("Ada")
    assert world.state.waivers == ()
    world.write("waived", by=Author(name="ada", via="cli"), gate="it answers", expires=timestamp(NOW + 24 * HOUR))
    assert world.waive("bea").says.endswith("1 of 2 people have")


def test_a_waiver_again_adds_nothing_while_it_is_in_force(world):
    """A duration gives another time at each try; the first one stands."""
    world.waive()
    world.clock.move_to(NOW + HOUR)
    again = world.waive(verdict={"verdict": "hold", "as_of": timestamp(NOW + HOUR)})
    assert (again.added, again.says) == (
        False, f"sample: bea has waived it answers already, until {timestamp(NOW + 24 * HOUR)}; nothing was recorded"
    )  # fmt: skip
    assert world.waive(verdict={"verdict": "hold", "as_of": timestamp(NOW + 25 * HOUR)}).added


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"gate": "no such"}, "gate no such: no gate of this name counts in rollout sample; it has it answers"),
        ({"gate": "only shown"}, "gate only shown: no gate of this name counts"),
        ({"expires": timestamp(NOW)}, "is not after"),
        ({"expires": "0s"}, "is not after"),
        ({"expires": "tomorrow"}, "expires: expected a time as in 2026-06-01T12:00:00Z, or a duration after the last look as in 24h"),
        ({"reason": ""}, "reason: empty"),
    ],
)
def test_a_waiver_of_nothing_is_refused(world, more, why):
    """No such gate, one that does not count, one that is over before it begins."""
    with pytest.raises(UsageError, match=why):
        world.waive(**more)
    assert len(world.journal.read()) == 1


# --------------------------------------------------------------------------------------------------------- pause, resume, rollback
def test_a_pause_and_its_end_are_recorded_once_each(world):
    """Again, or without a pause: nothing is added, and it says so."""
    assert not world.do(moves.resume).added
    for move, kind, standing in ((moves.pause, "paused", Standing.PAUSED), (moves.resume, "resumed", Standing.RUNNING)):
        moved = world.do(move)
        assert (moved.added, moved.says, moved.state.standing) == (True, f"sample: {kind} in stage 0 (shadow)", standing)
        assert moved.state == world.state
        assert (world.last["kind"], world.last["reason"]) == (kind, "it is good")
        again = world.do(move)
        assert (again.added, again.says) == (
            False, f"sample: it is {'paused already' if kind == 'paused' else 'not paused'}; nothing was recorded"
        )  # fmt: skip
    assert len(world.journal.read()) == 3


def test_going_back_is_for_good_also_from_a_pause_and_done_once(world):
    """After it nothing counts any more."""
    world.enter(1)
    world.do(moves.pause)
    moved = world.do(moves.rollback, "ada", "people complain")
    assert (moved.added, moved.says) == (True, "sample: rolled back from stage 1 (canary 1 %): the incumbent serves everybody")
    assert world.last["by"] == {"name": "ada", "role": None, "via": "cli"}
    assert not world.do(moves.rollback).added
    for late in (world.approve, world.waive, lambda: world.do(moves.pause), lambda: world.do(moves.resume)):
        with pytest.raises(moves.Refused, match="is rolled back, which is for good; nothing was recorded; `shadow amend` begins"):
            late()


def test_the_record_of_a_person_who_goes_back_says_whom_the_challenger_served(world):
    """As the verdict counted them; without exposures it says nothing of them."""
    exposed = {"units": 12, "stages": [{"attempt": 0, "stage_index": 1, "percent": 1.0, "units": 12}]}
    moves.rollback(
        ROLLOUT, world.journal, world.clock, by=Author(name="ada", via="cli"), reason="so",
        verdict={**SEEN, "exposed": exposed, "exposed_harms": {"minor": 1}},
    )  # fmt: skip
    assert world.last["people"] == {"exposed": exposed, "exposed_harms": {"minor": 1}}
    assert (world.last["as_of"], world.last["seen"]["exposed"]) == (SEEN["as_of"], exposed)
    other = World()
    moves.rollback(ROLLOUT, other.journal, other.clock, by=Author(name="ada", via="cli"), reason="so", verdict=SEEN)
    assert "people" not in other.last


@pytest.mark.parametrize(("kind", "stage"), [("promoted", 3), ("expired", 0)])
def test_what_has_ended_otherwise_cannot_be_rolled_back(world, kind, stage):
    """A new rollout is the way; the message does not say that it worked."""
    for n in range(1, stage + 1):
        world.enter(n)
    world.write(kind)
    with pytest.raises(moves.Refused, match=f"the rollout is {kind}, which is for good"):
        world.do(moves.rollback)


def test_a_rollback_that_races_with_the_controllers_is_one_rollback(world):
    """Both want the same; the person is told that it is done."""
    world.journal.before = [lambda: world.write("rolled_back")]
    assert not world.do(moves.rollback).added
    assert world.state.standing is Standing.ROLLED_BACK


def test_a_rollout_that_is_not_registered_yet_is_not_moved():
    """The first record is the question."""
    world = World()
    world.journal = Racing()
    with pytest.raises(moves.Refused, match="its journal is empty; run `shadow up`"):
        world.do(moves.pause)


COMMANDS = ("approve", "waive", "pause", "resume", "rollback", "enter", "stage 1", "stage 3")


@given(st.lists(st.tuples(st.sampled_from(COMMANDS), st.sampled_from(["ada", "bea", "cyd", "Bea"])), max_size=25), st.data())
def test_whatever_people_say_in_whatever_order_the_chain_stays_whole_and_repeats_add_nothing(said, data):
    """Each command is done twice, with another's in between each time: the second never adds, and every record fits."""
    world = World()

    def one(what: str, who: str) -> moves.Moved:
        match what:
            case "approve" | "stage 1" | "stage 3":
                return world.approve(who, **({"stage": int(what[-1])} if " " in what else {}))
            case "waive":
                return world.waive(who)
        return world.do(getattr(moves, what), who)

    for what, who in said:
        if what == "enter":
            if world.state.standing is Standing.RUNNING and world.state.stage < 3:
                world.enter(world.state.stage + 1)
            continue
        before = len(world.journal.read())
        if data.draw(st.booleans()) and what != "pause":
            world.journal.before = [lambda: world.do(moves.pause, "dan") if not world.state.final else None]
        try:
            one(what, who)
        except UsageError:
            assert len(world.journal.read()) - before <= 1  # at most the pause that came between
            world.journal.before = []
            continue
        world.journal.before = []
        length = len(world.journal.read())
        assert not one(what, who).added
        assert len(world.journal.read()) == length
    try:
        state = world.state
    except RecordError as error:
        raise AssertionError(f"a command damaged the chain: {error}") from None
    assert len({said.by.casefold() for said in state.approvals}) == len(state.approvals)
    assert not any(said.by == "ada" for said in state.approvals)
