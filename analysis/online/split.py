"""Is traffic split as configured? If not, the arms hold different people, and no difference between them means anything.

At each look the units of both arms, period by period, against the configured shares: an e-process by a Dirichlet prior around them, free of
order. Half of it hears every unit at its first exposure. The other half hears it when its longest outcome window is over, and only if it
was not seen in both arms of one period by then: were units of a failing challenger served by the incumbent instead, they would leave the
challenger's arm, and the first half would not notice.

Source: Lindon & Malek (2022), NeurIPS; STATISTICS 6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log

import numpy as np

from analysis.sequential.mixture import Floats
from analysis.types import InputError

ALPHA = 0.001
CONCENTRATION = 1_000.0


def log_bayes_factor(counts: Floats, shares: Floats, *, k: float = CONCENTRATION) -> Floats:
    """Log e-value against "each unit is of arm i with chance shares[i]", shape (...,), from counts of shape (..., arms).

    Args:
        counts: Units of each arm, >= 0.
        shares: In (0, 1), of sum 1; shape (arms,).
        k: How strongly the prior believes in splits near these shares, > 0.

    Raises:
        InputError: shares that are none, negative counts, or k out of range.
    """
    from scipy.special import gammaln

    theta, n = np.asarray(shares, np.float64), np.asarray(counts, np.float64)
    if not (theta > 0.0).all() or not abs(float(theta.sum()) - 1.0) <= 1e-9:
        raise InputError(f"shares must be positive and sum to 1, got {theta.tolist()}")
    if n.shape[-1:] != theta.shape or not (n >= 0.0).all() or not 0.0 < k < np.inf:
        raise InputError(f"counts must be one number >= 0 for each of {len(theta)} arms and k positive, got k = {k}")
    total = n.sum(axis=-1)
    parts = gammaln(k * theta + n) - gammaln(k * theta) - n * np.log(theta)
    return gammaln(k) - gammaln(k + total) + parts.sum(axis=-1)  # type: ignore[no-any-return]


def log_e_split(first: Mapping[int, Floats], kept: Mapping[int, Floats], shares: Mapping[int, float]) -> float:
    """Log e-value against the configured split, from units of (incumbent, challenger) by period.

    Args:
        first: Units at their first exposure.
        kept: Units whose window is over and that were not seen in both arms of their period.
        shares: The challenger's share of each period, in (0, 1).
    """
    at_once, later = (sum((float(log_bayes_factor(n, np.array([1.0 - shares[p], shares[p]]))) for p, n in counts.items()), 0.0)
                      for counts in (first, kept))
    return float(np.logaddexp(at_once, later)) - log(2.0)


def fired(log_e: float) -> bool:
    """Whether the split is not what was configured, at alpha 0.001."""
    return log_e >= -log(ALPHA)
