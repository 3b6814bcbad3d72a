"""What the fold of a prefix must remember: units already seen, values of segments in order of first sight, coverage by cell.

Everything is keyed by words and unit ids, never by a table's codes, so that tables may code differently.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.metrics.contributions import Domain, paired_rows
from analysis.metrics.numbers import NULL, cells_of
from analysis.plan import Item, Value
from analysis.types import InputError, PairTable

Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """One call of `Evidence.fold`: its table, its looks, the look of each row, and what gates share.

    rows: of each domain and item the rows, which of them are the first of their unit, and which the first of it in their window.
    """

    table: PairTable
    looks: Indices
    look_of_row: Indices
    places: Indices
    slots: dict[Item, tuple[Indices, Mask]] = field(default_factory=dict)
    rows: dict[tuple[Domain, Item], tuple[Indices, Mask, Mask]] = field(default_factory=dict)


@dataclass(slots=True)
class Units:
    """Unit ids and their places 0, 1, ... in order of first sight."""

    ids: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    _sorted: NDArray[np.uint64] = field(init=False)
    _places: Indices = field(init=False)

    def __post_init__(self) -> None:
        self._places = np.argsort(self.ids, kind="stable")
        self._sorted = self.ids[self._places]

    def places(self, unit_ids: NDArray[Any]) -> Indices:
        """The place of each unit, shape (rows,); units not seen before get the next places, in the order of the rows."""
        wanted = np.asarray(unit_ids, dtype=np.uint64)
        distinct, first, inverse = np.unique(wanted, return_index=True, return_inverse=True)
        at = np.searchsorted(self._sorted, distinct)
        known = np.zeros(len(distinct), bool)
        inside = at < len(self._sorted)
        known[inside] = self._sorted[at[inside]] == distinct[inside]
        places = np.empty(len(distinct), np.int64)
        places[known] = self._places[at[known]]
        fresh = np.flatnonzero(~known)
        in_order = fresh[np.argsort(first[fresh], kind="stable")]
        places[in_order] = len(self.ids) + np.arange(len(in_order))
        self.ids = np.concatenate([self.ids, distinct[in_order]])
        self._sorted = np.insert(self._sorted, at[fresh], distinct[fresh])
        self._places = np.insert(self._places, at[fresh], places[fresh])
        return places[inverse.reshape(-1)]


@dataclass(slots=True)
class Sighted:
    """Which units were seen in which slot: a bit each, shape (units, slots / 8)."""

    bits: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    def firsts(self, places: Indices, slots: Indices, n_units: int, n_slots: int) -> Mask:
        """Which rows are the first of their unit in their slot, shape (rows,); remembers them."""
        width = max((n_slots + 7) // 8, self.bits.shape[1])
        if self.bits.shape != (n_units, width):
            room = np.zeros((n_units, width), np.uint8)
            room[: self.bits.shape[0], : self.bits.shape[1]] = self.bits
            self.bits = room
        byte, bit = slots >> 3, (1 << (slots & 7)).astype(np.uint8)
        first = np.zeros(len(places), bool)
        first[np.unique(places * max(n_slots, 1) + slots, return_index=True)[1]] = True
        first &= (self.bits[places, byte] & bit) == 0
        np.bitwise_or.at(self.bits, (places[first], byte[first]), bit[first])
        return first


@dataclass(slots=True)
class Recent:
    """The same within a window of record time: in the next one every unit is new again."""

    window: int = -1
    sighted: Sighted = field(default_factory=Sighted)

    def firsts(self, windows: Indices, places: Indices, slots: Indices, n_units: int, n_slots: int) -> Mask:
        """Which rows are the first of their unit in their slot and window, shape (rows,); windows must not fall."""
        first = np.zeros(len(places), bool)
        self.sighted.firsts(places[:0], slots[:0], n_units, n_slots)  # room for units and slots that came since
        if not len(places):
            return first
        turns = windows[1:] != windows[:-1]
        at = np.flatnonzero(np.append(True, turns))  # where each window begins
        rank = np.cumsum(np.append(0, turns.astype(np.int64)))
        first[np.unique((rank * n_units + places) * max(n_slots, 1) + slots, return_index=True)[1]] = True
        if int(windows[0]) == self.window:
            old = slice(0, int(at[1]) if len(at) > 1 else len(places))
            first[old] &= self.sighted.firsts(places[old], slots[old], n_units, n_slots)
        if int(windows[-1]) != self.window:
            self.window, self.sighted = int(windows[-1]), Sighted()
            self.sighted.firsts(places[at[-1] :], slots[at[-1] :], n_units, n_slots)
        return first


@dataclass(slots=True)
class Split:
    """The values of an item: those the config lists, then the others in order of first sight.

    born: for each value the ordinal of its first row in the prefix, None while only listed. rows, pairs: events of each value, and
    those that both lanes answered.
    """

    item: Item
    n_listed: int
    values: list[Value]
    born: list[int | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    pairs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pad()

    def _pad(self) -> None:
        for column in (self.rows, self.pairs):
            column += [0] * (len(self.values) - len(column))
        self.born += [None] * (len(self.values) - len(self.born))

    def slots(self, table: PairTable, labelled: Mask | None, ordinal: int) -> tuple[Indices, Mask]:
        """(slot, whether it counts) of each row, shape (rows,) each; new values are remembered from row `ordinal` on.

        Args:
            table: Rows of the prefix.
            labelled: For labelled gates, which rows have a truth: a null segment without one has no row of its own, because a segment
                cut from the truth is null until the label is there. None for other gates.
            ordinal: How many rows of the prefix came before.
        """
        n = len(table)
        if not n or not self.item:
            self._count(np.zeros(n, np.int64), np.ones(n, bool), table, ordinal)
            return np.zeros(n, np.int64), np.ones(n, bool)
        columns = [table[f"segment.{name}"] for name in self.item]
        counts = np.ones(n, bool) if labelled is None else labelled | np.all([c >= 0 for c in columns], axis=0)
        codes, first, inverse = np.unique(np.stack(columns, axis=-1)[counts], axis=0, return_index=True, return_inverse=True)
        places = {value: k for k, value in enumerate(self.values)}
        of_code = np.zeros(len(codes), np.int64)
        for k in np.argsort(first, kind="stable"):
            value = tuple(_word(table, name, int(code)) for name, code in zip(self.item, codes[k], strict=True))
            if value not in places:
                places[value] = len(self.values)
                self.values.append(value)
            of_code[k] = places[value]
        slots = np.zeros(n, np.int64)
        slots[counts] = of_code[inverse.reshape(-1)]
        self._count(slots, counts, table, ordinal)
        return slots, counts

    def _count(self, slots: Indices, counts: Mask, table: PairTable, ordinal: int) -> None:
        self._pad()
        rows = np.flatnonzero(counts)
        if not len(rows):
            return
        n = len(self.values)
        self.rows = [a + int(b) for a, b in zip(self.rows, np.bincount(slots[rows], minlength=n), strict=True)]
        paired = rows[paired_rows(table)[rows]]
        self.pairs = [a + int(b) for a, b in zip(self.pairs, np.bincount(slots[paired], minlength=n), strict=True)]
        seen, first = np.unique(slots[rows], return_index=True)
        for slot, row in zip(seen.tolist(), first.tolist(), strict=True):
            if self.born[slot] is None:
                self.born[slot] = ordinal + int(rows[row])


def _word(table: PairTable, name: str, code: int) -> str:
    return NULL if code < 0 else table.words[f"segment.{name}"][code]


@dataclass(slots=True)
class Coverage:
    """Pairs and labels of each decision cell of a policy: (slot, incumbent's decision, challenger's decision) -> count."""

    pairs: Counter[tuple[int, str, str]] = field(default_factory=Counter)
    labels: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def add(self, table: PairTable, policy: str, slots: Indices, counts: Mask) -> None:
        """Count the pairs of the rows that count."""
        rows = np.flatnonzero(counts & paired_rows(table))
        if not len(rows):
            return
        old, new = cells_of(table, policy)
        known = table[f"{policy}.truth"] >= 0
        for counter, chosen in ((self.pairs, rows), (self.labels, rows[known[rows]])):
            counter.update(zip(slots[chosen].tolist(), old[chosen].tolist(), new[chosen].tolist(), strict=True))

    def unsupported(self, slot: int, *, agreements: bool = True) -> bool:
        """Whether a decision cell of the slot has pairs and no label; without `agreements` only cells of two decisions that differ."""
        return any(cell[0] == slot and not self.labels[cell] and (agreements or cell[1] != cell[2]) for cell in self.pairs)


def check_order(arrived: Indices, looks: Indices, *, after: int | None, last_look: int | None) -> None:
    """Rows and looks must continue those before: the last row arrived at `after`, the last look was `last_look`; None before any.

    Raises:
        InputError: rows or looks are out of order, or rows are later than the last look.
    """
    if len(looks) and ((np.diff(looks) <= 0).any() or (last_look is not None and looks[0] <= last_look)):
        raise InputError(f"looks must rise and come after {last_look}")
    if not len(arrived):
        return
    if (np.diff(arrived) < 0).any() or (after is not None and arrived[0] < after):
        raise InputError(f"rows must come in order of arrival, after {after}")
    if not len(looks) or arrived[-1] > looks[-1]:
        raise InputError(f"rows must have arrived at the last look, got one of {arrived[-1]}")
