"""The fold of a canary's two arms: exposures and measurements in, looks on a fixed grid, fails latched, gate results out.

    from analysis.online.evidence import OnlineEvidence
    from analysis.online.units import Exposures, Measurements

    appeals = Metric(kind="online", measure="appeals", type="binary", window_us=6 * HOUR_US, better="lower")
    gate = Gate(name="no more appeals", metric=appeals, word="worse_by_at_most", limit=0.01)
    evidence = OnlineEvidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), {0: 0.5})  # period 0: half of the units
    evidence.fold(Exposures(unit=units, at=at_us, arm=arm, period=0 * arm),                # what became known since the last look
                  Measurements(measure=0 * found, unit=found, at=found_us, value=0.0 * found + 1.0),
                  np.array([look_us]))
    (row,) = evidence.results()
    kept = evidence.to_bytes()  # and OnlineEvidence.from_bytes(plan, shares, kept)

Only the first exposure of a unit counts. Its value is fixed when its window is over: `window_us` after that exposure, half open. A unit
that is seen in the other arm within the window is left out of that metric, and counted as `crossed`. A binary value is whether anything
above 0 was measured, a count and a mean are sums, a ratio is two. Without a measurement a unit counts as 0, but for a mean that declares
nothing else it does not count. Rows of one fold may come in any order, and the cut into folds moves nothing.

A gate with `each` compares the arms within each value of a segment that the unit's first exposure tells; every listed value is a member of
the closed test, passes and fails by itself, and has pairs, sums and lifts of its own units.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.fails import Fails, RowKey, testable
from analysis.gates import follow_segments
from analysis.metrics.support import Floats, Ints
from analysis.online.detect import BatchWatch, PairWatch, Rows
from analysis.online.judge import ArmsTest, Evident, Series, Spec, SplitTest, judge, prepare
from analysis.online.pairs import Blocks, check_share
from analysis.online.segments import Slots, Words, check_codes
from analysis.online.split import CONCENTRATION, fired, log_e_split
from analysis.online.sums import N_FIRST, N_RARE, SURE_DENOMINATOR, Sums
from analysis.online.units import Exposures, Measurements, Roster
from analysis.packing import pack, unpack
from analysis.plan import WHOLE, Item, Plan, Value
from analysis.prefix import Split
from analysis.types import Gate, GateResult, InputError

Tally = dict[int, Floats]
"""Units of (incumbent, challenger) by period."""


@dataclass(slots=True)
class OnlineEvidence:
    """The statistics of the gates of a plan on two arms, after each look so far.

    plan: fixed; other bytes are refused. shares: the challenger's share of the units in each allocation period, in (0, 1); later periods
    may be added before they begin, none may change. words: what codes of segments stand for: of each the values that the plan lists and
    after them the words for all others; without it those of the plan alone. split_fired_at: the look at which traffic was found not to be
    split so; None while it was not. strays: measurements of units that were not exposed by then. broken: gate -> the error that stopped it.
    """

    plan: Plan
    shares: Mapping[int, float]
    words: Words | None = None
    last_look: int | None = field(init=False, default=None)
    split_fired_at: int | None = field(init=False, default=None)
    strays: int = field(init=False, default=0)
    broken: dict[str, str] = field(init=False, default_factory=dict)
    _tests: dict[str, ArmsTest | SplitTest] = field(init=False, default_factory=dict)
    _series: dict[Spec, Series] = field(init=False, default_factory=dict)
    _slots: dict[Item, Slots] = field(init=False, default_factory=dict)
    _parts: dict[tuple[Spec, Item], list[Series]] = field(init=False, default_factory=dict)
    _watches: dict[tuple[str, Item], PairWatch | BatchWatch] = field(init=False, default_factory=dict)
    _roster: Roster = field(init=False)
    _first: Tally = field(init=False, default_factory=dict)
    _kept: Tally = field(init=False, default_factory=dict)
    _fails: Fails = field(init=False)

    def __post_init__(self) -> None:
        self.shares = dict(self.shares)
        for share in self.shares.values():
            check_share(share)
        items = {item: self.plan.values(item) or () for gate in self.gates for item in testable(gate)}
        self._fails = Fails(self.plan, "online", {item: Split(item, len(listed), list(listed)) for item, listed in items.items()})
        words = {name: known for name, known in self.plan.listed.items() if known is not None} if self.words is None else self.words
        for gate in self.gates:
            with self._isolated(gate):
                slots = {item: Slots.of(item, self.plan, words) for item in gate.each}
                test = self._tests[gate.name] = prepare(gate)
                if isinstance(test, ArmsTest):
                    self._series.setdefault(test.spec, Series(test.spec))
                    self._slots |= slots
                    for item, its in slots.items():
                        self._parts.setdefault((test.spec, item), [Series(test.spec) for _ in its.values])
                    self._watches |= {(gate.name, item): test.detector(self._fails.splits[item].n_listed)
                                      for item in testable(gate) if gate.counted}
        covariates = sorted({spec.covariate for spec in self._series if spec.covariate is not None})
        self.words = {name: words[name] for name in sorted({name for item in self._slots for name in item})}
        extra: dict[str, type] = {f"{k}.{name}": np.int64 if name == "n" else np.float64
                                  for k in range(len(self._series)) for name in ("total", "of", "n")}
        self._roster = Roster(tuple(covariates), tuple(self.words), extra)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates it folds, in the order of the config."""
        return tuple(gate for gate in self.plan.gates if gate.metric.group == "online")

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured, by the index that `Measurements` gives."""
        return tuple(dict.fromkeys(gate.metric.measure for gate in self.gates if gate.metric.measure is not None))

    @property
    def n_units(self) -> int:
        """Units exposed so far."""
        return len(self._roster)

    @property
    def crossed(self) -> int:
        """Units seen in both arms so far."""
        return int(np.count_nonzero(self._roster.columns["crossed"] < np.iinfo(np.int64).max))

    @property
    def left_out(self) -> dict[str, int]:
        """Measure -> units left out, because they were seen in both arms within their window."""
        return {spec.measure: series.n_left_out for spec, series in self._series.items()}

    @contextmanager
    def _isolated(self, *gates: Gate) -> Iterator[None]:
        """An error inside breaks these gates, for their first reason, and stops no other."""
        try:
            yield
        except Exception as error:
            for gate in gates:
                self.broken.setdefault(gate.name, f"{type(error).__name__}: {error}")

    # ------------------------------------------------------------------------------------------------------------- fold
    def fold(self, exposures: Exposures, measurements: Measurements, looks: NDArray[np.int64]) -> None:
        """Fold what became known since the last look, and evaluate and latch fails at each look.

        Args:
            exposures: In any order, none at or before the last look, all known at the last of these looks. May be empty.
            measurements: Likewise. One of a unit that was not exposed by then counts in `strays` only.
            looks: Record times in microseconds, strictly increasing, after every look before; shape (looks,).

        Raises:
            InputError: rows or looks are out of order, a period has no share, a measure is not known, or a value is none of its type.
                Nothing is folded then.
        """
        looks = np.asarray(looks, np.int64)
        self._check(exposures, measurements, looks)
        if not len(looks):
            return
        self._roster.add(exposures)
        self._measure(measurements)
        after = self.last_look
        ends = {spec: self._roster.columns["first"] + spec.window_us for spec in self._series}
        closing = {spec: self._closing(end, after, looks) for spec, end in ends.items()}
        split = self._fold_split(after, looks)
        paths = {(gate.name, item): np.zeros((self._fails.splits[item].n_listed, len(looks)))
                 for gate in self.gates for item in testable(gate)}  # one that cannot be computed stays a member, at E = 1
        for at, look in enumerate(looks.tolist()):
            self._add_split(split, at, look)
            for k, spec in enumerate(self._series):
                self._close(k, spec, closing[spec][at], ends[spec], look)
            for gate in self.gates:
                with self._isolated(gate):
                    for item in testable(gate):
                        for slot, path in enumerate(paths[gate.name, item]):
                            path[at] = -np.inf if self._misdrawn(gate) else self._read(gate, item, slot).log_e_fail
        self._fails.latch(self.gates, paths, looks)
        self.last_look = int(looks[-1])

    def _check(self, exposures: Exposures, measurements: Measurements, looks: Ints) -> None:
        """Raises InputError before anything has changed."""
        if len(looks) and ((np.diff(looks) <= 0).any() or (self.last_look is not None and looks[0] <= self.last_look)):
            raise InputError(f"looks must rise, after {self.last_look}, got {looks[:3].tolist()}")
        for what, at in (("exposures", exposures.at), ("measurements", measurements.at)):
            if len(at) and (not len(looks) or int(at.max()) > int(looks[-1])):
                raise InputError(f"{what} are later than the last look: {int(at.max())}")
            if len(at) and self.last_look is not None and int(at.min()) <= self.last_look:
                raise InputError(f"{what} are not later than the look at {self.last_look}, which was read without them: {int(at.min())}")
        unknown = sorted(set(np.unique(exposures.period).tolist()) - set(self.shares))
        if unknown:
            raise InputError(f"period {unknown[0]} has no share; shares are known of {sorted(self.shares)}")
        missing = [name for name in self._roster.covariates if len(exposures) and name not in exposures.covariates]
        if missing:
            raise InputError(f"exposures need the covariate {missing[0]!r}; they have {', '.join(exposures.covariates) or 'none'}")
        check_codes(exposures.segments, self.words or {}, len(exposures))
        if len(measurements) and not ((measurements.measure >= 0) & (measurements.measure < len(self.measures))).all():
            raise InputError(f"a measure is an index into {self.measures}, got {np.unique(measurements.measure).tolist()}")
        for k, name in enumerate(self.measures):
            values = measurements.value[measurements.measure == k]
            types = {spec.type for spec in self._series if spec.measure == name}
            if "binary" in types and not np.isin(values, (0.0, 1.0)).all():
                raise InputError(f"{name} is binary: values are 0 or 1, got {values[~np.isin(values, (0.0, 1.0))][0]}")
            if "count" in types and (values < 0.0).any():
                raise InputError(f"{name} is a count: values are at least 0, got {values.min()}")

    def _measure(self, found: Measurements) -> None:
        """Add each measurement to its unit, if it lies within the unit's window. The order is that of time, so sums have the same bits
        however they are cut."""
        under = np.zeros(len(found)) if found.of is None else found.of
        order = np.lexsort([under, found.value, found.at, found.unit])
        place, at, measure = self._roster.places(found.unit)[order], found.at[order], found.measure[order]
        value, of = found.value[order], np.where(under[order] < 0.0, np.nan, under[order])  # no sum hides it: see Series.add
        columns, names = self._roster.columns, self.measures
        since = np.where(place < 0, -1, at - columns["first"][place] if len(self._roster) else -1)
        self.strays += int(np.count_nonzero(since < 0))
        for k, spec in enumerate(self._series):
            rows = np.flatnonzero((measure == names.index(spec.measure)) & (since >= 0) & (since < spec.window_us))
            (np.maximum if spec.type == "binary" else np.add).at(columns[f"{k}.total"], place[rows], value[rows])
            np.add.at(columns[f"{k}.of"], place[rows], of[rows])
            np.add.at(columns[f"{k}.n"], place[rows], 1)

    @staticmethod
    def _closing(ends: Ints, after: int | None, looks: Ints) -> list[Ints]:
        """For each look the places of the units whose time ends by it, and not by the look before; in order of that time, then of id."""
        over = np.flatnonzero((ends <= looks[-1]) & (ends > (np.iinfo(np.int64).min if after is None else after)))
        over = over[np.argsort(ends[over], kind="stable")]
        cuts = np.searchsorted(ends[over], looks, side="right")
        return np.split(over, cuts[:-1])

    def _close(self, k: int, spec: Spec, places: Ints, ends: Ints, look: int) -> None:
        """Fix the values of units whose windows are over; an error breaks the gates of this spec, whose evidence stays as it was."""
        users = [gate for gate in self.gates if isinstance(t := self._tests.get(gate.name), ArmsTest) and t.spec == spec]
        if not len(places) or any(gate.name in self.broken for gate in users):
            return
        columns, series = self._roster.columns, self._series[spec]
        crossed = columns["crossed"][places] < ends[places]
        counts = ~crossed & (columns[f"{k}.n"][places] > 0) if spec.type == "mean" and spec.absent is None else ~crossed
        mine = places[counts]
        values = columns[f"{k}.total"][mine]
        if spec.absent is not None:
            values = np.where(columns[f"{k}.n"][mine] > 0, values, spec.absent)
        before = columns[f"x.{spec.covariate}"][mine] if spec.covariate is not None else np.zeros(len(mine))
        rows = values, columns[f"{k}.of"][mine], before, columns["arm"][mine], columns["period"][mine]
        with self._isolated(*users):
            self._watch(users, WHOLE, 0, rows, series.add(*rows, self.shares), look)
            series.n_events += int(columns[f"{k}.n"][mine].sum())
            series.n_left_out += int(np.count_nonzero(crossed))
            for (its, item), parts in self._parts.items():
                at = self._slots_of(item, mine) if its == spec else places[:0]
                for slot in np.unique(at).tolist():
                    chosen = rows[0][at == slot], rows[1][at == slot], rows[2][at == slot], rows[3][at == slot], rows[4][at == slot]
                    self._watch(users, item, slot, chosen, parts[slot].add(*chosen, self.shares), look)
                    parts[slot].n_events += int(columns[f"{k}.n"][mine[at == slot]].sum())
        for name in ("total", "of", "n"):
            columns[f"{k}.{name}"][places] = 0

    def _watch(self, users: list[Gate], item: Item, slot: int, rows: Rows, pairs: Floats, look: int) -> None:
        """Let the change detectors of these gates take what a slot was given."""
        for gate in users:
            watch = self._watches.get((gate.name, item))
            if watch is None or slot >= watch.n_slots:
                continue
            enough = max(self.plan.detect_units, watch.n_first) / self.plan.fail_level
            if watch.take(slot, rows, pairs, enough):
                self._fails.alarm(gate, item, {} if self._misdrawn(gate) else {slot: look})

    def _slots_of(self, item: Item, places: Ints) -> Ints:
        """The slot of each of these units, shape (n,)."""
        return self._slots[item].slots({name: self._roster.columns[f"s.{name}"][places] for name in item}, len(places))

    # ------------------------------------------------------------------------------------------------------------ split
    def _fold_split(self, after: int | None, looks: Ints) -> tuple[list[Ints], list[Ints]]:
        """For each look the places of the units it hears first: at once, and when their longest window is over."""
        columns = self._roster.columns
        longest = max((spec.window_us for spec in self._series), default=None)
        at_once = self._closing(columns["first"], after, looks)
        once = [places[columns["crossed"][places] > columns["first"][places]] for places in at_once]
        if longest is None:
            return once, [places[:0] for places in once]
        later = self._closing(columns["first"] + longest, after, looks)
        return once, [places[columns["left"][places] >= columns["first"][places] + longest] for places in later]

    def _add_split(self, split: tuple[list[Ints], list[Ints]], at: int, look: int) -> None:
        for tally, parts in zip((self._first, self._kept), split, strict=True):
            arm, period = self._roster.columns["arm"][parts[at]], self._roster.columns["period"][parts[at]]
            for p in np.unique(period).tolist():
                tally[p] = tally.get(p, np.zeros(2)) + np.bincount(arm[period == p], minlength=2)
        if self.split_fired_at is None and fired(log_e_split(self._first, self._kept, self.shares)):
            self.split_fired_at = look

    def _misdrawn(self, gate: Gate) -> bool:
        """Whether a gate on the arms' outcomes is known to compare different people."""
        return gate.metric.kind == "online" and self.split_fired_at is not None

    # ---------------------------------------------------------------------------------------------------------- results
    def _read(self, gate: Gate, item: Item = WHOLE, slot: int = 0) -> Evident:
        test = self._tests[gate.name]
        if not isinstance(test, ArmsTest):
            return test.read(self._first, self.shares)
        return test.read(self._parts[test.spec, item][slot] if item else self._series[test.spec])

    def results(self) -> tuple[GateResult, ...]:
        """Each gate's whole row and the rows of its segments at the last look folded, in the order of the config."""
        return tuple(row for gate in self.gates for row in self._results_of(gate))

    def _results_of(self, gate: Gate) -> Iterator[GateResult]:
        whole, parts = self._judged(gate), []
        for item in gate.each if gate.name in self._tests else ():
            slots = self._slots[item]
            exposed = np.bincount(self._slots_of(item, np.arange(self.n_units)), minlength=len(slots.values))
            parts += [(self._judged(gate, item, slot), n > 0) for slot, n in enumerate(exposed.tolist()) if n or slot < slots.n_listed]
        yield follow_segments(gate, whole, parts) if gate.each else whole
        yield from (row for row, _ in parts)

    def _judged(self, gate: Gate, item: Item = WHOLE, slot: int = 0) -> GateResult:
        seen = None
        if gate.name in self._tests and gate.name not in self.broken:
            with self._isolated(gate):
                seen = self._read(gate, item, slot)
        segment = dict(zip(item, self._slots[item].values[slot], strict=True)) if item else None
        key = gate.name, item, slot
        return judge(gate, seen, segment=segment, failed=key in self._fails.failed, alarmed_at=self._fails.alarmed.get(key),
                     misdrawn=self.split_fired_at is not None, alpha=self.plan.alpha_of(gate), fail_level=self.plan.fail_level)

    def failed_at(self, gate: str, segment: Mapping[str, str] | None = None) -> int | None:
        """The look, in microseconds, at which a row failed; None while it has not."""
        return self._latched(self._fails.failed, gate, segment)

    def alarmed_at(self, gate: str, segment: Mapping[str, str] | None = None) -> int | None:
        """The look, in microseconds, at which a row's change detector raised its alarm; None while it has not."""
        return self._latched(self._fails.alarmed, gate, segment)

    def _latched(self, latched: Mapping[RowKey, int], gate: str, segment: Mapping[str, str] | None) -> int | None:
        item, value = tuple(segment or ()), tuple((segment or {}).values())
        known: tuple[Value, ...] = self._slots[item].values if item in self._slots else () if item else ((),)
        return latched.get((gate, item, known.index(value))) if value in known else None

    def _every_series(self) -> tuple[Series, ...]:
        return *self._series.values(), *(series for parts in self._parts.values() for series in parts)

    # ------------------------------------------------------------------------------------------------------------ bytes
    def to_bytes(self) -> bytes:
        """The whole state, with the digest of plan and designs; the same state gives the same bytes."""
        periods = sorted(set(np.unique(self._roster.columns["period"]).tolist()))
        head = {
            "design": self._design(), "last_look": self.last_look, "split_fired_at": self.split_fired_at, "strays": self.strays,
            "broken": self.broken, "failed": sorted([*key, at] for key, at in self._fails.failed.items()),
            "alarmed": sorted([*key, at] for key, at in self._fails.alarmed.items()),
            "shares": [[p, self.shares[p]] for p in periods],
            "series": [[s.n_events, s.n_left_out, sorted(s.blocks)] for s in self._every_series()],
            "split": [[[p, *counts.tolist()] for p, counts in sorted(tally.items())] for tally in (self._first, self._kept)],
        }
        arrays: dict[str, NDArray[Any]] = {"ids": self._roster.ids}
        arrays |= {f"units.{name}": column for name, column in self._roster.columns.items()}
        arrays |= {f"watch.{k}.{name}": x for k, watch in enumerate(self._watches.values()) for name, x in watch.arrays().items()}
        for k, series in enumerate(self._every_series()):
            arrays |= {f"sums.{k}.{name}": array for name, array in series.sums.arrays().items()}
            arrays |= {} if series.counts is None else {f"counts.{k}": series.counts}
            for p, blocks in series.blocks.items():
                arrays |= {f"blocks.{k}.{p}.{name}": array for name, array in blocks.arrays().items()}
        return pack(head, arrays)

    def _design(self) -> str:
        """SHA-256 of the plan and of every lift, bet and constant, to nine digits."""
        facts = [self.plan.digest(), *(test.facts() for test in self._tests.values()),
                 repr((N_FIRST, N_RARE, SURE_DENOMINATOR, CONCENTRATION)), repr(self.words)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    @classmethod
    def from_bytes(cls, plan: Plan, shares: Mapping[int, float], data: bytes, words: Words | None = None) -> OnlineEvidence:
        """The state that `to_bytes` gave.

        Raises:
            InputError: the bytes are damaged, or belong to another plan, or the share of a period that has begun is another.
        """
        head, arrays = unpack(data)
        new = cls(plan, shares, words)
        if head.get("design") != new._design():
            raise InputError("this evidence was folded under another plan or design: changed gates are a new attempt")
        for period, share in head["shares"]:
            if new.shares.get(period) != share:
                raise InputError(f"period {period} began with the share {share}, got {new.shares.get(period)}: a new share is a new period")
        new.last_look, new.split_fired_at, new.strays = head["last_look"], head["split_fired_at"], head["strays"]
        new.broken = head["broken"]
        for latched, found in ((new._fails.failed, head["failed"]), (new._fails.alarmed, head["alarmed"])):
            latched |= {(name, tuple(item), slot): at for name, item, slot, at in found}
        for k, watch in enumerate(new._watches.values()):
            watch.load({name: arrays[f"watch.{k}.{name}"] for name in watch.arrays()})
        new._roster.ids = arrays["ids"]
        new._roster.columns = {name: arrays[f"units.{name}"] for name in new._roster.columns}
        for k, (series, (n_events, n_left_out, periods)) in enumerate(zip(new._every_series(), head["series"], strict=True)):
            series.n_events, series.n_left_out = n_events, n_left_out
            series.sums = Sums.from_arrays({name: arrays[f"sums.{k}.{name}"] for name in Sums().arrays()})
            series.counts = arrays.get(f"counts.{k}")
            for p in periods:
                series.blocks[p] = Blocks(new.shares[p])
                series.blocks[p].load({name: arrays[f"blocks.{k}.{p}.{name}"] for name in series.blocks[p].arrays()})
        for tally, rows in zip((new._first, new._kept), head["split"], strict=True):
            tally |= {p: np.array([old, fresh]) for p, old, fresh in rows}
        return new
