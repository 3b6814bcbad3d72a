"""The same test of a rate in closed form: all bets between none and the largest, weighted by a uniform prior on the rate.

For a Bernoulli rate the likelihood ratio of q against the limit c is a constant bet, so the uniform prior truncated to the rates that the
process proves is a mixture of bets like any other: exact, free of order, valid for the running mean. It expects nothing: choose it where
no design is at hand. The mixture around a design is faster near it.

Source: Robbins (1970), Ann. Math. Statist. 41(5); STATISTICS 6.1 and 6.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.sequential.mixture import Counts, Floats, Process, Waiting
from analysis.types import InputError

_SMALLEST = 1e-280
_MOST_TERMS = 20_000


@dataclass(frozen=True, slots=True)
class BetaProcess(Process):
    """A process about a rate whose e-value comes from the truncated prior; its bets are for change detectors."""

    def log_e(
        self, counts: Counts, values: Floats, *, limit: float | None = None, weights: Floats | None = None, waiting: Waiting | None = None
    ) -> Floats:
        """As for `Process`, for counts of 0 and 1 without weights, all of them known."""
        if weights is not None or waiting is not None:
            raise InputError("the closed form takes counts of 0 and 1, all of them known and without weights")
        total, ones = counts.sum(axis=-1), (counts * values).sum(axis=-1)
        c = self.limit if limit is None else limit
        seen, edge = (ones, c) if self.proves == "below" else (total - ones, 1.0 - c)
        n, s = np.asarray(total, np.float64), np.asarray(seen, np.float64)
        found: Floats = log_incomplete_beta(edge, 1.0 + s, 1.0 + n - s) - np.log(edge) - s * np.log(edge) - (n - s) * np.log1p(-edge)
        return found


def log_incomplete_beta(x: float, a: Floats, b: Floats) -> Floats:
    """ln of the integral of t^(a-1) (1-t)^(b-1) over (0, x), for x in (0, 1) and a, b > 0; of the shape of a and b.

    By the regularised function while it can be told from 0; below that by its continued fraction, which converges fast there.
    """
    from scipy.special import betainc, betaln

    a, b = np.atleast_1d(a).astype(np.float64), np.atleast_1d(b).astype(np.float64)
    with np.errstate(divide="ignore"):
        share = betainc(a, b, x)
        found = betaln(a, b) + np.log(share)
    small = share < _SMALLEST
    if small.any():
        found[small] = a[small] * np.log(x) + b[small] * np.log1p(-x) - np.log(a[small]) + np.log(_fraction(x, a[small], b[small]))
    return found if found.size > 1 else found.reshape(())


def _fraction(x: float, a: Floats, b: Floats) -> Floats:
    """The continued fraction of the incomplete beta function, by Lentz's method (Press et al., Numerical Recipes, 6.4)."""
    tiny = 1e-300
    c, d = np.ones_like(a), 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / np.where(np.abs(d) < tiny, tiny, d)
    value = d.copy()
    for m in range(1, _MOST_TERMS):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d, c = 1.0 + term * d, 1.0 + term / c
            d = 1.0 / np.where(np.abs(d) < tiny, tiny, d)
            c = np.where(np.abs(c) < tiny, tiny, c)
            step = c * d
            value = value * step
        if (np.abs(step - 1.0) < 1e-14).all():
            break
    return value
