"""Sums of two arms: merging, precision, and the difference against exact fractions."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given
from hypothesis import strategies as st

from analysis.online.sums import N_FIRST, N_RARE, Moments, Sums, difference
from analysis.types import InputError

numbers = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda x: round(x, 3))
rows = st.lists(st.tuples(numbers, st.integers(1, 9), numbers, st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=40)


def sums_of(table) -> Sums:
    value, of, before, arm, period = (np.array(column) for column in zip(*table, strict=True))
    return Sums.of(value, arm, period=period, of=of, before=before)


def close(one: Moments, other: Moments) -> bool:
    scale = np.sqrt(np.outer(one.products.diagonal(), one.products.diagonal())) + 1e-9
    return (one.n, one.n_nonzero) == (other.n, other.n_nonzero) and one.mean == pytest.approx(other.mean, rel=1e-9, abs=1e-9) \
        and bool((np.abs(one.products - other.products) <= 1e-9 * scale + 1e-9).all())


@given(rows, st.data())
def test_shards_add_up_whatever_the_cut_and_order(table, data):
    """Workers and days merge: sums of parts in any order are the sums of the whole, to nine digits."""
    shuffled = data.draw(st.permutations(table))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(table)), max_size=3)))
    total = Sums()
    for start, end in zip([0, *cuts], [*cuts, len(table)], strict=True):
        total = total + (sums_of(shuffled[start:end]) if start < end else Sums())
    whole = sums_of(table)
    assert total.parts.keys() == whole.parts.keys()
    assert all(close(total.parts[key], part) for key, part in whole.parts.items())


@given(rows)
def test_moments_are_those_of_exact_fractions(table):
    """A slow second version in exact arithmetic."""
    columns = [np.array(column, float) for column in zip(*[row[:3] for row in table], strict=True)]
    found = Moments.of(*columns)
    if len(table) < 2:
        with pytest.raises(InputError, match="two units"):
            _ = found.covariance
        return
    n, mean, covariance = slow.arm([tuple(float(x) for x in row[:3]) for row in table])
    assert found.n == n and found.mean == pytest.approx([float(m) for m in mean], rel=1e-9, abs=1e-9)
    assert found.covariance == pytest.approx(np.array(covariance, float), rel=1e-7, abs=1e-7)


def test_a_large_mean_with_a_small_spread_keeps_both():
    """gbstats sums squares: at mean 1e9 and sd 1 its variance is 0.0. Here it is kept, also when a thousand shards are merged."""
    values = 1e9 + np.random.default_rng(1).normal(0.0, 1.0, 50_000)
    merged = Moments()
    for part in np.split(values, 1_000):
        merged = merged + Moments.of(part)
    variance = float(np.var(values - 1e9, ddof=1))
    assert merged.covariance[0, 0] == pytest.approx(variance, rel=1e-9)
    assert merged.mean[0] - 1e9 == pytest.approx(float(np.mean(values - 1e9)), abs=2e-6)
    arms = Sums.of(np.append(values, values + 0.1), np.repeat([0, 1], len(values)))
    found = difference(arms, "higher")
    assert (found.estimate, found.se) == (pytest.approx(0.1, abs=1e-6), pytest.approx(sqrt(2.0 * variance / len(values)), rel=1e-6))
    assert found.ready


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("ratio", [False, True])
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_the_difference_is_that_of_exact_fractions(ratio, adjusted, better):
    """Means, ratios by the delta method, CUPED, both combined, in three periods of different shares."""
    rng = np.random.default_rng(4)
    n = 240
    period, before = rng.integers(0, 3, n), rng.normal(5.0, 2.0, n).round(3)
    arm = (rng.random(n) < 0.2 + 0.2 * period).astype(int)
    of = rng.integers(1, 6, n) if ratio else np.ones(n, int)
    value = (of * (2.0 + 0.5 * before + 0.3 * arm + period) + rng.normal(0.0, 1.0, n)).round(3)
    found = difference(Sums.of(value, arm, period=period, of=of if ratio else None, before=before), better, adjusted=adjusted)
    table = list(zip(value.tolist(), of.tolist(), before.tolist(), strict=True))
    parts = [slow.contrast(*[[table[i] for i in np.flatnonzero((period == p) & (arm == a))] for a in (0, 1)], adjusted=adjusted)
             for p in range(3)]
    estimate, se = slow.combined(parts)
    assert found.estimate == pytest.approx(estimate if better == "higher" else -estimate, rel=1e-9)
    assert (found.se, found.n, found.ready) == (pytest.approx(se, rel=1e-9), n, False)


def test_a_covariate_that_explains_half_the_variance_halves_it():
    """What CUPED is for: the same decision from half the units, without moving the estimate on average."""
    rng = np.random.default_rng(5)
    before = rng.normal(0.0, 1.0, 40_000)
    arm = rng.integers(0, 2, 40_000)
    value = before + rng.normal(0.0, 1.0, 40_000) + 0.1 * arm
    sums = Sums.of(value, arm, before=before)
    plain, adjusted = difference(sums, "higher"), difference(sums, "higher", adjusted=True)
    assert plain.se is not None and adjusted.se == pytest.approx(plain.se / sqrt(2.0), rel=0.02)
    assert abs(adjusted.estimate - 0.1) < 4.0 * adjusted.se


def test_pooling_periods_of_different_shares_makes_effects_and_strata_do_not():
    """1 % and then 10 % of a stream that rises by a tenth: pooled, the challenger's units are the late ones. Published: 1.00 and 0.03."""
    rng = np.random.default_rng(6)

    def claims(value, arm, period) -> bool:
        found = difference(Sums.of(value, arm, period=period), "higher")
        return abs(found.estimate / found.se) > 2.5

    pooled = stratified = 0
    for _ in range(40):
        period = np.repeat([0, 1], 100_000)
        arm = (rng.random(200_000) < np.where(period, 0.1, 0.01)).astype(int)
        value = (1.0 + 0.1 * period) * 10.0 + rng.normal(0.0, 3.0, 200_000)
        pooled, stratified = pooled + claims(value, arm, None), stratified + claims(value, arm, period)
    assert pooled == 40 and stratified <= 3


def test_a_period_with_few_units_waits_and_does_not_disturb():
    """Its standard error is not known well enough to weigh by: it enters once each arm has a thousand units, a hundred not zero."""
    rng = np.random.default_rng(7)
    n = 4 * N_FIRST
    arm = np.arange(n) % 2
    old = Sums.of(rng.normal(1.0, 1.0, n), arm)
    young = Sums.of(np.array([5.0, 5.1, 9.0, 9.1]), np.array([0, 0, 1, 1]), period=np.ones(4))
    assert difference(old + young, "higher") == difference(old, "higher")
    assert not difference(young, "higher").ready and difference(young, "higher").estimate == pytest.approx(4.0)
    rare = np.zeros(n)
    rare[: 2 * (N_RARE - 1)] = 1.0
    assert not difference(Sums.of(rare, arm), "higher").ready
    rare[: 2 * N_RARE] = 1.0
    assert difference(Sums.of(rare, arm), "higher", binary=True).ready
    assert not difference(Sums.of(1.0 - rare * (np.arange(n) > 3), arm), "higher", binary=True).ready


def test_a_ratio_whose_denominator_may_be_zero_is_not_ready():
    """The delta method speaks of nothing there: a share of almost no denominators."""
    rng = np.random.default_rng(8)
    n = 4 * N_FIRST
    arm, value = np.arange(n) % 2, rng.normal(1.0, 0.1, n)
    few = np.where(np.arange(n) < 20, 1.0, 0.0)
    assert difference(Sums.of(value, arm, of=np.ones(n)), "higher").ready
    assert not difference(Sums.of(value, arm, of=few), "higher").ready
    assert difference(Sums.of(value, arm, of=np.zeros(n)), "higher").estimate is None


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one_unit_have_no_difference(n):
    """Nothing seen is not zero."""
    found = difference(Sums.of(np.ones(n), np.zeros(n)), "higher")
    assert (found.estimate, found.se, found.ready) == (None, None, False)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["values", "of", "before"])
def test_numbers_that_are_none_are_refused(where, bad):
    """NaN in a sum is NaN for ever."""
    columns = {name: np.ones(3) for name in ("values", "of", "before")}
    columns[where][1] = bad
    with pytest.raises(InputError, match="finite"):
        Moments.of(**columns)


def test_wrong_tables_are_refused():
    """An arm that nobody knows, columns that do not fit, moments that no data have."""
    with pytest.raises(InputError, match="arm"):
        Sums.of(np.ones(2), np.array([0, 2]))
    with pytest.raises(InputError, match="length"):
        Sums.of(np.ones(3), np.array([0, 1]))
    with pytest.raises(InputError, match="length"):
        Moments.of(np.ones(3), np.ones(2))
    for wrong in ((-1, 0.0, 1.0), (3, np.nan, 1.0), (3, 0.0, -1.0), (3, 0.0, np.nan)):
        with pytest.raises(InputError):
            Moments.told(*wrong)


def test_a_told_arm_is_the_arm():
    """Tables of other systems give n, mean and variance: enough for a difference of means."""
    values = np.random.default_rng(9).normal(3.0, 2.0, 5_000)
    told, own = Moments.told(5_000, float(values.mean()), float(values.var(ddof=1))), Moments.of(values)
    assert close(told, own)
