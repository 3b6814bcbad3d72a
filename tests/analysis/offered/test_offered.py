"""What is offered beside the gates: published numbers, error rates on seeded streams, and refusals."""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from analysis.offered.boundaries import log_e_rate, stitched
from analysis.offered.calibrators import log_e_of_largest, log_e_of_p, p_of_log_e
from analysis.offered.predictions import mean
from analysis.types import InputError


def test_the_stitched_boundary_has_the_published_value_and_rises():
    """Variance 100, alpha 0.05, tuned from 10, scale 3; before it is tuned it stays where it begins."""
    assert stitched(100.0, alpha=0.05, variance_min=10.0, scale=3.0) == pytest.approx(64.48755, abs=1e-5)
    values = [stitched(v, alpha=0.05, variance_min=10.0) for v in (1.0, 10.0, 11.0, 1e3, 1e9)]
    assert values[0] == values[1] < values[2] < values[3] < values[4] < 5.0 * sqrt(1e9)


def test_a_random_walk_crosses_the_stitched_boundary_no_more_often_than_alpha():
    """Under peeking at every step of 2,000 walks."""
    rng = np.random.default_rng(7)
    walks = np.cumsum(rng.choice([-1.0, 1.0], size=(2_000, 2_000)), axis=1)
    bound = np.array([stitched(float(v), alpha=0.05, variance_min=50.0) for v in range(1, 2_001)])
    assert (walks > bound).any(axis=1).mean() <= 0.05


@pytest.mark.parametrize(("n", "rate"), [(1, 0.5), (12, 0.1), (30, 0.7)])
def test_the_null_centred_mixture_has_mean_one_under_its_null(n: int, rate: float):
    """An e-value: its mean over all counts is 1, whatever n."""
    counts = np.arange(n + 1)
    values = np.exp([log_e_rate(int(k), n, rate=rate, decide_at=50.0) for k in counts])
    assert float((binom.pmf(counts, n, rate) * values).sum()) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("kappa", [None, 0.1, 0.5, 0.9])
def test_a_calibrator_turns_a_uniform_p_value_into_an_e_value_of_mean_one(kappa: float | None):
    """Integrated over p in (0, 1), on the scale of ln p so that the pole at 0 is met."""
    found, _ = quad(lambda u: exp(log_e_of_p(exp(-u), kappa=kappa) - u), 0.0, 700.0, limit=500)
    lost = 0.0 if kappa is not None else 1.0 / 700.0  # the mixture's tail behind exp(-700) is 1/u
    assert found + lost == pytest.approx(1.0, abs=2e-3)


@given(p=st.floats(1e-12, 1.0))
def test_calibrating_and_back_never_makes_a_p_value_smaller(p: float):
    """There is a price each way, and more evidence never calibrates to less."""
    assert p_of_log_e(log_e_of_p(p)) >= p
    assert log_e_of_p(p) >= log_e_of_p(min(1.0, p * 1.5)) - 1e-6


@given(log_e=st.floats(0.0, 600.0))
def test_the_largest_of_an_e_process_calibrates_as_its_p_value_does(log_e: float):
    """1/E* is a p-value; both ways must agree, and the largest itself is worth less than it says."""
    if log_e < 600.0 and exp(-log_e) > 0.0:
        assert log_e_of_largest(log_e) == pytest.approx(log_e_of_p(exp(-log_e)), rel=1e-6, abs=1e-6)
    assert log_e_of_largest(log_e) < max(log_e, 1e-9) or log_e < 1e-3


def test_the_ends_are_what_they_must_be():
    """A p-value of 0 is infinite evidence; one of 1 half an e-value; nothing seen is p = 1."""
    assert log_e_of_p(0.0) == inf
    assert log_e_of_p(1.0) == pytest.approx(log(0.5))
    assert (p_of_log_e(-5.0), p_of_log_e(0.0), p_of_log_e(inf)) == (1.0, 1.0, 0.0)


def test_predictions_narrow_a_mean_and_a_useless_one_costs_nothing():
    """200 labels and 20,000 predictions, 400 times: the interval covers, and is narrower the better the predictions are."""
    rng = np.random.default_rng(3)
    widths, covered = {}, {}
    for noise in (0.3, 3.0, 30.0):
        found = []
        for _ in range(400):
            y = rng.normal(1.0, 1.0, 2_200)
            f = y + rng.normal(0.0, noise, 2_200)
            found.append(mean(y[:200], f[:200], f[200:]).interval)
        covered[noise] = np.mean([each.low <= 1.0 <= each.high for each in found])
        widths[noise] = np.mean([each.high - each.low for each in found])
    alone = 2 * 1.96 / sqrt(200)
    assert all(0.92 <= share <= 0.98 for share in covered.values()), covered
    assert widths[0.3] < 0.55 * alone
    assert widths[0.3] < widths[3.0] <= 1.02 * alone
    assert widths[30.0] <= 1.02 * alone


def test_constant_predictions_give_the_mean_of_the_labels():
    """Nothing to lean on: the weight is 0."""
    found = mean([0.0, 1.0, 1.0, 0.0], [5.0] * 4, [5.0] * 9)
    assert (found.estimate, found.weight) == (0.5, 0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stitched(0.0, alpha=0.05, variance_min=1.0),
        lambda: stitched(1.0, alpha=1.0, variance_min=1.0),
        lambda: stitched(1.0, alpha=0.05, variance_min=1.0, eta=1.0),
        lambda: log_e_rate(3, 2, rate=0.5),
        lambda: log_e_rate(1, 2, rate=1.0),
        lambda: log_e_of_p(float("nan")),
        lambda: log_e_of_p(0.5, kappa=1.0),
        lambda: p_of_log_e(float("nan")),
        lambda: log_e_of_largest(-1.0),
        lambda: mean([1.0], [1.0], [1.0, 2.0]),
        lambda: mean([1.0, 2.0], [1.0, float("inf")], [1.0, 2.0]),
    ],
)
def test_what_cannot_be_taken_is_refused(wrong):
    """With what was found, never a silent number."""
    with pytest.raises(InputError):
        wrong()
