"""Constant-bet mixture: evidence about the mean of bounded contributions, from their counts alone.

Exact at every n, free of order inside a prefix, and additive: counts of shards and days add up before they are read. Valid for the
running mean under drift. Use it for every rate and every bounded mean; a change after a good start is a detector's task.

Source: STATISTICS 6.1 to 6.3; Waudby-Smith & Ramdas (2024), JRSS-B 86(1), section 4; Ville (1939).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nextafter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.types import InputError

Floats = NDArray[np.float64]
Counts = NDArray[Any]

N_FRACTIONS = 60
LARGEST_FRACTION = 0.97
CERTAIN_FRACTION = 0.995
N_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Bets:
    """Fractions f_j in (0, 1) of the largest possible bet with the logs of their weights; both fixed before the data."""

    fractions: Floats
    log_weights: Floats


def designed_bets(best: float, *, zero_events: bool = False) -> Bets:
    """Bets around the fraction that is best at the design.

    Args:
        best: f*, the fraction of largest growth at the design, > 0; more than 0.97 counts as 0.97.
        zero_events: Whether a fifth of the weight goes to f = 0.995, so that a rate without any event is decided early.

    Raises:
        InputError: best is not positive or not finite.
    """
    if not 0.0 < best < np.inf:
        raise InputError(f"the best fraction of a design must be positive and finite, got {best}")
    best = min(best, LARGEST_FRACTION)
    fractions = np.geomspace(min(0.004, best / 8.0), LARGEST_FRACTION, N_FRACTIONS)
    bell = np.exp(-0.5 * (np.log(fractions / best) / 0.5) ** 2)
    near, flat = (0.75, 0.05) if zero_events else (0.95, 0.05)
    weights = near * bell / bell.sum() + flat / N_FRACTIONS
    if zero_events:
        fractions, weights = np.append(fractions, CERTAIN_FRACTION), np.append(weights, 0.20)
    return Bets(fractions, np.log(weights))


def undesigned_bets(smallest: float) -> Bets:
    """Equal weights on log-spaced fractions from `smallest` in (0, 0.97) to 0.97: for when no design is known."""
    if not 0.0 < smallest < LARGEST_FRACTION:
        raise InputError(f"the smallest fraction must lie in (0, {LARGEST_FRACTION}), got {smallest}")
    return Bets(np.geomspace(smallest, LARGEST_FRACTION, N_FRACTIONS), np.full(N_FRACTIONS, -log(N_FRACTIONS)))


@dataclass(frozen=True, slots=True)
class Process:
    """One e-process about the mean of contributions in [low, high].

    `proves` "below" rejects "the mean is at least `limit`"; "above" rejects "the mean is at most `limit`".
    """

    proves: Literal["below", "above"]
    limit: float
    low: float
    high: float
    bets: Bets

    def __post_init__(self) -> None:
        if not self.low < self.limit < self.high:
            raise InputError(f"a limit must lie inside the range of its contributions ({self.low}, {self.high}), got {self.limit}")

    def log_factors(self, values: Floats, limit: float, weights: Floats | None = None) -> Floats:
        """ln(1 + lambda_j w (v - m)), signed by what is proved: shape (values, bets). weights: w of each value in [0, 1], None for 1."""
        gains = self._gains(values, limit)
        return np.log1p((gains if weights is None else gains * weights)[:, None] * self.bets.fractions[None, :])

    def factors(self, values: Floats, weights: Floats) -> Floats:
        """1 + lambda_j w (v - m), signed by what is proved, of single contributions with weights w in [0, 1]: shape (values, bets)."""
        return 1.0 + (self._gains(values, self.limit) * weights)[:, None] * self.bets.fractions[None, :]

    def _gains(self, values: Floats, limit: float) -> Floats:
        room = self.high - limit if self.proves == "below" else limit - self.low
        gain = limit - values if self.proves == "below" else values - limit
        # a gain of -room is the worst value: the ratio is then exactly -1, whatever the rounding of the range
        return np.maximum(gain / room, -1.0)

    def log_e(self, counts: Counts, values: Floats, *, limit: float | None = None, weights: Floats | None = None) -> Floats:
        """Log e-value of each row of counts, shape (...,), from counts of shape (..., values).

        Args:
            counts: How often each value was seen, >= 0; a fraction where a contribution is spread over two values.
            values: The value of each column, in [low, high].
            limit: The mean to test instead of the process's own; the fractions and weights stay.
            weights: The weight of each column in [0, 1], relative to the largest possible; None where all are one. The mean is then
                that of the weighted contributions, sum of w v / sum of w.
        """
        table = self.log_factors(values, self.limit if limit is None else limit, weights)
        used = np.flatnonzero(counts.any(axis=tuple(range(counts.ndim - 1))))
        wealth = np.zeros((*counts.shape[:-1], len(self.bets.fractions)))
        if counts.ndim == 1:
            wealth += np.add.reduce(counts[used, None] * table[used], axis=0)
        else:
            for v in used:  # one sum order whatever the number of looks: the same counts give the same bits
                wealth += counts[..., v, None] * table[v]
        return log_sum_exp(wealth + self.bets.log_weights)

    def bound(self, counts: Counts, values: Floats, *, level: float, weights: Floats | None = None) -> float:
        """The end of the confidence sequence on the side that is proved: upper for "below", lower for "above".

        Bisection with the limit as the first point; the rejected side is returned. So it lies strictly inside the limit if and only
        if the e-value at the limit reaches 1/level.

        Args:
            counts: Shape (values,).
            values: Shape (values,).
            level: Chance that the mean is ever beyond the bound, in (0, 1).
            weights: As in `log_e`, shape (values,).
        """
        if not 0.0 < level < 1.0:
            raise InputError(f"level must lie in (0, 1), got {level}")
        used = np.flatnonzero(counts)
        kept, at, heavy = counts[used], values[used], None if weights is None else weights[used]
        enough = -log(level)
        inner, outer = (self.low, self.high) if self.proves == "below" else (self.high, self.low)
        proved = bool(self.log_e(kept, at, weights=heavy) >= enough)
        accepted, rejected = (inner, self.limit) if proved else (self.limit, outer)
        for _ in range(N_BISECTIONS):
            middle = 0.5 * (accepted + rejected)
            if middle in (accepted, rejected):
                break
            if self.log_e(kept, at, limit=middle, weights=heavy) >= enough:
                rejected = middle
            else:
                accepted = middle
        return nextafter(self.limit, inner) if proved and rejected == self.limit else rejected


def log_sum_exp(terms: Floats) -> Floats:
    """ln(sum of exp) over the last axis, without overflow; -inf only where every term is."""
    largest = terms.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(terms - shift).sum(axis=-1)) + shift[..., 0]
    return total
