"""The verdict as a terminal shows it: a table of gates and a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.figures.gates import GateRow, gate_intervals
from analysis.types import Gate, PairTable
from harness.core.rollout import Rollout
from harness.pages.numbers import UNKNOWN, count, scale_of
from harness.pages.sentence import sentence
from harness.pages.words import REASONS, asked_gates, humanised, segment_words

if TYPE_CHECKING:
    from rich.table import Table

STYLES = {"pass": "green", "fail": "red", "undecided": "yellow"}
SHOWN_SEGMENTS = 3


def gate_table(rollout: Rollout, verdict: Mapping[str, Any]) -> Table:
    """A line for each gate: estimate, interval, limit, result; below a gate with segments its worst ones that do not pass."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("gate", "estimate", "interval", "limit", "unit", "result"):
        table.add_column(column, justify="right" if column in ("estimate", "limit") else "left")
    for figure in gate_intervals(asked_gates(rollout, verdict), verdict["gates"]):
        rows = [row for row in figure.rows if row.segment and row.status != "pass"]
        for name, row in [(figure.gate.name, figure.whole), *((f"  {segment_words(r.segment or {})}", r) for r in rows[:SHOWN_SEGMENTS])]:
            cells = [name, *_numbers(rollout, figure.gate, row)]
            status = row.status if row is not None else "undecided"
            table.add_row(*(Text(cell) for cell in cells), Text(_result(figure.gate, row), style=STYLES.get(status, "yellow")))
        if len(rows) > SHOWN_SEGMENTS:
            table.add_row(Text(f"  {count(len(rows) - SHOWN_SEGMENTS)} more segments do not pass", style="dim"))
    return table


def _numbers(rollout: Rollout, gate: Gate, row: GateRow | None) -> list[str]:
    scale = scale_of(rollout, gate)
    limit = scale.show(-gate.limit if gate.word == "worse_by_at_most" else gate.limit)
    if row is None:
        return [UNKNOWN, UNKNOWN, limit, scale.unit]
    return [scale.show(row.estimate), f"[{scale.show(row.lower)}, {scale.show(row.upper)}]", limit, scale.unit]


def _result(gate: Gate, row: GateRow | None) -> str:
    result = "UNDECIDED" if row is None else row.status.upper()
    if row is not None and row.reason:
        result += f" ({REASONS.get(row.reason, humanised(row.reason))})"
    return result if gate.counted else f"{result}, not counted"


def summary_lines(rollout: Rollout, verdict: Mapping[str, Any], table: PairTable) -> list[str]:
    """The sentence, then the verdict with the gates that decide it, the stage, and on how many pairs."""
    whole = {row["name"]: row["status"] for row in verdict["gates"] if not row["segment"]}
    counted = [gate.name for gate in asked_gates(rollout, verdict) if gate.counted]
    behind = [f"{name} {whole.get(name, 'undecided').upper()}" for name in counted if whole.get(name) != "pass"]
    why = f" ({', '.join(behind)})" if behind else ""
    paired, as_of = verdict["counts"]["paired"], verdict["as_of"]
    return [
        sentence(rollout, verdict, table).plain,
        f"verdict: {verdict['verdict']}{why}, stage {verdict['stage'].upper()}, {count(paired)} pairs"
        + (f" as of {as_of}" if as_of else ""),
    ]
