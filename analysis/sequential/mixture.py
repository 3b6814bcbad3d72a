"""Constant-bet mixture: evidence about the mean of bounded contributions, from their counts alone.

Exact at every n, free of order inside a prefix, and additive: counts of shards and days add up before they are read. Valid for the
running mean under drift. Use it for every rate and every bounded mean; a change after a good start is a detector's task.

Source: STATISTICS 6.1 to 6.3; Waudby-Smith & Ramdas (2024), JRSS-B 86(1), section 4; Ville (1939).
"""

from __future__ import annotations

from collections.abc import Callable
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
N_GUESSES = 16
_COARSE = 16
_PRICE = 2.0  # nats that a mixture pays for not knowing the best bet, about


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
class Waiting:
    """Counts of contributions that are not known yet, at the least and at the greatest value that each may have, of equal shape.

    A process takes the end that is worst for what it proves. optional: each may also turn out to be none at all; it then counts where it
    lowers the evidence, and not at all where it would raise it.
    """

    least: Counts
    greatest: Counts
    optional: bool = False

    def worst(self, proves: Literal["below", "above"]) -> Counts:
        """The counts that a process takes."""
        return self.greatest if proves == "below" else self.least

    def at(self, columns: NDArray[np.intp]) -> Waiting:
        """Some of the columns."""
        return Waiting(self.least[..., columns], self.greatest[..., columns], self.optional)


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

    def log_e(
        self, counts: Counts, values: Floats, *, limit: float | None = None, weights: Floats | None = None, waiting: Waiting | None = None
    ) -> Floats:
        """Log e-value of each row of counts, shape (...,), from counts of shape (..., values).

        Args:
            counts: How often each value was seen, >= 0; a fraction where a contribution is spread over two values.
            values: The value of each column, in [low, high].
            limit: The mean to test instead of the process's own; the fractions and weights stay.
            weights: The weight of each column in [0, 1], relative to the largest possible; None where all are one. The mean is then
                that of the weighted contributions, sum of w v / sum of w.
            waiting: What is not known yet, filled with its worst: the log e-value is then the least over all that it may turn out to be,
                or under it.
        """
        table = self.log_factors(values, self.limit if limit is None else limit, weights)
        if waiting is not None and waiting.optional:  # the columns twice: at their factors, and at those of them that are no gain
            counts = np.concatenate([counts, waiting.worst(self.proves)], axis=-1)
            table = np.concatenate([table, np.minimum(table, 0.0)])
        elif waiting is not None:
            counts = counts + waiting.worst(self.proves)
        used = np.flatnonzero(counts.any(axis=tuple(range(counts.ndim - 1))))
        wealth = np.zeros((*counts.shape[:-1], len(self.bets.fractions)))
        if counts.ndim == 1:
            if len(used) < len(counts):
                counts, table = counts[used], table[used]
            wealth += np.add.reduce(counts[:, None] * table, axis=0)
        else:
            for v in used:  # one sum order whatever the number of looks: the same counts give the same bits
                wealth += counts[..., v, None] * table[v]
        return log_sum_exp(wealth + self.bets.log_weights)

    def bound(
        self, counts: Counts, values: Floats, *, level: float, weights: Floats | None = None, waiting: Waiting | None = None
    ) -> float:
        """The end of the confidence sequence on the side that is proved: upper for "below", lower for "above".

        Bisection with the limit as the first point; the rejected side is returned. So it lies strictly inside the limit if and only
        if the e-value at the limit reaches 1/level.

        Args:
            counts: Shape (values,).
            values: Shape (values,).
            level: Chance that the mean is ever beyond the bound, in (0, 1).
            weights: As in `log_e`, shape (values,).
            waiting: As in `log_e`, of shape (values,).
        """
        if not 0.0 < level < 1.0:
            raise InputError(f"level must lie in (0, 1), got {level}")
        every = counts if waiting is None else counts + waiting.worst(self.proves)
        used = np.flatnonzero(every)
        kept, at, heavy, every = counts[used], values[used], None if weights is None else weights[used], every[used]
        unknown = None if waiting is None else waiting.at(used)
        enough = -log(level)
        inner, outer = (self.low, self.high) if self.proves == "below" else (self.high, self.low)
        proved = bool(self.log_e(kept, at, weights=heavy, waiting=unknown) >= enough)
        accepted, rejected = (inner, self.limit) if proved else (self.limit, outer)
        start, close = _guess(every if heavy is None else every * heavy, at, enough, outward=outer > inner), False
        if len(kept) >= _COARSE**2:  # first on a histogram so coarse that it costs nothing
            few, means, light = _coarser(every, at, heavy)
            found = _bracket(lambda m: float(self.log_e(few, means, limit=m, weights=light)), enough, accepted, rejected, start)
            start, close = (start[0], found[1]), True
        known = _bracket(
            lambda m: float(self.log_e(kept, at, limit=m, weights=heavy, waiting=unknown)), enough, accepted, rejected, start, close=close
        )
        for _ in range(N_BISECTIONS):
            middle = 0.5 * (accepted + rejected)
            if middle in (accepted, rejected):
                break
            if min(known) < middle < max(known):
                is_enough = bool(self.log_e(kept, at, limit=middle, weights=heavy, waiting=unknown) >= enough)
            else:  # evidence rises with the distance from the data: both sides of the bracket are known
                is_enough = middle >= known[1] if outer > inner else middle <= known[1]
            accepted, rejected = (accepted, middle) if is_enough else (middle, rejected)
        return nextafter(self.limit, inner) if proved and rejected == self.limit else rejected


def _guess(counts: Counts, values: Floats, enough: float, *, outward: bool) -> tuple[float, float]:
    """(mean of the data, about where the log e-value is enough), by the normal approximation."""
    n = float(counts.sum())
    if n <= 0.0:
        return np.nan, np.nan
    mean = float((counts * values).sum()) / n
    spread = float((counts * (values - mean) ** 2).sum()) / n
    away = np.sqrt(2.0 * (enough + _PRICE) * (spread / n + (enough + _PRICE) / n**2 * (values.max() - values.min()) ** 2))
    return mean, mean + away if outward else mean - away


def _coarser(counts: Counts, values: Floats, weights: Floats | None) -> tuple[Floats, Floats, Floats | None]:
    """(counts, mean value, mean weight) of each 16 neighbours together."""
    at = np.arange(0, len(counts), _COARSE)
    total = np.add.reduceat(counts.astype(np.float64), at)
    means = [None if column is None else np.add.reduceat(counts * column, at) / total for column in (values, weights)]
    return total, means[0], means[1]  # type: ignore[return-value]


def _bracket(
    log_e: Callable[[float], float], enough: float, accepted: float, rejected: float, start: tuple[float, float], *, close: bool = False
) -> tuple[float, float]:
    """A mean that is not rejected and one that is, close together: so that a bisection knows most of its answers beforehand.

    Where the data are many, the log e-value is about a parabola around their mean: from the guess along it, a little too far, so that the
    end lies between the two; then regula falsi, in its Illinois form. close: whether the guess is nearly right already.
    """
    narrow, (mean, middle) = abs(rejected - accepted) * 2.0**-N_BISECTIONS, start
    one, other, side = -enough - _PRICE, enough, 0
    for k in range(N_GUESSES):
        if not min(accepted, rejected) < middle < max(accepted, rejected):
            middle = 0.5 * (accepted + rejected)
        if abs(rejected - accepted) <= narrow or middle in (accepted, rejected):
            break
        found = log_e(middle)
        height = found - enough
        if found >= enough:
            rejected, other, one, side = middle, height, one / 2.0 if side > 0 else one, 1
        else:
            accepted, one, other, side = middle, height, other / 2.0 if side < 0 else other, -1
        if k == 0 and np.isfinite(mean):
            along = 1.0 if close else min(np.sqrt((enough + _PRICE) / max(found + _PRICE, 0.1)), 2.0)
            beyond = 1e-3 if close else 0.02
            middle = mean + (middle - mean) * along * (1.0 - beyond if side > 0 else 1.0 + beyond)
        else:
            middle = accepted + (rejected - accepted) * (one / (one - other) if np.isfinite(one - other) else 0.5)
    return accepted, rejected


def log_sum_exp(terms: Floats) -> Floats:
    """ln(sum of exp) over the last axis, without overflow; -inf only where every term is."""
    largest = terms.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(largest), largest, 0.0)
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(terms - shift).sum(axis=-1)) + shift[..., 0]
    return total
