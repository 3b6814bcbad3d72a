"""What `shadow compare` prints: what was assumed and found, a table of people per 1,000, and the decisions that change."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from harness.commands.compare import Compared, Shift
from harness.pages.numbers import UNKNOWN, count, figures, per_thousand

STYLES = {"better": "green", "worse": "red", "cannot tell": "yellow"}


def notes(found: Compared) -> list[str]:
    """What was assumed, then what was found in the table; a line each."""
    return [*(f"assumed: {line}" for line in found.notes.assumed), *(f"found: {line}" for line in found.notes.found)]


def table(found: Compared) -> Table:
    """A line for each number: old, new, change with its interval, what it says; then the worst groups."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("")
    for column in ("people", "old", "new", "change"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column(f"{100 * (1 - found.rollout.alpha):g} %, at any look", no_wrap=True)
    shown.add_column("the new is", no_wrap=True)
    for title, shifts in (("of 1,000:", [s for s in found.shifts if s.rate]), ("in its own unit:", [s for s in found.shifts if not s.rate]),
                          ("worst groups, of 1,000:", found.groups)):  # fmt: skip
        if shifts:
            shown.add_row(Text(title, style="dim"))
        for shift in shifts:
            shown.add_row(*(Text(cell) for cell in _cells(shift)), Text(shift.says, style=STYLES[shift.says]))
    return shown


def _cells(shift: Shift) -> list[str]:
    factor = 1_000.0 if shift.rate else 1.0
    show = per_thousand if shift.rate else figures
    change = None if shift.old is None or shift.new is None else shift.new - shift.old
    ends = [UNKNOWN if end is None else figures(end * factor, signed=True) for end in (change, shift.low, shift.high)]
    values = [UNKNOWN if value is None else show(value) for value in (shift.old, shift.new)]
    return [f"  {shift.what}", count(shift.n_units), *values, ends[0], f"[{ends[1]}, {ends[2]}]"]


def changes(found: Compared) -> list[str]:
    """How many decisions differ, line by line, in both directions; every row counts here, also one without a truth."""
    lines = []
    for policy in found.rollout.policies.values():
        by, where = found.verdict["flips"][policy.name], f"{policy.lines['truth'].default:g}"
        n = by["pairs"]
        if not n:
            lines.append(f"decisions at {where}: no row has both scores")
            continue
        up, down = by["false->true"], by["true->false"]
        both, over, under = (per_thousand(changed / n) for changed in (up + down, up, down))
        lines.append(f"decisions at {where}: of 1,000 rows {both} change, {over} to over the line, {under} to under it ({count(n)} rows)")
    return lines


def document(found: Compared) -> dict[str, Any]:
    """The same for machines."""

    def row(shift: Shift) -> dict[str, Any]:
        return {"what": shift.what, "n_units": shift.n_units, "old": shift.old, "new": shift.new, "low": shift.low, "high": shift.high,
                "says": shift.says}  # fmt: skip

    return {
        "assumed": found.notes.assumed,
        "found": found.notes.found,
        "numbers": [row(shift) for shift in found.shifts],
        "worst_groups": [row(shift) for shift in found.groups],
        "flips": found.verdict["flips"],
        "gates": found.verdict["gates"],
    }
