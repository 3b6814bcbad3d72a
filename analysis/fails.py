"""What is latched: fails by closed testing over the members that the config fixes, and the alarms of change detectors beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log

import numpy as np
from numpy.typing import NDArray

from analysis.gates import closed_test, pool_path
from analysis.metrics.support import Floats
from analysis.plan import WHOLE, Item, Plan
from analysis.prefix import Mask, Split
from analysis.types import Gate, Group

RowKey = tuple[str, Item, int]
"""Gate name, item and slot."""
Row = tuple[RowKey, Floats]
"""A row that can fail, and its log e-value at each look."""


@dataclass(slots=True)
class Fails:
    """The first look, in microseconds, at which each row failed, and at which its detector raised an alarm.

    splits: those of the evidence, as they grow.
    """

    plan: Plan
    group: Group
    splits: Mapping[Item, Split]
    failed: dict[RowKey, int] = field(default_factory=dict)
    alarmed: dict[RowKey, int] = field(default_factory=dict)

    # --------------------------------------------------------------------------------------------------- closed testing
    def latch(self, gates: Sequence[Gate], paths: Mapping[tuple[str, Item], Floats], looks: NDArray[np.int64]) -> None:
        """Remember the first look at which each row fails: members by closed testing, the others at their own level."""
        alone = -log(self.plan.fail_level)
        columns: list[Floats] = []
        owners: list[list[Row]] = []
        for gate in gates:
            listed, pooled = self._members(gate, paths)
            if gate.counted:
                columns += [path for _, path in listed]
                owners += [[row] for row in listed]
                if any(self.plan.values(item) is None for item in gate.each):
                    columns.append(pool_path([path for _, path in pooled], len(looks)))
                    owners.append(pooled)
            for key, path in pooled if gate.counted else listed + pooled:
                self._latch_from(key, path >= alone, looks)
        if columns:
            self._latch_members(np.stack(columns), owners, looks)

    def _latch_from(self, key: RowKey, fails: Mask, looks: NDArray[np.int64]) -> None:
        if key not in self.failed and fails.any():
            self.failed[key] = int(looks[np.argmax(fails)])

    def _latch_members(self, log_e: Floats, owners: list[list[Row]], looks: NDArray[np.int64]) -> None:
        """Closed testing at each look where a member that has not failed might; of a pool the largest value is named."""
        enough = self.plan.log_enough(self.group)
        for at in np.flatnonzero((log_e >= enough).any(axis=0)):
            now = int(looks[at])
            still = [k for k, rows in enumerate(owners)
                     if log_e[k, at] >= enough and not any(self.failed.get(key, now + 1) <= now for key, _ in rows)]
            if not still:
                continue
            failed = closed_test(log_e[:, at], enough)
            for k in still:
                if failed[k] and owners[k]:
                    key, _ = max(owners[k], key=lambda row: float(row[1][at]))
                    self.failed[key] = now

    def _members(self, gate: Gate, paths: Mapping[tuple[str, Item], Floats]) -> tuple[list[Row], list[Row]]:
        """(listed, pooled) rows of a gate with their paths; a pooled path is already divided by k(k+1)."""
        listed = [((gate.name, item, slot), paths[gate.name, item][slot])
                  for item in testable(gate) for slot in range(self.splits[item].n_listed)]
        pooled = [((gate.name, item, slot), paths[gate.name, item][slot] - log(k * (k + 1)))
                  for k, item, slot in self.in_order_of_sight(gate)]
        return listed, pooled

    def in_order_of_sight(self, gate: Gate) -> list[tuple[int, Item, int]]:
        """(k, item, slot) of the values that the config does not list, k = 1, 2, ... in prefix order of first sight.

        A value outside a closed list is no member: it can hold a pass back, and never fails.
        """
        found = [(born, place, item, slot) for place, item in enumerate(gate.each) if self.plan.values(item) is None
                 for slot, born in enumerate(self.splits[item].born) if born is not None]
        return [(k, item, slot) for k, (_, _, item, slot) in enumerate(sorted(found), start=1)]

    # ----------------------------------------------------------------------------------------------------------- alarms
    def alarm_levels(self, gate: Gate, item: Item) -> Floats:
        """What the detector of each slot must reach, shape (slots,): K N / alpha of the stage, times k(k+1) for the k-th value that no
        config lists; infinite where no fail is tested."""
        split, base = self.splits[item], self.plan.alarm_level
        levels = np.full(len(split.values), np.inf)
        levels[: split.n_listed] = base
        for k, its, slot in self.in_order_of_sight(gate):
            if its == item:
                levels[slot] = base * k * (k + 1)
        return levels

    def alarm(self, gate: Gate, item: Item, found: Mapping[int, int]) -> None:
        """Latch the alarms of a gate's slots, slot -> look."""
        for slot, look in found.items():
            self.alarmed.setdefault((gate.name, item, slot), look)


def testable(gate: Gate) -> tuple[Item, ...]:
    """The items whose values can fail by themselves: the whole only without `each`."""
    return gate.each or (WHOLE,)
