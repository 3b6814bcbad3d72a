"""Evidence about the difference of two arms at an open horizon: a one-sided mixture of normal likelihood ratios over lifts.

Needs an estimate, its standard error and nothing else, so it is free of order and costs the same at any n. Asymptotic: from a thousand
units of each arm on. Use pairs (`analysis.online.pairs`) while events are rare.

    log E against theta <= m  =  logsumexp_j( ln w_j + [d_j (estimate - m) - d_j^2 / 2] / se^2 ),   d_j > 0

Source: STATISTICS 6.5; Robbins (1970), Ann. Math. Statist. 41(5); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Ann. Statist.
52(6).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, nextafter
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.sequential.mixture import N_BISECTIONS, Floats, log_sum_exp
from analysis.types import InputError, Interval, Word

N_SHIFTS, N_UNDESIGNED = 40, 60
_LARGEST = 1e150
_MOST_DOUBLINGS = 1_100


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
class Lift:
    """One e-process about a difference. `proves` "above" rejects "it is at most `limit`"; "below" rejects "it is at least `limit`"."""

    proves: Literal["above", "below"]
    limit: float
    shifts: Shifts

    def log_e(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, limit: float | None = None) -> Floats:
        """Log e-value of each look, shape (...,).

        Args:
            estimate: Of the difference, shape (...,).
            se: Its standard error, > 0, of the same shape.
            n: Units of both arms, of the same shape.
            limit: The difference to test instead of the process's own; the lifts and weights stay.
        """
        m = self.limit if limit is None else limit
        error = np.asarray(se, np.float64)[..., None]
        over = np.asarray(estimate, np.float64)[..., None] - m
        away = over if self.proves == "above" else -over
        with np.errstate(over="ignore"):
            z = np.clip(away / error, -_LARGEST, _LARGEST)
            d = self.shifts.sizes * np.sqrt(np.asarray(n, np.float64))[..., None] if self.shifts.relative else self.shifts.sizes / error
        d = np.minimum(d, _LARGEST)
        return log_sum_exp(self.shifts.log_weights + d * (z - 0.5 * d))

    def bound(self, estimate: float, se: float, n: float, *, level: float) -> float:
        """The end of the confidence sequence on the side that is proved: lower for "above", upper for "below".

        Bisection from the limit, in steps of the distance that is left, so that no unit of measurement is too small; the rejected side is
        returned. So it lies strictly inside the limit if and only if the e-value at the limit reaches 1/level.

        Raises:
            InputError: level does not lie in (0, 1), the standard error is not positive, or a number is not finite.
        """
        if not 0.0 < level < 1.0:
            raise InputError(f"level must lie in (0, 1), got {level}")
        if not (np.isfinite(estimate) and 0.0 < se < np.inf and n > 0):
            raise InputError(f"an interval needs a finite estimate and a positive standard error, got {estimate} and {se} from {n} units")
        enough = -log(level)
        proved = bool(self.log_e(estimate, se, n) >= enough)
        accepted, rejected = (estimate, self.limit) if proved else self._outside(estimate, se, n, enough)
        for _ in range(N_BISECTIONS):
            middle = 0.5 * (accepted + rejected)
            if middle in (accepted, rejected):
                break
            if self.log_e(estimate, se, n, limit=middle) >= enough:
                rejected = middle
            else:
                accepted = middle
        return nextafter(self.limit, estimate) if proved and rejected == self.limit else rejected

    def _outside(self, estimate: float, se: float, n: float, enough: float) -> tuple[float, float]:
        """(accepted, rejected) around the end of the interval, where the limit itself is not rejected."""
        side = -1.0 if self.proves == "above" else 1.0
        accepted, step = (min if side < 0 else max)(estimate, self.limit), se
        for _ in range(_MOST_DOUBLINGS):
            tried = accepted + side * step
            if self.log_e(estimate, se, n, limit=tried) >= enough:
                return accepted, tried
            accepted, step = tried, 2.0 * step
        return accepted, side * np.inf


@dataclass(frozen=True, slots=True)
class LiftDesign:
    """The processes that pass a gate (all must) and those that fail it (their mean counts)."""

    pass_: tuple[Lift, ...]
    fail: tuple[Lift, ...]

    def log_e_pass(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike) -> Floats:
        """The smallest log e-value of the pass processes, shape (...,)."""
        return np.min([p.log_e(estimate, se, n) for p in self.pass_], axis=0)  # type: ignore[no-any-return]

    def log_e_fail(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike) -> Floats:
        """The log of the mean e-value of the fail processes, shape (...,)."""
        found = np.stack([p.log_e(estimate, se, n) for p in self.fail], axis=-1)
        return log_sum_exp(found) - log(len(self.fail))

    def interval(self, estimate: float, se: float, n: float, *, alpha: float, fail_level: float) -> Interval:
        """The ends that agree with the status: the side of the limit at alpha from the pass, the other at the level of the fail."""
        if len(self.pass_) == 2:
            under, over = self.pass_
            return Interval(low=over.bound(estimate, se, n, level=alpha), high=under.bound(estimate, se, n, level=alpha))
        return Interval(low=self.pass_[0].bound(estimate, se, n, level=alpha), high=self.fail[0].bound(estimate, se, n, level=fail_level))


def design_lifts(word: Word, limit: float, expect: float | None = None) -> LiftDesign:
    """The processes of a gate on a difference (positive = challenger better); distances from the limit are as designed or expected.

    Raises:
        InputError: a word that compares no arms, a limit out of its range, or `expect` on the wrong side of the limit.
    """
    if not np.isfinite(limit) or limit < 0.0 or (limit == 0.0 and word != "better_by_more_than"):
        raise InputError(f"{word} got {limit}, which is no limit")
    match word:
        case "worse_by_at_most":
            ahead = _ahead((0.0 if expect is None else expect) + limit, limit, expect)
            return LiftDesign((Lift("above", -limit, ahead),), (Lift("below", -limit, designed_shifts(limit)),))
        case "better_by_more_than":
            shifts = undesigned_shifts() if expect is None else _ahead(expect - limit, limit, expect)
            return LiftDesign((Lift("above", limit, shifts),), (Lift("below", limit, shifts),))
        case "within":
            middle, away = 0.0 if expect is None else expect, designed_shifts(limit)
            below, above = _ahead(limit - middle, limit, expect), _ahead(limit + middle, limit, expect)
            passes = Lift("below", limit, below), Lift("above", -limit, above)
            return LiftDesign(passes, (Lift("above", limit, away), Lift("below", -limit, away)))
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
    if not 0.0 < alpha < 1.0 or not 0.0 < decide_at < np.inf:
        raise InputError(f"alpha must lie in (0, 1) and decide_at be positive, got {alpha} and {decide_at}")
    size, error = np.asarray(n, np.float64), np.asarray(se, np.float64)
    r = size * (-2.0 * log(alpha) + log(1.0 - 2.0 * log(alpha))) / decide_at
    inside = np.log(np.sqrt(r + 1.0) / alpha) if two_sided else np.log1p(np.sqrt(r + 1.0) / (2.0 * alpha))
    return error * np.sqrt(size) * np.sqrt(2.0 * (r + 1.0) / (size * r) * inside)
