"""Evidence about a mean from its estimate and standard error alone: e-processes of normal likelihood ratios, and their intervals.

`Wide` is the asymptotic confidence sequence, tuned for a number of units; `analysis.online.lifts.Lift` has its weight around an expected
difference. Both hold where the estimate is as good as normal: never while events are rare.

Source: STATISTICS 6.5; Robbins (1970), Ann. Math. Statist. 41(5); Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), Ann. Statist.
52(6).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import log, nextafter
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from analysis.sequential.mixture import N_BISECTIONS, Floats, log_sum_exp
from analysis.types import InputError, Interval, Word

LARGEST = 1e150
_TUNED_AT = 0.05
_MOST_DOUBLINGS = 1_100


@dataclass(frozen=True, slots=True)
class OneSided(ABC):
    """One e-process about a mean. `proves` "above" rejects "it is at most `limit`"; "below" rejects "it is at least `limit`"."""

    proves: Literal["above", "below"]
    limit: float

    @abstractmethod
    def log_e(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, limit: float | None = None) -> Floats:
        """Log e-value of each look, shape (...,).

        Args:
            estimate: Of the mean or difference, shape (...,).
            se: Its standard error, > 0, of the same shape.
            n: Units in it, of the same shape.
            limit: The value to test instead of the process's own; everything else stays.
        """

    @abstractmethod
    def facts(self) -> str:
        """What is fixed before the data, in words, to nine digits."""

    def _z(self, estimate: ArrayLike, se: ArrayLike, limit: float | None) -> Floats:
        """Standard errors by which the estimate lies on the side that is proved, shape (...,)."""
        over = np.asarray(estimate, np.float64) - (self.limit if limit is None else limit)
        with np.errstate(over="ignore"):
            return np.clip((over if self.proves == "above" else -over) / np.asarray(se, np.float64), -LARGEST, LARGEST)

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
class Wide(OneSided):
    """The asymptotic confidence sequence on one side: a mixture over half a normal of lifts, of `density` (rho^2) a unit.

        log E = ln 2 - ln(r + 1)/2 + x^2/2 + ln Phi(x),   x = z sqrt(r/(r + 1)),   r = n rho^2

    Its end lies inside that of the closed form of `asymptotic_half_width`, which replaces Phi by a bound.

    Source: Robbins (1970), Ann. Math. Statist. 41(5); Waudby-Smith et al. (2024), Ann. Statist. 52(6); STATISTICS 6.5.
    """

    density: float

    def log_e(self, estimate: ArrayLike, se: ArrayLike, n: ArrayLike, *, limit: float | None = None) -> Floats:
        """Log e-value of each look, shape (...,)."""
        from scipy.special import erfcx, log_ndtr

        r = np.asarray(n, np.float64) * self.density
        x = self._z(estimate, se, limit) * np.sqrt(r / (r + 1.0))
        ahead = 0.5 * np.maximum(x, 0.0) ** 2 + log_ndtr(np.maximum(x, 0.0))
        behind = np.log(0.5 * erfcx(-np.minimum(x, 0.0) / np.sqrt(2.0)))  # the same without a difference of two large numbers
        found: Floats = log(2.0) - 0.5 * np.log1p(r) + np.where(x > 0.0, ahead, behind)
        return found

    def facts(self) -> str:
        """Its density."""
        return f"{self.proves} {self.limit:.9g} wide {self.density:.9g}"


@dataclass(frozen=True, slots=True)
class NormalDesign:
    """The processes that pass a gate (all must) and those that fail it (their mean counts)."""

    pass_: tuple[OneSided, ...]
    fail: tuple[OneSided, ...]

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
        ends = [self.pass_[0].bound(estimate, se, n, level=alpha), self.fail[0].bound(estimate, se, n, level=fail_level)]
        low, high = ends if self.pass_[0].proves == "above" else ends[::-1]
        return Interval(low=low, high=high)


def design_wide(word: Word, limit: float, decide_at: float) -> NormalDesign:
    """The processes of a gate that is read by asymptotic confidence sequences, narrowest (at level 0.05) near `decide_at` units.

    Raises:
        InputError: a limit out of its range, or `decide_at` is not positive.
    """
    density = density_of(2.0 * _TUNED_AT, decide_at)
    below = word == "below" or word == "within"
    if not np.isfinite(limit) or (word not in ("below", "above") and (limit < 0.0 or (limit == 0.0 and word != "better_by_more_than"))):
        raise InputError(f"{word} got {limit}, which is no limit")
    edge = -limit if word == "worse_by_at_most" else limit
    one, other = Wide("below", edge, density), Wide("above", edge, density)
    if word == "within":
        return NormalDesign((one, Wide("above", -limit, density)), (other, Wide("below", -limit, density)))
    return NormalDesign((one,), (other,)) if below else NormalDesign((other,), (one,))


def density_of(alpha: float, decide_at: float) -> float:
    """rho^2 of the two-sided sequence that is narrowest near `decide_at` units; a one-sided one takes twice its level as `alpha`.

    Raises:
        InputError: alpha or decide_at is out of range.
    """
    if not 0.0 < alpha < 1.0 or not 0.0 < decide_at < np.inf:
        raise InputError(f"alpha must lie in (0, 1) and decide_at be positive, got {alpha} and {decide_at}")
    return (-2.0 * log(alpha) + log(1.0 - 2.0 * log(alpha))) / decide_at
