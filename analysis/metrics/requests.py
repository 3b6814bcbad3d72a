"""What is counted of labels that were asked for: those that wait, at the least and at the greatest they may be, and how many came."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.metrics.support import Ints, Support, counted
from analysis.metrics.tally import Batch
from analysis.types import InputError, Labels

_ASKED, _KNOWN, _WAITING = range(3)
_WEIGHTS = 3  # of those asked for and of those known, over events and over first events of units
_STEPS = 2.0**16


@dataclass(slots=True)
class Requests:
    """Beside the tally of a gate that has requests, for each slot; integers only, and they add up with `+`.

    least, greatest: first events of units that wait for their label, by the value that they may have, shape (slots, values), in multiples
    of 1 / support.one. numbers: pairs of which a label was asked for, those of them that have one, events that wait, and of the pairs
    whose contribution depends on the label sums of 1/propensity in multiples of 2**-16, shape (slots, 7).
    """

    support: Support
    least: Ints = field(init=False)
    greatest: Ints = field(init=False)
    numbers: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.least = np.zeros((0, self.support.n_values), np.int64)
        self.greatest, self.numbers = self.least.copy(), np.zeros((0, 7), np.int64)

    def grow(self, n_slots: int) -> None:
        """Make room for slots up to `n_slots`."""
        more = n_slots - len(self.numbers)
        if more > 0:
            for name, array in self.arrays().items():
                setattr(self, name, np.concatenate([array, np.zeros((more, array.shape[1]), np.int64)]))

    def add(self, batch: Batch) -> None:
        """Count a batch that has its fill."""
        fill = batch.fill
        if fill is None:
            return
        units = fill.waits & batch.first
        heavy = None if batch.weights is None else batch.weights[units]
        self.least += counted(self.support, self.least.shape, batch.slots[units], fill.low[units], heavy)
        self.greatest += counted(self.support, self.greatest.shape, batch.slots[units], fill.high[units], heavy)
        weights = np.rint(np.where(fill.needed, fill.chances, 0.0) * _STEPS).astype(np.int64)
        one, came = np.int64(1), fill.needed & fill.known
        for column, (rows, amount) in enumerate((
            (fill.asked, one), (fill.known, one), (fill.waits, one), (fill.needed, weights), (came, weights),
            (fill.needed & batch.first, weights), (came & batch.first, weights),
        )):
            np.add.at(self.numbers[:, column], batch.slots[rows], amount if amount is one else weights[rows])

    def __add__(self, other: Requests) -> Requests:
        """Both together; the slots must mean the same, and no unit may be first in both."""
        if self.support != other.support:
            raise InputError(f"requests of {self.support} and {other.support} do not add up")
        total = Requests(self.support)
        for part in (self, other):
            total.grow(max(len(self.numbers), len(other.numbers)))
            for name, array in part.arrays().items():
                getattr(total, name)[: len(array)] += array
        return total

    def units(self, slot: int) -> int:
        """Units whose first event waits for its label."""
        return int(self.least[slot].sum()) // self.support.one

    def events(self, slot: int) -> int:
        """Events that wait for their label."""
        return int(self.numbers[slot, _WAITING])

    def labels(self, slot: int) -> Labels:
        """How many labels were asked for and came."""
        asked, known = int(self.numbers[slot, _ASKED]), int(self.numbers[slot, _KNOWN])
        return Labels(requested=asked, labelled=known, pending=asked - known)

    def came(self, slot: int, *, units: bool) -> float | None:
        """The share that came of the labels that were asked for and are needed, each weighted by 1/propensity; None before the first."""
        asked, known = (int(n) for n in self.numbers[slot, _WEIGHTS + 2 * units : _WEIGHTS + 2 + 2 * units])
        return known / asked if known else None

    def arrays(self) -> dict[str, Ints]:
        """The state, by name."""
        return {"least": self.least, "greatest": self.greatest, "numbers": self.numbers}

    def load(self, arrays: dict[str, Ints]) -> None:
        """Take a state that `arrays` gave."""
        for name, array in arrays.items():
            setattr(self, name, array)
