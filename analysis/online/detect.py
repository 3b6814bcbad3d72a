"""Change detection on two arms: for a challenger that begins to do harm midway, while the difference so far still looks fine.

Where values have a bound, each pair of units (`analysis.online.pairs`) is a contribution of an exact e-detector. Elsewhere one batch of
units after the other is compared, each as soon as it is large enough for a normal, and is one contribution.

    M_t = L_t (M_{t-1} + 1),   M = sum of w_j M_j over the bets, or lifts, of the fail

While the challenger is within its limit in every pair, or batch, P(M ever reaches A within N of them) <= N / A; for batches as far as the
normal is one. The halves of a pair are of about the same time: arms are split at random, so one is ahead of the other by about the root of
the units, and a trend that both share must not amount to the limit within so many.

Source: Shin, Ramdas & Rinaldo (2024), e-detectors; STATISTICS 6.7 and 6.10.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.support import Floats, Ints
from analysis.online.lifts import Lift
from analysis.online.sums import N_FIRST, Sums, difference
from analysis.sequential.detector import Detectors
from analysis.sequential.mixture import Process

Rows = tuple[Floats, Floats, Floats, Ints, Ints]
"""Value, denominator, covariate, arm and period of units in prefix order, shape (n,) each."""
_PERIOD = 4
PART = 256
"""Units after which it is asked whether a batch is whole."""
_LARGEST = 1e300


@dataclass(slots=True)
class PairWatch:
    """The exact detector of one gate and what it is split by. sign: 1 where more is better, -1 where less is."""

    n_first: ClassVar[int] = 1
    processes: tuple[Process, ...]
    n_slots: int
    sign: float
    within: Detectors = field(init=False)

    def __post_init__(self) -> None:
        self.within = Detectors(self.processes, repeats=False)
        self.within.grow(self.n_slots)

    def take(self, slot: int, rows: Rows, pairs: Floats, enough: float) -> bool:
        """Whether it raises its alarm, at K N / alpha, with these pairs (challenger minus incumbent) in their order."""
        levels = np.full(self.n_slots, enough)
        found = self.within.add(np.full(len(pairs), slot), np.stack([self.sign * pairs, np.ones(len(pairs))], axis=-1), levels)
        return slot in found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state, by name."""
        return dict(self.within.arrays())

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take a state that `arrays` gave."""
        self.within.load(arrays)


@dataclass(slots=True)
class BatchWatch:
    """The detector of one gate on values without a bound, by slot.

    processes: those of the fail, of equal weight. of: whether values have a denominator. n_first: units of each arm in a batch, at
    least. levels: M of each lift, shape (slots, lifts). open: the sums of the batches that are not whole yet. waiting: units after them,
    shape (n, 5), as `Rows`. n: batches taken. stopped: whether it raised its alarm.
    """

    processes: tuple[Lift, ...]
    n_slots: int
    better: Literal["lower", "higher"]
    binary: bool
    adjusted: bool
    of: bool
    n_first: int = N_FIRST
    levels: Floats = field(init=False)
    open: list[Sums] = field(init=False)
    waiting: list[Floats] = field(init=False)
    n: Ints = field(init=False)
    stopped: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.levels = np.zeros((self.n_slots, sum(len(p.shifts.sizes) for p in self.processes)))
        self.open, self.waiting = [Sums()] * self.n_slots, [np.zeros((0, 5))] * self.n_slots
        self.n, self.stopped = np.zeros(self.n_slots, np.int64), np.zeros(self.n_slots, np.int64)

    def take(self, slot: int, rows: Rows, pairs: Floats, enough: float) -> bool:
        """Whether it raises its alarm with these units: at K N / (alpha n_first), as N >= n_first pairs are so many batches at most."""
        if self.stopped[slot]:
            return False
        left = np.concatenate([self.waiting[slot], np.stack([np.asarray(row, np.float64) for row in rows], axis=-1)])
        shares = np.concatenate([np.exp(p.shifts.log_weights) for p in self.processes]) / len(self.processes)
        parts, taken = self._parts(left), np.zeros(len(left), bool)
        for part in parts:
            taken[part] = True
            factors = self._add(slot, left[part])
            if factors is not None:
                self.levels[slot] = np.minimum(factors * (self.levels[slot] + 1.0), _LARGEST)
                self.n[slot] += 1
                self.stopped[slot] = int(float(self.levels[slot] @ shares) >= enough / self.n_first)
            if self.stopped[slot]:
                taken[:] = True
                break
        self.waiting[slot] = left[~taken]
        return bool(self.stopped[slot])

    @staticmethod
    def _parts(rows: Floats) -> list[Ints]:
        """Places of each whole part of a period, so many units of it, in the order of their last units: no cut of a fold moves them."""
        found = []
        for period in np.unique(rows[:, _PERIOD]):
            mine = np.flatnonzero(rows[:, _PERIOD] == period)
            found += list(mine[: len(mine) // PART * PART].reshape(-1, PART))
        return sorted(found, key=lambda part: int(part[-1]))

    def _add(self, slot: int, rows: Floats) -> Floats | None:
        """The factor of each lift, once these units make the batch of their period whole."""
        value, of, before, arm, periods = rows.T
        period = int(periods[0])
        new = Sums.of(value, arm.astype(np.int8), period=periods.astype(np.int64), of=of if self.of else None, before=before)
        self.open[slot] = self.open[slot] + new
        batch = Sums({key: part for key, part in self.open[slot].parts.items() if key[0] == period})
        seen = difference(batch, self.better, binary=self.binary, adjusted=self.adjusted, n_first=self.n_first)
        if not seen.ready or seen.estimate is None or seen.se is None:
            return None
        self.open[slot] = Sums({key: part for key, part in self.open[slot].parts.items() if key[0] != period})
        factors = np.concatenate([p.log_factors(seen.estimate, seen.se, seen.n) for p in self.processes])
        with np.errstate(over="ignore"):
            found: Floats = np.exp(factors)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The state, by name."""
        found: dict[str, NDArray[Any]] = {"levels": self.levels, "n": self.n, "stopped": self.stopped}
        for slot, (sums, rows) in enumerate(zip(self.open, self.waiting, strict=True)):
            found |= {f"{slot}.waiting": rows, **{f"{slot}.{name}": array for name, array in sums.arrays().items()}}
        return found

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take a state that `arrays` gave."""
        self.levels, self.n, self.stopped = np.asarray(arrays["levels"], np.float64), arrays["n"], arrays["stopped"]
        self.waiting = [np.asarray(arrays[f"{slot}.waiting"], np.float64) for slot in range(self.n_slots)]
        self.open = [Sums.from_arrays({name: arrays[f"{slot}.{name}"] for name in Sums().arrays()}) for slot in range(self.n_slots)]
