"""Sums of one arm's units, and the difference of two arms made of them.

A unit is three numbers: its value, a denominator (1 unless the metric is a ratio), and a covariate known before its exposure (0 without
one). Sums of shards, days and looks add up. Periods of constant allocation are kept apart: pooling 1 % and 10 % would compare the early
units of one arm with the late ones of the other.

Source: Chan, Golub & LeVeque (1983), The American Statistician 37(3) (merging); Deng, Xu, Kohavi & Walker (2013), WSDM (CUPED); STATISTICS
6.5 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf, sqrt
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.sequential.mixture import Floats
from analysis.types import Column, InputError

INCUMBENT, CHALLENGER = 0, 1
N_FIRST = 1_000
"""Units that each arm of a period needs before it is decided on: the difference is then as good as normal."""
N_RARE = 100
"""Units of each arm of a period whose value is not 0 (of a binary one also: whose value is not 1)."""
SURE_DENOMINATOR = 10.0
"""Standard errors by which the mean denominator of a ratio must exceed 0: the terms that the delta method leaves out are then below 1 %."""
VALUE, OF, BEFORE = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Moments:
    """n units, and how many of them have a value other than 0.

    shift: near the mean, shape (3,); offset: the mean minus it: at a mean of 1e9 the digits of a spread of 1 are kept. products: the sum of
    products of deviations from the mean, shape (3, 3).
    """

    n: int = 0
    n_nonzero: int = 0
    shift: Floats = field(default_factory=lambda: np.zeros(3))
    offset: Floats = field(default_factory=lambda: np.zeros(3))
    products: Floats = field(default_factory=lambda: np.zeros((3, 3)))

    @classmethod
    def of(cls, values: Floats, of: Floats | None = None, before: Floats | None = None) -> Moments:
        """Of single units.

        Args:
            values: The value of each unit, shape (n,).
            of: The denominator of each, shape (n,); None for 1.
            before: The covariate of each, shape (n,); None for 0.

        Raises:
            InputError: a number is NaN or infinite, or the arrays differ in length.
        """
        values = np.asarray(values, np.float64)
        columns = [values, np.ones(len(values)) if of is None else of, np.zeros(len(values)) if before is None else before]
        if len({len(column) for column in columns}) > 1:
            raise InputError(f"values, denominators and covariates must be of one length, got {[len(column) for column in columns]}")
        rows = np.stack([np.asarray(column, np.float64) for column in columns], axis=-1)
        if not len(rows):
            return cls()
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise InputError(f"numbers of a unit must be finite, got {rows[bad[0]].tolist()} in row {bad[0]}")
        shift = rows[0]
        offset = (rows - shift).mean(axis=0)
        apart = (rows - shift) - offset
        return cls(len(rows), int(np.count_nonzero(values)), shift, offset, apart.T @ apart)

    @classmethod
    def told(cls, n: int, mean: float, variance: float) -> Moments:
        """Of what a table tells of an arm: n, mean and variance (divisor n - 1). All values count as other than 0.

        Raises:
            InputError: n is negative, the variance is negative, or a number is not finite.
        """
        if n < 0 or not variance >= 0.0 or not np.isfinite([mean, variance]).all():
            raise InputError(f"an arm needs n >= 0, a finite mean and a variance >= 0, got {n}, {mean} and {variance}")
        products = np.zeros((3, 3))
        products[VALUE, VALUE] = variance * max(n - 1, 0)
        return cls(n, n, np.array([mean, 1.0, 0.0]), np.zeros(3), products) if n else cls()

    def __add__(self, other: Moments) -> Moments:
        """Chan's formula: exact but for rounding, in any order and grouping."""
        if not self.n or not other.n:
            return other if not self.n else self
        n, step = self.n + other.n, other.minus(self)
        products = self.products + other.products + np.outer(step, step) * (self.n * (other.n / n))
        return Moments(n, self.n_nonzero + other.n_nonzero, self.shift, self.offset + step * (other.n / n), products)

    @property
    def mean(self) -> Floats:
        """Of value, denominator and covariate, shape (3,)."""
        return self.shift + self.offset

    def minus(self, other: Moments) -> Floats:
        """The difference of the means, shape (3,), with the digits that the means themselves have no room for."""
        return (self.shift - other.shift) + (self.offset - other.offset)

    @property
    def covariance(self) -> Floats:
        """Of single units, shape (3, 3).

        Raises:
            InputError: fewer than two units have none.
        """
        if self.n < 2:
            raise InputError(f"a variance needs two units, got {self.n}")
        return self.products / (self.n - 1)


Key = tuple[int, int]
"""Allocation period and arm."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of each allocation period and arm: (period, arm) -> Moments."""

    parts: Mapping[Key, Moments] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Floats, arm: Column, *, period: Column | None = None, of: Floats | None = None,
           before: Floats | None = None) -> Sums:
        """Of a table of units, one row each, all arrays of shape (n,).

        Args:
            values: The value of each unit.
            arm: 0 incumbent, 1 challenger.
            period: Its allocation period, whole numbers; None for one period.
            of, before: As for `Moments.of`.

        Raises:
            InputError: an arm is neither 0 nor 1, a number is not finite, or the arrays differ in length.
        """
        arms, periods = np.asarray(arm), np.zeros(len(arm), np.int64) if period is None else np.asarray(period)
        if not np.isin(arms, (INCUMBENT, CHALLENGER)).all():
            raise InputError(f"an arm is 0 (incumbent) or 1 (challenger), got {np.unique(arms)}")
        if not len(values) == len(arms) == len(periods):
            raise InputError(f"values, arms and periods must be of one length, got {len(values)}, {len(arms)} and {len(periods)}")
        found = {}
        for p in np.unique(periods).tolist():
            for a in (INCUMBENT, CHALLENGER):
                mine = np.flatnonzero((periods == p) & (arms == a))
                if len(mine):
                    parts = [None if column is None else np.asarray(column)[mine] for column in (of, before)]
                    found[int(p), a] = Moments.of(np.asarray(values)[mine], *parts)
        return cls(found)

    def __add__(self, other: Sums) -> Sums:
        """Merged, period by period and arm by arm."""
        return Sums({key: self.parts.get(key, Moments()) + other.parts.get(key, Moments())
                     for key in sorted({*self.parts, *other.parts})})

    @property
    def periods(self) -> tuple[int, ...]:
        """Those with units, rising."""
        return tuple(sorted({period for period, _ in self.parts}))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays by name, one row a period and arm."""
        parts = sorted(self.parts.items())
        return {"keys": np.array([[*key, part.n, part.n_nonzero] for key, part in parts], np.int64).reshape(-1, 4),
                "shift": np.array([part.shift for _, part in parts]).reshape(-1, 3),
                "offset": np.array([part.offset for _, part in parts]).reshape(-1, 3),
                "products": np.array([part.products for _, part in parts]).reshape(-1, 3, 3)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Sums:
        """The sums that `arrays` gave."""
        rows = zip(arrays["keys"].tolist(), arrays["shift"], arrays["offset"], arrays["products"], strict=True)
        return cls({(period, arm): Moments(n, nonzero, *rest) for (period, arm, n, nonzero), *rest in rows})

    def arms(self, period: int) -> tuple[Moments, Moments]:
        """(incumbent, challenger) of a period."""
        return self.parts.get((period, INCUMBENT), Moments()), self.parts.get((period, CHALLENGER), Moments())


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The challenger beside the incumbent; positive = challenger better.

    estimate, se: combined over periods by inverse variance; None where there is none. n: units of both arms in it. ready: whether they
    are enough for a normal approximation; until then only exact methods decide.
    """

    estimate: float | None
    se: float | None
    n: int
    ready: bool


def difference(
    sums: Sums, better: Literal["lower", "higher"], *, binary: bool = False, adjusted: bool = False, n_first: int = N_FIRST
) -> Difference:
    """The difference of the arms within each period, combined by inverse variance.

    A mean is a ratio with denominator 1; a ratio is linearised (delta method). A period enters when both arms have `n_first` units, of
    which `N_RARE` are not 0; while none has, all periods with a variance tell the estimate, and it is not `ready`.

    Args:
        sums: By period and arm.
        better: Which values are better.
        binary: Whether values are 0 and 1: then `N_RARE` counts the rarer of the two.
        adjusted: Whether the part that the covariate explains is taken out (CUPED), with one slope for both arms of a period.
        n_first: Units that each arm of a period needs before it is decided on.
    """
    sign = 1.0 if better == "higher" else -1.0
    ready: list[tuple[float, float]] = []
    other: list[tuple[float, float]] = []
    n_ready = n_other = 0
    for period in sums.periods:
        arms = sums.arms(period)
        found = _contrast(*arms, adjusted=adjusted)
        if found is None or not found[1] > 0.0:
            continue
        n = arms[INCUMBENT].n + arms[CHALLENGER].n
        if all(_enough(arm, n_first, binary=binary) for arm in arms):
            ready, n_ready = [*ready, found], n_ready + n
        else:
            other, n_other = [*other, found], n_other + n
    chosen = ready or other
    if not chosen:
        return Difference(estimate=None, se=None, n=0, ready=False)
    estimate, se = _combined(chosen)
    return Difference(estimate=sign * estimate, se=se, n=n_ready if ready else n_other, ready=bool(ready))


def _enough(arm: Moments, n_first: int, *, binary: bool) -> bool:
    rare = min(arm.n_nonzero, arm.n - arm.n_nonzero) if binary else arm.n_nonzero
    return arm.n >= n_first and rare >= N_RARE and _surely_positive(arm)


def _surely_positive(arm: Moments) -> bool:
    return float(arm.mean[OF]) > SURE_DENOMINATOR * sqrt(float(arm.covariance[OF, OF]) / arm.n)


def _contrast(incumbent: Moments, challenger: Moments, *, adjusted: bool) -> tuple[float, float] | None:
    """(challenger - incumbent, its standard error) in one period; None without two units in each arm or with a denominator of 0."""
    arms = (incumbent, challenger)
    if min(arm.n for arm in arms) < 2 or min(float(arm.mean[OF]) for arm in arms) <= 0.0:
        return None
    spreads = []
    for arm in arms:
        ratio, of = float(arm.mean[VALUE] / arm.mean[OF]), float(arm.mean[OF])
        linear = np.array([[1.0 / of, -ratio / of, 0.0], [0.0, 0.0, 1.0]])  # a unit's part in the ratio, and its covariate
        spreads.append(linear @ arm.covariance @ linear.T / arm.n)
    total = spreads[0] + spreads[1]
    slope = float(total[0, 1] / total[1, 1]) if adjusted and total[1, 1] > 0.0 else 0.0
    step = challenger.minus(incumbent)
    lift = (step[VALUE] - step[OF] * incumbent.mean[VALUE] / incumbent.mean[OF]) / challenger.mean[OF]
    variance = float(total[0, 0] - 2.0 * slope * total[0, 1] + slope**2 * total[1, 1])
    return float(lift - slope * step[BEFORE]), sqrt(max(variance, 0.0))


def _combined(parts: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """(estimate, standard error) by inverse variance; scaled by the smallest error, so that no unit of measurement under- or overflows."""
    found = list(parts)
    least = min((se for _, se in found), default=inf)
    weights = [(least / se) ** 2 for _, se in found]
    total = sum(weights)
    return sum(w * estimate for w, (estimate, _) in zip(weights, found, strict=True)) / total, least / sqrt(total)
