"""Fixed-sample numbers as pages and terminals show them: beside the gates, named as descriptive, never as a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.figures.companions import row_companions
from analysis.fixed import Companion
from analysis.types import PairTable
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.pages.numbers import UNKNOWN, Scale, count, figures, scale_of

if TYPE_CHECKING:
    from rich.table import Table

HEADS = ("gate", "estimate", "95 % interval", "unit", "events", "design effect", "p-value", "gained, lost", "McNemar p")
LEAST_P = 0.0001


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionView:
    """The companion of a whole gate in words, in the order of `HEADS`."""

    cells: tuple[str, ...]


def of_stage(verdict: Mapping[str, Any], table: PairTable) -> PairTable:
    """The pairs of the verdict's stage: a later stage counts only what arrived after it was entered."""
    since = microseconds(verdict["since"]) if verdict.get("since") else None
    return table if since is None else table.take(table["arrived"] > since)


def folded(rollout: Rollout, table: PairTable, look: int | None) -> tuple[PairTable, PairTable]:
    """(what gates without labels have folded, what labelled gates have) of a table at a look in microseconds; all of it without one."""
    if look is None:
        return table, table
    matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
    return table.take(table["arrived"] <= look), table.take(table["arrived"] <= look - matures)


def companion_views(rollout: Rollout, verdict: Mapping[str, Any], table: PairTable, *, look: int | None) -> list[CompanionView]:
    """One for each whole gate of the verdict that the table has events of. look: the last one, as for `folded`."""
    configured = {gate.name for gate in rollout.gates if gate.metric.group != "online"}  # no table has the arms
    whole = [(row["name"], None) for row in verdict["gates"] if not row["segment"] and row["name"] in configured]
    found = row_companions(rollout.gates, whole, *folded(rollout, table, look))
    gates = {gate.name: gate for gate in rollout.gates}
    views = []
    for (name, _), one in zip(whole, found, strict=True):
        if one.n_events:
            share = gates[name].metric.quantile is not None
            scale = Scale(factor=1_000.0, unit="per 1,000 over the limit", signed=False) if share else scale_of(rollout, gates[name])
            views.append(CompanionView(cells=(name, *_cells(one, scale))))
    return views


def _cells(one: Companion, scale: Scale) -> tuple[str, ...]:
    low, high = (one.interval.low, one.interval.high) if one.interval else (None, None)
    return (
        scale.show(one.estimate),
        UNKNOWN if low is None else f"{scale.show(low)} to {scale.show(high)}",
        scale.unit,
        count(one.n_events),
        UNKNOWN if one.design_effect is None else f"{one.design_effect:.2f}",
        _p(one.p_value),
        UNKNOWN if one.gained is None or one.lost is None else f"{count(one.gained)}, {count(one.lost)}",
        UNKNOWN if one.mcnemar_exact is None else f"{_p(one.mcnemar_exact)} (mid-p {_p(one.mcnemar_mid_p)})",
    )


def _p(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    return f"< {LEAST_P:g}" if value < LEAST_P else figures(value)


def companion_table(views: list[CompanionView]) -> Table:
    """The companions of the whole gates, as the terminal shows them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left", title_style="dim",
                  title="descriptive: one look, every event, clustered by unit; gates are not decided on it")  # fmt: skip
    for head in HEADS:
        table.add_column(head)
    for view in views:
        table.add_row(*(Text(cell) for cell in view.cells))
    return table
