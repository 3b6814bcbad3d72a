"""The controller on the in-memory doubles: a rollout walks its stages by itself, once each, whatever dies, races or comes late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.errors import BusUnavailable
from harness.core.reading import timestamp
from harness.core.records import digest
from harness.core.stages import since_text
from harness.ports.journal import Link
from harness.ports.ledger import Published
from harness.roles import router
from harness.roles.analyst import canonical

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000
GATES = [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.9}]
STAGES = [
    {"shadow": {}, "at_least": "2h", "pairs": 12},
    {"canary": {"percent": 1}, "approval": {"people": 2, "roles": ["policy"]}},
    {"canary": {"percent": 10}},
    {"promote": {"bake": "2h"}},
]


def events(crew: Any, first: int, last: int, *, new: float = 20.0) -> list[bytes]:
    """Twelve events an hour, from hour `first` up to `last`, then the mark; `new` 12 flips every decision."""
    found = [crew.event(f"e{hour}-{n}", hour * HOUR + n * 300 * SECOND + SECOND, new=new) for hour in range(first, last) for n in range(12)]
    return [*found, crew.mark(last * HOUR)]


@pytest.fixture
def walking(crew: Callable[..., Any]) -> Callable[..., Any]:
    """A rollout of four stages with one easy gate, and a wall clock shortly after its events."""

    def make(**more: Any) -> Any:
        found = crew(**{"stages": STAGES, "gates": GATES, "shards": 1, **more})
        found.clock.move_to(START + 100 * HOUR)
        return found

    return make


def approve(crew: Any, stage: int = 1) -> None:
    """Two people of the role approve a stage."""
    for who in ("bea", "cyd"):
        crew.say("approved", who, "policy", stage=stage)


def play(crew: Any) -> Any:
    """A good challenger, hour by hour, with its approvals; returns the crew."""
    for hour in range(12):
        if hour == 1:
            approve(crew)
        crew.send("events", events(crew, hour, hour + 1))
        crew.walk(3)
    return crew


def moves(crew: Any) -> list[tuple[str, int | None, float]]:
    """(kind, stage, percent) of what the controller did."""
    return [(r["kind"], r["stage"], r["percent"]) for r in crew.records() if r["by"]["name"] == "controller"]


GOOD = [("entered", 1, 1.0), ("entered", 2, 10.0), ("entered", 3, 100.0), ("promoted", 3, 100.0)]


def test_a_good_challenger_walks_every_stage_in_order_and_is_promoted_after_its_bake(walking: Callable[..., Any]):
    """Each stage is entered at the look of the verdict that let it in, and only after its own time, pairs and approvals."""
    one = play(walking())
    assert moves(one) == GOOD
    since = [r["since"] for r in one.records() if r["by"]["name"] == "controller"]
    assert since == sorted(set(since))
    assert since[0] == timestamp(START + 3 * HOUR)  # two hours after the first event, which came a second after the hour
    assert one.verdict()["standing"] == "promoted"


def test_a_record_says_what_it_rests_on(walking: Callable[..., Any]):
    """The whole verdict, whose words let it go, the config and the code: enough to ask later whether it was right."""
    one = play(walking())
    record = next(r for r in one.records() if r["kind"] == "entered")
    assert (record["rollout"], record["by"]["via"], record["code_version"]) == ("small", "controller", "1")
    assert record["config_sha256"] == one.rollout.sha256
    assert record["evidence"]["verdict"] == "promote" and record["evidence"]["as_of"] == record["since"]
    assert record["evidence"]["gates"][0]["status"] == "pass" and record["evidence"]["stage_index"] == 0
    assert record["approvals"] == [{"by": "bea", "role": "policy"}, {"by": "cyd", "role": "policy"}]
    assert record["reason"] == "every counted gate passed"


def test_without_approval_a_stage_goes_on_and_nothing_is_entered(walking: Callable[..., Any]):
    """Gates, pairs and time are not enough where the config asks people."""
    one = walking()
    one.send("events", events(one, 0, 6))
    one.walk(3)
    assert (one.verdict()["verdict"], moves(one)) == ("promote", [])
    one.say("approved", "bea", "policy", stage=1)
    one.say("approved", "author", "policy", stage=1)
    one.walk(3)
    assert moves(one) == []
    one.say("approved", "cyd", "policy", stage=1)
    one.walk(3)
    assert moves(one)[0] == GOOD[0]


def test_a_challenger_that_turns_bad_is_rolled_back_by_itself(walking: Callable[..., Any]):
    """In the canary, on the stage's own evidence; afterwards nothing moves it, and the record says why."""
    one = walking(gates=[{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}])
    approve(one)
    one.send("events", events(one, 0, 4))
    one.walk(3)
    assert moves(one) == [GOOD[0]]
    for hour in range(4, 9):
        one.send("events", events(one, hour, hour + 1, new=12.0))
        one.walk(2)
    assert moves(one) == [GOOD[0], ("rolled_back", 1, 0.0)]
    assert "flips: failed" in one.records()[-1]["reason"]
    assert (one.verdict()["standing"], one.verdict()["percent"]) == ("rolled_back", 0.0)


def test_after_downtime_no_stage_is_skipped(walking: Callable[..., Any]):
    """A controller that comes back finds hours of passing verdicts: they let one stage begin, which must then earn its own."""
    one = walking()
    one.silent = {"controller"}
    approve(one)
    for hour in range(10):
        one.send("events", events(one, hour, hour + 1))
        one.walk()
    one.silent = set()
    one.walk(5)
    assert moves(one) == [GOOD[0]]
    assert one.records()[-1]["since"] == timestamp(START + 10 * HOUR)
    for hour in range(10, 18):
        one.send("events", events(one, hour, hour + 1))
        one.walk(2)
    assert moves(one) == GOOD


def test_hours_that_waited_in_the_topic_are_no_hours_of_a_canary(walking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """All roles were down, production went on. They come back and read twelve hours in a moment: all of them came before the first canary,
    when nobody was served by the challenger, and none of them lets the next stage begin."""
    monkeypatch.setattr(router, "READ_LIMIT", 12)  # so that looks are read on the way
    one = walking()
    approve(one)
    one.send("events", [record for hour in range(12) for record in events(one, hour, hour + 1)])
    for _ in range(60):
        one.clock.move_to(one.clock.now() + SECOND)
        for name in one.names:
            one.step(name)
    assert moves(one) == [GOOD[0]]
    assert one.records()[-1]["since"] >= timestamp(START + 12 * HOUR)
    for hour in range(12, 20):
        one.send("events", events(one, hour, hour + 1))
        one.walk(2)
    assert moves(one) == GOOD


@pytest.mark.parametrize("bad", [0.9, 0.0001], ids=["gates pass", "gates hold"])
def test_a_first_event_of_a_clock_that_was_never_set_neither_ends_the_rollout_nor_is_its_time(bad: float, walking: Callable[..., Any]):
    """A device that believes in 1998: 28 years would be longer than any stage, and than `expires`."""
    one = walking(gates=[{"name": "flips", "metric": {"flip": "adult"}, "below": bad}])
    approve(one)
    one.send("events", [one.event("first", -28 * 365 * 24 * HOUR)])
    one.walk(2)
    one.send("events", events(one, 0, 1))
    one.walk(3)
    assert moves(one) == []
    assert one.verdict()["began"] == timestamp(START + SECOND)
    del one._made["analyst"]
    one.send("events", events(one, 1, 4))
    one.walk(3)
    assert moves(one) == ([GOOD[0]] if bad == 0.9 else [])


def test_an_analyst_that_is_behind_moves_no_stage_with_what_passed_in_the_one_before(walking: Callable[..., Any]):
    """Its old verdict still says promote; it is of another stage."""
    one = walking()
    approve(one)
    one.send("events", events(one, 0, 4))
    one.walk(2)
    assert moves(one) == [GOOD[0]]
    old = one.ledger.published()
    for _ in range(5):
        one.ledger.publish(old, after=one.ledger.published())
        one.step("controller")
    assert moves(one) == [GOOD[0]]


@pytest.mark.parametrize(("new", "moved"), [(20.0, []), (12.0, ["rolled_back"])])
def test_an_old_verdict_lets_nothing_go_on_and_still_stops(new: float, moved: list[str], walking: Callable[..., Any]):
    """A dead analyst must not leave a promote behind; going back is the safe side."""
    one = walking(gates=[{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}])
    approve(one)
    one.silent = {"controller"}
    one.send("events", events(one, 0, 6, new=new))
    one.walk(2)
    one.clock.move_to(one.clock.now() + 61 * SECOND)
    while one.step("controller"):
        pass
    assert [kind for kind, _, _ in moves(one)] == moved


def test_two_controllers_that_race_act_once(walking: Callable[..., Any]):
    """Both read the same state and the same verdict; the journal takes one record, and the other has done nothing."""
    one = walking()
    approve(one)
    one.silent = {"controller"}
    one.send("events", events(one, 0, 4))
    one.walk(2)
    first, second = one.make("controller"), one.make("controller")
    published = one.ledger.published

    def slow() -> Any:
        one.ledger.published = published
        assert first.step() > 0  # between the other's reading of the state and its record
        return published()

    one.ledger.published = slow
    second.step()
    assert moves(one) == [GOOD[0]]
    while first.step() + second.step():
        pass
    assert moves(one) == [GOOD[0]]
    assert {event["id"] for event in one.told()} == {link.hash for link in one.journal.read()}


def test_a_person_who_is_faster_wins_and_the_next_step_sees_it(walking: Callable[..., Any]):
    """A pause that came between reading and writing is not overrun."""
    one = walking()
    approve(one)
    one.silent = {"controller"}
    one.send("events", events(one, 0, 4))
    one.walk(2)
    controller, published = one.make("controller"), one.ledger.published

    def slow() -> Any:
        one.ledger.published = published
        one.say("paused", "ada")
        return published()

    one.ledger.published = slow
    while controller.step():
        pass
    assert (moves(one), one.records()[-1]["kind"]) == ([], "paused")
    one.say("resumed", "ada")
    controller.step()
    assert moves(one) == [GOOD[0]]


def play_alone(crew: Any) -> Any:
    """The same walk without the other roles: the looks of an analyst that is always of the controller's stage. Returns the crew."""
    analyst = crew.make("analyst")
    approve(crew)
    for hour in range(1, 9):
        state = crew.state()
        look = timestamp(START + hour * HOUR)
        found = {**analyst.publish(), "verdict": "promote", "reasons": ["it passes"], "as_of": look, "expires": None, "stage_pairs": 12,
                 "began": timestamp(START), "stage_index": state.stage, "since": since_text(state)}  # fmt: skip
        before = crew.ledger.published()
        crew.ledger.publish(Published(verdict=canonical(found), looked=crew.clock.now(), version=before.version), after=before)
        while crew.step("controller"):
            pass
    return crew


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_wherever_the_controller_dies_each_move_is_made_once_and_every_record_is_told(
    after: bool, walking: Callable[..., Any], crash_once: Any
):
    """At each of its outside calls in turn: the chain is that of an undisturbed run; a record may be told twice, never not at all."""
    calm = moves(play_alone(walking()))
    assert calm == GOOD
    at = 0
    while True:
        at += 1
        nemesis = crash_once(at, after=after)
        one = play_alone(walking(role="controller", nemesis=nemesis))
        assert moves(one) == calm, f"after a crash at call {at}"
        chain = [link.hash for link in one.journal.read()]
        ids = [event["id"] for event in one.told()]
        assert list(dict.fromkeys(ids)) == chain and len(ids) <= len(chain) + 3, f"after a crash at call {at}"
        assert one.kept == chain, f"after a crash at call {at}"
        if not nemesis.crashed:
            break
        assert one.n_crashes == 1
    assert at > 50, "it must have died at more places than that"


def seen_and_back(crew: Any) -> Any:
    """Two people approve on a verdict, and one goes back in the canary that follows; only the controller is made anew."""
    crew.silent = {"controller"}
    crew.send("events", events(crew, 0, 4))
    seen = crew.verdict()
    for who in ("bea", "cyd"):
        crew.say("approved", who, "policy", stage=1, seen=seen)
    while crew.step("controller"):
        pass
    crew.send("events", events(crew, 4, 8))
    crew.say("rolled_back", "dan", seen=crew.verdict())
    while crew.step("controller"):
        pass
    return crew


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_wherever_the_controller_dies_what_people_saw_is_sealed_once_each(after: bool, walking: Callable[..., Any], crash_once: Any):
    """Behind the move that rested on it; as in an undisturbed run."""
    calm = seen_and_back(walking())
    kinds = [record["kind"] for record in calm.records()]
    assert kinds == ["registered", "approved", "approved", "entered", "sealed", "sealed", "rolled_back", "sealed"]
    whom = [link.hash for link, kind in zip(calm.journal.read(), kinds, strict=True) if kind in ("approved", "rolled_back")]
    assert [record["of"] for record in calm.records() if record["kind"] == "sealed"] == whom
    at = 0
    while True:
        at += 1
        nemesis = crash_once(at, after=after)
        one = seen_and_back(walking(role="controller", nemesis=nemesis))
        assert [record["kind"] for record in one.records()] == kinds, f"after a crash at call {at}"
        assert sorted(one.archive.stored) == sorted(calm.archive.stored)
        if not nemesis.crashed:
            break
    assert at > 20, "it must have died at more places than that"


def test_two_controllers_that_race_seal_a_word_once(walking: Callable[..., Any]):
    """The second finds that the head has moved, and then nothing to do."""
    one = walking()
    one.silent = {"controller"}
    one.send("events", events(one, 0, 4))
    one.say("rolled_back", "dan", seen=one.verdict())
    first, second = one.make("controller"), one.make("controller")
    states = [controller._follower.now() for controller in (first, second)]
    for controller, state in zip((first, second), states, strict=True):
        assert controller._seal(state) == 1
    assert [record["kind"] for record in one.records()] == ["registered", "rolled_back", "sealed"]
    assert second.step() == 3, "what it does then is to tell the chain"
    assert second.step() == 0


def test_a_record_is_told_as_a_cloudevent_that_carries_it_byte_for_byte(walking: Callable[..., Any]):
    """So whoever keeps the topic can check the chain without us: id, previous and data give the hash."""
    one = play(walking())
    told, chain = one.told(), one.journal.read()
    raw = [record.value for record in one.bus.after(one.topology.records, -1, 10_000)]
    assert [event["type"].removeprefix("io.shadow-harness.record.") for event in told] == [r["kind"] for r in one.records()]
    for number, (event, value, link) in enumerate(zip(told, raw, chain, strict=True)):
        data = value.partition(b'"data": ')[2][:-1]
        assert (event["specversion"], event["source"], event["sequence"]) == ("1.0", "/rollouts/small", str(number))
        assert digest(event["previous"], data) == event["id"] == link.hash
        assert event["time"] == event["data"]["at"]


def test_a_bus_that_is_away_stops_no_rollback(walking: Callable[..., Any]):
    """What hurts is stopped by the store alone; it is told when the bus is back."""
    one = walking(gates=[{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}])
    one.silent = {"controller"}
    one.send("events", events(one, 0, 6, new=12.0))
    one.walk(2)
    append = one.bus.append

    def away(*_: Any) -> None:
        raise BusUnavailable("the bus does not answer")

    one.bus.append = away
    with pytest.raises(BusUnavailable):
        one.step("controller")
    assert [kind for kind, _, _ in moves(one)] == ["rolled_back"]
    one.bus.append, one.silent = append, set()
    one.walk()
    assert [event["data"]["kind"] for event in one.told()] == ["registered", "rolled_back"]


def test_a_file_that_cannot_be_written_stops_nothing(walking: Callable[..., Any]):
    """It is a copy; the chain and the bus go on."""
    one = walking()

    def full(chain: Any) -> None:
        raise OSError(28, "No space left on device")

    one.keep = full
    assert moves(play(one)) == GOOD
    assert len(one.told()) == len(one.records())


def test_without_a_chain_there_is_nothing_to_follow_and_nothing_is_sealed_over_and_over(walking: Callable[..., Any]):
    """The journal was lost, the verdict was not: the controller has nothing to do, and is not busy with it."""
    one = walking(stages=[STAGES[0], *STAGES[2:]])
    one.silent = {"controller"}
    one.send("events", events(one, 0, 6))
    one.walk(3)
    one.journal._links.clear()
    assert [one.step("controller") for _ in range(3)] == [0, 0, 0]
    assert one.records() == []


def test_on_a_damaged_chain_nothing_is_done(walking: Callable[..., Any]):
    """An edited record: who acts on it acts on what nobody decided."""
    one = walking()
    approve(one)
    links = one.journal._links
    links[1] = Link(hash=links[1].hash, previous=links[1].previous, body=links[1].body.replace(b"bea", b"eve"))
    n = len(links)
    one.send("events", events(one, 0, 6))
    one.walk(3)
    assert (len(links), one.told()) == (n, [])
