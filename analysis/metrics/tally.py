"""Sufficient statistics of a gate for each value of what it is split by: integers only, and they add up with `+`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.support import Floats, Ints, Support, counted, summed
from analysis.metrics.waiting import Fill
from analysis.types import InputError

Slots = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Contributions of one prefix of rows, in their order.

    slots: which value of the split each row belongs to, shape (n,). values: the contribution, shape (n,). first: whether it is the
    first of its unit, shape (n,). cells: for a latency its cell (`latency_cells`), else None.
    weights: 1/propensity of each row where the support has them, else None; shape (n,). closing: which rows are no events but what the
    closed window of a unit tells, None where there are no windows. fill: what is known of the requests of each row, None where there are
    none; rows that wait for their label, or are not of the metric's class, then stand among the others until `told`.
    """

    slots: Slots
    values: Floats
    first: NDArray[np.bool_]
    cells: Ints | None = None
    weights: Floats | None = None
    closing: NDArray[np.bool_] | None = None
    fill: Fill | None = None

    def matters(self) -> NDArray[np.bool_] | bool:
        """Which rows are of the metric's class, or may be; True for all."""
        return True if self.fill is None or self.weights is None else self.weights > 0.0

    def told(self) -> Batch:
        """The contributions that are known."""
        return self if self.fill is None else self.take(~self.fill.waits & self.matters())

    def waiting(self, *, greatest: bool) -> Batch:
        """Those that wait for their label, at the greatest or the least value that they may have."""
        if self.fill is None:
            return self.take(np.zeros(len(self.slots), bool))
        found = self.take(self.fill.waits)
        return replace(found, values=(self.fill.high if greatest else self.fill.low)[self.fill.waits])

    def take(self, rows: NDArray[np.bool_]) -> Batch:
        """The rows of a mask."""
        return Batch(
            self.slots[rows], self.values[rows], self.first[rows], None if self.cells is None else self.cells[rows],
            None if self.weights is None else self.weights[rows], None if self.closing is None else self.closing[rows],
            None if self.fill is None else self.fill.take(rows),
        )  # fmt: skip


@dataclass(slots=True)
class Tally:
    """Counts for each slot; new slots start at zero.

    counts: first events of units by value, shape (slots, values), in multiples of 1 / support.one. events: rows. sums: over events
    and over first events, in multiples of 2**-support.bits; weights: sums of the weights alike, 0 where there are none.
    cells: counts of latencies over events and over first events, shape (slots, 2, cells).
    """

    support: Support
    n_cells: int = 0
    counts: Ints = field(init=False)
    events: Ints = field(init=False)
    event_sums: list[int] = field(default_factory=list)
    unit_sums: list[int] = field(default_factory=list)
    event_weights: list[int] = field(default_factory=list)
    unit_weights: list[int] = field(default_factory=list)
    cells: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.counts = np.zeros((0, self.support.n_values), np.int64)
        self.events = np.zeros(0, np.int64)
        self.cells = np.zeros((0, 2, self.n_cells), np.int64)

    def grow(self, n_slots: int) -> None:
        """Make room for slots up to `n_slots`."""
        more = n_slots - len(self.events)
        if more > 0:
            self.counts = np.concatenate([self.counts, np.zeros((more, self.support.n_values), np.int64)])
            self.events = np.concatenate([self.events, np.zeros(more, np.int64)])
            self.cells = np.concatenate([self.cells, np.zeros((more, 2, self.n_cells), np.int64)])
            for sums in (self.event_sums, self.unit_sums, self.event_weights, self.unit_weights):
                sums += [0] * more

    def add(self, batch: Batch) -> None:
        """Count a batch; its values must be free of faults and its slots must have room.

        Raises:
            InputError: a value is not finite or out of range; nothing is counted then.
        """
        if not self.support.takes(batch.values):
            raise InputError(f"a contribution lies outside [{self.support.low}, {self.support.high}] or is not finite")
        n, units = len(self.events), batch.first
        every = bool(units.all())
        slots, values = (batch.slots, batch.values) if every else (batch.slots[units], batch.values[units])
        heavy = None if batch.weights is None else batch.weights if every else batch.weights[units]
        self.counts += counted(self.support, self.counts.shape, slots, values, heavy)
        events = slice(None) if batch.closing is None else ~batch.closing
        places = batch.slots[events]
        self.events += len(places) if n == 1 else np.bincount(places, minlength=n)
        weighed = batch.values if batch.weights is None else batch.values * batch.weights
        event_sums = summed(self.support, places, weighed[events], n)
        self.event_sums = _added(self.event_sums, event_sums)
        if not every or batch.closing is not None:
            event_sums = summed(self.support, slots, weighed if every else weighed[units], n)
        self.unit_sums = _added(self.unit_sums, event_sums)
        if batch.weights is not None:
            self.event_weights = _added(self.event_weights, summed(self.support, batch.slots, batch.weights, n))
            self.unit_weights = _added(self.unit_weights, summed(self.support, slots, batch.weights if every else batch.weights[units], n))
        if batch.cells is not None:
            np.add.at(self.cells[:, 0], (batch.slots, batch.cells), 1)
            np.add.at(self.cells[:, 1], (batch.slots[units], batch.cells[units]), 1)

    def __add__(self, other: Tally) -> Tally:
        """Both together; the slots must mean the same, and no unit may be first in both."""
        if (self.support, self.n_cells) != (other.support, other.n_cells):
            raise InputError(f"tallies of {self.support} and {other.support} do not add up")
        total = Tally(self.support, self.n_cells)
        for part in (self, other):
            total.grow(max(len(self.events), len(other.events)))
            n = len(part.events)
            total.counts[:n] += part.counts
            total.events[:n] += part.events
            total.cells[:n] += part.cells
            total.event_sums[:n] = _added(total.event_sums[:n], part.event_sums)
            total.unit_sums[:n] = _added(total.unit_sums[:n], part.unit_sums)
            total.event_weights[:n] = _added(total.event_weights[:n], part.event_weights)
            total.unit_weights[:n] = _added(total.unit_weights[:n], part.unit_weights)
        return total

    def units(self, slot: int) -> int:
        """How many units have a first event in the slot."""
        return int(self.counts[slot].sum()) // self.support.one

    def mean(self, slot: int) -> float | None:
        """The (weighted) mean over first events of units; None without any."""
        return _ratio(self.unit_sums[slot], self.unit_weights[slot] or self.units(slot) << self.support.bits)

    def mean_events(self, slot: int) -> float | None:
        """The (weighted) mean over all events; None without any."""
        return _ratio(self.event_sums[slot], self.event_weights[slot] or int(self.events[slot]) << self.support.bits)


def _added(one: list[int], two: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, two, strict=True)]


def _ratio(total: int, whole: int) -> float | None:
    return total / whole if whole else None
