"""The fold over a growing prefix: pair tables in, looks on a fixed grid, fails latched, gate results out.

One `Evidence` holds the unlabelled gates of a plan, a second one the labelled gates, because their prefix is older by `matures`.
Rows enter once, in the order (arrival time, event); how they are cut into folds moves no number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fails import Fails, RowKey, testable
from analysis.gates import RowEvidence, Test, fail_paths, follow_segments, judge, prepare, watched
from analysis.metrics.contributions import Domain, agreement_is_known, contributions_of, labelled_rows, rows_of
from analysis.metrics.requests import Requests
from analysis.metrics.support import Floats
from analysis.metrics.tally import Batch, Tally
from analysis.metrics.waiting import Fill, asked, fill_of, without_unasked
from analysis.packing import pack, unpack
from analysis.plan import WHOLE, Item, Plan
from analysis.prefix import Coverage, Fold, Indices, Mask, Recent, Sighted, Split, Units, check_order
from analysis.sampling import Sampling
from analysis.sequential.detector import Detectors
from analysis.staged import Staged
from analysis.types import CLASS_KINDS, Gate, GateResult, Group, InputError, PairTable
from analysis.windows import NOTHING, Windows, both

__all__ = ["Evidence", "Plan", "combine"]

PAIRS: Domain = ("pairs",)
_GROUPS: dict[bool, Group] = {False: "unlabelled", True: "labelled"}


@dataclass(slots=True)
class Evidence:
    """The statistics of the labelled or of the other gates of a plan, after each look so far.

    plan: fixed; other bytes are refused. labelled: which gates it folds.
    """

    plan: Plan
    labelled: bool
    last_look: int | None = field(init=False, default=None)
    n_rows: int = field(init=False, default=0)
    _last_arrived: int | None = field(init=False, default=None)
    _tests: dict[str, Test] = field(init=False, default_factory=dict)
    _broken: dict[str, str] = field(init=False, default_factory=dict)
    _unread: dict[str, str] = field(init=False, default_factory=dict)
    _fails: Fails = field(init=False)
    _units: Units = field(init=False, default_factory=Units)
    _splits: dict[Item, Split] = field(init=False, default_factory=dict)
    _sighted: dict[tuple[Domain, Item], Sighted] = field(init=False, default_factory=dict)
    _recent: dict[tuple[Domain, Item], Recent] = field(init=False, default_factory=dict)
    _coverage: dict[tuple[str, Item], Coverage] = field(init=False, default_factory=dict)
    _tallies: dict[tuple[str, Item], Tally] = field(init=False, default_factory=dict)
    _detectors: dict[tuple[str, Item], Detectors] = field(init=False, default_factory=dict)
    _windows: dict[tuple[str, Item], Windows] = field(init=False, default_factory=dict)
    _staged: dict[tuple[str, Item], Staged] = field(init=False, default_factory=dict)
    _requests: dict[tuple[str, Item], Requests] = field(init=False, default_factory=dict)
    _sampling: Sampling = field(init=False)

    def __post_init__(self) -> None:
        self._fails, self._sampling = Fails(self.plan, _GROUPS[self.labelled], self._splits), Sampling(self.gates)
        if self._sampling.needed:
            self._splits[WHOLE], self._sighted[PAIRS, WHOLE] = Split(WHOLE, 1, [()]), Sighted()
        for gate in self.gates:
            with self._isolated([gate]):
                self._tests[gate.name] = prepare(gate)
            test = self._tests.get(gate.name)
            for item in _items(gate):
                listed = self.plan.values(item) or ()
                self._splits.setdefault(item, Split(item, len(listed), list(listed)))
                if test is None:
                    continue
                self._sighted.setdefault((test.domain, item), Sighted())
                if gate.unit != "first":
                    self._windows[gate.name, item] = Windows(test.support, gate.unit_window_us or 0, gate.unit == "ever")
                if gate.method == "group_sequential":
                    self._staged[gate.name, item] = Staged(test, self.plan.alpha_of(gate), self.plan.fail_level)
                if gate.counted and item in testable(gate):
                    self._recent.setdefault((test.domain, item), Recent())
                    few = test.support.kind != "numeric" and test.support.least is None
                    self._detectors[gate.name, item] = Detectors(test.design.fail, few, asked(gate))
                self._tallies[gate.name, item] = Tally(test.support, 0 if test.edges is None else len(test.edges) + 3)
                if asked(gate):
                    self._requests[gate.name, item] = Requests(test.support)
                if self.labelled and gate.metric.policy is not None:
                    self._coverage.setdefault((gate.metric.policy, item), Coverage())
        self._grow()

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates it folds, in the order of the config."""
        return tuple(gate for gate in self.plan.gates if gate.metric.group == _GROUPS[self.labelled])

    @property
    def broken(self) -> dict[str, str]:
        """Gate -> the error that stopped it."""
        return self._unread | self._broken

    # ------------------------------------------------------------------------------------------------------------- fold
    def fold(self, table: PairTable, looks: NDArray[np.int64]) -> None:
        """Fold the next rows of the prefix, and evaluate and latch fails at each look.

        An error in one gate breaks that gate (`compute_error`) and no other; its evidence stays as it was before the faulty row.

        Args:
            table: Rows in order, later than every row before; all have arrived at the last look. It may be empty.
            looks: Record times in microseconds, strictly increasing, after every look before; a row counts from the first look at or
                after its arrival. Shape (looks,).

        Raises:
            InputError: rows or looks are out of order, or rows are later than the last look. Nothing is folded then.
        """
        looks = np.asarray(looks, np.int64)
        arrived = np.asarray(table["arrived"], np.int64) if len(table) else np.zeros(0, np.int64)
        check_order(arrived, looks, after=self._last_arrived, last_look=self.last_look)
        if not len(looks):
            return
        table = without_unasked(table) if self.labelled and any(asked(gate) for gate in self.gates) else table
        fold = self._shared(table, np.searchsorted(looks, arrived, side="left").astype(np.int64), looks)
        paths: dict[tuple[str, Item], Floats] = {}
        for gate in self.gates:
            self._fold_gate(gate, fold, paths)
        self._fails.latch(self.gates, paths, looks)
        self.last_look, self.n_rows = int(looks[-1]), self.n_rows + len(table)
        self._last_arrived = int(arrived[-1]) if len(arrived) else self._last_arrived

    def _shared(self, table: PairTable, look_of_row: Indices, looks: Indices) -> Fold:
        """What gates share: places of units, slots of segments, coverage, and first events of each domain."""
        places = self._units.places(table["unit_id"]) if len(table) else np.zeros(0, np.int64)
        fold = Fold(table, looks, look_of_row, places)
        if not len(table):
            return fold
        windows = table["arrived"] // self.plan.window_us
        labelled = labelled_rows(table) if self.labelled else None
        for item, split in self._splits.items():
            with self._isolated(gate for gate in self.gates if item in _items(gate)):
                fold.slots[item] = split.slots(table, labelled, self.n_rows)
        self._grow()
        for (policy, item), coverage in self._coverage.items():
            with self._isolated(gate for gate in self.gates if item in _items(gate) and gate.metric.policy == policy):
                coverage.add(table, policy, *fold.slots[item])
        for (domain, item), sighted in self._sighted.items():
            users = [gate for gate in self.gates if (item in _items(gate) and self._domain(gate) == domain)
                     or (gate.metric.weighted and (domain, item) == (PAIRS, WHOLE))]
            with self._isolated(users):
                slots, counts = fold.slots[item]
                rows = np.flatnonzero(rows_of(domain, table) & counts)
                size = len(self._units.ids), len(self._splits[item].values)
                first = sighted.firsts(places[rows], slots[rows], *size)
                recent = self._recent.get((domain, item))
                fresh = first if recent is None else recent.firsts(windows[rows], places[rows], slots[rows], *size)
                fold.rows[domain, item] = rows, first, fresh
        if self._sampling.needed:
            with self._isolated(gate for gate in self.gates if gate.metric.weighted):
                rows, first, _ = fold.rows[PAIRS, WHOLE]
                self._sampling.fold(table, rows[first], looks, look_of_row)
        return fold

    def _domain(self, gate: Gate) -> Domain | None:
        return self._tests[gate.name].domain if gate.name in self._tests else None

    @contextmanager
    def _isolated(self, gates: Iterable[Gate]) -> Iterator[None]:
        """An error inside breaks these gates, for their first reason, and stops no other."""
        try:
            yield
        except Exception as error:
            for gate in gates:
                self._broken.setdefault(gate.name, f"{type(error).__name__}: {error}")

    def _grow(self) -> None:
        for kept in (self._tallies, self._detectors, self._requests):
            for (_, item), part in kept.items():
                part.grow(len(self._splits[item].values))

    def _fold_gate(self, gate: Gate, fold: Fold, paths: dict[tuple[str, Item], Floats]) -> None:
        """Add one gate's contributions; `paths` gets the log e-value of its fail for each slot and look."""
        test = self._tests.get(gate.name)
        batches: dict[Item, tuple[Batch, Indices, Mask]] = {}
        if test is not None and gate.name not in self._broken:
            with self._isolated([gate]):
                batches = self._batches(test, fold) if len(fold.table) else {}
                batches |= self._told(gate, fold, batches)
        for item in _items(gate):
            n_slots = len(self._splits[item].values)
            if test is None:
                paths[gate.name, item] = np.zeros((n_slots, len(fold.looks)))
                continue
            tally, staged = self._tallies[gate.name, item], self._staged.get((gate.name, item))
            batch, looks, fresh = batches.get(item, (NOTHING, np.zeros(0, np.int64), NOTHING.first))
            args, requests = (tally, batch, looks, len(fold.looks)), self._requests.get((gate.name, item))
            paths[gate.name, item] = fail_paths(test, *args, requests) if staged is None else staged.paths(*args)
            if item in batches:
                tally.add(batch.told())
                if requests is not None:
                    requests.add(batch)
                self._watch(test, item, batch, fold.looks[looks], fresh)
            paths[gate.name, item][:, self._sampling.misdrawn(gate, fold.looks)] = -np.inf

    def _watch(self, test: Test, item: Item, batch: Batch, looks: Indices, fresh: Mask) -> None:
        """Let the change detectors take the first contribution of each unit in each window."""
        detectors = self._detectors.get((test.gate.name, item))
        if detectors is None:
            return
        rows = np.flatnonzero(fresh & batch.matters())
        contributions = watched(test, batch, rows)
        found = detectors.add(batch.slots[rows], contributions, self._fails.alarm_levels(test.gate, item))
        alarms = {slot: int(looks[rows[at]]) for slot, at in found.items()}
        self._fails.alarm(test.gate, item, {slot: at for slot, at in alarms.items() if not self._sampling.misdrawn(test.gate, [at])[0]})

    def _batches(self, test: Test, fold: Fold) -> dict[Item, tuple[Batch, Indices, Mask]]:
        """For each item the gate's contributions of this fold, the look of each, and which are the first of a unit in a window."""
        fill = fill_of(test.gate, fold.table)
        values, weights, n_good = self._values(test, fold, fill)
        batches = {}
        cells = test.cells(fold.table)
        for item in _items(test.gate):
            rows, first, fresh = fold.rows[test.domain, item]
            kept = rows < n_good if weights is None else (rows < n_good) & ((weights[rows] > 0.0) | (fill is not None and fill.asked[rows]))
            rows, first = rows[kept], first[kept]
            slots, counts = fold.slots[item]
            if test.gate.metric.weighted and test.gate.metric.kind not in CLASS_KINDS and not counts.all():
                raise InputError(f"a weighted {test.gate.metric.kind} speaks of all pairs and cannot be split by a segment of the truth")
            batch = Batch(slots[rows], values[rows], first, None if cells is None else cells[rows],
                          None if weights is None else weights[rows], fill=None if fill is None else fill.take(rows))
            batches[item] = batch, fold.look_of_row[rows], fresh[kept]
        return batches

    def _told(self, gate: Gate, fold: Fold, batches: dict[Item, tuple[Batch, Indices, Mask]]) -> dict[Item, tuple[Batch, Indices, Mask]]:
        """For a gate that counts windows of units: its events, and after them what the windows that are over tell."""
        found = {}
        for item in _items(gate) if gate.unit != "first" else ():
            events, looks, _ = batches.get(item, (NOTHING, np.zeros(0, np.int64), NOTHING.first))
            if len(looks):
                rows = fold.rows[self._tests[gate.name].domain, item][0][: len(looks)]
                self._windows[gate.name, item].add(fold.places[rows], events, np.asarray(fold.table["arrived"], np.int64)[rows])
            told, at = self._windows[gate.name, item].close(fold.looks)
            batch = both(events, told)
            found[item] = batch, np.concatenate([looks, at]), batch.first
        return found

    def _values(self, test: Test, fold: Fold, fill: Fill | None) -> tuple[Floats, Floats | None, int]:
        """(contribution and weight of every row, how many rows come before the first faulty one); a fault breaks the gate."""
        values, weights = contributions_of(test.gate, fold.table)
        if fill is not None:
            values = np.where(np.isnan(fill.chances), np.nan, np.where(fill.waits, fill.low, values))
            weights = None if weights is None else np.where(fill.waits, fill.chances, weights)
        rows = fold.rows[test.domain, WHOLE][0]
        if test.support.takes(values[rows]):
            return values, weights, len(fold.table)
        row = int(rows[test.support.faulty(values[rows])][0])
        self._broken[test.gate.name] = (f"contribution {values[row]} of row {self.n_rows + row} lies outside "
                                        f"[{test.support.low}, {test.support.high}] or is not finite")
        return values, weights, row

    def failed_at(self, gate: str, segment: dict[str, str] | None = None) -> int | None:
        """The look, in microseconds, at which a row failed; None while it has not."""
        return self._latched(self._fails.failed, gate, segment)

    def alarmed_at(self, gate: str, segment: dict[str, str] | None = None) -> int | None:
        """The look, in microseconds, at which a row's change detector raised its alarm; None while it has not."""
        return self._latched(self._fails.alarmed, gate, segment)

    def _latched(self, latched: dict[RowKey, int], gate: str, segment: dict[str, str] | None) -> int | None:
        item = tuple(segment or ())
        split = self._splits.get(item)
        value = tuple((segment or {}).values())
        return None if split is None or value not in split.values else latched.get((gate, item, split.values.index(value)))

    # ---------------------------------------------------------------------------------------------------------- results
    def results(self) -> tuple[GateResult, ...]:
        """Each gate's whole row and the rows of its segments at the last look folded, in the order of the config."""
        return tuple(row for gate in self.gates for row in self._results_of(gate))

    def _results_of(self, gate: Gate) -> Iterator[GateResult]:
        levels = {(item, slot): self.plan.fail_level / (k * (k + 1)) for k, item, slot in self._fails.in_order_of_sight(gate)}
        parts = []
        for item in gate.each:
            for slot in range(len(self._splits[item].values)):
                row = self._judged(gate, item, slot, levels.get((item, slot), self.plan.fail_level))
                parts.append((row, self._splits[item].rows[slot] > 0))
        whole = self._judged(gate, WHOLE, 0, self.plan.fail_level)
        yield follow_segments(gate, whole, parts) if gate.each else whole
        yield from (row for row, _ in parts)

    def _judged(self, gate: Gate, item: Item, slot: int, fail_level: float) -> GateResult:
        split, coverage = self._splits[item], self._coverage.get((gate.metric.policy or "", item))
        unsupported = coverage is not None and coverage.unsupported(slot, agreements=not agreement_is_known(gate))
        row = RowEvidence(
            segment=dict(zip(item, split.values[slot], strict=True)) if item else None, tally=self._tallies.get((gate.name, item)),
            slot=slot, n_rows=split.rows[slot], n_pairs=split.pairs[slot], unsupported=unsupported,
            failed=(gate.name, item, slot) in self._fails.failed, alarmed_at=self._fails.alarmed.get((gate.name, item, slot)),
            broken=gate.name in self._broken, misdrawn=self._misdrawn(gate), alpha=self.plan.alpha_of(gate), fail_level=fail_level,
            staged=staged.row(slot) if (staged := self._staged.get((gate.name, item))) else None,
            requests=self._requests.get((gate.name, item)))
        try:
            return judge(gate, self._tests.get(gate.name), row)
        except Exception as error:  # reading never changes the state, so this is kept apart from it
            self._unread[gate.name] = f"{type(error).__name__}: {error}"
            return judge(gate, None, row)

    def _misdrawn(self, gate: Gate) -> bool:
        return self.last_look is not None and bool(self._sampling.misdrawn(gate, [self.last_look])[0])

    # ------------------------------------------------------------------------------------------------------------ bytes
    def to_bytes(self) -> bytes:
        """The whole state, with the digest of plan and bets; the same state gives the same bytes."""
        head = {
            "design": self._design(), "labelled": self.labelled, "last_look": self.last_look, "n_rows": self.n_rows,
            "last_arrived": self._last_arrived, "broken": self._broken,
            **{name: sorted([*key, at] for key, at in latched.items()) for name, latched in self._latches()},
            "splits": [[split.values[split.n_listed :], split.born, split.rows, split.pairs] for split in self._splits.values()],
            "coverage": [[[*cell, n, part.labels[cell]] for cell, n in part.pairs.items()] for part in self._coverage.values()],
            "sums": [[tally.event_sums, tally.unit_sums, tally.event_weights, tally.unit_weights] for tally in self._all_tallies()],
            "drawn": [self._sampling.fired, self._sampling.labelled],
        }
        arrays: dict[str, NDArray[Any]] = {"units": self._units.ids}
        arrays |= {f"sighted.{k}": sighted.bits for k, sighted in enumerate(self._sighted.values())}
        arrays |= {f"recent.{k}": recent.sighted.bits for k, recent in enumerate(self._recent.values())}
        arrays["windows"] = np.array([recent.window for recent in self._recent.values()], np.int64)
        arrays |= {f"part.{k}.{name}": array for k, part in enumerate(self._parts()) for name, array in part.arrays().items()}
        for k, tally in enumerate(self._all_tallies()):
            arrays |= {f"counts.{k}": tally.counts, f"events.{k}": tally.events, f"cells.{k}": tally.cells}
        return pack(head, arrays)

    def _parts(self) -> tuple[Detectors | Windows | Staged | Requests, ...]:
        return *self._detectors.values(), *self._windows.values(), *self._staged.values(), *self._requests.values()

    def _all_tallies(self) -> tuple[Tally, ...]:
        return *self._tallies.values(), *self._sampling.tallies.values()

    def _latches(self) -> tuple[tuple[str, dict[RowKey, int]], ...]:
        return ("failed", self._fails.failed), ("alarmed", self._fails.alarmed)

    def _design(self) -> str:
        """SHA-256 of the plan and of every bet and grid, to nine digits: other bets on old counts are no e-process."""
        facts = [self.plan.digest(), *(test.facts() for test in self._tests.values()), self._sampling.facts()]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    @classmethod
    def from_bytes(cls, plan: Plan, labelled: bool, data: bytes) -> Evidence:
        """The state that `to_bytes` gave.

        Raises:
            InputError: the bytes are damaged, or belong to another plan or to the other gates.
        """
        head, arrays = unpack(data)
        new = cls(plan, labelled)
        if (head["design"], head["labelled"]) != (new._design(), labelled):
            raise InputError("this evidence was folded under another plan or design: changed gates are a new attempt")
        new.last_look, new.n_rows, new._last_arrived, new._broken = (head[k] for k in ("last_look", "n_rows", "last_arrived", "broken"))
        for kind, latched in new._latches():
            latched |= {(name, tuple(item), slot): at for name, item, slot, at in head[kind]}
        new._units = Units(arrays["units"])
        for split, (values, born, rows, pairs) in zip(new._splits.values(), head["splits"], strict=True):
            split.values += [tuple(value) for value in values]
            split.born, split.rows, split.pairs = born, rows, pairs
        for part, cells in zip(new._coverage.values(), head["coverage"], strict=True):
            for slot, old, said, n, n_labels in cells:
                part.pairs[slot, old, said], part.labels[slot, old, said] = n, n_labels
        for k, sighted in enumerate(new._sighted.values()):
            sighted.bits = arrays[f"sighted.{k}"]
        for k, recent in enumerate(new._recent.values()):
            recent.window, recent.sighted.bits = int(arrays["windows"][k]), arrays[f"recent.{k}"]
        for k, kept in enumerate(new._parts()):
            kept.load({name: arrays[f"part.{k}.{name}"] for name in kept.arrays()})
        new._sampling.fired, new._sampling.labelled = head["drawn"]
        for k, (tally, sums) in enumerate(zip(new._all_tallies(), head["sums"], strict=True)):
            tally.counts, tally.events, tally.cells = arrays[f"counts.{k}"], arrays[f"events.{k}"], arrays[f"cells.{k}"]
            tally.event_sums, tally.unit_sums, tally.event_weights, tally.unit_weights = sums
        return new


def _items(gate: Gate) -> tuple[Item, ...]:
    """The whole, and what the gate is split by."""
    return (WHOLE, *gate.each)


def combine(plan: Plan, unlabelled: Evidence, labelled: Evidence, online: Iterable[GateResult] = ()) -> tuple[GateResult, ...]:
    """All rows of a verdict in the order of the config: for each gate its whole row, then those of its segments;
    `online` has the rows of a canary's two arms, and a gate of theirs without one has no row, which counts as undecided.

    Raises:
        InputError: the two were folded under other plans, or are not one of each kind.
    """
    if unlabelled.labelled or not labelled.labelled or {plan.digest()} != {unlabelled.plan.digest(), labelled.plan.digest()}:
        raise InputError("combine takes the unlabelled and the labelled evidence of its plan")
    rows: dict[str, list[GateResult]] = {}
    for row in (*unlabelled.results(), *labelled.results(), *online):
        rows.setdefault(row.name, []).append(row)
    return tuple(row for gate in plan.gates for row in rows.get(gate.name, ()))
