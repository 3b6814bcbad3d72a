"""A harm in both lanes: how often, over everyone and in each segment, worst first. "Cannot tell" is an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.figures.shares import Mask
from analysis.metrics.contributions import paired_rows
from analysis.sequential.mixture import Process, undesigned_bets
from analysis.types import Interval, Metric, PairTable

Effect = Literal["worse", "better", "cannot tell"]
SMALLEST_FRACTION = 1e-6
FEW_UNITS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmCounts:
    """Labelled pairs of one truth class, and how many of them each lane gives the harmful decision."""

    n_events: int
    n_units: int
    incumbent: int
    challenger: int

    @property
    def rates(self) -> tuple[float, float] | None:
        """(incumbent, challenger) in [0, 1]; None without events, which is not zero."""
        return (self.incumbent / self.n_events, self.challenger / self.n_events) if self.n_events else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEffect:
    """One value of a segment. `change`: challenger's rate minus incumbent's over first events of units, valid at every look."""

    segment: str
    value: str
    counts: HarmCounts
    change: Interval | None

    @property
    def effect(self) -> Effect:
        """Worse or better where the interval says so, else nothing."""
        if self.change is None or self.change.low <= 0.0 <= self.change.high:
            return "cannot tell"
        return "worse" if self.change.low > 0.0 else "better"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEffects:
    """A harm in every value of the segments: what is worse by most first, what nobody can tell last."""

    overall: HarmCounts
    rows: tuple[SegmentEffect, ...]


def harm_rows(table: PairTable, harm: Metric) -> Mask:
    """Labelled pairs of the harm's truth class that both lanes decided, shape (rows,); none where the policy has no truth."""
    if f"{harm.policy}.truth" not in table.columns:
        return np.zeros(len(table), bool)
    decided = (table[f"{harm.policy}.incumbent"] >= 0) & (table[f"{harm.policy}.challenger"] >= 0)
    rows: Mask = paired_rows(table) & decided & (table[f"{harm.policy}.truth"] == int(bool(harm.truth)))
    return rows


def harmed(table: PairTable, policy: str, decisions: Sequence[str], lane: str) -> Mask:
    """Where a lane gives one of these decisions, shape (rows,)."""
    wanted = [code for code, word in enumerate(table.words[policy]) if word in decisions]
    found: Mask = np.isin(table[f"{policy}.{lane}"], wanted)
    return found


def harm_counts(table: PairTable, harm: Metric) -> HarmCounts:
    """A harm (a metric of that kind) over all rows of a table."""
    rows = harm_rows(table, harm)
    old, new = (harmed(table, harm.policy or "", harm.decisions, lane)[rows] for lane in ("incumbent", "challenger"))
    return _counts(old, new, table["unit_id"][rows])


def segment_effects(table: PairTable, harm: Metric, segments: Sequence[str], *, alpha: float) -> SegmentEffects:
    """A harm in every value of these segments.

    Args:
        harm: A metric of that kind.
        segments: Names; values without a labelled pair of the class have no row.
        alpha: Chance that a row's interval ever leaves its mean, at any look, in (0, 1); for one row, not for all together.
    """
    found = [
        SegmentEffect(segment=name, value=value, counts=_counts(*part), change=_change(*part, alpha))
        for name, value, part in _parts(table, harm, segments)
    ]
    return SegmentEffects(overall=harm_counts(table, harm), rows=tuple(sorted(found, key=_worst_first)))


def segment_counts(table: PairTable, harm: Metric, segments: Sequence[str]) -> list[tuple[str, str, HarmCounts]]:
    """(segment, value, counts) of a harm in every value of these segments, without intervals."""
    return [(name, value, _counts(*part)) for name, value, part in _parts(table, harm, segments)]


def _parts(table: PairTable, harm: Metric, segments: Sequence[str]) -> Iterator[tuple[str, str, tuple[Mask, Mask, NDArray[Any]]]]:
    """(segment, value, (harmed by the incumbent, by the challenger, unit) of its labelled pairs)."""
    rows = harm_rows(table, harm)
    if not rows.any():
        return
    old, new = (harmed(table, harm.policy or "", harm.decisions, lane)[rows] for lane in ("incumbent", "challenger"))
    units = table["unit_id"][rows]
    for name in segments:
        codes = table[f"segment.{name}"][rows]
        for code in np.unique(codes[codes >= 0]):
            of = codes == code
            yield name, table.words[f"segment.{name}"][int(code)], (old[of], new[of], units[of])


def _counts(old: Mask, new: Mask, units: NDArray[Any]) -> HarmCounts:
    return HarmCounts(
        n_events=len(old), n_units=len(np.unique(units)), incumbent=int(np.count_nonzero(old)), challenger=int(np.count_nonzero(new))
    )


def _change(old: Mask, new: Mask, units: NDArray[Any], alpha: float) -> Interval | None:
    """Confidence sequence of challenger minus incumbent over the first event of each unit; None where the units are few."""
    _, first = np.unique(units, return_index=True)
    if len(first) < FEW_UNITS:
        return None
    difference = new[first].astype(np.int64) - old[first].astype(np.int64)
    counts, values = np.bincount(difference + 1, minlength=3).astype(np.float64), np.array([-1.0, 0.0, 1.0])
    bets = undesigned_bets(SMALLEST_FRACTION)
    low, high = (Process(side, 0.0, -1.0, 1.0, bets).bound(counts, values, level=alpha / 2.0) for side in ("above", "below"))
    return Interval(low=low, high=high)


def _worst_first(row: SegmentEffect) -> tuple[int, float, str, str]:
    old, new = row.counts.rates or (0.0, 0.0)
    return {"worse": 0, "better": 1, "cannot tell": 2}[row.effect], old - new, row.segment, row.value
