"""A canary's arms as the analyst folds them: the same numbers however rows came, after a restart, and only those of the stage."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from analysis.plan import Plan
from analysis.types import Gate, Metric, Status
from harness.core.observations import Observation
from harness.core.rollout import Exposures, Measure
from harness.ports.observations import Observed
from harness.roles import topology
from harness.roles.arms import Arms, restored
from harness.testing.doubles import MemoryBus, MemoryObservationLog
from harness.testing.samples import rollout

HOUR = 3_600_000_000
SINCE = 100 * HOUR
ROLLOUT = replace(
    rollout(),
    looks_s=3_600.0,
    exposures=Exposures(topic="exposures", unit="subject", arm="/arm"),
    online={"appeals": Measure(name="appeals", topic="appeals", unit="subject", type="binary", window_s=1_800.0, better="lower")},
)
APPEALS = Metric(kind="online", measure="appeals", type="binary", window_us=HOUR // 2, better="lower", bound=1.0)
PLAN = Plan((Gate(name="no more appeals", metric=APPEALS, word="worse_by_at_most", limit=0.05),), alpha=0.05, n_stages=1, listed={})
SOURCES = ("exposures/0", "appeals/0")


class Feed:
    """Rows of both sources in order of arrival, given out piece by piece."""

    def __init__(self, seed: int, *, units: int, appeals: tuple[float, float], percent: float = math.nan) -> None:
        rng = np.random.default_rng(seed)
        arms = (rng.random(units) < 0.5).astype(int)
        at = SINCE + 1 + np.arange(units) * (20 * HOUR // units)
        appealed = rng.random(units) < np.where(arms == 1, appeals[1], appeals[0])
        self.rows: list[tuple[str, Observation]] = []
        for n in range(units):
            self.rows.append(("exposures/0", Observation(b"x%013d" % n, n + 1, int(at[n]), float(arms[n]), percent)))
            if appealed[n]:
                self.rows.append(("appeals/0", Observation(b"a%013d" % n, n + 1, int(at[n]) + HOUR // 4, 1.0, 1.0)))
        self.rows.sort(key=lambda row: row[1].arrived)
        self.log = MemoryObservationLog()
        self._sent = 0

    def send(self, upto: int, *, end: int | None = None) -> None:
        """All rows up to this number, and that nothing older will follow."""
        rows, self._sent = self.rows[self._sent : upto], max(upto, self._sent)
        arrived = end if end is not None else rows[-1][1].arrived
        for source in SOURCES:
            before = self.log.load(source)
            its = [observation for name, observation in rows if name == source]
            self.log.append(source, its, Observed(position=before.position + len(its) + 1, arrived=arrived), after=before)


def made(log: Any, percent: float = 50.0, since: int = SINCE) -> Arms:
    return Arms(ROLLOUT, topology.create(ROLLOUT, 1, MemoryBus()), PLAN, log, percent=percent, since=since)


@pytest.mark.parametrize(("appeals", "status"), [((0.1, 0.1), Status.PASS), ((0.1, 0.25), Status.FAIL)])
def test_a_canary_that_does_no_harm_passes_and_one_that_does_fails(appeals: tuple[float, float], status: Status):
    """The units of both arms are counted once each, when their window is over."""
    feed = Feed(1, units=6_000, appeals=appeals)
    arms = made(feed.log)
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    assert arms.advance()
    (row,) = arms.results()
    assert (row.status, row.n_units) == (status, 6_000)
    assert row.estimate == pytest.approx(appeals[0] - appeals[1], abs=0.03)
    assert not arms.advance(), "the same look is read once"


def test_pieces_and_restarts_change_no_digit():
    """An analyst that dies between any two looks goes on from what it saved; one that saw all at once says the same."""
    whole, pieces = Feed(2, units=3_000, appeals=(0.1, 0.12)), Feed(2, units=3_000, appeals=(0.1, 0.12))
    whole.send(len(whole.rows), end=SINCE + 24 * HOUR)
    at_once = made(whole.log)
    at_once.advance()
    arms, saved, cuts = made(pieces.log), b"", [400, 401, 1_500, 2_600, len(pieces.rows)]
    for n, cut in enumerate(cuts):
        pieces.send(cut, end=SINCE + 24 * HOUR if cut == cuts[-1] else None)
        arms.advance()
        if n % 2 == 0:
            saved = arms.to_bytes()
        arms = restored(made(pieces.log), saved)
        arms.advance()
    assert arms.results() == at_once.results()
    assert arms.document() == at_once.document()


def test_after_a_long_downtime_every_look_is_read_and_none_before_the_first_exposure():
    """More than go into one fold: one that was left out would let pass what fired at it, and an audit that folds anew would differ."""
    often = replace(ROLLOUT, looks_s=17.0)
    found = []
    for cuts in ([1], [0.3, 1]):
        feed = Feed(8, units=2_000, appeals=(0.1, 0.1))
        arms = Arms(often, topology.create(often, 1, MemoryBus()), PLAN, feed.log, percent=20.0, since=-1)
        for cut in cuts:
            feed.send(int(cut * len(feed.rows)), end=SINCE + 24 * HOUR if cut == 1 else None)
            arms.advance()
        found.append((arms.results(), arms.document()))
    assert found[0] == found[1]
    assert found[0][1]["split_fired_at"] is not None


def test_only_what_arrives_after_the_stage_began_counts():
    """A unit that an earlier stage exposed is a unit of this one from its first exposure in it."""
    feed = Feed(3, units=2_000, appeals=(0.1, 0.1))
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    later = made(feed.log, since=SINCE + 10 * HOUR)
    later.advance()
    assert later.results()[0].n_units == 1_000


def test_a_split_that_is_not_the_configured_one_holds_and_says_so():
    """Half of the units at a configured tenth: whoever is missing from an arm may be those who would have complained."""
    feed = Feed(4, units=4_000, appeals=(0.1, 0.1))
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    arms = made(feed.log, percent=10.0)
    arms.advance()
    (row,) = arms.results()
    assert (row.status, row.reason) == (Status.UNDECIDED, "sample_ratio")
    assert arms.document()["split_fired_at"] is not None


def test_the_percent_that_production_recorded_is_believed_before_that_of_the_stage():
    """A new percent takes a moment to reach everybody; until then exposures say the old one and are compared with their own kind."""
    feed = Feed(5, units=4_000, appeals=(0.1, 0.1), percent=50.0)
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    arms = made(feed.log, percent=10.0)
    arms.advance()
    assert arms.results()[0].status is Status.PASS


@pytest.mark.parametrize(("percent", "status"), [(50.0, Status.PASS), (60.0, Status.FAIL)])
def test_a_gate_on_the_split_passes_when_it_is_the_configured_one_and_fails_when_it_is_far_from_it(percent: float, status: Status):
    """Of all units exposed, without a single measurement of them."""
    feed = Feed(7, units=8_000, appeals=(0.0, 0.0))
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    plan = Plan((Gate(name="split", metric=Metric(kind="sample_ratio"), word="within", limit=0.05),), alpha=0.05, n_stages=1, listed={})
    arms = Arms(ROLLOUT, topology.create(ROLLOUT, 1, MemoryBus()), plan, feed.log, percent=percent, since=SINCE)
    arms.advance()
    (row,) = arms.results()
    assert (row.status, row.n_units, row.estimate) == (status, 8_000, pytest.approx(0.5 - percent / 100.0, abs=0.02))


def test_state_of_another_plan_is_not_continued():
    """A changed gate folds nothing that was folded for another question."""
    feed = Feed(6, units=2_000, appeals=(0.1, 0.1))
    feed.send(len(feed.rows), end=SINCE + 24 * HOUR)
    arms = made(feed.log)
    arms.advance()
    other = Plan((replace(PLAN.gates[0], limit=0.04),), alpha=0.05, n_stages=1, listed={})
    changed = Arms(ROLLOUT, topology.create(ROLLOUT, 1, MemoryBus()), other, feed.log, percent=50.0, since=SINCE)
    assert restored(changed, arms.to_bytes()).look == SINCE
