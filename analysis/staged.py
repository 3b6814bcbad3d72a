"""Group sequential gates: decided at planned looks only, by a normal approximation, with levels that are spent as the plan says.

A planned look is the first look of the grid at which so many units have come; what lies between tells nothing. Past the maximum nothing is
left to spend: the first look at or over it is the last. Use it where the horizon is known and the mean is normal; never for rare events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isfinite, log, sqrt

import numpy as np

from analysis.gates import StagedRow, Test
from analysis.metrics.support import Floats, Ints
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.groups import boundary
from analysis.types import InputError, Interval, LookPlan

LEAST = 100
_HAIR = 1e-9  # a rejected member reaches the level of the closed test exactly; rounding must not take it back


@dataclass(frozen=True, slots=True)
class Moments:
    """n units, their mean and its standard error; None where the normal is no approximation yet."""

    n: int
    mean: float
    error: float | None


@dataclass(slots=True)
class Staged:
    """The planned looks that were taken, of one gate and what it is split by: a row a look.

    slot: which value of the split. n: units then. mean, error: of the contributions. said: 1 passed there, 2 failed there, else 0.
    """

    test: Test
    alpha: float
    fail_level: float
    slot: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    n: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    said: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    mean: Floats = field(default_factory=lambda: np.zeros(0))
    error: Floats = field(default_factory=lambda: np.zeros(0))

    def arrays(self) -> dict[str, Ints]:
        """The state, by name."""
        return {name: getattr(self, name) for name in ("slot", "n", "said", "mean", "error")}

    def load(self, arrays: dict[str, Ints]) -> None:
        """Take a state that `arrays` gave."""
        for name, array in arrays.items():
            setattr(self, name, array)

    def paths(self, tally: Tally, batch: Batch, look_of_row: Ints, n_looks: int) -> Floats:
        """Log e-value of the fail for each slot and look, shape (slots, looks): 1/level once it failed, before that 0.

        All or nothing is an e-process too: its mean is at most the chance to fail ever, divided by the level. Arguments as of
        `fail_paths`; planned looks among these are taken and remembered.
        """
        paths = np.full((len(tally.events), n_looks), -inf)
        enough = -log(self.fail_level) + _HAIR
        paths[self.slot[self.said == 2]] = enough
        slots, looks = batch.slots[batch.first], look_of_row[batch.first]
        for slot in np.unique(slots).tolist():
            mine = slots == slot
            units = tally.units(slot) + np.cumsum(np.bincount(looks[mine], minlength=n_looks))
            for look in range(n_looks):
                if int(units[look]) < self._next(slot):
                    continue
                taken = mine & (looks <= look)
                _, cell, share = self.test.support.spread(batch.values[batch.first][taken])
                counts = tally.counts[slot] + np.bincount(cell, weights=share, minlength=self.test.support.n_values)
                if self._take(slot, moments(self.test, counts)) == 2:
                    paths[slot, look:] = enough
        return paths

    def _next(self, slot: int) -> float:
        """Units at the next planned look of a slot; infinite after the last."""
        plan, seen = plan_of(self.test), self.n[self.slot == slot]
        last = int(seen[-1]) if len(seen) else 0
        if last >= plan.maximum or (self.said[self.slot == slot] == 2).any():
            return inf
        return -(-(last * plan.looks // plan.maximum + 1) * plan.maximum // plan.looks)

    def _take(self, slot: int, found: Moments) -> int:
        """Decide at a planned look: 1 pass, 2 fail, 0 neither. Where the normal is no approximation yet nothing is spent."""
        if found.error is None:
            return 0
        z = _sign(self.test) * (found.mean - null_mean(self.test)) / found.error
        times = (*self._times(slot), found.n / plan_of(self.test).maximum)
        passes = z >= boundary(plan_of(self.test), times, self.alpha)[-1]
        said = 1 if passes else 2 if -z >= boundary(plan_of(self.test), times, self.fail_level)[-1] else 0
        for name, value in (("slot", slot), ("n", found.n), ("said", said), ("mean", found.mean), ("error", found.error)):
            setattr(self, name, np.append(getattr(self, name), value))
        return said

    def _times(self, slot: int) -> tuple[float, ...]:
        return tuple((self.n[self.slot == slot] / plan_of(self.test).maximum).tolist())

    def row(self, slot: int) -> StagedRow:
        """Whether it passed, and the repeated confidence interval of its last planned look (Jennison & Turnbull 2000, chapter 9)."""
        mine = np.flatnonzero(self.slot == slot)
        if not len(mine):
            return StagedRow(passed=False, interval=Interval(low=-inf, high=inf), looks=0)
        last, times = mine[-1], self._times(slot)
        ends = [boundary(plan_of(self.test), times, level)[-1] for level in (self.alpha, self.fail_level)]
        below, above = ends if _sign(self.test) > 0 else ends[::-1]  # how far the lower, the upper end is
        mean, error = float(self.mean[last]), float(self.error[last])
        interval = Interval(low=mean - below * error if isfinite(below) else -inf, high=mean + above * error if isfinite(above) else inf)
        return StagedRow(passed=bool((self.said[mine] == 1).any()), interval=interval, looks=len(mine))


def plan_of(test: Test) -> LookPlan:
    """The plan of a group sequential gate. Raises InputError without one."""
    if test.gate.plan is None:
        raise InputError(f"{test.gate.name}: group_sequential needs a plan: maximum, looks, spending")
    return test.gate.plan


def null_mean(test: Test) -> float:
    """The mean of a contribution on the edge of pass and fail."""
    return -test.gate.limit if test.gate.word == "worse_by_at_most" else test.gate.limit


def _sign(test: Test) -> float:
    """1 where a larger mean passes, -1 where a smaller one does."""
    return -1.0 if test.gate.word == "below" else 1.0


def moments(test: Test, counts: Floats) -> Moments:
    """Mean and standard error from counts of cells. A rate's error is that at its limit, so it needs 100 expected of either kind there.

    A difference of decisions needs 100 units in which they differ, a number 100 units that are not all equal.
    """
    support = test.support
    shares, values = counts / support.one, support.values
    n = round(float(shares.sum()))
    if not n:
        return Moments(0, 0.0, None)
    mean = float(shares @ values) / n
    if support.kind == "rate":
        limit = test.gate.limit
        return Moments(n, mean, sqrt(limit * (1.0 - limit) / n) if n * min(limit, 1.0 - limit) >= LEAST else None)
    spread = float(shares @ (values - mean) ** 2) / max(n - 1, 1)
    known = n - float(shares[values == 0.0].sum()) if support.kind == "sign" else n
    return Moments(n, mean, sqrt(spread / n) if known >= LEAST and spread > 0.0 else None)
