"""Time-uniform boundaries in closed form, for sums of which only a variance is known. Gates use `analysis.sequential.mixture`, which is
tighter for bounded values.
"""

from __future__ import annotations

from math import isfinite, log, sqrt

import numpy as np
from numpy.typing import NDArray

from analysis.types import InputError


def stitched(variance: float, *, alpha: float, variance_min: float, scale: float = 0.0, eta: float = 2.0, s: float = 1.4) -> float:
    """The polynomial stitched boundary u(v): with chance at least 1 - alpha a sum that is sub-gamma stays under u(its variance process)
    at every time.

        u(v) = sqrt(k1^2 v l + (k2 c l)^2) + k2 c l,   l = s ln(1 + log_eta(v / v_min)) + ln(zeta(s) / alpha),   v >= v_min
        k1 = (eta^(1/4) + eta^(-1/4)) / sqrt(2),   k2 = (sqrt(eta) + 1) / 2

    Args:
        variance: v, the intrinsic time so far, in the squared unit of the sum, > 0; below `variance_min` it counts as that.
        alpha: In (0, 1); one-sided.
        variance_min: From where on it is tuned, > 0.
        scale: c of the sub-gamma tail, in the unit of the sum, >= 0; 0 for a sub-Gaussian sum.
        eta, s: How epochs grow (> 1), and how alpha is spent on them (> 1).

    Raises:
        InputError: an argument is out of range.

    Source: Howard, Ramdas, McAuliffe & Sekhon (2021), Ann. Statist. 49(2), Theorem 1.

    >>> round(stitched(100.0, alpha=0.05, variance_min=10.0, scale=3.0), 5)
    64.48755
    """
    from scipy.special import zeta

    good = 0.0 < alpha < 1.0 and 0.0 < variance < float("inf") and variance_min > 0.0 and scale >= 0.0 and eta > 1.0 and s > 1.0
    if not good or not all(map(isfinite, (variance_min, scale, eta, s))):
        raise InputError(f"stitched got variance {variance}, alpha {alpha}, variance_min {variance_min}, scale {scale}, eta {eta}, s {s}")
    v = max(variance, variance_min)
    spent = s * log(1.0 + log(v / variance_min) / log(eta)) + log(float(zeta(s, 1.0)) / alpha)
    k1, k2 = (eta**0.25 + eta**-0.25) / sqrt(2.0), (sqrt(eta) + 1.0) / 2.0
    return sqrt(k1**2 * v * spent + (k2 * scale * spent) ** 2) + k2 * scale * spent


def log_e_rate(n_ones: int, n: int, *, rate: float, alpha: float = 0.05, decide_at: float = 1_000.0) -> float:
    """Log e-value against "the rate is `rate`", two-sided: a Beta mixture centred at the null, valid at every look.

    Args:
        n_ones, n: Counts, 0 <= n_ones <= n.
        rate: In (0, 1).
        alpha, decide_at: The level and the number of units for which the prior is tuned.

    Raises:
        InputError: an argument is out of range.

    Source: Howard et al. (2021), Proposition 7; the prior's spread is t / (2 ln(1/alpha) + ln(1 + 2 ln(1/alpha))) - 1.
    """
    if not (0 <= n_ones <= n and 0.0 < rate < 1.0 and 0.0 < alpha < 1.0 and 0.0 < decide_at < float("inf")):
        raise InputError(f"log_e_rate got {n_ones} of {n}, rate {rate}, alpha {alpha}, decide_at {decide_at}")
    return float(log_e_centred(np.array(n_ones), n, rate, spread_of(alpha, decide_at)))


def spread_of(alpha: float, decide_at: float) -> float:
    """The spread of a Beta prior centred at the null that is most sensitive near `decide_at` units at level alpha; at least 0.001."""
    return max(decide_at / (2.0 * log(1.0 / alpha) + log(1.0 + 2.0 * log(1.0 / alpha))) - 1.0, 0.001)


def log_e_centred(n_ones: NDArray[np.int64], n: int, rate: float, spread: float) -> NDArray[np.float64]:
    """Log e-values of `n_ones` of n, shape (...,), under the Beta prior of this spread centred at `rate`, unchecked."""
    from scipy.special import betaln

    a, b = spread * rate, spread * (1.0 - rate)
    ones = n_ones.astype(np.float64)
    mixed: NDArray[np.float64] = betaln(a + ones, b + n - ones) - betaln(a, b)
    return mixed - ones * log(rate) - (n - ones) * log(1.0 - rate)
