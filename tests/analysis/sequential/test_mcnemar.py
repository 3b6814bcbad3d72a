"""Sequential McNemar: the definition by quadrature, the promised level at every look, and what it finds."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import integrate

from analysis.sequential.mcnemar import log_e_equal, log_e_more
from analysis.types import InputError

COUNTS = [(0, 0), (1, 0), (0, 1), (7, 3), (3, 7), (40, 41), (120, 60)]


@pytest.mark.parametrize(("one", "other"), COUNTS)
def test_both_are_the_mean_likelihood_ratio_over_their_prior(one, other):
    """By quadrature: shares in (0, 1) two-sided, in (1/2, 1) where only "more" counts."""
    def ratio(q: float) -> float:
        return (2.0 * q) ** one * (2.0 * (1.0 - q)) ** other

    both, _ = integrate.quad(ratio, 0.0, 1.0, epsrel=1e-11, limit=400)
    more, _ = integrate.quad(lambda q: 2.0 * ratio(q), 0.5, 1.0, epsrel=1e-11, limit=400)
    assert log_e_equal(one, other) == pytest.approx(log(both), abs=1e-9)
    assert log_e_more(one, other) == pytest.approx(log(more), abs=1e-9)


@pytest.mark.parametrize("test", [log_e_equal, log_e_more])
def test_its_mean_under_the_null_is_one_at_every_n(test):
    """An e-value by exact enumeration, not by simulation: no look has to be chosen beforehand."""
    for n in (1, 2, 9, 60):
        chances = np.array([1.0])
        for _ in range(n):
            chances = 0.5 * (np.append(chances, 0.0) + np.append(0.0, chances))
        mean = sum(chance * np.exp(test(k, n - k)) for k, chance in enumerate(chances))
        assert mean == pytest.approx(1.0, rel=1e-9)


def test_false_alarms_stay_below_alpha_at_every_look():
    """Seeded coins, a look at every pair: where McNemar's own p-value would cry wolf in a third of the runs."""
    rng = np.random.default_rng(20261123)
    n, runs = 600, 1_000
    ones = rng.integers(0, 2, (runs, n)).cumsum(axis=1)
    two_sided = np.array([[log_e_equal(k, m - k) for k in range(m + 1)] + [0.0] * (n - m) for m in range(1, n + 1)])
    paths = two_sided[np.arange(n)[None, :], ones]
    assert (paths >= log(20)).any(axis=1).sum() <= 72  # 0.999 quantile of Binomial(1000, 0.05)


def test_a_composite_null_is_kept_when_the_first_is_rarer():
    """Shares under a half only lower the evidence for "more": the prior must not reach below a half."""
    n = 40
    for share in (0.1, 0.4, 0.5):
        mean = sum(np.exp(log_e_more(k, n - k) + log_chance(k, n, share)) for k in range(n + 1))
        assert mean <= 1.0 + 1e-9


def log_chance(k: int, n: int, share: float) -> float:
    from scipy.stats import binom

    return float(binom.logpmf(k, n, share))


def test_it_is_finite_for_huge_and_one_sided_counts_and_refuses_negative_ones():
    """Evidence for a strong effect overflows a double; strongly opposed data is a very negative number, not an error."""
    for one, other in ((10**8, 0), (0, 10**8), (10**7, 10**5)):
        assert np.isfinite(log_e_equal(one, other)) and np.isfinite(log_e_more(one, other))
    with pytest.raises(InputError, match="-1"):
        log_e_equal(-1, 3)
