"""The closed form of a rate's test: against quadrature, at its promised level, and beside the mixture."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import integrate

from analysis.sequential.betas import BetaProcess, log_incomplete_beta
from analysis.sequential.designs import Design, Question, design
from analysis.types import InputError, Word

BIT = np.array([0.0, 1.0])


def made(word: Word, limit: float) -> Design:
    return design(Question(kind="rate", low=0.0, high=1.0, word=word, limit=limit, method="beta-binomial"))


@pytest.mark.parametrize("side", ["pass_", "fail"])
@pytest.mark.parametrize("word", ["below", "above"])
@pytest.mark.parametrize(("n", "s"), [(0, 0), (1, 0), (1, 1), (40, 3), (200, 200), (300, 60)])
def test_it_is_the_integral_of_likelihood_ratios_over_the_rates_that_it_proves(side, word, n, s):
    """A mean of likelihood ratios with a uniform prior on one side of the limit, by quadrature."""
    limit = 0.2
    (process,) = getattr(made(word, limit), side)
    assert isinstance(process, BetaProcess)
    low, high = (0.0, limit) if process.proves == "below" else (limit, 1.0)

    def ratio(q: float) -> float:
        return (q / limit) ** s * ((1 - q) / (1 - limit)) ** (n - s) / (high - low)

    expected, _ = integrate.quad(ratio, low, high, epsabs=0, epsrel=1e-11, limit=400)
    assert float(process.log_e(np.array([n - s, s]), BIT)) == pytest.approx(log(expected), abs=1e-8)


@pytest.mark.parametrize(("x", "a", "b", "published"), [
    (0.5, 2.0, 3.0, log(11 / 192)),  # integral of t (1 - t)^2 over (0, 1/2)
    (1e-3, 1e5, 1.0, 1e5 * log(1e-3) - log(1e5)),  # the integral of t^(a-1) is x^a / a, long below the smallest double
    (0.01, 5_000.0, 2.0, 5_000 * log(0.01) + log(1 / 5_000 - 0.01 / 5_001)),
])
def test_the_incomplete_beta_function_is_right_where_it_is_no_double_any_more(x, a, b, published):
    """In logs, by the continued fraction: closed forms of small b."""
    assert float(log_incomplete_beta(x, np.array(a), np.array(b))) == pytest.approx(published, rel=1e-10)


@pytest.mark.parametrize("counts", [[10**9, 0], [0, 10**9], [990_000_000, 10_000_000], [5, 10**7]])
def test_it_is_finite_whatever_the_counts(counts):
    """Strong evidence either way is a large number, not an error."""
    for process in (*made("below", 0.02).pass_, *made("below", 0.02).fail):
        assert np.isfinite(float(process.log_e(np.array(counts), BIT)))


@pytest.mark.parametrize("side", ["pass_", "fail"])
def test_its_interval_agrees_with_its_e_value(side):
    """Inside the limit exactly where the level is reached, for every count of 1 in 400."""
    (process,) = getattr(made("below", 0.05), side)
    for s in range(0, 60, 3):
        counts = np.array([400 - s, s])
        bound = process.bound(counts, BIT, level=0.05)
        assert (bound < 0.05 if side == "pass_" else bound > 0.05) == (float(process.log_e(counts, BIT)) >= log(20))


@pytest.mark.parametrize(("word", "limit"), [("below", 0.1), ("above", 0.9)])
def test_false_passes_and_fails_at_the_limit_stay_below_alpha(word, limit):
    """600 runs of 2,000, a look at each tenth: at most the 0.999 quantile of Binomial(600, 0.05)."""
    rng = np.random.default_rng(20240611)
    ones = rng.binomial(10, limit, (600, 200)).cumsum(axis=1)
    n = 10 * np.arange(1, 201)
    counts = np.stack([n - ones, ones], axis=-1)
    for found in (made(word, limit).log_e_pass(counts, BIT), made(word, limit).log_e_fail(counts, BIT)):
        assert found.shape == (600, 200) and (found >= log(20)).any(axis=1).sum() <= 48


def test_it_is_for_rates_with_one_limit():
    """Anything else has no closed form of two counts."""
    for kind, word in (("sign", "worse_by_at_most"), ("rate", "within"), ("numeric", "below")):
        with pytest.raises(InputError, match="beta-binomial"):
            design(Question(kind=kind, low=0.0, high=1.0, word=word, limit=0.1, method="beta-binomial"))
