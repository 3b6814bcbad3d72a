"""The report: one self-contained HTML page of a verdict. It needs no network, no script and no library to be read, and prints.

`render` gathers frozen figure data, then fills the template; nothing of an event but counts, and no id, gets in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.figures.allowed import AllowedByTruth, allowed_by_truth
from analysis.figures.decisions import DecisionMatrix, decision_matrix
from analysis.figures.gates import GateIntervals, GateRow, gate_intervals
from analysis.figures.harms import SegmentEffect, SegmentEffects, segment_effects
from analysis.types import Metric, PairTable
from harness.core.reading import microseconds
from harness.core.rollout import Line, Policy, Rollout
from harness.pages import svg
from harness.pages.accounts import accounts
from harness.pages.arms import arms_lines
from harness.pages.companions import HEADS, companion_views, of_stage
from harness.pages.equality import HEADS as EQUALITY_HEADS
from harness.pages.equality import cells, equalities
from harness.pages.numbers import Scale, count, per_thousand, scale_of
from harness.pages.sentence import Sentence, is_class, rows_of, sentence
from harness.pages.words import (
    ON_FAIL,
    REASONS,
    RESULTS,
    asked_gates,
    class_words,
    decided_words,
    gate_asks,
    harm_metric,
    harm_words,
    humanised,
    is_age,
    label_words,
    listed,
    place_words,
    segment_words,
)

MOST_ROWS = 60
WIDE, NARROW = 720.0, 372.0


def render(rollout: Rollout, verdict: Mapping[str, Any], table: PairTable, waits: Sequence[str] = ()) -> str:
    """The report as HTML.

    Args:
        verdict: The object of verdict.json.
        table: The pair table that the verdict speaks of.
        waits: What the next move of the rollout waits for, in words, where somebody moves it.
    """
    said, look = sentence(rollout, verdict, table), microseconds(verdict["as_of"]) if verdict["as_of"] else None
    gates, counted = gate_intervals(asked_gates(rollout, verdict), verdict["gates"]), of_stage(verdict, table)
    pictures = _pictures(rollout, table, said)
    matrices = [decision_matrix(table, name) for name in rollout.policies]
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            rollout=rollout,
            verdict=verdict,
            said=said,
            place=place_words(verdict),
            waits=[wait for wait in waits if wait not in verdict["reasons"]],
            facts=_facts(verdict, gates, table),
            first=pictures[0] if pictures else None,
            others=pictures[1:],
            gates=[_gate_view(rollout, figure) for figure in gates],
            arms=arms_lines(rollout, verdict),
            heads=HEADS,
            companions=companion_views(rollout, verdict, counted, look=look),
            questions=EQUALITY_HEADS,
            answers=[cells(one) for one in equalities(rollout, counted, look=look)],
            harms=_harm_views(rollout, table, said.lead.metric if said.lead else None),
            matrices=[_matrix_view(matrix) for matrix in matrices if matrix.pairs],
            accounts=accounts(verdict),
            reasons=REASONS,
        )
    )


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("harness.pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters |= {"count": count, "humanised": humanised, "per_thousand": per_thousand}
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A number of the first screen with what it counts."""

    value: str
    words: str


def _facts(verdict: Mapping[str, Any], gates: Sequence[GateIntervals], table: PairTable) -> list[Fact]:
    counted = [figure for figure in gates if figure.gate.counted]
    passing = sum(1 for figure in counted if figure.whole is not None and figure.whole.status == "pass")
    labelled = int((table["label_time"] >= 0).sum()) if "label_time" in table.columns else 0
    return [
        Fact(value=count(verdict["counts"]["paired"]), words="pairs: events that both models answered"),
        Fact(value=count(labelled), words="events with a label so far"),
        Fact(value=f"{passing} of {len(counted)}", words="counted gates pass"),
        Fact(value=humanised(str(verdict["stage"])), words="stage"),
    ]


# ------------------------------------------------------------------------------------------------------------ allowed by truth
@dataclass(frozen=True, slots=True, kw_only=True)
class PictureView:
    """The share of a decision by truth, drawn twice (wide and narrow), with its numbers."""

    title: str
    caption: str
    wide: Markup
    narrow: Markup
    head: str
    rows: tuple[tuple[str, str, str, str], ...]


def _pictures(rollout: Rollout, table: PairTable, said: Sentence) -> list[PictureView]:
    """One for each policy with a truth and a label; the policy of the leading gate first, in the segment that the sentence speaks of."""
    names, lead = list(rollout.policies), said.lead.metric if said.lead else None
    wanted = [m.policy for m in (lead, *map(harm_metric, rollout.harms.values())) if m is not None and m.policy]
    names.sort(key=lambda name: wanted.index(name) if name in wanted else len(wanted))
    found = []
    for name in names:
        policy = rollout.policies[name]
        truth = rollout.truth_of(policy.output)
        if truth is None or f"{name}.truth" not in table.columns:
            continue
        decisions, where = _shown_decisions(rollout, policy), (said.where if lead and lead.policy == name else None) or {}
        shown = table.take(rows_of(table, where)) if where else table
        figure = allowed_by_truth(shown, name, decisions, truth=truth, lines=_lines(policy.lines.get("truth")))
        if figure is not None:
            found.append(_picture(rollout, policy, figure, f" of {segment_words(where)}" if where else ""))
    return found


def _shown_decisions(rollout: Rollout, policy: Policy) -> tuple[str, ...]:
    """True; of several decisions those that harm where the truth is false, else the first."""
    if not policy.choices:
        return ("true",)
    harmful = [h.decisions for h in rollout.harms.values() if h.policy == policy.name and not h.truth]
    return harmful[0] if harmful else policy.decisions[:1]


def _lines(line: Line | None) -> list[float]:
    return sorted({line.default, *line.values.values()}) if line is not None else []


def _picture(rollout: Rollout, policy: Policy, figure: AllowedByTruth, place: str) -> PictureView:
    output = rollout.outputs[policy.output]
    names = [class_words(rollout, policy, truth, boolean=figure.classes) for truth in (False, True)]
    truth = humanised(rollout.truth_of(policy.output) or policy.output)
    if not policy.says and (policy.choices or figure.classes or not is_age(rollout, policy)):
        what = f"are decided {listed([f'“{word}”' for word in figure.decisions], 'or')} by {humanised(policy.name)}"
    else:
        what = decided_words(rollout, policy, False, figure.decisions, boolean=figure.classes)
    title = f"Of 1,000 {'in each class' if figure.classes else f'at each true {truth}'}{place}, how many {what}"
    unit = f"true {truth}" + (f", {output.unit}" if output.unit else "")
    caption = "Bars show 95 % of one look; events of one unit count as one voice in them. Among labelled events."
    if figure.cut:
        caption += f" {count(figure.cut)} labelled events further out, where both models mostly agree, are not drawn."
    rows = tuple(_picture_row(bin_.low, bin_.high, bin_, names if figure.classes else None) for bin_ in figure.bins)
    wide, narrow = (svg.allowed(figure, width, words=title, unit=unit, names=(names[0], names[1])) for width in (WIDE, NARROW))
    return PictureView(title=title, caption=caption, wide=wide, narrow=narrow, head=unit, rows=rows)


def _picture_row(low: float, high: float, bin_: Any, names: Sequence[str] | None) -> tuple[str, str, str, str]:
    where = names[int(low)] if names else f"{low:g}" if (low, high) == (int(low), int(low) + 1) else f"{low:g} to under {high:g}"
    old, new = bin_.incumbent.value, bin_.challenger.value
    return where, count(bin_.incumbent.n), per_thousand(old or 0.0), per_thousand(new or 0.0)


# ------------------------------------------------------------------------------------------------------------ gates
@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """A gate's row as the page shows it."""

    segment: str
    status: str
    icon: str
    result: str
    reason: str
    estimate: str
    events: str
    interval: str
    n_units: str
    n_events: str
    picture: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """A gate with its rows. `labels`: of how many one was asked for, empty where that is not recorded. `left_out`: rows beyond the most
    that a page shows."""

    name: str
    asks: str
    follows: str
    unit: str
    limit: str
    whole: RowView
    rows: tuple[RowView, ...]
    labels: str
    tally: str
    open: bool
    left_out: int


NO_ROW = GateRow(
    segment=None,
    status="undecided",
    reason="insufficient",
    estimate=None,
    lower=None,
    upper=None,
    estimate_events=None,
    n_units=0,
    n_events=0,
)


def _gate_view(rollout: Rollout, figure: GateIntervals) -> GateView:
    gate, scale = figure.gate, scale_of(rollout, figure.gate)
    parts = [row for row in figure.rows if row.segment]
    statuses = [row.status for row in parts]
    tally = listed(
        [f"{statuses.count(s)} {'cannot tell' if s == 'undecided' else s}" for s in ("fail", "undecided", "pass") if s in statuses]
    )
    whole = _row_view(figure, figure.whole or NO_ROW, scale)
    limit = (
        scale.show(figure.lines[0]) if len(figure.lines) == 1 else f"±{Scale(factor=scale.factor, unit='', signed=False).show(gate.limit)}"
    )
    return GateView(
        name=gate.name,
        asks=gate_asks(rollout, gate),
        follows="a dry run: watched, not counted" if gate.dry_run else ON_FAIL[gate.on_fail],
        unit=scale.unit,
        limit=limit,
        whole=whole,
        rows=tuple(_row_view(figure, row, scale) for row in parts[:MOST_ROWS]),
        labels=label_words(figure.whole.labels if figure.whole else None),
        tally=tally,
        open=whole.status == "fail" and len(parts) <= 8,
        left_out=max(len(parts) - MOST_ROWS, 0),
    )


def _row_view(figure: GateIntervals, row: GateRow, scale: Scale) -> RowView:
    icon, result = RESULTS.get(row.status, RESULTS["undecided"])
    interval = f"{scale.show(row.lower)} to {scale.show(row.upper)}" if (row.lower, row.upper) != (None, None) else "no interval"
    where = segment_words(row.segment) if row.segment else figure.gate.name
    words = f"{where}: estimate {scale.show(row.estimate)} {scale.unit}, interval {interval}, {result}"
    return RowView(
        segment=segment_words(row.segment or {}),
        status=row.status,
        icon=icon,
        result=result,
        reason=REASONS.get(row.reason, humanised(row.reason)) if row.reason else "",
        estimate=scale.show(row.estimate),
        events=scale.show(row.estimate_events),
        interval=interval,
        n_units=count(row.n_units),
        n_events=count(row.n_events),
        picture=svg.gate_interval(figure, row, words),
    )


# ------------------------------------------------------------------------------------------------------------ segments
@dataclass(frozen=True, slots=True, kw_only=True)
class EffectView:
    """One segment value of a harm."""

    where: str
    old: str
    new: str
    effect: str
    icon: str
    n: str
    picture: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmView:
    """A harm in every segment, worst first."""

    name: str
    who: str
    old: str
    new: str
    n: str
    rows: tuple[EffectView, ...]
    left_out: int
    tally: str


def _harm_views(rollout: Rollout, table: PairTable, lead: Metric | None) -> list[HarmView]:
    metrics = [m for m in (lead, *map(harm_metric, rollout.harms.values())) if m is not None and m.kind == "harm"]
    unique = {(m.policy, m.truth, m.decisions): m for m in metrics}
    return [view for metric in unique.values() if (view := _harm_view(rollout, table, metric)) is not None]


def _harm_view(rollout: Rollout, table: PairTable, metric: Metric) -> HarmView | None:
    name, truth = metric.policy or "", bool(metric.truth)
    segments = [segment.name for segment in rollout.event_segments]
    effects = segment_effects(table, metric, segments, alpha=rollout.alpha)
    rates = effects.overall.rates
    if rates is None:
        return None
    policy = rollout.policies[name]
    of = rollout.truth_of(policy.output)
    return HarmView(
        name=harm_words(rollout, metric),
        who=class_words(rollout, policy, truth, boolean=of is not None and is_class(table, of)),
        old=per_thousand(rates[0]),
        new=per_thousand(rates[1]),
        n=count(effects.overall.n_events),
        rows=_effect_views(effects),
        left_out=max(len(effects.rows) - MOST_ROWS, 0),
        tally=listed([f"{n} {word}" for word in ICONS if (n := sum(row.effect == word for row in effects.rows))]),
    )


ICONS = {"worse": "▲", "better": "▼", "cannot tell": "?"}


def _effect_views(effects: SegmentEffects) -> tuple[EffectView, ...]:
    shown = effects.rows[:MOST_ROWS]
    most = max((max(row.counts.rates or (0.0, 0.0)) for row in shown), default=0.0) or 1.0
    return tuple(_effect_view(row, most) for row in shown)


def _effect_view(row: SegmentEffect, most: float) -> EffectView:
    old, new = (per_thousand(rate) for rate in row.counts.rates or (0.0, 0.0))
    where = segment_words({row.segment: row.value})
    words = f"{where}: {new} instead of {old} of 1,000, {row.effect}"
    return EffectView(
        where=where,
        old=old,
        new=new,
        effect=row.effect,
        icon=ICONS[row.effect],
        n=count(row.counts.n_units),
        picture=svg.effect_row(row, most, words),
    )


# ------------------------------------------------------------------------------------------------------------ decisions
@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One combination of decisions. `shade`: its share among the changed pairs, 0 to 4."""

    pairs: str
    note: str
    kind: str
    shade: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixView:
    """A policy's decisions, incumbent by row."""

    name: str
    words: tuple[str, ...]
    rows: tuple[tuple[CellView, ...], ...]
    changed: str
    pairs: str


def _matrix_view(matrix: DecisionMatrix) -> MatrixView:
    def cell(pairs: int, labelled: int, changed: bool) -> CellView:
        kind = "changed" if changed else "same"
        if not pairs:
            return CellView(pairs="0", note="", kind=kind, shade=0)
        judged = f"{100 * labelled / pairs:.0f} % labelled" if labelled else "no label"
        note = judged if matrix.judged else ""
        shade = 1 + round(3 * pairs / matrix.changed) if changed else 0
        return CellView(pairs=count(pairs), note=note, kind=f"{kind} unchecked" if note == "no label" else kind, shade=shade)

    rows = tuple(tuple(cell(c.pairs, c.labelled, c.changed) for c in row) for row in matrix.cells)
    return MatrixView(
        name=humanised(matrix.policy), words=matrix.decisions, rows=rows, changed=count(matrix.changed), pairs=count(matrix.pairs)
    )
