"""The mixture over lifts: against a slow second version, dual to its gate, and scale-free."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given
from hypothesis import strategies as st

from analysis.online.lifts import (
    Lift,
    asymptotic_half_width,
    design_lifts,
    designed_shifts,
    two_sided_log_e,
    undesigned_shifts,
)
from analysis.types import InputError

WORDS = ("worse_by_at_most", "better_by_more_than", "within")
estimates = st.floats(-0.2, 0.2)
errors = st.floats(1e-4, 0.1)
limits = st.floats(0.001, 0.1)


@given(estimates, errors, limits, st.sampled_from(["above", "below"]))
def test_evidence_is_that_of_the_formula(estimate, se, limit, proves):
    """One exponential after the other, where they fit a float."""
    if abs(estimate - limit) / se > 20.0 or limit / se > 60.0:
        return
    found = float(Lift(proves, limit, designed_shifts(0.01)).log_e(estimate, se, 5_000))
    assert found == pytest.approx(slow.log_e_lifts(estimate, se, limit, proves=proves, best=0.01), rel=1e-9, abs=1e-9)
    found = float(Lift(proves, limit, undesigned_shifts()).log_e(estimate, se, 5_000))
    assert found == pytest.approx(slow.log_e_lifts_undesigned(estimate, se, 5_000, limit, proves=proves), rel=1e-9, abs=1e-9)


@given(estimates, errors, limits, st.sampled_from(WORDS), st.sampled_from([None, 0.5]))
def test_a_gate_passes_exactly_when_its_bound_beats_the_limit(estimate, se, limit, word, expect):
    """The numbers that people see say the same as the status, on both sides, whatever the design."""
    if expect is not None:
        expect = {"worse_by_at_most": -0.5 * limit, "better_by_more_than": 2.0 * limit, "within": 0.5 * limit}[word]
    made = design_lifts(word, limit, expect)
    interval = made.interval(estimate, se, 5_000, alpha=0.05, fail_level=0.01)
    passes = bool(made.log_e_pass(estimate, se, 5_000) >= log(20))
    line = -limit if word == "worse_by_at_most" else limit
    if word == "within":
        assert passes == (-limit < interval.low and interval.high < limit)
    else:
        assert passes == (interval.low > line)
        assert bool(made.log_e_fail(estimate, se, 5_000) >= log(100)) == (interval.high < line)
    assert interval.low < estimate < interval.high


@given(estimates, errors, limits, st.sampled_from(WORDS), st.floats(0.0, 0.1))
def test_a_better_challenger_has_more_evidence(estimate, se, limit, word, more):
    """Monotone: no gate can pass by doing worse; `within` is one from each side."""
    made = design_lifts(word, limit)
    for process in (*made.pass_, *made.fail):
        one, two = float(process.log_e(estimate, se, 5_000)), float(process.log_e(estimate + more, se, 5_000))
        assert two >= one if process.proves == "above" else two <= one


@pytest.mark.parametrize("scale", [1e-200, 1e-5, 1.0, 1e9])
def test_a_metric_of_another_unit_has_the_same_evidence_and_interval(scale):
    """gbstats stops its bisection at an absolute 1e-6: a metric of scale 1e-5 had p = 0.125 where the scale-free answer is 0.0063."""
    base, scaled = design_lifts("worse_by_at_most", 0.02), design_lifts("worse_by_at_most", 0.02 * scale)
    assert scaled.log_e_pass(0.01 * scale, 0.01 * scale, 9_000) == pytest.approx(float(base.log_e_pass(0.01, 0.01, 9_000)), rel=1e-9)
    one = base.interval(0.01, 0.01, 9_000, alpha=0.05, fail_level=0.05)
    other = scaled.interval(0.01 * scale, 0.01 * scale, 9_000, alpha=0.05, fail_level=0.05)
    assert (other.low, other.high) == (pytest.approx(one.low * scale, rel=1e-9), pytest.approx(one.high * scale, rel=1e-9))
    free = Lift("above", 0.0, undesigned_shifts())
    assert free.log_e(0.03 * scale, 0.01 * scale, 9_000) == pytest.approx(float(free.log_e(0.03, 0.01, 9_000)), rel=1e-9)


@pytest.mark.parametrize("z", [1e3, 1e8, 1e100, -1e3, -1e8, -1e100])
def test_strong_evidence_is_a_finite_number_for_and_against(z):
    """`2 (1 - cdf)` is exactly 0 beyond 8 standard errors, odds become infinite: logs are none of that, and the interval stays a number."""
    made = design_lifts("worse_by_at_most", 0.01)
    found = float(made.log_e_pass(z, 1.0, 2_000))
    assert np.isfinite(found) and (found > log(20)) == (z > 0)
    strong = Lift("above", 0.0, undesigned_shifts()).log_e(z, 1.0, 2_000)
    assert np.isfinite(strong) and (float(strong) > log(20)) == (z > 0)
    assert np.isfinite(made.interval(z, 1.0, 2_000, alpha=0.05, fail_level=0.05).low)


def test_the_limit_that_is_tested_is_the_one_that_was_asked():
    """gbstats ignores `test_value`: p = 1e-5 for "the effect is at most 0.4" at estimate 0.5 with lower bound 0.338."""
    free = Lift("above", 0.0, undesigned_shifts())
    low = free.bound(0.5, 0.05, 4_000, level=0.05)
    assert 0.3 < low < 0.4
    assert float(free.log_e(0.5, 0.05, 4_000, limit=0.4)) < log(20) < float(free.log_e(0.5, 0.05, 4_000, limit=0.3))


def test_looks_are_read_together_as_one_by_one():
    """A study reads thousands of looks at once."""
    estimate, se, n = np.linspace(-0.1, 0.1, 7), np.linspace(0.01, 0.05, 7), np.arange(7) * 500 + 2_000
    made = design_lifts("within", 0.05)
    assert made.log_e_pass(estimate, se, n).tolist() == [float(made.log_e_pass(*look)) for look in zip(estimate, se, n, strict=True)]
    assert made.log_e_fail(estimate, se, n).tolist() == [float(made.log_e_fail(*look)) for look in zip(estimate, se, n, strict=True)]


@pytest.mark.parametrize(("word", "limit", "expect"), [
    ("below", 0.1, None), ("above", 0.1, None), ("worse_by_at_most", 0.0, None), ("worse_by_at_most", 0.1, -0.1), ("within", 0.1, 0.1),
    ("within", -0.1, None), ("better_by_more_than", -0.1, None), ("better_by_more_than", 0.1, 0.05), ("within", np.nan, None),
])
def test_questions_that_no_two_arms_answer_are_refused(word, limit, expect):
    """A word of one arm, a limit that is none, an expectation on the wrong side."""
    with pytest.raises(InputError):
        design_lifts(word, limit, expect)


@pytest.mark.parametrize("numbers", [(np.nan, 1.0, 10), (0.0, 0.0, 10), (0.0, np.inf, 10), (0.0, 1.0, 0)])
def test_an_interval_of_nothing_is_refused(numbers):
    """Zero variance is no certainty."""
    with pytest.raises(InputError, match="interval"):
        design_lifts("within", 0.1).pass_[0].bound(*numbers, level=0.05)
    with pytest.raises(InputError, match="level"):
        design_lifts("within", 0.1).pass_[0].bound(0.0, 1.0, 10, level=1.0)


def test_weights_sum_to_one():
    """A mixture of more than one unit of weight is no e-process."""
    for shifts in (designed_shifts(0.01), undesigned_shifts()):
        assert np.exp(shifts.log_weights).sum() == pytest.approx(1.0, abs=1e-12) and shifts.sizes.min() > 0.0
    with pytest.raises(InputError):
        designed_shifts(0.0)


def test_the_asymptotic_sequence_is_where_its_own_evidence_is_enough():
    """Half-width and e-value of STATISTICS 6.5 are one boundary: at the end, ln E = ln(1/alpha)."""
    n, se, alpha, decide_at = 20_000.0, 0.01, 0.05, 8_000.0
    half = float(asymptotic_half_width(se, n, alpha=alpha, decide_at=decide_at))
    r = n * (-2.0 * log(alpha) + log(1.0 - 2.0 * log(alpha))) / decide_at
    assert r * (half / se) ** 2 / (2.0 * (r + 1.0)) - 0.5 * log(r + 1.0) == pytest.approx(log(1.0 / alpha), rel=1e-12)
    one_sided = float(asymptotic_half_width(se, n, alpha=alpha, decide_at=decide_at, two_sided=False))
    assert one_sided < half
    assert one_sided == pytest.approx(se * sqrt(2.0 * (r + 1.0) / r * log(1.0 + sqrt(r + 1.0) / (2.0 * alpha))))
    for wrong in ({"alpha": 0.0, "decide_at": 1.0}, {"alpha": 0.05, "decide_at": 0.0}):
        with pytest.raises(InputError):
            asymptotic_half_width(1.0, 1.0, **wrong)


def paths(rng, runs, drift, n_looks, step):
    """z-scores of a difference at each look, for a lift of `drift` standard errors of one step, and its standard error in such."""
    k = np.arange(1, n_looks + 1)
    total = np.cumsum(rng.normal(drift, 1.0, (runs, n_looks)), axis=1)
    return total / k, np.broadcast_to(1.0 / np.sqrt(k), total.shape), np.broadcast_to(2 * step * k, total.shape)


def test_false_claims_stay_below_alpha_at_every_look_and_the_goal_of_delay_is_met():
    """Lift 2 % with sd/mean 2, read every 500 pairs: at most 1.15 of the limit of 119,829 pairs, and 5 % false ones at the margin."""
    rng, runs, step = np.random.default_rng(20240611), 400, 500
    lift = 0.02 / (2.0 * sqrt(2.0) / sqrt(step))  # in standard errors of a step of 500 pairs
    process = design_lifts("better_by_more_than", 0.0, lift).pass_[0]
    stop = process.log_e(*paths(rng, runs, lift, 1_200, step)) >= log(20)
    assert stop.any(axis=1).all()
    assert (stop.argmax(axis=1) + 1).mean() * step / 119_829 <= 1.15
    false = process.log_e(*paths(rng, runs, 0.0, 1_000, step)) >= log(20)
    assert false.any(axis=1).sum() <= 34  # 0.999 quantile of Binomial(400, 0.05)
    naive = paths(np.random.default_rng(1), runs, 0.0, 1_000, step)
    assert (naive[0] / naive[1] > 1.645).any(axis=1).mean() > 0.4


def test_two_sided_evidence_is_half_of_each_side():
    """For a report that asks whether there is any difference: the same for both directions, at most ln 2 below the better one."""
    one = float(two_sided_log_e(0.05, 0.01, 4_000))
    assert one == pytest.approx(float(two_sided_log_e(-0.05, 0.01, 4_000)), rel=1e-12)
    assert one == pytest.approx(float(Lift("above", 0.0, undesigned_shifts()).log_e(0.05, 0.01, 4_000)) - log(2.0), abs=1e-4)
    assert float(two_sided_log_e(0.05, 0.01, 4_000, value=0.05)) < 0.0
