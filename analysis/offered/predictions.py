"""Means from few labels and many predictions (prediction-powered inference), at a number of labels that is fixed beforehand.

For labels that come one by one a gate with a propensity does the same at every look.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.types import InputError, Interval

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Powered:
    """A mean with its standard error. weight: how much the predictions counted, 0 not at all; interval: fixed-sample, normal."""

    estimate: float
    standard_error: float
    weight: float
    interval: Interval


def mean(
    labels: ArrayLike, predicted: ArrayLike, predicted_only: ArrayLike, *, alpha: float = 0.05, weight: float | None = None
) -> Powered:
    """The mean of a label over everybody, from a random part that was labelled and predictions for all.

        estimate = w mean_N(f) + mean_n(Y - w f),   variance = w^2 s_f^2 / N + var(Y - w f) / n,   w = cov(Y, f) / ((1 + n/N) s_f^2)

    Args:
        labels: Y of the labelled, shape (n,), n >= 2.
        predicted: f of the same, shape (n,).
        predicted_only: f of those without a label, shape (N,), N >= 2.
        alpha: In (0, 1), two-sided.
        weight: w; None for the one above, which is never worse than the labels alone in a large sample; 1 for the first paper's.

    Raises:
        InputError: shapes differ, there are too few, or a number is not finite.

    Source: Angelopoulos, Bates, Fannjiang, Jordan & Zrnic (2023), Science 382; the weight: Angelopoulos, Duchi & Zrnic (2023), PPI++.
    """
    from scipy.stats import norm

    y, f, rest = (np.asarray(values, np.float64) for values in (labels, predicted, predicted_only))
    if y.shape != f.shape or y.ndim != 1 or rest.ndim != 1 or len(y) < 2 or len(rest) < 2:
        raise InputError(
            f"mean needs two or more labels with their predictions and two or more others, got {y.shape}, {f.shape}, {rest.shape}"
        )
    if not all(np.isfinite(values).all() for values in (y, f, rest)) or not 0.0 < alpha < 1.0:
        raise InputError("labels and predictions must be finite, and alpha lie in (0, 1)")
    n, n_rest = len(y), len(rest)
    spread = float(np.concatenate([f, rest]).var(ddof=1))
    if weight is None:
        together = float(np.cov(y, f)[0, 1])
        weight = together / ((1.0 + n / n_rest) * spread) if spread > 0.0 else 0.0
    left = y - weight * f
    estimate = weight * float(rest.mean()) + float(left.mean())
    error = sqrt(weight**2 * spread / n_rest + float(left.var(ddof=1)) / n)
    reach = float(norm.isf(alpha / 2.0)) * error
    return Powered(estimate, error, weight, Interval(low=estimate - reach, high=estimate + reach))
