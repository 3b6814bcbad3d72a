"""One number a unit: whether something was ever so, or its mean, over a window from the unit's first event; told when the window is closed.

A unit opens its window once, at the first of its events on which the metric is defined; what comes after the window is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.metrics.support import Floats, Support
from analysis.metrics.tally import Batch
from analysis.prefix import Indices, Mask

_STEPS = 2**40  # values are whole numbers of so many steps over their range: sums are exact, up to eight million events of a unit
_SLOT_BITS = 20


def _ints() -> Indices:
    return np.zeros(0, np.int64)


NOTHING = Batch(_ints(), np.zeros(0), np.zeros(0, bool))


@dataclass(slots=True)
class Windows:
    """The open and closed windows of one gate and what it is split by.

    support: that of the contributions. length_us: how long a window is. keys: place of the unit and slot, rising; of each opened, the
    arrival of its first event; total, its sum in steps; n, its events; born, its place in the order of opening; closed, 1 once told.
    """

    support: Support
    length_us: int
    ever: bool
    keys: Indices = field(default_factory=_ints)
    opened: Indices = field(default_factory=_ints)
    total: Indices = field(default_factory=_ints)
    n: Indices = field(default_factory=_ints)
    born: Indices = field(default_factory=_ints)
    closed: Indices = field(default_factory=_ints)

    def add(self, places: Indices, batch: Batch, arrived: Indices) -> None:
        """Take events in prefix order; those after their unit's window are left out."""
        key: Indices = places * (1 << _SLOT_BITS) + batch.slots
        distinct, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        at = np.searchsorted(self.keys, distinct)
        known: Mask = np.zeros(len(distinct), bool)
        inside = at < len(self.keys)
        known[inside] = self.keys[at[inside]] == distinct[inside]
        fresh = np.flatnonzero(~known)
        order = np.empty(len(fresh), np.int64)
        order[np.argsort(first[fresh], kind="stable")] = len(self.keys) + np.arange(len(fresh))
        where = at[fresh]
        for name, new in (("opened", arrived[first[fresh]]), ("total", 0), ("n", 0), ("born", order), ("closed", 0)):
            setattr(self, name, np.insert(getattr(self, name), where, new))
        self.keys = np.insert(self.keys, where, distinct[fresh])
        row = np.searchsorted(self.keys, distinct)[inverse.reshape(-1)]
        counts: Mask = arrived < self.opened[row] + self.length_us
        steps = np.rint((batch.values - self.support.low) / (self.support.high - self.support.low) * _STEPS).astype(np.int64)
        np.add.at(self.total, row[counts], steps[counts])
        np.add.at(self.n, row[counts], 1)

    def close(self, looks: Indices) -> tuple[Batch, Indices]:
        """(a contribution of each unit whose window is over by the last look, in the order of opening; its look's index)."""
        ends = self.opened + self.length_us
        over = np.flatnonzero((self.closed == 0) & (ends <= looks[-1]))
        over = over[np.argsort(self.born[over], kind="stable")]
        self.closed[over] = 1
        share = self.total[over] / _STEPS
        low, width = self.support.low, self.support.high - self.support.low
        values: Floats = (share > 0.0).astype(np.float64) if self.ever else low + width * (share / np.maximum(self.n[over], 1))
        told = np.ones(len(over), bool)
        return Batch(self.keys[over] & ((1 << _SLOT_BITS) - 1), values, told, closing=told), np.searchsorted(looks, ends[over], side="left")

    def arrays(self) -> dict[str, Indices]:
        """The state, by name."""
        return {name: getattr(self, name) for name in ("keys", "opened", "total", "n", "born", "closed")}

    def load(self, arrays: dict[str, Indices]) -> None:
        """Take a state that `arrays` gave."""
        for name, array in arrays.items():
            setattr(self, name, array)


def both(events: Batch, told: Batch) -> Batch:
    """Events, which count as events only, and then what closed windows tell, which count as units only."""
    quiet: Mask = np.zeros(len(events.values), bool)
    return Batch(np.concatenate([events.slots, told.slots]), np.concatenate([events.values, told.values]),
                 np.concatenate([quiet, told.first]), closing=np.concatenate([quiet, told.first]))
