"""What was observed of a canary, folded again: the rows that a decision rests on, and what the analyst's own folds say of them.

The seal and the audit call this with the same rows, so that both find what the analyst found, whatever its folds become.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import GateResult
from harness.core.observations import Observation
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.core.sealed import numbered
from harness.core.stages import Span
from harness.ports.bus import Partition
from harness.ports.observations import ROW, ObservationLog, Observed
from harness.roles.analyst import plan_of
from harness.roles.arms import Arms
from harness.roles.exposed import CHALLENGER, EXPOSURES, Exposed, stage_of
from harness.roles.topology import Topology

Rows = Mapping[str, NDArray[Any]]
"""Source, as in "exposures/0" -> rows of `ports.observations.ROW`, in order of arrival."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The place of a decision among observations. since, look: record times, microseconds: of the stage, and the last of its arms;
    look is None where no arms were folded, as in a shadow stage. spans: every stage so far, oldest first."""

    stage: int
    attempt: int
    since: int
    look: int | None
    spans: tuple[Span, ...]

    @classmethod
    def of(cls, verdict: Mapping[str, Any], spans: tuple[Span, ...]) -> Asked:
        """Of a verdict, or of the evidence of a record."""
        since, arms = microseconds(verdict.get("since")), verdict.get("arms")
        return cls(
            stage=verdict["stage_index"], attempt=verdict["attempt"], since=-1 if since is None else since,
            look=None if arms is None else microseconds(arms["as_of"]), spans=spans,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Recounted:
    """What the rows give: a row for each gate on the two arms; `arms` (None where none were folded) and `exposed` of the verdict."""

    rows: tuple[GateResult, ...]
    arms: Mapping[str, Any] | None
    exposed: Mapping[str, Any]


def rows_of(log: ObservationLog, asked: Asked) -> dict[str, NDArray[Any]]:
    """The rows that a decision rests on, units numbered: all of the stage that its arms had folded at their look; beside these, of whom
    the challenger served, the first exposure in each stage, as it is known now."""
    found, exposed = dict[str, NDArray[Any]](), dict[str, NDArray[np.bool_]]()
    for source in log.sources():
        rows, _ = log.rows(source, 0)
        folded = np.zeros(len(rows), np.bool_)
        if asked.look is not None:
            folded = (rows["arrived"] > asked.since) & (rows["arrived"] <= asked.look)
        kept = folded.copy()
        if source.rpartition("/")[0] == EXPOSURES:
            kept |= _served(rows, asked.spans)
            exposed[source] = folded[kept]
        if kept.any():
            found[source] = rows[kept]
    return numbered(found, exposed=exposed)


def _served(rows: NDArray[Any], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which rows are the first exposure of a unit to the challenger in a stage; shape (n,)."""
    challenger = np.flatnonzero(rows["value"] == CHALLENGER)
    which = stage_of(spans, rows["arrived"][challenger])
    kept = np.zeros(len(rows), np.bool_)
    for stage in np.unique(which).tolist():
        mine = challenger[which == stage]
        _, first = np.unique(rows["unit"][mine], return_index=True)
        kept[mine[first]] = True
    return kept


def recount(rollout: Rollout, rows: Rows, asked: Asked) -> Recounted:
    """What the analyst's folds say of these rows."""
    sources = dict.fromkeys((f"{EXPOSURES}/0", *(f"{name}/0" for name in rollout.online), *sorted(rows)))
    observed = {source: Partition(source, 0) for source in sources}
    topology = Topology(rollout=rollout.name, shards=0, sources={}, observed=observed)
    log = _Sealed(rows, -1 if asked.look is None else asked.look)
    served = Exposed(topology, log)
    served.follow(asked.spans)
    served.advance()
    if asked.look is None:
        return Recounted(rows=(), arms=None, exposed=served.document())
    percent = rollout.stages[asked.stage].percent
    arms = Arms(rollout, topology, plan_of(rollout, asked.stage, asked.attempt), log, percent=percent, since=asked.since)
    arms.advance()
    return Recounted(rows=arms.results(), arms=arms.document(), exposed=served.document())


@dataclass(frozen=True, slots=True)
class _Sealed:
    """Rows that no longer change, as an `ObservationLog` of which every source was read up to `until`."""

    _rows: Rows
    _until: int
    _none: NDArray[Any] = field(default_factory=lambda: np.empty(0, ROW))

    def load(self, source: str) -> Observed:
        return Observed(arrived=self._until)

    def rows(self, source: str, start: int) -> tuple[NDArray[Any], int]:
        found = self._rows.get(source, self._none)
        return found[start:], len(found)

    def sources(self) -> Sequence[str]:
        return sorted(self._rows)

    def append(self, source: str, observations: Sequence[Observation], observed: Observed, *, after: Observed) -> None:
        raise TypeError("sealed rows are not added to")

    def forget(self, unit: int) -> int:
        raise TypeError("sealed rows are not taken out")
