"""The analyst through the stages of a rollout: each is a new process, and none takes anything from the one before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.reading import timestamp
from harness.ports.journal import Link

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000
STAGES = [{"shadow": {}}, {"canary": {"percent": 1}}, {"canary": {"percent": 10}}, {"promote": {"bake": "2h"}}]


def traffic(crew: Any, first: int, last: int, *, new: float = 20.0) -> list[bytes]:
    """Six events an hour, from hour `first` up to `last`."""
    return [crew.event(f"e{hour}-{n}", hour * HOUR + n * 600 * SECOND + SECOND, new=new) for hour in range(first, last) for n in range(6)]


def rows_of(verdict: Any, gate: str = "answers") -> tuple[int, int]:
    """(units, events) that a gate's whole row stands on."""
    row = next(row for row in verdict["gates"] if row["name"] == gate and row["segment"] is None)
    return row["n_units"], row["n_events"]


def entered(crew: Any, stage: int, hour: int) -> None:
    """As the controller would, on a verdict of that hour."""
    crew.say("entered", "controller", stage=stage, since=timestamp(START + hour * HOUR))


@pytest.fixture
def walking(crew: Callable[..., Any]) -> Callable[..., Any]:
    """A rollout of four stages whose controller is silent: the test says when a stage is entered."""

    def make(**more: Any) -> Any:
        found = crew(stages=STAGES, **more)
        found.silent = {"controller"}
        found.clock.move_to(START + 100 * HOUR)
        return found

    return make


@pytest.mark.parametrize("shards", [1, 3])
def test_a_stage_counts_only_what_arrived_after_it_was_entered(shards: int, walking: Callable[..., Any]):
    """Also of a unit that was seen before: evidence of an earlier stage is not of this one."""
    one = walking(shards=shards)
    one.send("events", [*traffic(one, 0, 6), one.mark(6 * HOUR)])
    one.settle()
    before = one.verdict()
    assert (before["stage"], before["stage_index"], before["since"], before["stage_pairs"]) == ("shadow", 0, None, 36)
    assert (before["began"], before["as_of"]) == (timestamp(START + SECOND), timestamp(START + 6 * HOUR))
    entered(one, 1, 4)
    one.send("events", [*traffic(one, 6, 8), one.event("again", 7 * HOUR + 5 * SECOND, subject="unit of e0-0"), one.mark(8 * HOUR)])
    verdict = one.verdict()
    assert (verdict["stage"], verdict["stage_index"], verdict["since"]) == ("canary", 1, timestamp(START + 4 * HOUR))
    assert (verdict["began"], verdict["stage_pairs"], rows_of(verdict)) == (timestamp(START + 4 * HOUR + SECOND), 25, (25, 25))
    assert (verdict["standing"], verdict["percent"], verdict["counts"]["paired"]) == ("running", 1.0, 49)


def test_a_labelled_gate_of_a_stage_waits_until_its_own_labels_have_matured(walking: Callable[..., Any]):
    """`matures` after the stage was entered at the earliest; labels of the stage before, which mature meanwhile, are not among them."""
    one = walking(shards=1)
    one.send("events", traffic(one, 0, 6))
    one.send("outcomes", [one.label(f"e{hour}-{n}", hour * HOUR + HOUR, 15.0) for hour in range(6) for n in range(6)])
    one.send("events", [one.mark(6 * HOUR)])
    one.settle()
    entered(one, 1, 4)
    assert (rows_of(one.verdict(), "minors"), rows_of(one.verdict())) == ((0, 0), (12, 12))
    one.send("events", [one.mark(7 * HOUR)])
    assert rows_of(one.verdict(), "minors") == (6, 6)
    one.send("events", [one.mark(9 * HOUR)])
    assert rows_of(one.verdict(), "minors") == (12, 12)


@pytest.mark.parametrize("closes", [False, True], ids=["killed", "stopped"])
def test_a_restarted_analyst_goes_on_with_the_stage_and_with_no_other(closes: bool, walking: Callable[..., Any]):
    """From statistics of the same stage if there are any; those of another are left behind, whenever the stage was entered."""
    calm, one = walking(shards=2), walking(shards=2)
    for crew in (calm, one):
        crew.send("events", [*traffic(crew, 0, 3), crew.mark(3 * HOUR)])
        crew.walk()
        if crew is one and closes:
            crew._made["analyst"].close()
        if crew is one:
            del crew._made["analyst"]
        entered(crew, 1, 2)
        crew.send("events", [*traffic(crew, 3, 5), crew.mark(5 * HOUR)])
        crew.walk()
        if crew is one:
            crew._made.pop("analyst").close()
        crew.send("events", [*traffic(crew, 5, 7), crew.mark(7 * HOUR)])
    found = one.verdict()
    assert found == calm.verdict()
    assert (found["stage_index"], found["stage_pairs"], rows_of(found)) == (1, 30, (30, 30))


def test_a_stage_that_begins_late_goes_on_behind_rows_that_have_expired(walking: Callable[..., Any]):
    """Of the stage before nothing is needed any more, so what is gone of it stops nobody."""
    one = walking(shards=2)
    one.send("events", [*traffic(one, 0, 6), one.mark(6 * HOUR)])
    one.settle()
    one._made.pop("analyst").close()
    for log in one.logs:
        records = [n for n in range(log.snapshot().head.resolved)]
        early = sum(one.make("analyst")._builder.layout.records(log.rows(n, n + 1))["arrived"][0] <= START + 3 * HOUR for n in records)
        log.expire(int(early))
    entered(one, 1, 4)
    one.send("events", [*traffic(one, 6, 7), one.mark(7 * HOUR)])
    verdict = one.verdict()
    assert (verdict["stage_index"], rows_of(verdict)) == (1, (18, 18))
    assert not any("overrun" in reason for reason in verdict["reasons"])


def test_rows_of_the_stage_itself_that_have_expired_are_said_and_hold(walking: Callable[..., Any]):
    """Evidence that is gone may have been against the challenger: what is left of it promotes nobody."""
    one = walking(shards=1)
    one.send("events", [*traffic(one, 0, 6), one.mark(6 * HOUR)])
    one.settle()
    one._made.pop("analyst").close()
    one.logs[0].expire(30)
    entered(one, 1, 4)
    verdict = one.verdict()
    assert (verdict["verdict"], rows_of(verdict)) == ("hold", (6, 6))
    assert verdict["reasons"][0] == "pairs of this stage expired before they were folded (overrun)"


def test_a_late_label_of_a_stage_is_folded_though_the_stages_before_have_expired(walking: Callable[..., Any]):
    """Folding anew starts where the stage does."""
    one = walking(shards=1)
    one.send("events", [*traffic(one, 0, 4), one.mark(4 * HOUR)])
    one.settle()
    entered(one, 1, 3)
    one.send("events", [*traffic(one, 4, 5), one.mark(10 * HOUR)])
    one.walk()
    assert rows_of(one.verdict(), "minors") == (0, 0)
    one.logs[0].expire(18)
    one.send("outcomes", [one.label("e4-0", 5 * HOUR, 15.0)])
    verdict = one.verdict()
    assert (rows_of(verdict, "minors"), verdict["watermark"]["labels_behind"]) == ((1, 1), 0)


def test_a_damaged_chain_holds_and_says_so_and_nothing_is_folded_on(walking: Callable[..., Any]):
    """Nobody can tell which stage it is: what is known stays, the verdict holds, and nobody is served by the challenger."""
    one = walking(shards=1)
    one.send("events", [*traffic(one, 0, 3), one.mark(3 * HOUR)])
    one.settle()
    sound = list(one.journal._links)
    one.journal._links.append(Link(hash="f" * 64, previous=sound[-1].hash, body=b'{"kind": "entered", "stage": 3}'))
    one.send("events", [*traffic(one, 3, 5), one.mark(5 * HOUR)])
    verdict = one.verdict()
    assert (verdict["verdict"], verdict["standing"], verdict["percent"], rows_of(verdict)) == ("hold", "damaged", 0.0, (18, 18))
    assert "the chain is damaged" in verdict["reasons"][0]
    del one._made["analyst"]
    assert one.verdict()["standing"] == "damaged"
    one.journal._links[:] = sound
    assert (one.verdict()["standing"], rows_of(one.verdict())) == ("running", (30, 30))


def test_a_gate_that_two_people_waive_does_not_count_until_the_waiver_expires(crew: Callable[..., Any]):
    """And the verdict names it, so that nobody takes the pass for one of every gate."""
    gates = [
        {"name": "flips", "metric": {"flip": "adult"}, "below": 0.9},
        {"name": "answers", "metric": {"missing": "challenger"}, "below": 0.0001},
    ]
    one = crew(shards=1, gates=gates)
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [*traffic(one, 0, 6), one.mark(6 * HOUR)])
    assert one.verdict()["verdict"] == "hold"
    for who in ("bea", "cyd"):
        assert one.verdict()["waived"] == []
        one.say("waived", who, gate="answers", expires=timestamp(START + 7 * HOUR))
    verdict = one.verdict()
    assert (verdict["verdict"], verdict["waived"]) == ("promote", ["answers"])
    assert verdict["reasons"] == ["every counted gate passed", "answers: waived by people, not counted"]
    one.send("events", [one.mark(8 * HOUR)])
    assert (one.verdict()["verdict"], one.verdict()["waived"]) == ("hold", [])
