"""The people whom the challenger served, one row a unit, for those who must be told: keyed hashes, never names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.stages import Span
from harness.ports.observations import ROW, ObservationLog
from harness.roles.exposed import CHALLENGER, EXPOSURES, stage_of

COLUMNS = ("unit_id", "first", "last", "percent", "attempt", "stage")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposedUnits:
    """Columns of shape (n,), by rising first exposure: first, last (record time, microseconds) of exposures to the challenger; percent,
    attempt and stage at the first."""

    unit_id: NDArray[np.uint64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    percent: NDArray[np.float64]
    attempt: NDArray[np.int64]
    stage: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.unit_id)


def exposed_units(log: ObservationLog, stages: Sequence[Span]) -> ExposedUnits:
    """Everybody whom production reported as served by the challenger. stages: all so far, oldest first; at least one."""
    found = [log.rows(source, 0)[0] for source in log.sources() if source.rpartition("/")[0] == EXPOSURES]
    rows: NDArray[Any] = np.concatenate([np.empty(0, ROW), *(each[each["value"] == CHALLENGER] for each in found)])
    rows = rows[np.lexsort((rows["arrived"], rows["unit"]))]
    begins = np.flatnonzero(np.r_[True, rows["unit"][1:] != rows["unit"][:-1]]) if len(rows) else np.empty(0, np.intp)
    ends = np.r_[begins[1:], len(rows)] - 1 if len(rows) else begins
    order = np.argsort(rows["arrived"][begins], kind="stable")
    first, last = rows[begins[order]], rows[ends[order]]
    which = stage_of(stages, first["arrived"])
    of_stage = np.array([span.percent for span in stages])[which]
    return ExposedUnits(
        unit_id=first["unit"].astype(np.uint64), first=first["arrived"].astype(np.int64), last=last["arrived"].astype(np.int64),
        percent=np.where(np.isnan(first["of"]), of_stage, first["of"]),
        attempt=np.array([span.attempt for span in stages])[which], stage=np.array([span.stage for span in stages])[which],
    )  # fmt: skip
