"""Gates over a data frame, in a notebook: pandas in, rows that show themselves, pandas out.

For people who have a pair table and questions; a rollout's own rows come from `shadow analyze`, and are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.evidence import Evidence, combine
from analysis.figures.gates import GateIntervals, GateRow, gate_intervals
from analysis.frames import pair_table
from analysis.plan import Plan
from analysis.types import GateResult, PairTable

if TYPE_CHECKING:
    import pandas as pd

HOUR_US = 3_600_000_000
COLUMNS = ("gate", "segment", "status", "reason", "estimate", "lower", "upper", "limit", "n_units", "n_events", "log_e_pass", "log_e_fail")
_COLOURS = {"pass": "#0a6b50", "fail": "#a52c0c", "undecided": "#6b4f00"}
_SIGNS = {"pass": "✓", "fail": "✕", "undecided": "?"}
_WIDTH, _HEIGHT = 220.0, 22.0


@dataclass(frozen=True, slots=True, repr=False)
class Results:
    """The rows of some gates at the last look. A notebook shows them as a table with a picture of each interval.

    plan: the gates and their levels. rows: each gate's whole row, then its segments.
    """

    plan: Plan
    rows: tuple[GateResult, ...]

    def __iter__(self) -> Iterator[GateResult]:
        return iter(self.rows)

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame, a column for each of `COLUMNS`; an unknown number is NaN, no segment the empty text."""
        import pandas as pd

        found = [{"gate": row.name, "segment": _where(row.segment), "status": row.status.name.lower(), "reason": row.reason or "",
                  **{name: getattr(row, name) for name in COLUMNS[4:]}} for row in self.rows]
        table = pd.DataFrame(found, columns=list(COLUMNS))
        numbers = ["estimate", "lower", "upper", "limit", "log_e_pass", "log_e_fail"]
        return table.astype(dict.fromkeys(numbers, "float64") | {"n_units": "int64", "n_events": "int64"})

    def __repr__(self) -> str:
        return "\n".join(f"{row.name}{' ' if row.segment else ''}{_where(row.segment)}: {row.status.name.lower()}, "
                         f"{_shown(row.estimate)} [{_shown(row.lower)}, {_shown(row.upper)}], limit {row.limit:g}, {row.n_units:,} units"
                         for row in self.rows) or "no gate"

    def _repr_html_(self) -> str:
        words = ("gate", "result", "interval and limit", "estimate", "units")
        heads = "".join(f"<th style='text-align:left'>{word}</th>" for word in words)
        documents = [{**asdict(row), "status": row.status.name.lower()} for row in self.rows]
        lines = [_line(figure, row) for figure in gate_intervals(self.plan.gates, documents) for row in figure.rows]
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def results(frame: Any, plan: Plan, *, looks_us: int = HOUR_US, matures_us: int = 0) -> Results:
    """Fold the gates of a plan over a data frame, with a look on each step of a grid of record time.

    Args:
        frame: A data frame of pandas or PyArrow, or a mapping of columns, as `analysis.frames.pair_table` takes it; or its pair table.
        plan: The gates and their levels; none of a canary's two arms.
        looks_us: Microseconds from one look to the next, > 0.
        matures_us: How long after its event a label counts as complete, >= 0.

    Raises:
        InputError: the frame is no pair table, or the plan cannot be folded.
    """
    table = frame if isinstance(frame, PairTable) else pair_table(frame)
    folded: dict[bool, Evidence] = {}
    for labelled, lag in ((False, 0), (True, matures_us)):
        folded[labelled] = Evidence(plan, labelled)
        folded[labelled].fold(table, (np.unique(-(-(table["arrived"] + lag) // looks_us)) * looks_us - lag).astype(np.int64))
    return Results(plan, combine(plan, folded[False], folded[True]))


def _where(segment: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in (segment or {}).items())


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _line(figure: GateIntervals, row: GateRow) -> str:
    """One row as HTML; names and values are text, whatever stands in them."""
    name = figure.gate.name if row.segment is None else f"&emsp;{escape(_where(row.segment))}"
    result = f"{_SIGNS[row.status]} {row.status}" + (f" ({escape(row.reason.replace('_', ' '))})" if row.reason else "")
    cells = (escape(name) if row.segment is None else name, f"<b style='color:{_COLOURS[row.status]}'>{result}</b>", _picture(figure, row),
             f"{_shown(row.estimate)} [{_shown(row.lower)}, {_shown(row.upper)}]", f"{row.n_units:,}")
    return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"


def _picture(figure: GateIntervals, row: GateRow) -> str:
    """The interval on the axis that all rows of the gate share, its estimate, and the lines that it must keep."""
    def at(value: float) -> str:
        return f"{min(max((value - figure.low) / (figure.high - figure.low), 0.0), 1.0) * _WIDTH:.1f}"

    low, high = (row.lower if row.lower is not None else figure.low), (row.upper if row.upper is not None else figure.high)
    middle, colour = _HEIGHT / 2, _COLOURS[row.status]
    parts = [f"<line x1='{at(line)}' x2='{at(line)}' y1='0' y2='{_HEIGHT:g}' stroke='currentColor' stroke-dasharray='4 3'/>"
             for line in figure.lines]
    parts.append(f"<line x1='{at(low)}' x2='{at(high)}' y1='{middle:g}' y2='{middle:g}' stroke='{colour}' stroke-width='2'/>")
    if row.estimate is not None:
        parts.append(f"<circle cx='{at(row.estimate)}' cy='{middle:g}' r='4' fill='{colour}'/>")
    said = f"{_shown(row.estimate)}, interval {_shown(row.lower)} to {_shown(row.upper)}, {row.status}"
    return f"<svg role='img' aria-label='{said}' width='{_WIDTH:g}' height='{_HEIGHT:g}'>{''.join(parts)}</svg>"
