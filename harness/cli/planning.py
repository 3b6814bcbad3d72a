"""What `shadow plan` prints: for each gate how many events, labels and days, and what that assumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from harness.commands.plan import Row
from harness.pages.numbers import UNKNOWN, count
from harness.pages.words import segment_words

STYLES = {"pass": "green", "fail": "red", "never": "red", "unknown": "yellow"}
SHOWN_SEGMENTS = 3


def table(rows: Sequence[Row]) -> Table:
    """A line a gate; of its segments the three slowest."""
    shown = Table(box=None, pad_edge=False, header_style="dim")
    shown.add_column("gate")
    for column in ("people", "events", "labels", "days"):
        shown.add_column(column, justify="right", no_wrap=True)
    shown.add_column("ends", no_wrap=True)
    for name in dict.fromkeys(row.gate for row in rows):
        mine = sorted((row for row in rows if row.gate == name), key=_slowest)
        for row in mine[:SHOWN_SEGMENTS]:
            where = f"{name}: {segment_words(row.segment)}" if row.segment else name
            shown.add_row(*(Text(cell) for cell in (where, *_cells(row))), Text(row.ends, style=STYLES[row.ends]))
        if len(mine) > SHOWN_SEGMENTS:
            shown.add_row(Text(f"  and {len(mine) - SHOWN_SEGMENTS} more that are no slower", style="dim"))
    return shown


def _slowest(row: Row) -> tuple[int, int]:
    return {"never": 0, "unknown": 1}.get(row.ends, 2), -(row.events or 0)


def _cells(row: Row) -> list[str]:
    numbers = (row.units, row.events, row.labels)
    days = UNKNOWN if row.days is None else _in_days(row.days)
    return [*(UNKNOWN if number is None else count(number) for number in numbers), days]


def _in_days(days: float) -> str:
    return "under 0.1" if days < 0.05 else f"{days:,.1f}"


def assumptions(rows: Sequence[Row]) -> list[str]:
    """What each gate's numbers assume; one line where its segments assume the same."""
    lines: dict[str, str] = {}
    for row in sorted(rows, key=_slowest):
        lines.setdefault(row.gate, f"  - {row.gate}: {row.says}")
    return [lines[name] for name in dict.fromkeys(row.gate for row in rows)]


def verdict(rows: Sequence[Row]) -> str:
    """When the slowest gate is decided, and which never are."""
    gates = {name: [row for row in rows if row.gate == name] for name in dict.fromkeys(row.gate for row in rows)}
    fails = [name for name, mine in gates.items() if any(row.ends == "fail" for row in mine)]
    stuck = [name for name, mine in gates.items() if name not in fails and any(row.ends in ("never", "unknown") for row in mine)]
    days = [_days(mine) for name, mine in gates.items() if name not in stuck]
    known = [day for day in days if day is not None]
    parts = []
    if known and len(known) == len(days):
        parts.append(f"the slowest gate that can decide takes {_in_days(max(known))} days")
    if stuck:
        parts.append(f"{len(stuck)} cannot decide as it is: {', '.join(stuck)}")
    if fails:
        parts.append(f"{len(fails)} would fail: {', '.join(fails)}")
    return "plan: " + ("; ".join(parts) or "every gate can decide; give --per-day to know when")


def _days(rows: Sequence[Row]) -> float | None:
    """When a gate is decided: at its first segment that fails, else when the last has passed; None where nobody knows."""
    fails = [row.days for row in rows if row.ends == "fail"]
    days = [day for day in fails or [row.days for row in rows] if day is not None]
    if len(days) < (len(fails) or len(rows)):
        return None
    return min(days) if fails else max(days)


def document(rows: Sequence[Row]) -> dict[str, Any]:
    """The same for machines."""
    return {"rows": [asdict(row) for row in rows]}
