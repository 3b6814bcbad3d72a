"""At the edges: nothing, one, all, none, a billion, a tiny alpha, numbers far from zero; and what must hold for every kind of support."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.calibration.kinds import Case, cases
from analysis.evidence import Evidence, Plan
from analysis.gates import Test, prepare
from analysis.metrics.support import Support
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.designs import Question, design
from analysis.sequential.mixture import Process, undesigned_bets
from analysis.simulate import SHORT_US, flips, known
from analysis.types import Gate, InputError, Metric, PairTable, Status

BY_KIND = {"rate": "harm `below`", "sign": "harm `worse_by_at_most`", "numeric": "loss, absolute error `worse_by_at_most`",
           "latency": "latency p90 `below`", "weighted rate": "harm, weighted `below`", "equivalence": "action `within`",
           "closed form": "flip, closed form `below`"}
ALL = {case.name: case for case in cases()}
EVERY = pytest.mark.parametrize("test", [prepare(ALL[name].gate) for name in BY_KIND.values()], ids=list(BY_KIND))
FOLDED = pytest.mark.parametrize("case", [ALL[name] for name in BY_KIND.values()], ids=list(BY_KIND))


def drawn(test: Test, n: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """(values, weights) of some contributions that the support can take."""
    rng, support = np.random.default_rng(seed), test.support
    if support.kind == "numeric":
        return rng.uniform(support.low, support.high, n), None
    values = rng.integers(0, {"rate": 2, "latency": 3, "sign": 3}[support.kind], n) - (1.0 if support.kind == "sign" else 0.0)
    return values.astype(float), None if support.least is None else rng.uniform(1.0, 1.0 / support.least, n)


def tallied(test: Test, values: np.ndarray, weights: np.ndarray | None) -> Tally:
    tally = Tally(test.support)
    tally.grow(1)
    tally.add(Batch(np.zeros(len(values), np.int64), values, np.ones(len(values), bool), weights=weights))
    return tally


def folded(case: Case, table: PairTable, **changed: object) -> Evidence:
    gate = replace(case.gate, **changed)  # type: ignore[arg-type]
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), gate.metric.labelled)
    last = int(table["arrived"][-1]) if len(table) else 0
    evidence.fold(table, np.array([last + SHORT_US]))
    return evidence


# ------------------------------------------------------------------------------------------------------------------ edges
@FOLDED
@pytest.mark.parametrize("n", [0, 1])
def test_nothing_and_one_event_are_undecided(case, n):
    """No event has no estimate, one event proves nothing, and neither is an error."""
    evidence = folded(case, known(np.random.default_rng(2), n, case.world))
    (row,) = evidence.results()
    assert row.status is Status.UNDECIDED and not evidence.broken
    assert row.n_units <= n and (row.estimate is None or n == 1)
    assert row.log_e_pass is not None and row.log_e_pass < log(20)


@EVERY
@pytest.mark.parametrize("n", [1, 1_000, 10**9])
def test_none_and_all_are_numbers_at_any_n(test, n):
    """Every contribution the smallest possible value, or the largest: log e-values are finite, up to a billion of them."""
    for cell in (0, test.support.n_values - 1):
        counts = np.zeros(test.support.n_values, np.int64)
        counts[cell] = n * min(test.support.one, 2**63 // 10**9 - 1)
        assert np.isfinite(float(test.log_e_pass(counts))) and np.isfinite(float(test.log_e_fail(counts)))


@pytest.mark.parametrize("side", ["pass_", "fail"])
@pytest.mark.parametrize("level", [1e-6, 1e-12])
def test_a_tiny_alpha_widens_the_interval_and_no_more(side, level):
    """alpha 1e-6 is a cost of logarithms: the interval holds the estimate, and the one of 0.05 lies inside it."""
    (process,) = getattr(design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.02)), side)
    counts, bits = np.array([98_000, 2_000]), np.array([0.0, 1.0])
    strict, usual = (process.bound(counts, bits, level=each) for each in (level, 0.05))
    assert abs(strict - 0.02) > abs(usual - 0.02) > 0.0 and abs(strict - 0.02) < 0.01


def test_a_billion_events_have_a_narrow_interval():
    """Half-width at p = 1/2 and n = 1e8 is 0.00018 with fractions from 1e-6 (STATISTICS 6.3); at n = 1e9 it goes on shrinking."""
    bits, widths = np.array([0.0, 1.0]), []
    for n in (10**6, 10**8, 10**9):
        counts = np.array([n // 2, n // 2])
        ends = [Process(proves, 0.5, 0.0, 1.0, undesigned_bets(1e-6)).bound(counts, bits, level=0.025) for proves in ("below", "above")]
        widths.append((ends[0] - ends[1]) / 2)
    assert widths[1] == pytest.approx(0.00018, rel=0.1) and widths[0] > widths[1] > widths[2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e300])
@EVERY
def test_what_is_no_contribution_is_refused_whole(test, bad):
    """Nothing of the batch is counted, and the message names the range."""
    values, weights = drawn(test, 20, 1)
    tally = tallied(test, values, weights)
    before = tally.counts.copy()
    wrong = values.copy()
    wrong[7] = bad
    with pytest.raises(InputError, match="outside"):
        tally.add(Batch(np.zeros(20, np.int64), wrong, np.ones(20, bool), weights=weights))
    assert np.array_equal(tally.counts, before) and tally.events[0] == 20


@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")
@pytest.mark.parametrize(("column", "bad"), [("x.challenger", np.inf), ("x.challenger", 1e9), ("x.challenger", -1e9), ("truth.x", np.inf)])
def test_a_number_out_of_its_range_breaks_the_gate_and_says_which(column, bad):
    """Through the whole fold: `compute_error` with the row and the range, never a clipped number."""
    case = ALL[BY_KIND["numeric"]]
    table = known(np.random.default_rng(3), 300, case.world)
    changed = table[column].copy()
    at = int(np.flatnonzero(~np.isnan(table["x.challenger"]) & ~np.isnan(table["x.incumbent"]))[5])
    changed[at] = bad
    evidence = folded(case, PairTable({**table.columns, column: changed}, table.words))
    assert evidence.results()[0].reason == "compute_error" and f"row {at}" in evidence.broken["at its limit"]


def test_numbers_far_from_zero_keep_their_spread():
    """Mean 1e9, sd 1: estimate to 1e-6, and a limit half a unit away is decided."""
    support = Support("numeric", 1e9 - 20.0, 1e9 + 20.0)
    values = 1e9 + np.random.default_rng(5).normal(0.0, 1.0, 30_000)
    tally = Tally(support)
    tally.grow(1)
    tally.add(Batch(np.zeros(len(values), np.int64), values, np.ones(len(values), bool)))
    assert tally.mean(0) == pytest.approx(1e9 + float((values - 1e9).mean()), abs=1e-6)
    process = Process("below", 1e9 + 0.5, support.low, support.high, undesigned_bets(0.001))
    assert process.bound(support.for_pass(tally.counts[0]), support.values, level=0.05) < 1e9 + 0.2


# ------------------------------------------------------------------------------------------------------------- properties
@EVERY
@settings(max_examples=15, deadline=None)
@given(n=st.integers(0, 200), cut=st.integers(0, 200), seed=st.integers(0, 10_000))
def test_parts_in_any_order_add_up_to_the_whole(test, n, cut, seed):
    """Merging and permutation, to the bit: counts, sums and means of shards, in any order, are those of one fold."""
    values, weights = drawn(test, n, seed)
    cut = min(cut, n)
    order = np.random.default_rng(seed).permutation(n)
    mixed, heavy = values[order], None if weights is None else weights[order]
    parts = [tallied(test, mixed[some], None if heavy is None else heavy[some]) for some in (slice(None, cut), slice(cut, None))]
    whole, merged = tallied(test, values, weights), parts[1] + parts[0]
    assert np.array_equal(whole.counts, merged.counts) and whole.mean(0) == merged.mean(0) and whole.units(0) == n
    assert float(test.log_e_pass(whole.counts[0])) == float(test.log_e_pass(merged.counts[0]))
    assert float(test.log_e_fail(whole.counts[0])) == float(test.log_e_fail(merged.counts[0]))


@EVERY
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 100), seed=st.integers(0, 10_000))
def test_a_worse_contribution_never_helps_a_pass_nor_hurts_a_fail(test, n, seed):
    """Monotony: one contribution moved to the worst value. `within` has no worse side for both of its processes at once."""
    if test.gate.word == "within":
        return
    values, weights = drawn(test, n, seed)
    worse = values.copy()
    worse[seed % n] = {"latency": 1.0}.get(test.support.kind, test.support.high if test.gate.word == "below" else test.support.low)
    before, after = tallied(test, values, weights).counts[0], tallied(test, worse, weights).counts[0]
    assert float(test.log_e_pass(after)) <= float(test.log_e_pass(before)) + 1e-9
    assert float(test.log_e_fail(after)) >= float(test.log_e_fail(before)) - 1e-9


@EVERY
@settings(max_examples=10, deadline=None)
@given(n=st.integers(0, 3_000), seed=st.integers(0, 10_000), level=st.sampled_from([0.05, 1e-6]))
def test_a_bound_lies_inside_the_limit_exactly_when_the_level_is_reached(test, n, seed, level):
    """Duality, for each process of a pass and of a fail, whatever the support."""
    counts = tallied(test, *drawn(test, n, seed)).counts[0]
    for processes, counted in ((test.design.pass_, test.support.for_pass(counts)), (test.design.fail, test.support.for_fail(counts))):
        for process in processes:
            bound = process.bound(counted, test.support.values, level=level, weights=test.support.weights)
            enough = float(process.log_e(counted, test.support.values, weights=test.support.weights)) >= -log(level)
            assert enough == (bound < process.limit if process.proves == "below" else bound > process.limit)


@settings(max_examples=20, deadline=None)
@given(times=st.lists(st.integers(1, 4), min_size=30, max_size=60), seed=st.integers(0, 1_000))
def test_copies_of_events_move_no_gate(times, seed):
    """At-least-once delivery that reaches the evidence: units speak once, so the e-values are those of each event once."""
    flipped = np.random.default_rng(seed).random(len(times)) < 0.3
    gate = Gate(name="flips", metric=Metric(kind="flip", policy="p"), word="below", limit=0.2)
    rows = []
    for repeated in (np.ones(len(times), int), np.array(times)):
        evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), False)
        table = flips(np.repeat(flipped, repeated), np.repeat(np.arange(len(times)), repeated))
        evidence.fold(table, np.array([10**15]))
        rows.append(evidence.results()[0])
    assert (rows[0].log_e_pass, rows[0].log_e_fail, rows[0].n_units) == (rows[1].log_e_pass, rows[1].log_e_fail, rows[1].n_units)
