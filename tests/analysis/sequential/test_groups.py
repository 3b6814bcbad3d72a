"""Group sequential boundaries against published tables, and what the recursion must keep whatever the plan."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from scipy.stats import norm

from analysis.sequential.groups import boundary, classical, crossing, futility, spent
from analysis.types import InputError, LookPlan

OBF = LookPlan(maximum=1_000, looks=5)
PLANS = [
    OBF, LookPlan(maximum=1_000, looks=5, spending="pocock"), LookPlan(maximum=1_000, looks=5, spending="power", parameter=3.0),
    LookPlan(maximum=1_000, looks=5, spending="hwang_shih_decani", parameter=-4.0),
    LookPlan(maximum=1_000, looks=4, spending="wang_tsiatis", parameter=0.25),
]


def equal(k: int) -> tuple[float, ...]:
    return tuple((j + 1) / k for j in range(k))


@pytest.mark.parametrize(("delta", "looks", "published"), [
    (0.5, 2, 2.178), (0.5, 3, 2.289), (0.5, 5, 2.413), (0.0, 2, 1.977), (0.0, 3, 2.004), (0.0, 5, 2.040)])
def test_classical_constants_are_those_of_the_tables(delta, looks, published):
    """Two-sided at 0.05: Pocock's C_P and O'Brien and Fleming's C_B, Jennison & Turnbull (2000), tables 2.1 and 2.3."""
    assert classical(delta, equal(looks), 0.05, 2)[0] == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize(("plan", "alpha", "published"), [
    (OBF, 0.025, (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),  # Lan & DeMets: the tables of their program ld98
    (PLANS[1], 0.025, (2.438, 2.427, 2.410, 2.397, 2.386)),
    (LookPlan(maximum=1, looks=3, spending="hwang_shih_decani", parameter=-4.0), 0.025, (3.0107, 2.5465, 1.9992)),  # gsDesign's default
])
def test_spending_boundaries_are_those_that_are_published(plan, alpha, published):
    """Equal information: one-sided 0.025 is the upper half of two-sided 0.05."""
    assert boundary(plan, equal(len(published)), alpha) == pytest.approx(published, abs=6e-4)


def test_futility_is_that_of_the_published_default_design():
    """gsDesign's default: gamma -4 for alpha 0.025, -2 for beta 0.1, non-binding; 1.07 times the units of a test with one look."""
    upper = boundary(LookPlan(maximum=1, looks=3, spending="hwang_shih_decani", parameter=-4.0), equal(3), 0.025)
    lower, drift = futility(LookPlan(maximum=1, looks=3, spending="hwang_shih_decani", parameter=-2.0), upper, equal(3), 0.1)
    assert lower == pytest.approx((-0.239, 0.941, 1.999), abs=1e-3)
    assert (drift / (norm.isf(0.025) + norm.isf(0.1))) ** 2 == pytest.approx(1.070, abs=1e-3)
    up, down = crossing(upper, equal(3), drift=drift, lower=lower)
    assert (up.sum(), down.sum()) == (pytest.approx(0.9, abs=1e-4), pytest.approx(0.1, abs=1e-4))


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.spending)
@pytest.mark.parametrize("times", [(1.0,), (0.2, 0.4, 0.6, 0.8, 1.0), (0.11, 0.5, 0.52, 1.04), (0.3, 0.97, 1.6)])
def test_exactly_alpha_is_spent_whatever_the_information_was(plan, times):
    """Unequal steps, and a last look past the maximum: by then all of alpha is spent, and at each look what the function says."""
    bounds = boundary(plan, times, 0.02)
    exits = crossing(bounds, times)[0]
    assert exits.sum() == pytest.approx(0.02, abs=2e-6)
    assert np.cumsum(exits) == pytest.approx([spent(plan, t, 0.02) for t in times], abs=2e-6)


def test_a_single_look_is_the_test_of_a_fixed_sample():
    """The first look of any plan is a normal quantile."""
    assert boundary(OBF, (1.0,), 0.05)[0] == pytest.approx(norm.isf(0.05), abs=1e-7)
    assert boundary(PLANS[2], (0.5,), 0.05)[0] == pytest.approx(norm.isf(0.05 * 0.125), abs=1e-7)


def test_past_the_plan_nothing_is_spent_more():
    """The over-run rule: past looks are not rescaled, and no look may follow the one at the maximum."""
    first = boundary(OBF, (0.5, 1.3), 0.025)
    assert first[0] == boundary(OBF, (0.5,), 0.025)[0] == boundary(OBF, (0.5, 1.0), 0.025)[0]
    with pytest.raises(InputError, match="nothing is left to spend"):
        boundary(OBF, (0.5, 1.0, 1.3), 0.025)


def test_where_nothing_is_spent_nothing_is_rejected():
    """O'Brien-Fleming at a hundredth of the plan spends less than a double can tell from nothing."""
    assert boundary(OBF, (0.01, 1.0), 0.025)[0] == inf


@pytest.mark.parametrize("wrong", [(), (0.0, 1.0), (0.5, 0.5), (0.6, 0.4)])
def test_looks_must_be_at_rising_information(wrong):
    with pytest.raises(InputError, match="rising information"):
        boundary(OBF, wrong, 0.025)


def test_a_spending_without_its_parameter_is_refused():
    with pytest.raises(InputError, match="parameter"):
        spent(LookPlan(maximum=1, looks=2, spending="power"), 0.5, 0.05)


def test_false_rejections_of_walks_are_alpha():
    """Seeded Brownian walks: 40,000 of them, at unequal looks."""
    times = np.array([0.13, 0.3, 0.77, 1.0])
    steps = np.random.default_rng(20261123).normal(size=(40_000, 4)) * np.sqrt(np.diff(np.append(0.0, times)))
    z = steps.cumsum(axis=1) / np.sqrt(times)
    for plan in PLANS[:4]:
        share = (z >= boundary(plan, tuple(times.tolist()), 0.05)).any(axis=1).mean()
        assert share == pytest.approx(0.05, abs=4 * sqrt(0.05 * 0.95 / 40_000))
