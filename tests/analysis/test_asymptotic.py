"""Gates on numbers without a range: exact sums, the same through bytes, cuts and orders, and results that agree with their intervals."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.asymptotic import Asymptotic, Sums
from analysis.evidence import Evidence
from analysis.gates import prepare
from analysis.plan import Plan
from analysis.planning import assumed, forecast, measured
from analysis.types import Gate, InputError, Metric, PairTable, Status

LOSS = Metric(kind="loss", loss="absolute_error", output="x", truth_name="x")
DIFFERENCE = Metric(kind="difference", output="x")
GATE = Gate(name="no worse", metric=LOSS, word="worse_by_at_most", limit=0.25, method="asymptotic", decide_at=2_000)
MOVED = replace(GATE, name="moved", metric=DIFFERENCE, word="within")
numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e150, max_value=1e150)


def table(old, new, truth=None, unit=None, segment=None) -> PairTable:
    """A row a microsecond."""
    n = len(old)
    columns = {"event_id": np.arange(n), "unit_id": (np.arange(n) if unit is None else unit).astype(np.uint64),
               "arrived": np.arange(1, n + 1).astype(np.int64), "missing.incumbent": np.full(n, -1, np.int32),
               "missing.challenger": np.full(n, -1, np.int32), "x.incumbent": np.asarray(old, float),
               "x.challenger": np.asarray(new, float), "truth.x": np.zeros(n) if truth is None else truth,
               "segment.region": np.zeros(n, np.int32) if segment is None else segment.astype(np.int32)}
    return PairTable(columns, {"segment.region": ("ES", "SE")})


def drawn(n=4_000, lift=0.0, seed=3, centre=0.0, spread=1.0) -> PairTable:
    rng = np.random.default_rng(seed)
    truth = centre + rng.normal(0.0, 1.0, n)
    return table(truth + np.abs(rng.normal(0.0, spread, n)), truth + np.abs(rng.normal(0.0, spread, n)) - lift, truth,
                 segment=rng.integers(0, 2, n))


def folded(rows, *gates, looks=None, labelled=True, alpha=0.05) -> Evidence:
    evidence = Evidence(Plan(gates, alpha=alpha, n_stages=1, listed={"region": ("ES", "SE")}), labelled)
    evidence.fold(rows, np.array([len(rows) + 1]) if looks is None else looks)
    return evidence


# -------------------------------------------------------------------------------------------------------------------- sums
@given(st.lists(numbers | st.sampled_from([0.0, 5e-324, -5e-324, 1e150, 1e9, 0.1]), min_size=2, max_size=12), st.data())
def test_sums_are_those_of_exact_fractions_in_any_order_and_cut(xs, data):
    """From the smallest float to the largest: no digit is lost."""
    mixed, cut = data.draw(st.permutations(xs)), data.draw(st.integers(0, len(xs)))
    one = Sums.of(np.array(mixed))
    assert one == Sums.of(np.array(xs)[:cut]) + Sums.of(np.array(xs)[cut:]) == Sums() + Sums.of(np.array(xs))
    exact = [Fraction(x) for x in xs]
    mean = sum(exact) / len(xs)
    assert one.mean == float(mean)
    variance = sum((x - mean) ** 2 for x in exact) / (len(xs) - 1)
    assert one.error == pytest.approx(sqrt(variance / len(xs)), rel=1e-12)


def test_a_mean_of_a_billion_keeps_a_spread_of_one():
    """A raw sum of squares in floats gives a variance of 0 there."""
    values = 1e9 + np.random.default_rng(1).normal(0.0, 1.0, 10_000)
    assert Sums.of(values).error == pytest.approx(values.std(ddof=1) / 100.0, rel=1e-9)
    assert (Sums().error, Sums.of(np.array([3.0])).error, Sums.of(np.full(9, 3.0)).error) == (0.0, 0.0, 0.0)


# ------------------------------------------------------------------------------------------------------------------- gates
def test_an_equal_challenger_passes_and_a_worse_one_fails():
    """Without any range: the row says how it was tested, and which numbers it saw."""
    (good,) = folded(drawn(), GATE).results()
    assert (good.status, good.reason, good.method, good.n_units) == (Status.PASS, None, "asymptotic, among labelled", 4_000)
    assert -0.25 < good.lower < good.estimate < good.upper and good.log_e_pass > log(20)
    (bad,) = folded(drawn(lift=-0.6), GATE).results()
    assert bad.status is Status.FAIL and bad.upper < -0.25 and bad.log_e_fail > log(20)
    (moved,) = folded(drawn(lift=0.6), MOVED, labelled=False).results()
    assert moved.status is Status.FAIL and moved.estimate == pytest.approx(-0.6, abs=0.05) and moved.method == "asymptotic"


def test_nothing_is_said_before_the_burn_in_is_over_and_without_a_spread():
    """999 units of a thousand; and values that are all equal, whose error of 0 is no certainty."""
    for rows in (drawn(n=0), drawn(n=1), drawn(n=999), table(np.ones(3_000), np.ones(3_000), np.ones(3_000))):
        (row,) = folded(rows, GATE).results()
        assert (row.status, row.reason, row.n_units, row.lower) == (Status.UNDECIDED, "insufficient", len(rows), None)
        assert (row.log_e_pass, row.log_e_fail) == (0.0, 0.0)
    assert folded(drawn(n=999), replace(GATE, burn_in=500)).results()[0].lower is not None
    assert folded(drawn(n=1_000), GATE).results()[0].lower is not None


def test_before_any_value_of_a_segment_was_seen_there_is_nothing_to_read():
    """Values that no config lists come with the events: a look at none of them is a look."""
    gate = replace(MOVED, each=(("region",),))
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={"region": None}), False)
    evidence.fold(drawn(n=0), np.array([0]))
    assert [(row.segment, row.status) for row in evidence.results()] == [(None, Status.UNDECIDED)]
    evidence.fold(drawn(n=2_500), np.array([1_200, 2_501]))
    assert {row.segment["region"]: row.n_units for row in evidence.results() if row.segment}.keys() == {"ES", "SE"}


def test_a_difference_that_is_rarely_other_than_zero_says_nothing_before_a_hundred_units_differ():
    """It is a rate in disguise: with five of a thousand units, such a gate at its limit passed in an eighth of the runs."""
    passes = 0
    for seed in range(150):
        apart = np.random.default_rng(seed).random(6_000) < 0.005
        rows = table(np.zeros(6_000), np.where(apart, 1.0, 0.0))
        gate = replace(GATE, limit=0.005)
        evidence, start = folded(rows.take(slice(0, 0)), gate, looks=np.array([0])), 0
        for look in range(1_000, 6_001, 250):
            evidence.fold(rows.take(slice(start, look)), np.array([look]))
            start = look
            passes += (done := evidence.results()[0].status is Status.PASS)
            if done:
                break
    assert passes == 0
    often = folded(table(np.zeros(30_000), np.where(np.random.default_rng(1).random(30_000) < 0.005, 1.0, 0.0)), replace(GATE, limit=0.02))
    assert often.results()[0].status is Status.PASS


def test_a_mean_of_a_billion_is_judged_like_a_mean_of_one():
    """Outputs of any size: only differences count, and their digits are there."""
    rows = {centre: folded(drawn(centre=centre), GATE).results()[0] for centre in (0.0, 1e9)}
    assert rows[1e9].log_e_pass == pytest.approx(rows[0.0].log_e_pass, rel=1e-4) and rows[1e9].status is Status.PASS


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 299), max_size=4, unique=True), st.integers(0, 5))
def test_cuts_bytes_and_segments_move_no_digit(cuts, seed):
    """One fold, or folds of a few rows through bytes: the same rows, with each and without."""
    rows = drawn(n=300, seed=seed)
    gates = (replace(GATE, burn_in=50), replace(GATE, name="each", burn_in=50, each=(("region",),)))
    looks = np.unique([*cuts, 300])
    once = folded(rows, *gates, looks=looks)
    plan, again, start = once.plan, Evidence(once.plan, True), 0
    for look in looks.tolist():
        again.fold(rows.take((rows["arrived"] > start) & (rows["arrived"] <= look)), np.array([look]))
        again, start = Evidence.from_bytes(plan, True, again.to_bytes()), look
    assert again.results() == once.results() and again.to_bytes() == once.to_bytes()
    by_segment = [row for row in once.results() if row.segment]
    assert sum(row.n_units for row in by_segment) == 300 and {row.segment["region"] for row in by_segment} == {"ES", "SE"}


@given(st.integers(2, 400), st.floats(-1.0, 1.0), st.sampled_from(["worse_by_at_most", "better_by_more_than", "within", "below", "above"]))
def test_it_passes_exactly_when_its_interval_lies_inside_the_limit(n, lift, word):
    """Through the fold: status, ends and e-values say the same."""
    gate = replace(GATE, word=word, limit=0.5, burn_in=2)
    (row,) = folded(drawn(n=n, lift=lift), gate).results()
    line = -0.5 if word == "worse_by_at_most" else 0.5
    inside = {"within": row.lower > -0.5 and row.upper < 0.5, "below": row.upper < line}.get(word, row.lower > line)
    assert inside == (row.log_e_pass >= log(20))
    if row.status is not Status.FAIL:
        assert inside == (row.status is Status.PASS)


def test_only_the_first_event_of_a_unit_counts():
    """A busy account is one voice."""
    rows = drawn(n=3_000)
    (row,) = folded(replace(rows, columns={**rows.columns, "unit_id": (np.arange(3_000) // 2).astype(np.uint64)}), GATE).results()
    assert (row.n_units, row.n_events) == (1_500, 3_000)


def test_a_number_that_is_none_breaks_the_gate_and_no_other():
    """Infinite, or too large to be squared: compute_error, and the row before it stands."""
    for bad in (np.inf, 1e200):
        rows = drawn(n=2_000)
        rows.columns["x.challenger"][1_500] = bad
        rows.columns["x.incumbent"][1_500] = 0.0
        answers = Gate(name="answers", metric=Metric(kind="missing"), word="below", limit=0.5)
        evidence = folded(rows, MOVED, answers, labelled=False)
        assert [row.reason for row in evidence.results()] == ["compute_error", None]


def test_a_declared_range_gives_it_a_change_detector_and_none_has_none():
    """No bet on a value without bound is safe."""
    bounded = replace(GATE, metric=replace(LOSS, bound=20.0))
    assert len(prepare(bounded).design.fail) == 1 and prepare(GATE).design.fail == ()
    rng = np.random.default_rng(5)
    truth = np.zeros(40_000)
    lift = np.where(np.arange(40_000) < 20_000, 0.5, -2.0)
    rows = table(truth + np.abs(rng.normal(0, 1, 40_000)), np.abs(rng.normal(0, 1, 40_000)) - lift, truth)
    evidence = folded(rows, bounded, replace(GATE, name="free"), looks=np.arange(200, 40_001, 200))
    assert evidence.alarmed_at("no worse") is not None and evidence.alarmed_at("free") is None


@pytest.mark.parametrize("wrong", [
    {"metric": Metric(kind="flip", policy="p"), "word": "below"}, {"metric": replace(LOSS, loss="zero_one", policy="p")},
    {"decide_at": None}, {"burn_in": 1}, {"unit": "mean", "unit_window_us": 5}, {"metric": replace(LOSS, least=0.5)},
    {"metric": replace(DIFFERENCE, quantile=0.9), "word": "below"}, {"limit": 0.0},
])
def test_what_has_no_normal_mean_is_refused(wrong):
    """Rates, quantiles, weights, windows; and a gate that says not what it is tuned for."""
    with pytest.raises(InputError):
        prepare(replace(GATE, **wrong))


def test_arrays_of_whole_numbers_of_any_size_come_back():
    """The largest and the smallest that there can be."""
    test = prepare(GATE)
    part = Asymptotic(test, 0.05, 0.05, [Sums.of(np.array([1e150, -1e150, 5e-324])), Sums.of(np.full(9, -1e150)), Sums()])
    other = Asymptotic(test, 0.05, 0.05)
    other.load(part.arrays())
    assert other.sums == part.sums
    none = Asymptotic(test, 0.05, 0.05)
    none.load(Asymptotic(test, 0.05, 0.05).arrays())
    assert none.sums == []


def test_it_is_planned_with_its_own_evidence():
    """From `discordance`, the variance of a difference, or from a table; without either nobody knows."""
    assert forecast(prepare(GATE), assumed(prepare(GATE)), alpha=0.05, fail_level=0.05).ends == "unknown"
    test = prepare(replace(GATE, discordance=1.0))
    found = forecast(test, assumed(test), alpha=0.05, fail_level=0.05)
    assert found.ends == "pass" and found.units == 1_000  # the burn-in
    slow = prepare(replace(GATE, discordance=40.0))
    found = forecast(slow, assumed(slow), alpha=0.05, fail_level=0.05)
    at, before = ((0.0, sqrt(40.0 / n), n) for n in (found.units, 0.95 * found.units))
    assert slow.wide.log_e_pass(*at) >= log(20) > slow.wide.log_e_pass(*before)
    seen = measured(test, drawn())
    assert seen.moments[1] == pytest.approx(0.73, abs=0.05) and forecast(test, seen, alpha=0.05, fail_level=0.05).ends == "pass"
