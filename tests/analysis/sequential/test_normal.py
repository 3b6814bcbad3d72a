"""The asymptotic confidence sequence on one side: against an integral, dual to its gate, scale-free, at its promised level."""

from __future__ import annotations

from math import exp, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from analysis.online.lifts import asymptotic_half_width
from analysis.sequential.normal import Wide, density_of, design_wide
from analysis.types import InputError

WORDS = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
estimates, errors, limits = st.floats(-0.2, 0.2), st.floats(1e-4, 0.1), st.floats(0.001, 0.1)


@pytest.mark.parametrize("z", [-6.0, -1.0, 0.0, 0.3, 2.0, 5.0])
@pytest.mark.parametrize("n", [200.0, 5_000.0, 1e6])
def test_evidence_is_the_integral_over_half_a_normal_of_lifts(z, n):
    """Twice the normal density on the side that is proved, times the likelihood ratio of each lift, unit by unit."""
    rho = sqrt(density_of(0.1, 5_000))

    def term(d):  # a lift of d standard deviations of a unit
        return 2.0 * exp(-0.5 * (d / rho) ** 2) / (rho * sqrt(2.0 * pi)) * exp(d * z * sqrt(n) - 0.5 * d * d * n)

    top = max(12.0 * rho / sqrt(1.0 + n * rho**2), 2.0 * abs(z) / sqrt(n))
    wanted = log(quad(term, 0.0, top, limit=200)[0])
    for proves, sign in (("above", 1.0), ("below", -1.0)):
        assert float(Wide(proves, 0.5, rho**2).log_e(0.5 + sign * z * 0.01, 0.01, n)) == pytest.approx(wanted, rel=1e-6, abs=1e-8)


@given(estimates, errors, limits, st.sampled_from(WORDS), st.integers(100, 10**6))
def test_a_gate_passes_exactly_when_its_interval_lies_inside_the_limit(estimate, se, limit, word, n):
    """The numbers that people see say the same as the status, on both sides."""
    made = design_wide(word, limit, 5_000)
    interval = made.interval(estimate, se, n, alpha=0.05, fail_level=0.01)
    passes, fails = bool(made.log_e_pass(estimate, se, n) >= log(20)), bool(made.log_e_fail(estimate, se, n) >= log(100))
    line = -limit if word == "worse_by_at_most" else limit
    if word == "within":
        assert passes == (-limit < interval.low and interval.high < limit)
    elif word == "below":
        assert passes == (interval.high < line) and fails == (interval.low > line)
    else:
        assert passes == (interval.low > line) and fails == (interval.high < line)
    assert interval.low < estimate < interval.high and not (passes and fails)


@given(estimates, errors, st.floats(0.0, 0.1), st.integers(2, 10**9))
def test_more_of_what_is_proved_is_more_evidence(estimate, se, more, n):
    """Monotone, so that the interval is one piece."""
    for proves, sign in (("above", 1.0), ("below", -1.0)):
        process = Wide(proves, 0.0, density_of(0.1, 5_000))
        assert float(process.log_e(estimate + sign * more, se, n)) >= float(process.log_e(estimate, se, n)) - 1e-12


@pytest.mark.parametrize("n", [500.0, 5_000.0, 100_000.0])
def test_the_published_closed_form_lies_just_outside(n):
    """It replaces Phi by a bound; ours is never wider, and hardly narrower."""
    end = 0.0 - Wide("above", 0.0, density_of(0.05, 5_000)).bound(0.0, 0.01, n, level=0.05)
    closed = float(asymptotic_half_width(0.01, n, alpha=0.05, decide_at=5_000, two_sided=False))
    assert 0.97 * closed < end <= closed


def test_it_is_narrowest_near_the_number_of_units_that_it_is_tuned_for():
    """Another density is wider there: too small a number costs little, too large a one more."""
    def end(decide_at, n=20_000.0):
        return -Wide("above", 0.0, density_of(0.1, decide_at)).bound(0.0, 1.0, n, level=0.05)

    best = min(end(d) for d in np.geomspace(1e3, 1e6, 61))
    assert end(20_000) < 1.005 * best
    assert (end(2_000) / best, end(200_000) / best) == (pytest.approx(1.08, abs=0.01), pytest.approx(1.31, abs=0.01))


@pytest.mark.parametrize("scale", [1e-200, 1e-5, 1e9])
def test_another_unit_of_measurement_has_the_same_evidence(scale):
    """And an interval in that unit."""
    base, scaled = design_wide("worse_by_at_most", 0.02, 9_000), design_wide("worse_by_at_most", 0.02 * scale, 9_000)
    assert scaled.log_e_pass(0.01 * scale, 0.01 * scale, 9_000) == pytest.approx(float(base.log_e_pass(0.01, 0.01, 9_000)), rel=1e-9)
    one = base.interval(0.01, 0.01, 9_000, alpha=0.05, fail_level=0.05)
    other = scaled.interval(0.01 * scale, 0.01 * scale, 9_000, alpha=0.05, fail_level=0.05)
    assert (other.low, other.high) == (pytest.approx(one.low * scale, rel=1e-9), pytest.approx(one.high * scale, rel=1e-9))


@pytest.mark.parametrize("z", [1e3, 1e100, -1e3, -1e100])
def test_strong_evidence_is_a_finite_number_for_and_against(z):
    """Phi(-1000) is 0, and its log is a number."""
    found = float(Wide("above", 0.0, 1e-3).log_e(z, 1.0, 2_000))
    assert np.isfinite(found) and (found > log(20)) == (z > 0)


@pytest.mark.parametrize("word", ["within", "worse_by_at_most"])
def test_limits_and_tunings_that_are_none_are_refused(word):
    """A margin of 0, a negative one, NaN; nothing to be tuned for."""
    for limit in (0.0, -0.1, np.nan, np.inf):
        with pytest.raises(InputError, match="no limit"):
            design_wide(word, limit, 1_000)
    with pytest.raises(InputError, match="decide_at"):
        design_wide(word, 0.1, 0)
    assert design_wide("below", -0.5, 1_000).pass_[0].limit == -0.5


@pytest.mark.parametrize("side", ["pass", "fail"])
def test_false_claims_stay_below_alpha_at_every_look_after_the_burn_in(side):
    """A skewed value exactly at its limit, read after each 20th of 20,000 units."""
    rng, runs = np.random.default_rng(20240611), 400
    made = design_wide("below", 1.0, 5_000)
    values = rng.exponential(1.0, (runs, 20_000))
    n = np.arange(1, 20_001)
    mean = np.cumsum(values, axis=1) / n
    error = np.sqrt((np.cumsum(values**2, axis=1) / n - mean**2) / n)
    looks = np.s_[:, 999::20]
    numbers = mean[looks], error[looks], np.broadcast_to(n, mean.shape)[looks]
    found = (made.log_e_pass if side == "pass" else made.log_e_fail)(*numbers)
    assert (found >= log(20)).any(axis=1).sum() <= 34  # 0.999 quantile of Binomial(400, 0.05)
    naive = (mean[looks] - 1.0) / error[looks] * (-1.0 if side == "pass" else 1.0)
    assert (naive >= 1.645).any(axis=1).mean() > 0.2


def test_of_a_rare_rate_it_claims_far_too_often_before_a_hundred_events():
    """Why no rate of pairs may be read so, and why a hundred values other than 0 are waited for: a rate of 0.01, at its limit."""
    rng, runs = np.random.default_rng(1), 400
    made, n = design_wide("below", 0.01, 5_000), np.arange(1, 20_001)
    claims = {"unit 100": 0, "unit 1,000": 0, "event 100": 0}
    for _ in range(runs):
        events = np.cumsum(rng.random(20_000) < 0.01)
        mean = events / n
        error = np.sqrt(mean * (1.0 - mean) / n)
        found = (error > 0.0) & (made.log_e_pass(mean, np.where(error > 0.0, error, 1.0), n) >= log(20))
        for name, since in (("unit 100", n >= 100), ("unit 1,000", n >= 1_000), ("event 100", events >= 100)):
            claims[name] += bool(found[since].any())
    assert claims["unit 100"] / runs == pytest.approx(0.14, abs=0.03) and claims["unit 1,000"] / runs == pytest.approx(0.09, abs=0.03)
    assert claims["event 100"] <= 34  # 0.999 quantile of Binomial(400, 0.05)


@pytest.mark.parametrize("percents", [(1, 50), (1, 5, 25, 50), (50, 1)], ids=str)
@pytest.mark.parametrize("decide_at", [2_000, 200_000])
def test_a_ramp_of_percents_is_under_alpha_though_units_are_then_no_measure_of_information(percents, decide_at):
    """r counts units of both arms; at 50 % a unit tells 25 times as much as at 1 %. The difference is drawn as the normal that it nears."""
    rng, runs = np.random.default_rng(5), 1_000
    n, told = [0.0], [0.0]
    for share in (percent / 100.0 for percent in percents):
        units = np.geomspace(1_000.0, 20_000.0, 60) / min(share, 1.0 - share)
        n, told = [*n, *(n[-1] + units)], [*told, *(told[-1] + units * share * (1.0 - share))]
    steps = rng.normal(size=(runs, len(n) - 1)) * np.sqrt(np.diff(told))
    estimate = np.cumsum(steps, axis=1) / told[1:]
    made = design_wide("better_by_more_than", 0.0, decide_at)
    found = made.log_e_pass(estimate, np.broadcast_to(np.array(told[1:]) ** -0.5, estimate.shape), np.broadcast_to(n[1:], estimate.shape))
    assert (found >= log(20)).any(axis=1).sum() <= 72  # 0.999 quantile of Binomial(1,000, 0.05)


def test_a_heavy_tail_of_one_model_is_passed_too_often_and_less_with_a_longer_burn_in():
    """What falls short: a mean of lognormal values (sigma 1.5, skewness 33), `below` its own mean. Between two arms the tails cancel."""
    rng, runs = np.random.default_rng(7), 600
    made, n, passed, failed = design_wide("below", 1.0, 5_000), np.arange(1_000, 20_001, 20), {1_000: 0, 5_000: 0}, 0
    for _ in range(runs // 50):
        values = rng.lognormal(-(1.5**2) / 2.0, 1.5, (50, 20_000))
        mean, squares = (np.cumsum(values**power, axis=1)[:, n - 1] / n for power in (1, 2))
        numbers = mean, np.sqrt((squares - mean**2) / (n - 1)), np.broadcast_to(n, mean.shape)
        failed += int((made.log_e_fail(*numbers) >= log(20)).any(axis=1).sum())
        for burn_in in passed:
            passed[burn_in] += int((made.log_e_pass(*numbers) >= log(20))[:, n >= burn_in].any(axis=1).sum())
    assert passed[1_000] / runs == pytest.approx(0.11, abs=0.03) and passed[5_000] / runs == pytest.approx(0.06, abs=0.025)
    assert failed / runs < 0.05
