"""The engine against closed forms, its published anchors, and the agreement of intervals with decisions."""

from __future__ import annotations

from itertools import pairwise
from math import inf, log, nextafter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, betaln

from analysis.sequential.mixture import Process, designed_bets, log_sum_exp, undesigned_bets
from analysis.types import InputError

RATE = np.array([0.0, 1.0])
PASS_AT_2_PERCENT = Process("below", 0.02, 0.0, 1.0, designed_bets(0.5, zero_events=True))


def counts_of(n: int, s: int) -> np.ndarray:
    return np.array([n - s, s])


def truncated_beta(n: int, s: int, p0: float) -> float:
    """log E of the Beta(1, 1) prior truncated to (0, p0): STATISTICS 6.1, last paragraph, written from 6.4."""
    a, b = 1.0 + s, 1.0 + n - s
    return betaln(a, b) + np.log(betainc(a, b, p0)) - np.log(p0) - s * np.log(p0) - (n - s) * np.log1p(-p0)


def test_zero_events_decide_at_the_published_count():
    """STATISTICS 6.1 gives 201 for a limit of 0.02 at alpha 0.05; without the share on f = 0.995 it is 244."""
    n = np.arange(1, 400)
    log_e = PASS_AT_2_PERCENT.log_e(np.stack([n, np.zeros_like(n)], axis=-1), RATE)
    assert n[np.argmax(log_e >= log(20.0))] == 201
    plain = Process("below", 0.02, 0.0, 1.0, designed_bets(0.5))
    assert n[np.argmax(plain.log_e(np.stack([n, np.zeros_like(n)], axis=-1), RATE) >= log(20.0))] == 244


@pytest.mark.parametrize(("truth", "ratio"), [(0.01, 1.12), (0.005, 1.18), (0.015, 1.28)])
def test_mean_stopping_time_is_near_the_information_limit(truth, ratio):
    """The published ratios to ln(20) / KL, from 1,000 seeded runs that look at every event."""
    rng = np.random.default_rng(20240611)
    kl = truth * log(truth / 0.02) + (1 - truth) * log((1 - truth) / 0.98)
    stops = [stopping_time(rng, truth, 60_000) for _ in range(1_000)]
    assert np.mean(stops) / (log(20.0) / kl) == pytest.approx(ratio, abs=0.07)


def stopping_time(rng: np.random.Generator, truth: float, horizon: int) -> int:
    """The event at which the gate passes. Between events the evidence only rises, so it is found from the events' places."""
    gaps = rng.geometric(truth, size=int(horizon * truth * 1.5) + 60)
    places = np.cumsum(gaps)
    before = places - 1  # just before each event the evidence is largest
    s = np.arange(len(places))
    log_e = PASS_AT_2_PERCENT.log_e(np.stack([before - s, s], axis=-1), RATE)
    k = int(np.argmax(log_e >= log(20.0)))
    start = 0 if k == 0 else int(places[k - 1])
    n = np.arange(start, int(before[k]) + 1)
    found = PASS_AT_2_PERCENT.log_e(np.stack([n - k, np.full_like(n, k)], axis=-1), RATE) >= log(20.0)
    return int(n[np.argmax(found)])


@pytest.mark.parametrize("proves", ["below", "above"])
def test_false_alarms_at_the_limit_stay_below_alpha_at_every_event(proves):
    """The promise: looking at every one of 4,000 events, no more than alpha of 2,000 streams at the limit are ever decided."""
    rng = np.random.default_rng(7)
    process = Process(proves, 0.05, 0.0, 1.0, designed_bets(0.5 if proves == "below" else 0.05 / 0.95, zero_events=proves == "below"))
    false = 0
    n = np.arange(1, 4_001)
    for _ in range(2_000):
        s = np.cumsum(rng.random(4_000) < 0.05)
        places = np.flatnonzero(np.diff(s, append=s[-1] + 1))  # the last event before each change, and after it
        places = np.union1d(places, np.minimum(places + 1, 3_999))
        log_e = process.log_e(np.stack([n - s, s], axis=-1)[places], RATE)
        false += bool((log_e >= log(20.0)).any())
    assert false <= 131  # 0.999 quantile of Binomial(2000, 0.05)


def test_a_rejection_speaks_of_the_running_mean_under_drift():
    """Means of 0.45 and 0.55 in alternation average to the limit: constant bets must not be carried away by the order."""
    rng = np.random.default_rng(3)
    process = Process("above", 0.5, 0.0, 1.0, undesigned_bets(0.001))
    truth = np.tile([0.45, 0.55], 1_000)
    draws = rng.random((1_000, 2_000)) < truth
    s = np.cumsum(draws, axis=1)[:, 9::10]
    n = np.arange(10, 2_001, 10)
    log_e = process.log_e(np.stack([n - s, s], axis=-1), RATE)
    assert (log_e >= log(20.0)).any(axis=1).mean() <= 0.06


@pytest.mark.parametrize(("n", "s"), [(300, 0), (500, 3), (2_000, 20), (20_000, 250)])
def test_it_stays_near_the_closed_form_of_the_truncated_beta_prior(n, s):
    """The Beta prior cut at the limit is the same object with another prior: near its own design both find about the same evidence."""
    process = Process("below", 0.02, 0.0, 1.0, designed_bets(0.5, zero_events=True))
    assert float(process.log_e(counts_of(n, s), RATE)) == pytest.approx(truncated_beta(n, s, 0.02), abs=3.0)


def test_one_bet_is_the_likelihood_ratio():
    """The bet (p0 - q) / (p0 (1 - p0)) on a Bernoulli is the likelihood ratio of q against p0, exactly."""
    p0, q, n, s = 0.02, 0.01, 5_000, 61
    factors = PASS_AT_2_PERCENT.log_factors(RATE, p0)
    j = int(np.argmin(np.abs(PASS_AT_2_PERCENT.bets.fractions - (1 - q / p0))))
    q = p0 * (1 - PASS_AT_2_PERCENT.bets.fractions[j])
    ratio = s * log(q / p0) + (n - s) * log((1 - q) / (1 - p0))
    assert counts_of(n, s) @ factors[:, j] == pytest.approx(ratio, abs=1e-9)


values = st.integers(0, 400)


@settings(deadline=None)
@given(zeros=values, ones=values, limit=st.floats(0.01, 0.99), level=st.floats(0.001, 0.3), proves=st.sampled_from(["below", "above"]))
def test_the_bound_lies_inside_the_limit_exactly_when_the_gate_decides(zeros, ones, limit, level, proves):
    """A page that shows a pass beside an interval that crosses its limit cannot be explained to anybody."""
    process = Process(proves, limit, 0.0, 1.0, designed_bets(0.5))
    counts = np.array([zeros, ones])
    bound = process.bound(counts, RATE, level=level)
    inside = bound < limit if proves == "below" else bound > limit
    assert inside == bool(process.log_e(counts, RATE) >= -log(level))


@settings(deadline=None)
@given(zeros=values, ones=values, limit=st.floats(0.01, 0.99), proves=st.sampled_from(["below", "above"]))
def test_the_bound_never_crosses_the_mean(zeros, ones, limit, proves):
    """An interval that leaves out its own estimate is a wrong interval."""
    if zeros + ones:
        bound = Process(proves, limit, 0.0, 1.0, undesigned_bets(0.001)).bound(np.array([zeros, ones]), RATE, level=0.05)
        mean = ones / (zeros + ones)
        assert bound >= mean if proves == "below" else bound <= mean


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), min_size=3, max_size=3), st.floats(0.05, 0.9))
def test_evidence_rises_with_the_distance_from_the_data(counts, limit):
    """Monotone in m with the same bets: without it the inversion would return a gap instead of an interval."""
    process = Process("below", 0.5, -1.0, 1.0, undesigned_bets(0.001))
    found = [float(process.log_e(np.array(counts), np.array([-1.0, 0.0, 1.0]), limit=m)) for m in np.linspace(-0.9, limit, 20)]
    assert all(b >= a - 1e-9 for a, b in pairwise(found))


def test_one_row_and_many_rows_give_the_same_bits():
    """Fails are found over many looks and shown for one: both must be the same number."""
    rng = np.random.default_rng(1)
    process, at = Process("above", 0.2, -1.0, 1.0, undesigned_bets(0.001)), np.linspace(-1.0, 1.0, 1_001)
    counts = rng.integers(0, 5, (7, 1_001)) * (rng.random(1_001) < 0.3)
    assert process.log_e(counts, at).tolist() == [float(process.log_e(row, at)) for row in counts]


def test_evidence_never_overflows():
    """A million events against the limit are a number, not inf or NaN: odds on a linear scale get stuck there."""
    strong = float(PASS_AT_2_PERCENT.log_e(counts_of(10_000_000, 0), RATE))
    against = float(PASS_AT_2_PERCENT.log_e(counts_of(10_000_000, 9_000_000), RATE))
    assert strong > 150_000 and -1e9 < against < -1_000
    assert float(log_sum_exp(np.array([-inf, -inf]))) == -inf


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, float("nan")])
def test_a_limit_outside_the_range_is_refused(limit):
    """A rate is never above 1: such a gate would pass or fail on nothing."""
    with pytest.raises(InputError, match="range"):
        Process("below", limit, 0.0, 1.0, undesigned_bets(0.001))


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_outside_its_range_is_refused(level):
    """An interval at level 0 or 1 is none."""
    with pytest.raises(InputError, match="level"):
        PASS_AT_2_PERCENT.bound(counts_of(10, 1), RATE, level=level)


def test_weights_sum_to_one():
    """A mixture of more than one unit of weight is no e-process."""
    for bets in (designed_bets(0.5), designed_bets(0.001), designed_bets(5.0, zero_events=True), undesigned_bets(0.004)):
        assert np.exp(bets.log_weights).sum() == pytest.approx(1.0, abs=1e-12)
        assert 0.0 < bets.fractions.min() <= bets.fractions.max() < 1.0
    assert nextafter(0.97, 1.0) >= undesigned_bets(0.004).fractions[-1] > 0.969
    for wrong in (0.0, -1.0, inf, float("nan")):
        with pytest.raises(InputError):
            designed_bets(wrong)
    with pytest.raises(InputError):
        undesigned_bets(0.0)


def plain_bound(process, counts, values, level):
    """Bisection that computes each of its answers."""
    inner, outer = (process.low, process.high) if process.proves == "below" else (process.high, process.low)
    proved = float(process.log_e(counts, values)) >= -log(level)
    accepted, rejected = (inner, process.limit) if proved else (process.limit, outer)
    for _ in range(40):
        middle = 0.5 * (accepted + rejected)
        enough = float(process.log_e(counts, values, limit=middle)) >= -log(level)
        accepted, rejected = (accepted, middle) if enough else (middle, rejected)
    return nextafter(process.limit, inner) if proved and rejected == process.limit else rejected


@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 10**6), n=st.sampled_from([0, 1, 30, 5_000, 10**9]), limit=st.floats(-0.95, 0.95), level=st.floats(1e-6, 0.2),
       proves=st.sampled_from(["below", "above"]), n_values=st.sampled_from([3, 40, 1_001]))
def test_a_bound_is_to_the_bit_that_of_a_bisection_that_guesses_nothing(seed, n, limit, level, proves, n_values):
    """The bracket only saves work: a restart, another machine or a coarser guess may not move a digit of an interval."""
    rng, at = np.random.default_rng(seed), np.linspace(-1.0, 1.0, n_values)
    counts = rng.multinomial(n, rng.dirichlet(np.full(n_values, 0.3)))
    process = Process(proves, limit, -1.0, 1.0, designed_bets(0.3) if seed % 2 else undesigned_bets(0.001))
    assert process.bound(counts, at, level=level) == plain_bound(process, counts, at, level)
