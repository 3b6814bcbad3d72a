"""The statistics against their slow second versions in tests/reference, and those of other methods against what is published of them."""

from __future__ import annotations

from fractions import Fraction
from math import inf, log, sqrt

import numpy as np
import pytest
import second_versions as slow
from hypothesis import given, settings
from hypothesis import strategies as st
from order_dependent import empirical_bernstein, first, hedged_betting, msprt
from stopping import DRIFT, METHODS, STREAMS, compared, compared_table

from analysis.calibration.measure import Size
from analysis.gates import closed_test
from analysis.metrics.support import Support
from analysis.sequential.designs import Question, design
from analysis.sequential.detector import BLOCK, Detectors
from analysis.sequential.mixture import Process, designed_bets, undesigned_bets

RATE, SIGN = np.array([0.0, 1.0]), np.array([-1.0, 0.0, 1.0])
UNKNOWN, ZERO = slow.undesigned(0.025), slow.undesigned(0.001)
HALVED = slow.designed(0.5, zero_events=True)
QUESTIONS = (
    (Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.1), RATE, HALVED, slow.designed(0.1 / 0.9)),
    (Question(kind="rate", low=0.0, high=1.0, word="above", limit=0.7), RATE, HALVED, slow.designed(0.3 / 0.7)),
    (Question(kind="sign", low=-1.0, high=1.0, word="worse_by_at_most", limit=0.05), SIGN, UNKNOWN, UNKNOWN),
    (Question(kind="sign", low=-1.0, high=1.0, word="better_by_more_than", limit=0.0), SIGN, ZERO, ZERO),
    (Question(kind="numeric", low=-4.0, high=4.0, word="below", limit=1.0), np.linspace(-4.0, 4.0, 9), slow.undesigned(0.125),
     slow.undesigned(0.125)),
)


def drawn(question: Question, values: np.ndarray, n: int, seed: int) -> list[float]:
    found: list[float] = np.random.default_rng(seed).choice(values, n).tolist()
    return found


def counted(xs: list[float], values: np.ndarray) -> np.ndarray:
    return (np.array(xs)[:, None] == values).sum(axis=0)


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: f"{case[0].kind} {case[0].word}")
@pytest.mark.parametrize("n", [0, 1, 7, 150])
def test_the_mixture_from_counts_is_the_product_over_contributions(case, n):
    """Pass and fail, with constants that were written twice: equal to 1e-9."""
    question, values, for_pass, for_fail = case
    made, xs = design(question), drawn(question, values, n, 3)
    for process, bets in ((made.pass_[0], for_pass), (made.fail[0], for_fail)):
        expected = slow.mixture_log_e(xs, process.limit, question.low, question.high, process.proves, bets)
        assert float(process.log_e(counted(xs, values), values)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: f"{case[0].kind} {case[0].word}")
@pytest.mark.parametrize("level", [0.05, 0.001])
def test_the_end_of_the_interval_is_where_a_plain_bisection_ends(case, level):
    """Ours starts at the limit so that status and interval agree; the other halves the whole range. Both find the same end."""
    question, values, for_pass, for_fail = case
    made, xs = design(question), drawn(question, values, 120, 5)
    for process, bets in ((made.pass_[0], for_pass), (made.fail[0], for_fail)):
        expected = slow.interval_end(xs, question.low, question.high, process.proves, bets, level)
        assert process.bound(counted(xs, values), values, level=level) == pytest.approx(expected, abs=1e-6 * (question.high - question.low))


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: f"{case[0].kind} {case[0].word}")
def test_the_detector_is_the_recursion_of_shiryaev_and_roberts(case):
    """M <- L (M + 1), a bet and a contribution at a time."""
    question, values, _, bets = case
    fail = design(question).fail
    xs = drawn(question, values, 6 * BLOCK, 7)
    watch = Detectors(fail, question.kind != "numeric")
    watch.grow(1)
    watch.add(np.zeros(len(xs), np.int64), np.stack([np.array(xs), np.ones(len(xs))], axis=-1), np.array([1e300]))
    expected = slow.detector_levels(xs, fail[0].limit, question.low, question.high, fail[0].proves, bets)[-1]
    assert float(watch.levels[0] @ np.exp(fail[0].bets.log_weights)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "s"), [(0, 0), (1, 0), (1, 1), (90, 4), (250, 250), (400, 31)])
@pytest.mark.parametrize("limit", [Fraction(1, 50), Fraction(1, 4)])
def test_the_closed_form_is_the_exact_fraction(n, s, limit):
    """The truncated Beta prior by a binomial tail in whole numbers, without any special function."""
    made = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=float(limit), method="beta-binomial"))
    for process in (*made.pass_, *made.fail):
        expected = slow.truncated_beta_log_e(n, s, limit, process.proves)
        assert float(process.log_e(np.array([n - s, s]), RATE)) == pytest.approx(expected, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-3.0, 9.0), min_size=1, max_size=8), st.sampled_from([0.05, 0.01]))
def test_closed_testing_is_the_smallest_mean_over_every_set(log_e, level):
    """Sorting finds what all subsets say, ties and single members too."""
    at = np.array(log_e)
    assert closed_test(at, -log(level)).tolist() == slow.closed_by_means(np.exp(at).tolist(), level)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fractions(-4, 4, max_denominator=997), min_size=1, max_size=30))
def test_linear_binning_is_that_of_exact_fractions(xs):
    """Shares in fixed point, each within 2^-32 of the fraction; the exact version keeps the mean by construction."""
    support = Support("numeric", -4.0, 4.0)
    exact = slow.linear_bins(xs, Fraction(-4), Fraction(4), support.n_values - 1)
    edges = [Fraction(-4) + Fraction(8 * k, support.n_values - 1) for k in range(support.n_values)]
    assert sum(n * edge for n, edge in zip(exact, edges, strict=True)) == sum(xs)
    _, cell, share = support.spread(np.array([float(x) for x in xs]))
    counts = np.zeros(support.n_values, np.int64)
    np.add.at(counts, cell, share)
    assert np.abs(support.for_pass(counts) - np.array([float(n) for n in exact])).max() < len(xs) * 1e-9


def test_the_bets_are_the_same_numbers():
    """Fractions and weights, written twice."""
    certain = designed_bets(2.0, zero_events=True), slow.designed(2.0, zero_events=True)
    for fast, expected in ((designed_bets(0.3), slow.designed(0.3)), certain, (undesigned_bets(0.01), slow.undesigned(0.01))):
        found = list(zip(fast.fractions.tolist(), np.exp(fast.log_weights).tolist(), strict=True))
        assert found == [pytest.approx(pair, rel=1e-12) for pair in expected]


# ---------------------------------------------------------------------------------------------------------- other methods
def test_msprt_is_the_integral_of_the_normal_likelihood_ratio():
    """By the trapezoid rule over the mixture, at the contribution where it first rejects and at the one before."""
    xs, variance, tau = [0.3, 0.1, 0.2, 0.0, 0.25, 0.1, 0.15, 0.05, 0.1, 0.2], 0.04, 0.2
    at = first(msprt(xs, 0.5, variance=variance, tau=tau))
    means = np.linspace(-8 * tau, 8 * tau, 4_001)
    prior = np.exp(-(means**2) / (2 * tau**2)) / (tau * sqrt(2 * np.pi))

    def ratio(n: int) -> float:
        total = sum(xs[:n]) - 0.5 * n
        return float(np.trapezoid(np.exp((total * means - n * means**2 / 2) / variance) * prior, means))

    assert 1 < at < 10 and ratio(int(at)) >= 20 > ratio(int(at) - 1)


@pytest.mark.parametrize("method", [hedged_betting, empirical_bernstein])
def test_what_depends_on_the_order_says_so(method):
    """The same contributions in another order are another answer; ours is a function of the counts."""
    xs = [0.0] * 260 + [1.0] * 4
    assert first(method(xs, 0.05)) != first(method(xs[::-1], 0.05))
    (process,) = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.05)).pass_
    assert isinstance(process, Process)
    assert first(method([0.06] * 400, 0.05)) == inf


def test_bets_chosen_from_the_past_reject_a_running_mean_that_is_true():
    """Turns of 0.55 and 0.45, so that the running mean is never under a half: what learns in one turn wins in the next (STATISTICS 6.2)."""
    lines = {line[0].task.partition(":")[0]: line[0].value for line in compared(np.random.default_rng(4), Size(0, 40), (DRIFT,))}
    assert lines["mixture of constant bets (ours)"] <= 0.2 < 0.6 < lines["aGRAPA that forgets, order-dependent"]


def test_the_comparison_has_a_number_for_every_method_and_stream():
    """Ten runs of the two quickest streams; ours is not the slowest of any."""
    streams = (STREAMS[1], STREAMS[3])
    lines = list(compared(np.random.default_rng(1), Size(0, 0), streams))
    shown = compared_table(lines)
    assert len(lines) == len(METHODS) and all(f"| {method} |" in shown for method in METHODS)
    assert all(line[k].value >= lines[0][k].value for line in lines[2:] for k in range(2))
    assert lines[0][1].value * STREAMS[3].limit == pytest.approx(201, abs=0.5)
