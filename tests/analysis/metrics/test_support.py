"""Exact sums, linear binning and the histogram of latencies."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.metrics.support import (
    BLOCK,
    Support,
    counted,
    exact_counts,
    exact_sums,
    latency_cells,
    latency_edges,
    latency_quantile,
    summed,
)
from analysis.sequential.mixture import Process, undesigned_bets
from analysis.types import InputError

AGES = Support("numeric", -120.0, 120.0)
inside = st.floats(-120.0, 120.0)


@settings(deadline=None)
@given(st.lists(inside, min_size=1, max_size=50))
def test_fixed_point_sums_are_the_sums(numbers):
    """A mean must be that of the people's own notebook to 1e-9, whatever the order; fixed point is exact in every order."""
    at, slots = np.array(numbers), np.zeros(len(numbers), int)
    (total,) = exact_sums(slots, AGES.fixed(at), 1)
    (again,) = exact_sums(slots, AGES.fixed(at[::-1]), 1)
    assert total == again
    assert float(Fraction(total, len(numbers) << AGES.bits)) == pytest.approx(math.fsum(numbers) / len(numbers), abs=1e-11)


@settings(deadline=None)
@given(st.lists(inside, min_size=1, max_size=50))
def test_linear_binning_keeps_the_number_and_the_mean(numbers):
    """The weights of a contribution add up to exactly one, and its mean stays: no interval may be moved by the grid."""
    row, cell, weight = AGES.spread(np.array(numbers))
    counts = np.zeros(AGES.n_values, np.int64)
    np.add.at(counts, cell, weight)
    assert counts.sum() == len(numbers) * AGES.one and set(row) == set(range(len(numbers)))
    assert AGES.for_pass(counts) @ AGES.values / len(numbers) == pytest.approx(np.mean(numbers), abs=1e-7)


@settings(deadline=None)
@given(st.lists(inside, min_size=1, max_size=40), st.floats(-100.0, 100.0), st.sampled_from(["below", "above"]))
def test_binned_evidence_is_never_more_than_the_exact_evidence(numbers, limit, proves):
    """The logarithm is concave: spreading over two steps loses evidence in both directions, and gains it in none."""
    process, at = Process(proves, limit, -120.0, 120.0, undesigned_bets(0.001)), np.array(numbers)
    _, cell, weight = AGES.spread(at)
    counts = np.zeros(AGES.n_values, np.int64)
    np.add.at(counts, cell, weight)
    exact = float(process.log_e(np.ones(len(at)), at))
    assert float(process.log_e(AGES.for_pass(counts), AGES.values)) <= exact + 1e-6


def test_the_published_histogram_loses_a_hundredth():
    """STATISTICS 6.3: 1,000 bins, Beta(40, 60), a million events, m off by 0.001: 186.69 exact, 186.68 binned (seed differs)."""
    rng, support = np.random.default_rng(2), Support("numeric", 0.0, 1.0)
    at = rng.beta(40, 60, 1_000_000)
    process = Process("above", float(at.mean()) - 0.001, 0.0, 1.0, undesigned_bets(0.001))
    _, cell, weight = support.spread(at)
    counts = np.zeros(support.n_values, np.int64)
    np.add.at(counts, cell, weight)
    fine = float(max(np.log1p(process.bets.fractions[j] / process.limit * (at - process.limit)).sum() for j in (2, 4, 6, 8)))
    binned = float(process.log_factors(support.values, process.limit)[:, [2, 4, 6, 8]].T.dot(support.for_pass(counts)).max())
    assert fine - 0.05 < binned < fine


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 121.0, -120.1])
def test_a_number_outside_its_range_is_faulty(bad):
    """Silent clipping would make a broken model look like a good one."""
    assert AGES.faulty(np.array([0.0, bad, 120.0])).tolist() == [False, True, False]


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_an_empty_or_endless_range_is_refused(low, high):
    """There is no bounded bet on an unbounded number."""
    with pytest.raises(InputError):
        Support("numeric", low, high)


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 5_000.0), min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99]))
def test_the_quantile_of_the_histogram_is_within_a_percent(latencies, quantile):
    """People compare it with their own p99: it must be that of the sorted list, to the width of a cell."""
    edges = latency_edges(250.0)
    at = np.array(latencies)
    cells = np.bincount(latency_cells(at, np.zeros(len(at), bool), edges), minlength=len(edges) + 3)
    rank = max(math.ceil(quantile * len(at) - 1e-9), 1)
    assert latency_quantile(cells, edges, quantile) == pytest.approx(sorted(latencies)[rank - 1], rel=0.0101)


def test_the_limit_is_an_edge_and_belongs_to_the_fast_side():
    """`below: 250ms` is broken by 250.1 ms and not by 250 ms; pass and interval must agree on it."""
    edges = latency_edges(250.0)
    assert np.diff(np.log(edges)).max() <= math.log(1.01) + 1e-9
    k = int(np.flatnonzero(edges == 250.0)[0])
    at = np.array([250.0, np.nextafter(250.0, 300.0), np.nan, 3.0])
    cells = latency_cells(at, np.array([False, False, False, True]), edges)
    assert cells.tolist() == [k, k + 1, len(edges) + 1, len(edges) + 2]
    with pytest.raises(InputError):
        latency_edges(0.0)


def test_a_quantile_among_missing_answers_is_no_number():
    """Two of a hundred never answered: the 0.99 quantile is slower than anything, and no millisecond stands for it."""
    edges = latency_edges(100.0)
    cells = np.bincount(latency_cells(np.full(100, 20.0), np.arange(100) < 2, edges), minlength=len(edges) + 3)
    assert latency_quantile(cells, edges, 0.99) is None
    assert latency_quantile(cells, edges, 0.98) == pytest.approx(20.0, rel=0.01)
    assert latency_quantile(np.zeros(len(edges) + 3, int), edges, 0.5) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**33)), max_size=40))
def test_counts_in_pieces_are_the_whole_counts(given_rows):
    """`bincount` adds in doubles: in pieces of 24 bits it is exact, and as `add.at` would have it."""
    places, amounts = (np.array([row[k] for row in given_rows], np.int64) for k in (0, 1))
    expected = np.zeros(5, np.int64)
    np.add.at(expected, places, amounts)
    assert exact_counts(places, amounts, 5).tolist() == expected.tolist()
    assert exact_counts(places, None, 5).tolist() == [int((places == k).sum()) for k in range(5)]
    assert exact_counts(places % 3, None, 3).tolist() == [int((places % 3 == k).sum()) for k in range(3)]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-(2**62), 2**62)), max_size=40))
def test_sums_larger_than_any_double_are_exact(given_rows):
    """Fixed point uses 62 bits: sums of one slot and of several are those of Python's own integers."""
    slots, fixed = (np.array([row[k] for row in given_rows], np.int64) for k in (0, 1))
    assert exact_sums(slots, fixed, 3) == [sum(amount for slot, amount in given_rows if slot == k) for k in range(3)]
    assert exact_sums(np.zeros(len(fixed), np.int64), fixed, 1) == [sum(amount for _, amount in given_rows)]


SUPPORTS = (
    Support("rate", 0.0, 1.0), Support("sign", -1.0, 1.0), Support("latency", 0.0, 1.0), AGES, Support("numeric", 0.0, 1.0),
    Support("numeric", -1e-9, 3e-7), Support("numeric", 0.0, 1e12), Support("rate", 0.0, 1.0, 0.1), Support("sign", -1.0, 1.0, 1e-6),
)  # fmt: skip


def drawn(support: Support, n: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Values of a support with both ends among them, and weights where it has them."""
    rng = np.random.default_rng(seed)
    if support.kind == "numeric":
        values = np.where(rng.random(n) < 0.1, rng.choice([support.low, support.high], n), rng.uniform(support.low, support.high, n))
    else:
        values = rng.integers(-1 if support.kind == "sign" else 0, 3 if support.kind == "latency" else 2, n).astype(float)
    return values, None if support.least is None else 1.0 / rng.uniform(support.least, 1.0, n)


@pytest.mark.parametrize("n_slots", [1, 3])
@pytest.mark.parametrize("n", [0, 1, 700, 2 * BLOCK + 5])
@pytest.mark.parametrize("support", SUPPORTS, ids=repr)
def test_what_is_counted_by_blocks_is_what_each_contribution_adds(support, n, n_slots):
    """Blocks and floats are for speed: not a bit may depend on them."""
    (values, weights), slots = drawn(support, n, n_slots), np.random.default_rng(n).integers(0, n_slots, n)
    row, cell, share = support.spread(values, weights)
    expected = np.zeros((n_slots, support.n_values), np.int64)
    np.add.at(expected, (slots[row], cell), share)
    assert (counted(support, expected.shape, slots, values, weights) == expected).all()
    steps = support.fixed(values if weights is None else values * weights)
    sums = [sum(int(step) for step in steps[slots == slot]) for slot in range(n_slots)]
    assert summed(support, slots, values if weights is None else values * weights, n_slots) == sums


@settings(deadline=None)
@given(
    st.lists(st.floats(-130.0, 130.0) | st.sampled_from([math.nan, math.inf, -math.inf, 120.0, -120.0, 120.0 + 1e-10]), max_size=9)
)
def test_one_look_at_the_ends_finds_what_a_look_at_each_value_finds(numbers):
    """NaN hides from every comparison, and must not hide from this one."""
    values = np.array(numbers, np.float64)
    assert AGES.takes(values) == (not AGES.faulty(values).any())
