"""A canary's two arms as the analyst folds them: exposures and measurements of one stage, in the order of arrival, look by look.

A stage is a process of its own: only what arrives after it began counts. Who was assigned at another percent than others is told apart
by the percent that production recorded, a period each, so a ramp or a slow roll-out of a new percent compares nobody with the wrong people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from analysis.online.evidence import OnlineEvidence
from analysis.online.units import Exposures, Measurements
from analysis.plan import Plan
from analysis.types import GateResult, InputError
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.ports.observations import ROW, ObservationLog
from harness.roles.topology import Topology

PER_PERCENT = 10_000  # a period's number is its percent in steps of so many
MOST_LOOKS = 4_096  # in one fold
Rows = TypeVar("Rows", Exposures, Measurements)


class Arms:
    """The arms of one canary stage.

    percent: the challenger's, where an exposure does not say. since: record time after which rows count, microseconds.
    """

    def __init__(self, rollout: Rollout, topology: Topology, plan: Plan, log: ObservationLog, *, percent: float, since: int) -> None:
        self._topology, self._plan, self._log = topology, plan, log
        self._percent, self.look = percent, since
        self._grid = int(rollout.looks_s * 1e6)
        self._evidence = OnlineEvidence(plan, {})
        self._next = dict.fromkeys(topology.observed, 0)  # source -> the chunk to read next
        self._kept: dict[str, tuple[int, NDArray[Any]]] = {source: (0, np.empty(0, ROW)) for source in topology.observed}

    # -------------------------------------------------------------------------------------------------------------------- state
    def to_bytes(self) -> bytes:
        """Statistics with their cursors."""
        head = {
            "look": self.look, "shares": sorted(self._evidence.shares.items()),
            "chunks": {source: chunk for source, (chunk, _) in self._kept.items()},
        }  # fmt: skip
        return json.dumps(head).encode() + b"\n" + self._evidence.to_bytes()

    def load(self, data: bytes) -> None:
        """The state that `to_bytes` gave. Raises InputError, ValueError or KeyError for another plan's, or damaged bytes."""
        head, _, blob = data.partition(b"\n")
        saved = json.loads(head)
        self._evidence = OnlineEvidence.from_bytes(self._plan, {int(period): share for period, share in saved["shares"]}, blob)
        self.look = saved["look"]
        self._next = {source: saved["chunks"].get(source, 0) for source in self._topology.observed}
        self._kept = {source: (chunk, np.empty(0, ROW)) for source, chunk in self._next.items()}

    # --------------------------------------------------------------------------------------------------------------------- fold
    def resolved(self) -> int:
        """The record time up to which every source was read; 0 when one never spoke."""
        return min((self._log.load(source).arrived for source in self._topology.observed), default=0)

    def advance(self) -> bool:
        """Folds up to the last look that every source has passed. Returns whether there was one."""
        look = self.resolved() // self._grid * self._grid
        if look <= self.look:
            return False
        exposures, measurements = self._take(look)
        looks = self._looks(look, exposures)
        for some in np.split(looks, np.arange(MOST_LOOKS, len(looks), MOST_LOOKS)):
            self._evidence.fold(_known(exposures, self.look, some[-1]), _known(measurements, self.look, some[-1]), some)
            self.look = int(some[-1])
        return True

    def _looks(self, look: int, exposures: Exposures) -> NDArray[np.int64]:
        """Every look of the grid after the last one, up to this: how it is cut into folds moves nothing. Before the first exposure there
        is nothing to look at."""
        first = self.look + 1
        if not self._evidence.n_units:
            first = max(first, int(exposures.at.min()) if len(exposures) else look)
        return np.arange(-(-first // self._grid) * self._grid, look + 1, self._grid, dtype=np.int64)

    def _take(self, look: int) -> tuple[Exposures, Measurements]:
        """Everything that arrived after the last look and by this one."""
        parts: dict[str, list[NDArray[Any]]] = {}
        for source in self._topology.observed:
            name = source.rpartition("/")[0]
            chunk, kept = self._kept[source]
            start = self._next[source]
            new, self._next[source] = self._log.rows(source, start)
            rows = np.concatenate([kept, new[new["arrived"] > self.look]])
            ready = rows["arrived"] <= look
            left = rows[~ready]
            if not (kept["arrived"] > look).any():
                chunk = start if len(left) else self._next[source]
            self._kept[source] = (chunk, left)
            parts.setdefault(name, []).append(rows[ready])
        return self._exposures(np.concatenate(parts["exposures"])), self._measurements(parts)

    def _exposures(self, rows: NDArray[Any]) -> Exposures:
        """Those of the rows that were drawn: at 0 or 100 percent nobody was."""
        percent = np.where(np.isnan(rows["of"]), self._percent, rows["of"])
        period = np.rint(percent * PER_PERCENT).astype(np.int64)
        drawn = (period > 0) & (period < 100 * PER_PERCENT)
        rows, period = rows[drawn], period[drawn]
        self._evidence.shares = {each: each / (100.0 * PER_PERCENT) for each in np.unique(period).tolist()} | dict(self._evidence.shares)
        return Exposures(unit=rows["unit"], at=rows["arrived"], arm=rows["value"].astype(np.int8), period=period)

    def _measurements(self, parts: dict[str, list[NDArray[Any]]]) -> Measurements:
        """Those that a gate reads."""
        found = [(k, rows) for k, name in enumerate(self._evidence.measures) for rows in parts.get(name, ())]
        all_rows = np.concatenate([rows for _, rows in found]) if found else np.empty(0, ROW)
        measure = np.concatenate([np.full(len(rows), k) for k, rows in found]) if found else np.empty(0, np.int64)
        return Measurements(
            measure=measure.astype(np.int64), unit=all_rows["unit"], at=all_rows["arrived"], value=all_rows["value"], of=all_rows["of"]
        )

    # ------------------------------------------------------------------------------------------------------------------ results
    def results(self) -> tuple[GateResult, ...]:
        """One row a gate at the last look."""
        return self._evidence.results()

    def document(self) -> dict[str, Any]:
        """What the verdict says of the arms: units exposed, those seen in both arms, measurements of units that nobody exposed, the look
        at which the split was found not to be the configured one, and the last look."""
        fired = self._evidence.split_fired_at
        return {
            "units": self._evidence.n_units, "crossed": self._evidence.crossed, "strays": self._evidence.strays,
            "split_fired_at": None if fired is None else timestamp(fired), "as_of": timestamp(self.look),
        }  # fmt: skip


def _known(rows: Rows, after: int, look: int) -> Rows:
    """Those that arrived after one look and by another."""
    mine = (rows.at > after) & (rows.at <= look)
    if mine.all():
        return rows
    taken: dict[str, Any] = {}
    for each in fields(rows):
        found = getattr(rows, each.name)
        taken[each.name] = {name: x[mine] for name, x in found.items()} if isinstance(found, Mapping) else found[mine]
    return replace(rows, **taken)


def restored(arms: Arms, data: bytes) -> Arms:
    """The arms with their saved state, or as they are when it is of another plan."""
    try:
        arms.load(data)
    except (InputError, ValueError, KeyError):
        return arms
    return arms
