"""Do two arms have the same quantile? For values without a range whose slowest are what matters, as of latencies.

Needs both samples, in any order. For a limit on one arm's quantile use a latency gate.

Source: Howard & Ramdas (2022), Bernoulli 28(3); STATISTICS 6.9 (two samples) and 6.11 (null-centred Beta).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.offered.boundaries import log_e_centred, spread_of
from analysis.types import InputError

Floats = NDArray[np.float64]


def log_e_equal_quantile(incumbent: Floats, challenger: Floats, *, p: float, alpha: float = 0.05, decide_at: float = 1_000.0) -> float:
    """Log e-value against "both arms have the same p-quantile", valid at every look.

    The smallest over every value that the common quantile might have, of the evidence of both arms against that value.

    Args:
        incumbent, challenger: The values of each arm's units, shapes (n_a,) and (n_b,).
        p: In (0, 1).
        alpha: The level for which the prior is tuned, in (0, 1).
        decide_at: The units of an arm, > 0, near which it is most sensitive.

    Raises:
        InputError: a value is NaN or infinite, or p, alpha or decide_at is out of range.
    """
    if not 0.0 < p < 1.0 or not 0.0 < alpha < 1.0 or not 0.0 < decide_at < np.inf:
        raise InputError(f"p and alpha must lie in (0, 1) and decide_at be positive, got {p}, {alpha} and {decide_at}")
    arms = [np.sort(np.asarray(values, np.float64)) for values in (incumbent, challenger)]
    for values in arms:
        if not np.isfinite(values).all():
            raise InputError("values of a quantile must be finite: a unit without one is not slow but unknown")
    places = np.unique(np.concatenate(arms))
    if not len(places):
        return 0.0
    spread = spread_of(alpha, decide_at)
    total = np.zeros(len(places))
    for values in arms:
        least = int(np.argmin(log_e_centred(np.arange(len(values) + 1), len(values), p, spread)))
        # evidence grows away from there; a quantile at a value may count its ties on either side, one between two values has no more choice
        under, up_to = np.searchsorted(values, places, side="left"), np.searchsorted(values, places, side="right")
        total += log_e_centred(np.clip(least, under, up_to), len(values), p, spread)
    return float(total.min())
