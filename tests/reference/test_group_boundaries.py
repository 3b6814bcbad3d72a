"""A slow second version of the recursion: probabilities of boxes of a multivariate normal, by scipy's own quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from analysis.sequential.groups import boundary, crossing
from analysis.types import LookPlan

TIMES = (0.15, 0.4, 0.85, 1.0)


def inside(upper: np.ndarray, times: tuple[float, ...], *, drift: float = 0.0, lower: np.ndarray | None = None) -> float:
    """Chance that z stays in the box at every look: z_j, z_k have the correlation sqrt(t_j / t_k)."""
    t = np.array(times)
    covariance = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    normal = multivariate_normal(mean=drift * np.sqrt(t), cov=covariance, maxpts=400_000, abseps=1e-8, releps=1e-8)
    return float(normal.cdf(upper, lower_limit=lower))


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("looks", [1, 2, 3, 4])
def test_the_chance_to_cross_by_each_look_is_that_of_the_multivariate_normal(spending, looks):
    """One-sided under the null, for boundaries of both kinds and unequal information."""
    bounds = np.array(boundary(LookPlan(maximum=1, looks=4, spending=spending), TIMES, 0.05))[:looks]
    expected = 1.0 - inside(np.minimum(bounds, 12.0), TIMES[:looks])
    assert crossing(bounds, TIMES[:looks])[0].sum() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("drift", [0.0, 1.2, 3.3])
def test_both_sides_and_a_drift_agree_too(drift):
    """What is left inside two boundaries, under any effect."""
    upper, lower = np.array([2.9, 2.6, 2.2, 2.0]), np.array([-1.5, -0.4, 0.6, 1.1])
    up, down = crossing(upper, TIMES, drift=drift, lower=lower)
    assert 1.0 - up.sum() - down.sum() == pytest.approx(inside(upper, TIMES, drift=drift, lower=lower), abs=2e-6)
