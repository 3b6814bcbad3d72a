"""The units of a canary: which arm each was first exposed to, and what was measured of it within its outcome window.

All times are record times in microseconds: when something became known. So a unit's value is a function of the records up to the end of
its window, whatever the looks, and the same in every replay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.support import Floats, Ints
from analysis.online.sums import CHALLENGER, INCUMBENT
from analysis.types import InputError

NEVER = int(np.iinfo(np.int64).max)
Ids = NDArray[np.uint64]
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposures:
    """Which arm served which unit, as production recorded it; arrays of shape (n,), in any order.

    unit: uint64. at: int64 microseconds. arm: int8, 0 incumbent, 1 challenger. period: int32, one number for each time of constant
    allocation. covariates: for each name a number known of the unit before its exposure; 0 for units without a history. segments: for
    each name the code of the unit's value, int32, one of those that the evidence was given words for.
    """

    unit: Ids
    at: Ints
    arm: NDArray[Any]
    period: NDArray[Any]
    covariates: Mapping[str, Floats] = field(default_factory=dict)
    segments: Mapping[str, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _store(self, "exposures", unit=np.uint64, at=np.int64, arm=np.int8, period=np.int32)
        object.__setattr__(self, "covariates", {name: np.asarray(x, np.float64) for name, x in sorted(self.covariates.items())})
        object.__setattr__(self, "segments", {name: np.asarray(x, np.int32) for name, x in sorted(self.segments.items())})
        lengths = {name: len(codes) for name, codes in self.segments.items() if len(codes) != len(self.unit)}
        if lengths:
            raise InputError(f"segments must have one code for each of {len(self.unit)} rows, got {lengths}")
        if not np.isin(self.arm, (INCUMBENT, CHALLENGER)).all():
            raise InputError(f"an arm is 0 (incumbent) or 1 (challenger), got {np.unique(self.arm).tolist()}")
        for name, x in self.covariates.items():
            _check_numbers(f"covariate {name!r}", x, len(self.unit))

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured of units; arrays of shape (n,), in any order.

    measure: index into `OnlineEvidence.measures`. unit: uint64. at: int64 microseconds. value: a number; 1 for each occurrence of what a
    binary or a count speaks of. of: the denominator of a ratio; None where no measure is one. One below
    0 breaks the gates on that ratio once its unit counts.
    """

    measure: NDArray[Any]
    unit: Ids
    at: Ints
    value: Floats
    of: Floats | None = None

    def __post_init__(self) -> None:
        _store(self, "measurements", measure=np.int32, unit=np.uint64, at=np.int64, value=np.float64)
        of = np.zeros(len(self.unit)) if self.of is None else np.asarray(self.of, np.float64)
        object.__setattr__(self, "of", of)
        _check_numbers("value", self.value, len(self.unit))
        _check_numbers("denominator", of, len(self.unit))

    def __len__(self) -> int:
        return len(self.unit)


def no_exposures() -> Exposures:
    """None at all."""
    return Exposures(unit=np.zeros(0, np.uint64), at=np.zeros(0, np.int64), arm=np.zeros(0, np.int8), period=np.zeros(0, np.int32))


def no_measurements() -> Measurements:
    """None at all."""
    return Measurements(measure=np.zeros(0, np.int32), unit=np.zeros(0, np.uint64), at=np.zeros(0, np.int64), value=np.zeros(0))


def _store(of: Exposures | Measurements, what: str, **kinds: type) -> None:
    """Replace the columns by arrays of these kinds, if no number is lost and all are of one length."""
    lengths = {}
    for name, kind in kinds.items():
        found = np.asarray(getattr(of, name))
        if kind is not np.float64 and len(found):
            limits = np.iinfo(kind)
            if found.dtype.kind not in "iub" or int(found.min()) < limits.min or int(found.max()) > limits.max:
                raise InputError(f"{name} of {what} must be whole numbers that fit {np.dtype(kind)}, got {found.dtype}")
        object.__setattr__(of, name, found.astype(kind))
        lengths[name] = found.shape
    if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise InputError(f"columns of {what} must be of one length, got {lengths}")


def _check_numbers(what: str, numbers: Floats, n: int) -> None:
    if numbers.shape != (n,):
        raise InputError(f"{what} must have one number for each of {n} rows, got {numbers.shape}")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise InputError(f"{what} must be finite, got {numbers[bad[0]]} in row {bad[0]}")


@dataclass(slots=True)
class Roster:
    """All units so far, by rising id, with what is kept of each: columns of shape (units,).

    columns: `first` (its first exposure, microseconds), `arm` and `period` (those of the first), `crossed` (its first exposure to the
    other arm, else never), `left` (its first exposure to the other arm in the same period), `x.NAME` (covariates) and `s.NAME` (codes of
    segments, both of the first exposure), and what others add.
    """

    covariates: tuple[str, ...]
    segments: tuple[str, ...] = ()
    extra: Mapping[str, type] = field(default_factory=dict)
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.uint64))
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        kinds = {"first": np.int64, "arm": np.int8, "period": np.int32, "crossed": np.int64, "left": np.int64,
                 **{f"x.{name}": np.float64 for name in self.covariates}, **{f"s.{name}": np.int32 for name in self.segments},
                 **self.extra}
        self.columns = {name: np.zeros(len(self.ids), kind) for name, kind in kinds.items()}

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, units: Ids) -> Ints:
        """The place of each unit, -1 for one that was never exposed; shape (n,)."""
        if not len(self.ids):
            return np.full(len(units), -1, np.int64)
        at = np.minimum(np.searchsorted(self.ids, units), len(self.ids) - 1)
        return np.where(self.ids[at] == units, at, -1)

    def add(self, exposures: Exposures) -> Ints:
        """Take exposures that are later than all before; the places of the new units. Their order does not matter.

        Raises:
            InputError: a covariate that a metric needs is missing.
        """
        missing = [name for name in self.covariates if len(exposures) and name not in exposures.covariates]
        if missing:
            raise InputError(f"exposures need the covariate {missing[0]!r}; they have {', '.join(exposures.covariates) or 'none'}")
        told = {**{f"x.{name}": exposures.covariates.get(name) for name in self.covariates},
                **{f"s.{name}": exposures.segments.get(name) for name in self.segments}}
        extra = [np.zeros(0) if x is None else x for x in told.values()]
        order = np.lexsort([*extra, exposures.period, exposures.arm, exposures.at, exposures.unit])
        unit, at = exposures.unit[order], exposures.at[order]
        arm, period = exposures.arm[order], exposures.period[order]
        distinct, first = np.unique(unit, return_index=True)
        fresh = np.flatnonzero(self.places(distinct) < 0)
        where, rows = np.searchsorted(self.ids, distinct[fresh]), first[fresh]
        new = {"first": at[rows], "arm": arm[rows], "period": period[rows],
               **{name: x[order][rows] for name, x in zip(told, extra, strict=True)}}
        self.ids = np.insert(self.ids, where, distinct[fresh])
        for name, column in self.columns.items():
            self.columns[name] = np.insert(column, where, new.get(name, NEVER if name in ("crossed", "left") else 0))
        place = self.places(unit)
        other = arm != self.columns["arm"][place]
        same = other & (period == self.columns["period"][place])
        np.minimum.at(self.columns["crossed"], place[other], at[other])
        np.minimum.at(self.columns["left"], place[same], at[same])
        return self.places(distinct[fresh])
