"""Defects found in other libraries (STATISTICS 11), each a test of ours."""

from __future__ import annotations

import time
from math import log

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan
from analysis.gates import prepare
from analysis.metrics.support import Support
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.designs import Question, design
from analysis.sequential.mixture import Process, designed_bets, undesigned_bets
from analysis.simulate import ages, hours
from analysis.types import Gate, InputError, Metric

BIT = np.array([0.0, 1.0])
RATE = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.02))


def numeric(bound: float, limit: float) -> Process:
    return design(Question(kind="numeric", low=-bound, high=bound, word="worse_by_at_most", limit=limit)).pass_[0]


def test_alpha_is_used_once():
    """confseq halves it twice in one boundary: here the end of the interval is exactly where the e-value is 1/alpha."""
    counts = np.array([2_000, 25])
    upper = RATE.pass_[0].bound(counts, BIT, level=0.05)
    at, beyond = (float(RATE.pass_[0].log_e(counts, BIT, limit=m)) for m in (upper - 1e-9, upper + 1e-9))
    assert at <= log(20) <= beyond


@pytest.mark.parametrize("truth", [0.0, 0.5, 1.0])
def test_no_interval_is_empty_and_none_is_everything_instead(truth):
    """confseq returns [0, 1] for an empty set. Without a running intersection none is empty, even where the rate jumps."""
    jump = np.array([50_000, 0]) + np.array([int(50_000 * (1 - truth)), int(50_000 * truth)])
    upper, lower = RATE.pass_[0].bound(jump, BIT, level=0.05), RATE.fail[0].bound(jump, BIT, level=0.05)
    assert lower < jump[1] / jump.sum() + 1e-12 <= upper and upper - lower < 0.1


@pytest.mark.parametrize("counts", [[0, 10**9], [10**9, 0], [10**9, 10**9], [0, 1], [1, 0], [0, 0]])
@pytest.mark.parametrize("side", ["pass_", "fail"])
def test_strongly_opposed_data_are_a_very_negative_number(counts, side):
    """confseq raises, savvi's odds become infinite and then stick at p = 0, `2 (1 - cdf)` is exactly 0: logs are none of that."""
    (process,) = getattr(RATE, side)
    found = float(process.log_e(np.array(counts), BIT))
    assert np.isfinite(found)
    assert not sum(counts) or process.bound(np.array(counts), BIT, level=1e-6) is not None


def test_no_grid_of_observations_is_kept():
    """confseq's inversion keeps a matrix of grid times n, 8 GB at a million: a look takes the same time whatever n is."""
    def took(n: int) -> float:
        """CPU seconds of five looks, the least of some tries: what the machine does besides is no part of it."""
        found = []
        for _ in range(5):
            began = time.process_time()
            for _ in range(5):
                RATE.pass_[0].bound(np.array([n * 99, n]), BIT, level=0.05)
            found.append(time.process_time() - began)
        return min(found)

    took(10)
    assert took(10**7) < 20 * took(10) and took(10**7) / 5 < 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.5, 1.5])
def test_data_out_of_range_are_refused_by_name(bad):
    """confseq accepts them until an assertion fails, or answers NaN."""
    tally = Tally(Support("rate", 0.0, 1.0))
    tally.grow(1)
    with pytest.raises(InputError, match="outside"):
        tally.add(Batch(np.zeros(1, int), np.array([bad]), np.ones(1, bool)))


@pytest.mark.parametrize("scale", [1e-9, 1e-5, 1.0, 1e9])
def test_a_metric_of_another_unit_has_the_same_evidence(scale):
    """gbstats stops a bisection at an absolute 1e-6, so that a metric of scale 1e-5 has another p-value than the same in other units."""
    steps = np.linspace(-1.0, 1.0, 41)
    counts = np.random.default_rng(1).multinomial(4_000, np.full(41, 1 / 41))
    base, scaled = numeric(1.0, 0.05), numeric(scale, 0.05 * scale)
    assert scaled.log_e(counts, steps * scale) == pytest.approx(float(base.log_e(counts, steps)), rel=1e-9)
    assert scaled.bound(counts, steps * scale, level=0.05) == pytest.approx(base.bound(counts, steps, level=0.05) * scale, rel=1e-9)


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.2])
def test_the_limit_that_is_tested_is_the_one_that_was_asked(limit):
    """gbstats ignores `test_value` in one method: here another limit is another e-value, and one inside the interval is not rejected."""
    counts = np.array([970, 30])
    process = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=limit)).pass_[0]
    assert (float(process.log_e(counts, BIT)) >= log(20)) == (limit == 0.2 or process.bound(counts, BIT, level=0.05) < limit)
    assert limit > 0.03 or float(process.log_e(counts, BIT)) < 0.0


def test_numbers_without_variance_are_evidence_like_others():
    """gbstats has no result for them, and waiting for variance at zero events never ends."""
    made = design(Question(kind="numeric", low=-1.0, high=1.0, word="worse_by_at_most", limit=0.05))
    assert made.log_e_pass(np.array([500]), np.array([0.0])) > log(20)
    assert RATE.log_e_pass(np.array([201, 0]), BIT) > log(20) > RATE.log_e_pass(np.array([200, 0]), BIT)


def test_a_large_mean_with_a_small_spread_keeps_both():
    """A raw sum of squares gives variance 0.0 at mean 1e9 and sd 1: sums are exact integers, and no squares are kept."""
    rng = np.random.default_rng(3)
    values = 1e9 + rng.normal(0.0, 1.0, 20_000)
    tally = Tally(Support("numeric", 1e9 - 50.0, 1e9 + 50.0))
    tally.grow(1)
    tally.add(Batch(np.zeros(len(values), int), values, np.ones(len(values), bool)))
    assert tally.mean(0) == pytest.approx(float(np.mean(values - 1e9)) + 1e9, abs=1e-6)
    process = Process("below", 1e9 + 0.1, 1e9 - 50.0, 1e9 + 50.0, undesigned_bets(0.001))
    counts, support = tally.counts[0] / tally.support.one, tally.support.values
    assert process.log_e(counts, support) > log(20) and process.bound(counts, support, level=0.05) < 1e9 + 0.1


@pytest.mark.parametrize("bets", [designed_bets(0.5), designed_bets(0.5, zero_events=True), undesigned_bets(0.01)])
def test_weights_sum_to_one(bets):
    """savvi accepts shares that sum to 0.9; a mixture whose weights sum to more than one is no e-process."""
    assert np.exp(bets.log_weights).sum() == pytest.approx(1.0, abs=1e-12)


def test_the_data_choose_no_bet():
    """expectation re-tunes its mixture at every update, GLIDE its rho: then it is no martingale. Ours is the same before and after."""
    gate = Gate(name="flips", metric=Metric(kind="flip", policy="over_18"), word="below", limit=0.1)
    plan = Plan((gate,), alpha=0.05, n_stages=1, listed={})
    before, table = prepare(gate).facts(), ages(np.random.default_rng(0), 500)
    evidence = Evidence(plan, False)
    design_before = evidence._design()
    evidence.fold(table, hours(table))
    assert (evidence._design(), prepare(gate).facts()) == (design_before, before)


def test_an_interval_outside_the_unit_scale_stays_on_its_data():
    """expectation's interval on [0, 10] has a lower end of 49.6 for data with mean 5."""
    steps = np.linspace(0.0, 10.0, 101)
    counts = np.random.default_rng(2).multinomial(1_000, np.full(101, 1 / 101))
    made = design(Question(kind="numeric", low=0.0, high=10.0, word="below", limit=6.0))
    lower, upper = made.fail[0].bound(counts, steps, level=0.05), made.pass_[0].bound(counts, steps, level=0.05)
    assert 4.0 < lower < counts @ steps / 1_000 < upper < 6.0


@pytest.mark.parametrize("counts", [[300, 0], [0, 300]])
def test_none_and_all_have_an_interval(counts):
    """statsmodels' score interval of two proportions raises at zero successes."""
    for process in (*RATE.pass_, *RATE.fail):
        assert 0.0 <= process.bound(np.array(counts), BIT, level=0.05) <= 1.0


def test_looks_at_a_level_that_shrinks_with_n_are_no_sequential_test_and_ours_is():
    """A public CLI calls "alpha / ln n at each look" uniformly valid: at the null it rejects far more often than alpha."""
    from scipy.stats import norm

    rng, runs, n = np.random.default_rng(20240611), 300, np.arange(20, 3_001, 20)
    ones = np.cumsum(rng.binomial(20, 0.5, (runs, len(n))), axis=1)
    z = np.abs(ones - n / 2) / np.sqrt(n / 4)
    naive = (2 * norm.sf(z) < 0.05 / np.log(n)).any(axis=1).mean()
    below, above = (design(Question(kind="rate", low=0.0, high=1.0, word=word, limit=0.5)).pass_[0] for word in ("below", "above"))
    counts = np.stack([n - ones, ones], axis=-1)
    ours = ((below.log_e(counts, BIT) >= log(40)) | (above.log_e(counts, BIT) >= log(40))).any(axis=1).mean()
    assert naive > 0.1 > 0.09 > ours  # 0.999 quantile of Binomial(300, 0.05) is 28


def test_a_likelihood_ratio_of_the_absolute_value_is_no_e_value_and_each_of_our_sides_is():
    """Statsig's SPRT puts |z| into a one-sided ratio: its mean under the null is more than 1. Ours is 1 at most, by exact enumeration."""
    from scipy.stats import binom

    n, limit, d = 200, 0.1, 0.02
    k = np.arange(n + 1)
    chance = binom.pmf(k, n, limit)
    sd = np.sqrt(limit * (1 - limit))
    z = (k - n * limit) / (sd * np.sqrt(n))
    drift = d / sd * np.sqrt(n)
    assert chance @ np.exp(drift * np.abs(z) - drift**2 / 2) > 1.2
    made = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=limit))
    counts = np.stack([n - k, k], axis=-1)
    for process in (*made.pass_, *made.fail):
        assert chance @ np.exp(process.log_e(counts, BIT)) <= 1.0 + 1e-9


def test_a_word_or_method_that_is_not_known_is_refused():
    """py-safestats compares with "twoSided" while its argument is "two_sided", and goes on with the wrong test."""
    gate = Gate(name="flips", metric=Metric(kind="flip", policy="p"), word="worse_by", limit=0.1)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="worse_by"):
        prepare(gate)


def test_batches_of_any_size_are_taken():
    """expectation's proportion test raises at p0 = 0.02 and batches of 20, most of which have no event; a batch of none is one too."""
    tally = Tally(Support("rate", 0.0, 1.0))
    tally.grow(1)
    rng = np.random.default_rng(6)
    for size in [0, 1, *[20] * 200]:
        tally.add(Batch(np.zeros(size, int), (rng.random(size) < 0.01).astype(float), np.ones(size, bool)))
    assert tally.units(0) == 4_001 and np.isfinite(float(RATE.log_e_pass(tally.counts[0], BIT)))
