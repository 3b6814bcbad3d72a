"""Evidence about the difference of two arms at an open horizon: a one-sided mixture of normal likelihood ratios over lifts.

Needs an estimate, its standard error and nothing else, so it is free of order and costs the same at any n. Asymptotic: from a thousand
units of each arm on. Use pairs (`analysis.online.pairs`) while events are rare.

    log E against theta <= m  =  logsumexp_j( ln w_j + [d_j (estimate - m) - d_j^2 / 2] / se^2 ),   d_j > 0

Source: STATISTICS 6.5; Robbins (1970), Ann. Math. Statist. 41(5); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Ann. Statist.
52(6).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike

from analysis.sequential.mixture import Floats, log_sum_exp
from analysis.sequential.normal import LARGEST, NormalDesign, OneSided, density_of
from analysis.types import InputError, Word

N_SHIFTS, N_UNDESIGNED = 40, 60


@dataclass(frozen=True, slots=True)
class Shifts:
    """Lifts d_j with the logs of their weights, fixed before the data.

    sizes: d_j > 0, shape (j,). relative: whether they are multiples of the standard deviation of a unit, se * sqrt(n).
    """

    sizes: Floats
    log_weights: Floats
    relative: bool


def designed_shifts(best: float) -> Shifts:
    """Around the distance from the limit that is expected: 40 from an eighth to eight times it, 95 % near it and 5 % evenly.

    Raises:
        InputError: best is not positive or not finite.
    """
    if not 0.0 < best < np.inf:
        raise InputError(f"the expected distance from the limit must be positive and finite, got {best}")
    steps = np.geomspace(1.0 / 8.0, 8.0, N_SHIFTS)
    bell = np.exp(-0.5 * (np.log(steps) / 0.5) ** 2)
    return Shifts(best * steps, np.log(0.95 * bell / bell.sum() + 0.05 / N_SHIFTS), relative=False)


def undesigned_shifts() -> Shifts:
    """Equal weights on 60 log-spaced lifts from a ten-thousandth to half of a unit's standard deviation: where nothing is expected."""
    return Shifts(np.geomspace(1e-4, 0.5, N_UNDESIGNED), np.full(N_UNDESIGNED, -log(N_UNDESIGNED)), relative=True)


@dataclass(frozen=True, slots=True)
class Lift(OneSided):
    """The mixture over lifts."""

    shifts: Shifts

    def log_e(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, limit: float | None = None) -> Floats:
        """Log e-value of each look, shape (...,)."""
        return log_sum_exp(self.shifts.log_weights + self.log_factors(estimate, se, n, limit=limit))

    def log_factors(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, limit: float | None = None) -> Floats:
        """Log of the likelihood ratio of each lift, shape (..., j)."""
        z, error = self._z(estimate, se, limit)[..., None], np.asarray(se, np.float64)[..., None]
        d = self.shifts.sizes * np.sqrt(np.asarray(n, np.float64))[..., None] if self.shifts.relative else self.shifts.sizes / error
        d = np.minimum(d, LARGEST)
        return np.asarray(d * (z - 0.5 * d), np.float64)

    def facts(self) -> str:
        """Its lifts and their weights."""
        numbers = " ".join(f"{x:.9g}" for x in (*self.shifts.sizes, *self.shifts.log_weights))
        return f"{self.proves} {self.limit:.9g} {self.shifts.relative} {numbers}"


def design_lifts(word: Word, limit: float, expect: float | None = None) -> NormalDesign:
    """The processes of a gate on a difference (positive = challenger better); distances from the limit are as designed or expected.

    Raises:
        InputError: a word that compares no arms, a limit out of its range, or `expect` on the wrong side of the limit.
    """
    if not np.isfinite(limit) or limit < 0.0 or (limit == 0.0 and word != "better_by_more_than"):
        raise InputError(f"{word} got {limit}, which is no limit")
    match word:
        case "worse_by_at_most":
            ahead = _ahead((0.0 if expect is None else expect) + limit, limit, expect)
            return NormalDesign((Lift("above", -limit, ahead),), (Lift("below", -limit, designed_shifts(limit)),))
        case "better_by_more_than":
            shifts = undesigned_shifts() if expect is None else _ahead(expect - limit, limit, expect)
            return NormalDesign((Lift("above", limit, shifts),), (Lift("below", limit, shifts),))
        case "within":
            middle, away = 0.0 if expect is None else expect, designed_shifts(limit)
            below, above = _ahead(limit - middle, limit, expect), _ahead(limit + middle, limit, expect)
            passes = Lift("below", limit, below), Lift("above", -limit, above)
            return NormalDesign(passes, (Lift("above", limit, away), Lift("below", -limit, away)))
        case _:
            raise InputError(f"two arms take worse_by_at_most, better_by_more_than or within, got {word}")


def _ahead(distance: float, limit: float, expect: float | None) -> Shifts:
    if not distance > 0.0:
        raise InputError(f"expect must lie on the passing side of the limit {limit}, got {expect}")
    return designed_shifts(distance)


# ---------------------------------------------------------------------------------------------------------- for reports, without a gate
def two_sided_log_e(estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, value: float = 0.0) -> Floats:
    """Log e-value against "the difference is `value`": half a mixture on each sign, nothing expected; shape (...,)."""
    shifts = undesigned_shifts()
    sides = [Lift(proves, value, shifts).log_e(estimate, se, n) for proves in ("above", "below")]
    return np.logaddexp(*sides) - log(2.0)


def asymptotic_half_width(se: ArrayLike, n: ArrayLike, *, alpha: float, decide_at: float, two_sided: bool = True) -> Floats:
    """Half the width of the asymptotic confidence sequence of a difference, shape (...,): it covers at every look at once.

    Tightest near `decide_at` units; far from it wider than the mixture. For a report without a limit.

    Args:
        se: Standard error of the difference, shape (...,).
        n: Units of both arms, of the same shape, >= 1.
        alpha: Chance that the difference ever leaves the sequence, in (0, 1).
        decide_at: Units of both arms, > 0.
        two_sided: Whether both ends are meant, or only one.

    Raises:
        InputError: alpha or decide_at is out of range.

    Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Ann. Statist. 52(6); STATISTICS 6.5, rho by its approximate formula.
    """
    size, error = np.asarray(n, np.float64), np.asarray(se, np.float64)
    r = size * density_of(alpha, decide_at)
    inside = np.log(np.sqrt(r + 1.0) / alpha) if two_sided else np.log1p(np.sqrt(r + 1.0) / (2.0 * alpha))
    return error * np.sqrt(size) * np.sqrt(2.0 * (r + 1.0) / (size * r) * inside)
