"""Statistics that add up: shards and days give the numbers of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.metrics.support import Support
from analysis.metrics.tally import Batch, Tally
from analysis.types import InputError

AGES = Support("numeric", -120.0, 120.0)
rows = st.lists(st.tuples(st.integers(0, 3), st.floats(-120.0, 120.0), st.booleans()), max_size=40)


def tally_of(part: list[tuple[int, float, bool]], n_slots: int = 4) -> Tally:
    tally = Tally(AGES)
    tally.grow(n_slots)
    slots, values, first = zip(*part, strict=True) if part else ((), (), ())
    tally.add(Batch(np.array(slots, int), np.array(values, float), np.array(first, bool)))
    return tally


def facts(tally: Tally) -> tuple[object, ...]:
    return tally.counts.tolist(), tally.events.tolist(), tally.event_sums, tally.unit_sums


@settings(deadline=None)
@given(rows, st.randoms(use_true_random=False), st.integers(0, 40))
def test_any_cut_and_any_order_add_up_to_the_whole(part, random, cut):
    """The number of shards and workers must move no digit of a verdict."""
    shuffled = part[:]
    random.shuffle(shuffled)
    assert facts(tally_of(part)) == facts(tally_of(shuffled[:cut]) + tally_of(shuffled[cut:])) == facts(tally_of(shuffled))


@settings(deadline=None)
@given(rows)
def test_means_are_those_of_plain_python(part):
    """Nothing seen is no mean; else the plain mean to 1e-11."""
    tally = tally_of(part)
    for slot in range(4):
        for found, wanted in ((tally.mean_events(slot), [v for s, v, _ in part if s == slot]),
                              (tally.mean(slot), [v for s, v, first in part if s == slot and first])):
            assert found is None if not wanted else found == pytest.approx(sum(wanted) / len(wanted), abs=1e-11)
        assert tally.units(slot) == sum(first for s, _, first in part if s == slot)


def test_a_faulty_number_is_refused_whole():
    """A batch with one NaN counts nothing: half a batch would be a number of nothing in particular."""
    tally = tally_of([(0, 1.0, True)])
    before = facts(tally)
    with pytest.raises(InputError):
        tally.add(Batch(np.array([0, 0]), np.array([1.0, np.nan]), np.array([True, True])))
    assert facts(tally) == before


def test_statistics_of_different_things_do_not_add_up():
    """Ages and rates have no sum."""
    with pytest.raises(InputError):
        tally_of([]) + Tally(Support("rate", 0.0, 1.0))
