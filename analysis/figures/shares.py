"""Shares with an honest spread: many events of one unit are one voice, so an interval is that of fewer, independent events.

For pictures at one look. What decides are the gates, whose intervals hold at every look.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `n` events of `n_units` units, with a 95 % interval at one look; `low` and `high` are None without events."""

    n: int
    n_units: int
    hits: int
    low: float | None
    high: float | None

    @property
    def value(self) -> float | None:
        """The share in [0, 1]; None without events, which is not zero."""
        return self.hits / self.n if self.n else None


def share_of(hit: Mask, units: NDArray[Any]) -> Share:
    """The share of events that are hits, with Wilson's interval at the effective number of events.

    Args:
        hit: Whether each event is one, shape (n,).
        units: The unit of each event, shape (n,).

    Source: Korn & Graubard (1998), Survey Methodology 24(2): n / design effect in place of n; Wilson (1927), JASA 22.
    """
    n = len(hit)
    if not n:
        return Share(n=0, n_units=0, hits=0, low=None, high=None)
    _, unit = np.unique(units, return_inverse=True)
    n_units, hits = int(unit.max()) + 1, int(np.count_nonzero(hit))
    low, high = wilson(hits / n, effective_n(hit, unit, n_units))
    return Share(n=n, n_units=n_units, hits=hits, low=low, high=high)


def effective_n(hit: Mask, unit: NDArray[Any], n_units: int) -> float:
    """How many independent events would spread as much: between the units and the events; the units where all events agree."""
    n, share = len(hit), float(np.mean(hit))
    if share in (0.0, 1.0) or n_units == n:
        return float(n_units)
    residuals = np.bincount(unit, weights=hit - share, minlength=n_units)
    between = float(np.sum(residuals**2))
    if between == 0.0:  # every unit has the same share: they spread less than independent events do, of which there are n
        return float(n)
    return float(np.clip(n * n * share * (1.0 - share) / between, min(n_units, 1.0), n))


def wilson(share: float, n: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson's interval for a share of n > 0 independent events, inside [0, 1].

    >>> low, high = wilson(0.1, 50)
    >>> print(f"{low:.4f} {high:.4f}")
    0.0435 0.2136
    """
    shrink = 1.0 + z * z / n
    middle = (share + z * z / (2.0 * n)) / shrink
    half = z / shrink * sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)
