"""The gates of a verdict as intervals beside their limits, one axis a gate, worst rows first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

from analysis.types import Gate, Word

SEVERITY = {"fail": 0, "undecided": 1, "pass": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One row of the verdict: the whole gate (segment None) or one value of its segments. Numbers in the metric's own unit.

    labels: pairs of which one was requested, that are labelled, and that wait (pending); None where requests are not recorded.
    """

    segment: Mapping[str, str] | None
    status: str
    reason: str | None
    estimate: float | None
    lower: float | None
    upper: float | None
    estimate_events: float | None
    n_units: int
    n_events: int
    labels: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateIntervals:
    """One gate: its rows, the lines it must stay on one side of (two for `within`), and the axis that all rows share.

    `good`: the side of the lines that passes. `low` and `high` end the axis; an interval may reach beyond.
    """

    gate: Gate
    lines: tuple[float, ...]
    good: Literal["below", "above", "between"]
    low: float
    high: float
    rows: tuple[GateRow, ...]

    @property
    def whole(self) -> GateRow | None:
        """The row of the whole gate."""
        return next((row for row in self.rows if not row.segment), None)


def gate_intervals(gates: Sequence[Gate], rows: Sequence[Mapping[str, Any]]) -> tuple[GateIntervals, ...]:
    """Every configured gate in the config's order; one without a row in the verdict has none here either.

    Args:
        rows: `gates` of a verdict.json.
    """
    found = []
    for gate in gates:
        own = [_row(row) for row in rows if row["name"] == gate.name]
        whole, parts = [r for r in own if not r.segment], [r for r in own if r.segment]
        parts.sort(key=lambda row, gate=gate: _worst_first(gate.word, row))  # type: ignore[misc]
        lines, good = _lines(gate.word, gate.limit)
        low, high = _axis(lines, gate.compared or gate.word == "within", whole, parts)
        found.append(GateIntervals(gate=gate, lines=lines, good=good, low=low, high=high, rows=(*whole, *parts)))
    return tuple(found)


def _row(row: Mapping[str, Any]) -> GateRow:
    numbers = {key: _number(row[key]) for key in ("estimate", "lower", "upper", "estimate_events")}
    return GateRow(
        segment=row["segment"] or None,
        status=row["status"],
        reason=row["reason"],
        n_units=row["n_units"],
        n_events=row["n_events"],
        labels=row.get("labels"),
        **numbers,
    )


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


def _lines(word: Word, limit: float) -> tuple[tuple[float, ...], Literal["below", "above", "between"]]:
    if word == "below":
        return (limit,), "below"
    if word == "within":
        return (-limit, limit), "between"
    return (-limit if word == "worse_by_at_most" else limit,), "above"


def _worst_first(word: Word, row: GateRow) -> tuple[int, float, str]:
    estimate = row.estimate or 0.0
    badness = {"below": estimate, "within": abs(estimate)}.get(word, -estimate)
    return SEVERITY.get(row.status, 1), -badness, str(row.segment)


def _axis(lines: Sequence[float], zero: bool, whole: Sequence[GateRow], parts: Sequence[GateRow]) -> tuple[float, float]:
    """From the lines, every estimate and the whole row's interval, with a margin; intervals of segments may be wider."""
    seen = [*lines, *([0.0] if zero else [])]
    seen += [x for row in whole for x in (row.lower, row.upper) if x is not None]
    seen += [row.estimate for row in (*whole, *parts) if row.estimate is not None]
    low, high = min(seen), max(seen)
    margin = 0.12 * (high - low) or 0.5 * abs(high) or 1.0
    return low - margin, high + margin
