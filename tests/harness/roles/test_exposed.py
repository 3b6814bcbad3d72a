"""Whom the challenger served and what befell them: counted at once, by stage, whatever comes first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.core.observations import Observation
from harness.core.reading import timestamp
from harness.core.routing import Hasher
from harness.core.stages import Standing
from harness.ports.observations import Observed
from harness.roles import exposed
from harness.roles.exposed import Units

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000
EXPOSURES = {"topic": "small.exposures", "unit": "subject", "arm": "/arm"}
CANARY = {"canary": {"percent": 10}, "stop_after": {"minor_let_in": 3}}


@pytest.fixture
def walking(crew: Callable[..., Any]) -> Callable[..., Any]:
    """A rollout whose second stage stops after three minors let in; the test says when a stage is entered."""

    def make(second: Any = None, **more: Any) -> Any:
        stages = [{"shadow": {}}, CANARY if second is None else second, {"promote": {"bake": "2h"}}]
        if second is not None and "promote" in second:
            stages.pop()
        found = crew(stages=stages, exposures=EXPOSURES, **more)
        found.silent = {"controller"}
        found.clock.move_to(START + 100 * HOUR)
        return found

    return make


def entered(one: Any, stage: int, hour: int, percent: float = 10.0) -> None:
    one.say("entered", "controller", stage=stage, since=timestamp(START + hour * HOUR), percent=percent)


def served(one: Any, *ids: str, at: int, arm: int = 1) -> None:
    """Production says which arm served the units of these events."""
    before, hasher = one.observations.load("exposures/0"), Hasher("small")
    rows = [Observation(f"{id}{at + n}".encode(), hasher.unit(f"unit of {id}"), at + START + n, arm, 10.0) for n, id in enumerate(ids)]
    after = Observed(position=before.position + len(rows), arrived=rows[-1].arrived)
    one.observations.append("exposures/0", rows, after, after=before)


def canary(one: Any, n: int = 6) -> None:
    """One adult an hour in the shadow; then n people in the canary, whom the challenger takes for adults."""
    one.send("events", [one.event(f"s{n}", n * HOUR + SECOND) for n in range(4)])
    one.send("events", [one.event(f"c{n}", 4 * HOUR + n * SECOND + SECOND) for n in range(n)])
    one.send("events", [one.mark(5 * HOUR)])
    entered(one, 1, 4)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_harm_counts_at_once_for_people_whom_the_challenger_served_and_for_nobody_else(shards: int, walking: Callable[..., Any]):
    """Long before labels mature; not of the other arm, not of the stage before, not of an adult, and each event once."""
    one = walking(shards=shards)
    canary(one)
    served(one, "c0", "c1", "c4", at=4 * HOUR + 100)
    served(one, "c0", at=4 * HOUR + 900)
    served(one, "c2", "s0", at=4 * HOUR + 100, arm=0)
    served(one, "s1", at=3 * HOUR)
    verdict = one.verdict()
    assert verdict["exposed_harms"] == {"minor_let_in": 0}, "nothing is known of anybody yet"
    ages = {"c0": 15.0, "c1": 15.0, "c2": 15.0, "c3": 15.0, "c4": 30.0, "s0": 15.0, "s1": 15.0}
    one.send("outcomes", [one.label(id, 4 * HOUR + 60 * SECOND, age) for id, age in ages.items()])
    verdict = one.verdict()
    assert verdict["exposed_harms"] == {"minor_let_in": 2}
    stages = [{"attempt": 0, "stage_index": 0, "percent": 0.0, "units": 1}, {"attempt": 0, "stage_index": 1, "percent": 10.0, "units": 3}]
    assert verdict["exposed"] == {"units": 4, "stages": stages}


def test_an_exposure_that_comes_after_event_and_label_counts_and_a_label_that_is_revised_counts_as_it_is_now(walking: Callable[..., Any]):
    """In whatever order they come, and for an analyst that was killed as for one that was not."""
    one = walking()
    canary(one)
    one.send("outcomes", [one.label(f"c{n}", 4 * HOUR + 60 * SECOND, 15.0) for n in range(6)])
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 0}
    served(one, "c0", "c1", at=4 * HOUR + 30 * 60 * SECOND)
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 2}
    one.send("outcomes", [one.label("c0", 5 * HOUR, 40.0)])
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 1}
    one._made.pop("analyst")
    served(one, "c5", at=6 * HOUR)
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 2}


def test_exposures_that_were_lost_before_they_were_read_hold_a_canary(walking: Callable[..., Any]):
    """Whoever is not known to have been served is missing from its arm, and from those whose harms end the stage."""
    one = walking(gates=[{"name": "flips", "metric": {"flip": "adult"}, "below": 0.99}])
    for hour in range(30):
        one.send("events", [one.event(f"e{hour}-{n}", hour * HOUR + n * SECOND + SECOND) for n in range(12)])
    one.send("events", [one.mark(30 * HOUR)])
    entered(one, 1, 4)
    served(one, "e5-1", at=5 * HOUR)
    assert one.verdict()["verdict"] == "promote"
    before = one.observations.load("exposures/0")
    one.observations.append("exposures/0", [], replace(before, overrun=1), after=before)
    verdict = one.verdict()
    assert (verdict["verdict"], verdict["reasons"][0]) == ("hold", "1 records were lost before they were read (overrun)")


def test_a_decision_that_is_not_among_those_of_the_harm_does_not_count(walking: Callable[..., Any]):
    """The challenger stopped them, or did not answer: the incumbent may have let them in, which is not the challenger's harm."""
    one = walking()
    canary(one, n=0)
    one.send("events", [one.event(f"d{n}", 5 * HOUR + n * SECOND + 1, new=new) for n, new in enumerate((15.0, "error", 20.0))])
    one.send("outcomes", [one.label(f"d{n}", 5 * HOUR + 9 * SECOND, 15.0) for n in range(3)])
    one.send("events", [one.mark(7 * HOUR)])
    served(one, "d0", "d1", "d2", at=5 * HOUR)
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 1}


def test_the_third_of_three_ends_the_rollout_whatever_the_gates_say(walking: Callable[..., Any]):
    """The controller goes back by itself, and its record says how many people the challenger served in which stage."""
    one = walking()
    canary(one)
    served(one, "c0", "c1", "c2", "c3", at=4 * HOUR + 100)
    one.send("outcomes", [one.label(f"c{n}", 4 * HOUR + 60 * SECOND, 15.0) for n in range(2)])
    one.silent = set()
    one.walk(2)
    assert one.state().standing is Standing.RUNNING
    one.send("outcomes", [one.label("c2", 4 * HOUR + 60 * SECOND, 15.0)])
    one.walk(3)
    assert one.state().standing is Standing.ROLLED_BACK
    last = one.records()[-1]
    assert "stop_after: minor_let_in happened 3 times" in last["reason"]
    assert last["evidence"]["exposed"]["units"] == 4
    assert last["evidence"]["exposed"]["stages"][-1] == {"attempt": 0, "stage_index": 1, "percent": 10.0, "units": 4}


def test_in_the_bake_everybody_is_served(walking: Callable[..., Any]):
    """No exposure need say so."""
    one = walking({"promote": {"bake": "20h"}, "stop_after": {"minor_let_in": 4}})
    canary(one)
    one.send("outcomes", [one.label(id, 4 * HOUR + 60 * SECOND, 15.0) for id in ("c0", "c1", "c2", "s2")])
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 3}


def test_slices_give_what_one_reading_gives(walking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """A stage is read in as many steps as it takes; a label that comes between two of them is found at the next reading."""
    monkeypatch.setattr(exposed, "SLICE_ROWS", 5)
    one = walking(shards=2)
    canary(one, n=40)
    served(one, *(f"c{n}" for n in range(30)), at=4 * HOUR + 1)
    one.send("outcomes", [one.label(f"c{n}", 4 * HOUR + 60 * SECOND, 15.0 if n % 2 else 30.0) for n in range(40)])
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 15}


def test_rows_that_have_expired_no_longer_count_and_stop_nothing(walking: Callable[..., Any]):
    """A stage may last longer than pairs are kept."""
    one = walking(shards=1)
    canary(one)
    served(one, "c0", "c5", at=4 * HOUR + 1)
    one.send("outcomes", [one.label(f"c{n}", 4 * HOUR + 60 * SECOND, 15.0) for n in range(6)])
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 2}
    one.logs[0].expire(6)  # four of the shadow, c0 and c1
    served(one, "c4", at=5 * HOUR)
    assert one.verdict()["exposed_harms"] == {"minor_let_in": 2}


def test_reading_rows_again_takes_at_most_a_fifth_of_the_time(walking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """What takes a second is not done again before four more have passed; a clock that was set back ends no wait for good."""
    one = walking(shards=1)
    canary(one)
    one.settle()
    log, read = one.logs[0], one.logs[0].rows
    monkeypatch.setattr(log, "rows", lambda *of: (one.clock.move_to(one.clock.now() + SECOND), read(*of))[1])
    units = Units()
    units.add(np.arange(5, dtype=np.uint64))
    harms = exposed.ExposedHarms(one.rollout, one.rollout.stages[1], [log], one.clock, since=START + 4 * HOUR, units=units)
    snapshots = [log.snapshot()]
    assert harms.advance(snapshots, {})
    ended = one.clock.now()
    units.add(np.array([7], np.uint64))
    for later, reads in ((0, False), (3.9, False), (4.0, True)):
        one.clock.move_to(int(ended + later * SECOND))
        assert harms.advance(snapshots, {}) is reads
    units.add(np.array([8], np.uint64))
    monkeypatch.setattr(one.clock, "_now", ended - 100 * HOUR)
    assert harms.advance(snapshots, {})


def test_a_set_of_units_that_grows_piece_by_piece_is_the_set_of_all(seed: int = 3):
    """Pieces of any size, with units that came before."""
    rng, units, every = np.random.default_rng(seed), Units(), set[int]()
    for size in (1, 0, 500, 3, 3, 70, 2_000, 1, 40):
        piece = rng.integers(0, 3_000, size).astype(np.uint64)
        units.add(piece)
        every |= set(piece.tolist())
        asked = rng.integers(0, 3_500, 300).astype(np.uint64)
        assert units.has(asked).tolist() == [int(unit) in every for unit in asked]
        assert len(units) == len(every)
