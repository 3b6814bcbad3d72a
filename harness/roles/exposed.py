"""Whom the challenger served, by stage, and which harms befell them: from what production reports, whenever it comes.

Both are read as they stand at this moment, not at a look: a harm counts as soon as its label is known, and nothing waits for it to mature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import PairTable
from harness.core.errors import Overrun
from harness.core.pairing import Snapshot
from harness.core.rollout import Rollout, Stage
from harness.core.stages import Span, State
from harness.core.table import TableBuilder
from harness.ports.clock import Clock
from harness.ports.observations import ObservationLog
from harness.ports.pairlog import PairLog
from harness.roles.prefix import first_stored
from harness.roles.topology import Topology

SLICE_ROWS = 65_536
IDLE_SHARE = 4  # reading rows again takes at most one part in five of the time
LONGEST_PAUSE = 60_000_000  # microseconds; more is a clock that was set back
EXPOSURES, CHALLENGER = "exposures", 1.0
Ids = NDArray[np.uint64]


@dataclass(slots=True)
class Units:
    """A set of units that grows: most of it sorted, and a small sorted part that is merged when it is no longer small."""

    _base: Ids = field(default_factory=lambda: np.empty(0, np.uint64))
    _new: Ids = field(default_factory=lambda: np.empty(0, np.uint64))

    def __len__(self) -> int:
        return len(self._base) + len(self._new)

    def has(self, units: Ids) -> NDArray[np.bool_]:
        """Whether each is in the set; shape (n,)."""
        return _among(self._base, units) | _among(self._new, units)

    def add(self, units: Ids) -> None:
        """Takes units, any number of times each."""
        units = np.unique(units)
        self._new = np.union1d(self._new, units[~_among(self._base, units)])
        if 8 * len(self._new) > len(self._base):
            self._base, self._new = np.union1d(self._base, self._new), np.empty(0, np.uint64)


def _among(known: Ids, units: Ids) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(units), np.bool_)
    at = np.minimum(np.searchsorted(known, units), len(known) - 1)
    found: NDArray[np.bool_] = known[at] == units
    return found


def stage_of(stages: Sequence[Span], at: NDArray[np.int64]) -> NDArray[np.intp]:
    """Which of these stages each record time lies in: after the stage's `since`, up to that of the next. Shape (n,)."""
    begun = np.maximum.accumulate([span.since for span in stages])
    return np.maximum(np.searchsorted(begun, at, side="left") - 1, 0)


class Exposed:
    """The units that the challenger served, by stage. A unit counts once a stage, however often production reports it."""

    def __init__(self, topology: Topology, log: ObservationLog) -> None:
        self._log = log
        self._sources = [source for source in topology.observed if source.rpartition("/")[0] == EXPOSURES]
        self._begin(())

    def _begin(self, stages: tuple[Span, ...]) -> None:
        self._stages = stages
        self._next = dict.fromkeys(self._sources, 0)
        self._every, self._units = Units(), [Units() for _ in stages]

    def follow(self, stages: tuple[Span, ...]) -> None:
        """The stages so far; when another has begun, everything is read again: an exposure may be of it that came before its record."""
        if stages != self._stages:
            self._begin(stages)

    def advance(self) -> bool:
        """Reads on. Returns whether there was a unit more."""
        before = sum(map(len, self._units))
        for source in self._sources:
            rows, self._next[source] = self._log.rows(source, self._next[source])
            rows = rows[rows["value"] == CHALLENGER]
            if not len(rows):
                continue
            self._every.add(rows["unit"])
            which = stage_of(self._stages, rows["arrived"])
            for k in np.unique(which).tolist():
                self._units[k].add(rows["unit"][which == k])
        return sum(map(len, self._units)) > before

    def now(self) -> Units:
        """Those of the present stage."""
        return self._units[-1]

    def document(self) -> dict[str, Any]:
        """How many units the challenger served, and how many in each stage with a share of them for it, or with a unit."""
        return {
            "units": len(self._every),
            "stages": [
                {"attempt": span.attempt, "stage_index": span.stage, "percent": span.percent, "units": len(units)}
                for span, units in zip(self._stages, self._units, strict=True) if span.percent or len(units)
            ],
        }  # fmt: skip


class ExposedHarms:
    """How often each harm that a stage stops after befell people whom the challenger served; an event counts once.

    Every row of the stage is read again whenever one was resolved, a label came or a unit was exposed, in slices that take at most a
    fifth of the time: so the count is exact once it has gone through, and what it has found on the way stops a rollout at once.
    """

    def __init__(
        self, rollout: Rollout, stage: Stage, pair_logs: Sequence[PairLog], clock: Clock, *, since: int, units: Units | None
    ) -> None:
        """since: record time after which rows count, microseconds. units: whom the challenger serves; None: everybody."""
        self._pair_logs, self._clock, self._since, self._units = pair_logs, clock, since, units
        self._harms = [rollout.harms[name] for name in stage.stop_after]
        self._builder = TableBuilder(rollout)
        self.counts = dict.fromkeys(stage.stop_after, 0)
        self._seen: tuple[int, ...] = ()
        self._left: list[tuple[int, int, int]] = []  # (shard, first ordinal, the one after the last) still to be read
        self._found = dict(self.counts)
        self._resume_at = 0

    def advance(self, snapshots: Sequence[Snapshot], start: Mapping[int, int]) -> bool:
        """Counts on. start: shard -> no row of the stage has a smaller ordinal. Returns whether there was anything to count."""
        began = self._clock.now()
        if 0 < self._resume_at - began <= LONGEST_PAUSE:
            return False
        if not self._left:
            counts = [(s.head.resolved, s.head.counts.joined + s.head.counts.revised) for s in snapshots]
            seen = (*(n for pair in counts for n in pair), 0 if self._units is None else len(self._units))
            if seen == self._seen:
                return False
            self._seen, self._found = seen, dict.fromkeys(self.counts, 0)
            self._left = [(shard, start.get(shard, 0), snapshot.head.resolved) for shard, snapshot in enumerate(snapshots)]
        n = 0
        while self._left and n < SLICE_ROWS:
            n += self._read()
        whole = not self._left
        self.counts = {name: found if whole else max(found, self.counts[name]) for name, found in self._found.items()}
        now = self._clock.now()
        self._resume_at = now + IDLE_SHARE * (now - began) if now > began else 0
        return True

    def _read(self) -> int:
        """Counts one slice of one shard; returns how many rows it read."""
        shard, first, stop = self._left.pop()
        log, end = self._pair_logs[shard], min(first + SLICE_ROWS, stop)
        try:
            records = self._builder.layout.records(log.rows(first, end))
        except Overrun:
            self._left.append((shard, first_stored(log, first, stop), stop))
            return 1
        if end < stop:
            self._left.append((shard, end, stop))
        mine = records["arrived"] > self._since
        if self._units is not None:
            mine &= self._units.has(records["unit"])
        if mine.any():
            self._count(self._builder.build([(records[mine], log.words())]))
        return len(records)

    def _count(self, table: PairTable) -> None:
        """Adds the rows where the challenger's decision is one of the harm's, and the truth of its class."""
        for harm in self._harms:
            words = table.words[harm.policy]
            codes = [words.index(decision) for decision in harm.decisions]
            hurt = np.isin(table[f"{harm.policy}.challenger"], codes) & (table[f"{harm.policy}.truth"] == int(harm.truth))
            self._found[harm.name] += int(hurt.sum())


class Served:
    """What a verdict says of the people whom the challenger served. observations: None without exposures, and nothing is said."""

    def __init__(
        self, rollout: Rollout, topology: Topology, pair_logs: Sequence[PairLog], observations: ObservationLog | None, clock: Clock
    ) -> None:
        self._rollout, self._pair_logs, self._clock = rollout, pair_logs, clock
        reads = observations is not None and rollout.exposures is not None
        self._exposed = Exposed(topology, observations) if reads and observations is not None else None
        self._harms: ExposedHarms | None = None

    def begin(self, state: State) -> None:
        """A stage begins, with nothing counted."""
        stage = self._rollout.stages[state.stage]
        everybody = stage.kind == "promote"
        if self._exposed is not None:
            share = {"shadow": 0.0, "promote": 100.0}.get(stage.kind, stage.percent)
            self._exposed.follow(state.spans or (Span(attempt=state.attempt, stage=state.stage, since=state.since, percent=share),))
        self._harms = None
        if stage.stop_after and (everybody or self._exposed is not None):
            units = None if everybody or self._exposed is None else self._exposed.now()
            self._harms = ExposedHarms(self._rollout, stage, self._pair_logs, self._clock, since=state.since, units=units)

    def advance(self, snapshots: Sequence[Snapshot], start: Mapping[int, int]) -> bool:
        """Reads on. Returns whether there is anything new to say."""
        more = self._exposed is not None and self._exposed.advance()
        return (self._harms is not None and self._harms.advance(snapshots, start)) or more

    def document(self) -> dict[str, Any]:
        """`exposed` and `exposed_harms` of the verdict."""
        return {
            "exposed": None if self._exposed is None else self._exposed.document(),
            "exposed_harms": {} if self._harms is None else dict(self._harms.counts),
        }
