"""The verdict in a sentence: how many of 1,000, in both directions, for whom worst.

Every number comes from the verdict or its pair table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.figures.gates import GateIntervals, GateRow, gate_intervals
from analysis.figures.harms import FEW_UNITS, harm_counts, segment_counts
from analysis.metrics.contributions import paired_rows
from analysis.types import Gate, Metric, PairTable
from harness.core.rollout import Rollout
from harness.pages.numbers import count, figures, pair, per_thousand, scale_of
from harness.pages.words import (
    LOSSES,
    REASONS,
    asked_gates,
    class_words,
    decided_words,
    gate_asks,
    harm_metric,
    humanised,
    listed,
    metric_words,
    segment_words,
)

MOST_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A verdict in words. `lead`: the gate it speaks of first, if any; `where`: the one segment value that it speaks of first, where the
    numbers over all hide it; `note`: who was affected."""

    headline: str
    parts: tuple[str, ...]
    note: str | None = None
    lead: Gate | None = None
    where: Mapping[str, str] | None = None

    @property
    def text(self) -> str:
        """Everything after the headline, in one paragraph."""
        return " ".join(self.parts)

    @property
    def plain(self) -> str:
        """One line for a terminal."""
        return " ".join(part for part in (f"{self.headline}.", self.text, self.note) if part)


def sentence(rollout: Rollout, verdict: Mapping[str, Any], table: PairTable) -> Sentence:
    """What to do and why, from the gates that decide: failing ones first, then undecided ones, harms before the rest."""
    said = _Speaker(rollout, verdict, table)
    word, shadow = verdict["verdict"], verdict["stage"].lower().startswith("shadow")
    headline = {"promote": "Promote", "hold": "Hold"}.get(word, "Stop" if shadow else "Roll back")
    note = _affected(verdict) if shadow else None
    return Sentence(headline=headline, parts=said.parts(), note=note, lead=said.lead, where=said.where)


def _affected(verdict: Mapping[str, Any]) -> str:
    """Whom a shadow has affected: nobody, unless production says whom the challenger served, as in an attempt before."""
    served = (verdict.get("exposed") or {}).get("units", 0)
    if served:
        return f"This stage is a shadow; before it or beside it the challenger served {count(served)} units."
    return "This was a shadow: nobody was affected."


class _Speaker:
    """Finds the gate to speak of, and the words for it."""

    def __init__(self, rollout: Rollout, verdict: Mapping[str, Any], table: PairTable) -> None:
        self.rollout, self.verdict, self.table = rollout, verdict, table
        self.word: str = verdict["verdict"]
        gates = [g for g in gate_intervals(asked_gates(rollout, verdict), verdict["gates"]) if g.gate.counted]
        self.n_gates = len(gates)
        self.failing = _harms_first([g for g in gates if g.whole is not None and g.whole.status == "fail"])
        self.undecided = _harms_first([g for g in gates if g.whole is None or g.whole.status == "undecided"])
        passing = _harms_first([g for g in gates if g.whole is not None and g.whole.status == "pass"])
        if self.word == "rollback":  # an alarm stops a rollout without a failing gate: then its reason leads
            chosen = [g for g in self.failing if g.gate.on_fail == "rollback"]
        else:
            chosen = _harms_first([*self.failing, *self.undecided]) + (passing if self.word == "promote" else [])
        self._lead = chosen[0] if chosen else None

    @property
    def lead(self) -> Gate | None:
        return self._lead.gate if self._lead else None

    @property
    def where(self) -> Mapping[str, str] | None:
        """The worst segment of a leading harm that fails there and is no worse over all: then it comes first."""
        gate = self.lead
        if gate is None or gate.metric.kind != "harm" or self._lead not in self.failing:
            return None
        rates, segment = harm_counts(self.table, gate.metric).rates, self._worst_row(gate)
        here = self._rates(gate.metric, segment) if segment else None
        return segment if rates and here and here[1] > here[0] and rates[1] <= rates[0] else None

    def parts(self) -> tuple[str, ...]:
        gate, found = self.lead, self._opening()
        late = found if self._told else []  # with enough labels the numbers come first, then what a hold waits for
        found = [] if late else found
        if gate is not None:
            found += self._harm(gate) if gate.metric.kind == "harm" else self._other(gate)
            if gate.metric.kind != "harm":
                found += self._any_harm()
            if gate.metric.kind != "loss":
                found += self._loss()
        if self.word == "promote" and len(found) > 1:
            found[:2] = [f"{found[0]} {found[1]}"]
        return (*found, *late)

    # ------------------------------------------------------------------------------------------------------ opening
    def _opening(self) -> list[str]:
        if self.word == "promote":
            return [f"All {self.n_gates} gates pass." if self.n_gates > 1 else "The only gate passes."]
        if self.word == "rollback" and self._lead is None:
            return [_ended(reason) for reason in self.verdict["reasons"][:2]]
        return [*self._stopping(), *self._missing()] if self.word == "hold" else []

    @property
    def _told(self) -> bool:
        """Whether a hold's leading gate is a harm with enough labelled units to speak of it first."""
        gate = self.lead
        if gate is None or gate.metric.kind != "harm" or self.word != "hold":
            return False
        return harm_counts(self.table, gate.metric).n_units >= FEW_UNITS

    def _stopping(self) -> list[str]:
        """The gates of a hold that fail."""
        names = [gate.gate.name for gate in self.failing]
        return [f"{'This gate fails' if len(names) == 1 else f'{len(names)} gates fail'}: {_named(names)}."] if names else []

    def _missing(self) -> list[str]:
        """What a hold waits for."""
        if self.failing and not self.undecided:
            return []
        if not self.undecided:
            return [_ended(reason) for reason in self.verdict["reasons"][:2]] or ["No gate is configured, so there is no evidence."]
        by_reason: dict[str, list[str]] = {}
        for gate in self.undecided:
            row = gate.whole
            reason = (row.reason if row is not None else None) or "insufficient"
            words = REASONS.get(reason, humanised(reason))
            if reason == "insufficient":
                words = "not enough labels yet" if gate.gate.metric.labelled else "not enough events yet"
            by_reason.setdefault(words, []).append(gate.gate.name)
        return [f"{words[:1].upper()}{words[1:]}: {_named(names)}." for words, names in by_reason.items()]

    # -------------------------------------------------------------------------------------------------------- harms
    def _harm(self, gate: Gate) -> list[str]:
        metric = gate.metric
        counts = harm_counts(self.table, metric)
        if counts.rates is None or metric.policy is None:
            return []
        if (where := self.where) is not None and (rates := self._rates(metric, where)) is not None:
            here = self._of(metric.policy, bool(metric.truth), metric.decisions, rates, where=f" of {segment_words(where)}")
            return [f"Of {here} (of all: {_instead(*counts.rates)}).", *self._other_side(metric)]
        worst = self._worst(gate) if self.word != "promote" else ""
        here = self._of(metric.policy, bool(metric.truth), metric.decisions, counts.rates)
        so_far = f"So far, by {count(counts.n_events)} labels, of" if self._waiting else "Of"
        return [f"{so_far} {here}{worst}.", *self._other_side(metric)]

    @property
    def _waiting(self) -> bool:
        """Whether the leading gate is undecided, so that its numbers may still turn."""
        return self.word == "hold" and self._lead is not None and self._lead not in self.failing

    def _of(self, policy: str, truth: bool, decisions: Sequence[str], rates: tuple[float, float], *, where: str = "") -> str:
        """1,000 under-13s, 277 instead of 195 would pass as 13 or older. `where`: of which segment, if not of all."""
        rules, boolean = self.rollout.policies[policy], self._boolean(policy)
        who = class_words(self.rollout, rules, truth, boolean=boolean)
        what = decided_words(self.rollout, rules, truth, decisions, boolean=boolean)
        return f"1,000 {who}{where}, {_instead(*rates)} {what}"

    def _other_side(self, metric: Metric) -> list[str]:
        """The same policy's error in the other direction: a harm of the config, else the other decisions."""
        policy = self.rollout.policies[metric.policy or ""]
        harms = [h for h in self.rollout.harms.values() if h.policy == policy.name and h.truth is (not metric.truth)]
        decisions = harms[0].decisions if harms else tuple(w for w in policy.decisions if w not in metric.decisions)
        counts = harm_counts(self.table, Metric(kind="harm", policy=policy.name, truth=not metric.truth, decisions=decisions))
        if counts.rates is None:
            return []
        return ["In the other direction, of " + self._of(policy.name, not metric.truth, decisions, counts.rates) + "."]

    def _any_harm(self) -> list[str]:
        """After a gate about something else, the first harm of the config with labels."""
        for harm in self.rollout.harms.values():
            counts = harm_counts(self.table, harm_metric(harm))
            if counts.rates is not None:
                return ["Of " + self._of(harm.policy, harm.truth, harm.decisions, counts.rates) + "."]
        return []

    def _worst(self, gate: Gate) -> str:
        """As in " (worst for gender female: 335 instead of 221)"; nothing where no segment is large enough."""
        segment = self._worst_row(gate) or self._worst_of_table(gate.metric)
        if segment is None:
            return ""
        rates = self._rates(gate.metric, segment)
        return "" if rates is None else f" (worst for {segment_words(segment)}: {_instead(*rates)})"

    def _rates(self, metric: Metric, segment: Mapping[str, str]) -> tuple[float, float] | None:
        return harm_counts(self.table.take(rows_of(self.table, segment)), metric).rates

    def _worst_row(self, gate: Gate) -> Mapping[str, str] | None:
        """The worst row of a gate that lists segments, by its estimate; small ones are no example."""
        rows = [r for g in (self._lead,) if g is not None and g.gate is gate for r in g.rows if r.segment and r.estimate is not None]
        rows = [row for row in rows if row.n_units >= FEW_UNITS and all(f"segment.{n}" in self.table.columns for n in row.segment or {})]
        sign = 1.0 if gate.word == "below" else -1.0
        return max(rows, key=lambda row: sign * (row.estimate or 0.0)).segment if rows else None

    def _worst_of_table(self, metric: Metric) -> Mapping[str, str] | None:
        """The event segment whose harm grows most, among those with enough labelled units."""
        names = [segment.name for segment in self.rollout.event_segments]
        found = [
            (counts.rates[1] - counts.rates[0], name, value)
            for name, value, counts in segment_counts(self.table, metric, names)
            if counts.rates is not None and counts.n_units >= FEW_UNITS
        ]
        if not found or max(found)[0] <= 0:
            return None
        _, name, value = max(found)
        return {name: value}

    def _boolean(self, policy: str) -> bool:
        """Whether the truth of a policy is a class itself, not a number."""
        truth = self.rollout.truth_of(self.rollout.policies[policy].output)
        return truth is not None and is_class(self.table, truth)

    # ------------------------------------------------------------------------------------------- what is no harm
    def _other(self, gate: Gate) -> list[str]:
        """Another kind of gate: its estimate beside its limit."""
        row = self._lead.whole if self._lead else None
        if row is None or row.estimate is None:
            return []
        if gate.metric.kind == "loss" and gate.metric.loss != "zero_one":
            return self._loss(gate)
        return [self._estimate(gate, row)]

    def _estimate(self, gate: Gate, row: GateRow) -> str:
        scale = scale_of(self.rollout, gate)
        value = row.estimate_events if row.estimate_events is not None else row.estimate
        asked = gate_asks(self.rollout, gate).rpartition(": ")[2]
        shown = f"{scale.show(value)} {scale.unit}".strip()
        if gate.compared:
            better = "better" if (value or 0.0) > 0 else "worse"
            shown = f"{figures(abs(value or 0.0) * scale.factor)} {scale.unit} {better}".replace("  ", " ")
        what = metric_words(self.rollout, gate.metric)
        return f"{what[:1].upper()}{what[1:]}: {shown}, where it must be {asked}."

    def _loss(self, gate: Gate | None = None) -> list[str]:
        """The headline loss: the first gate's that compares one, else the absolute error of a number with a truth."""
        metric = gate.metric if gate else self._headline_loss()
        if metric is None or metric.output is None or metric.truth_name is None:
            return []
        means = mean_losses(self.table, metric.output, metric.truth_name, metric.loss or "")
        if means is None:
            return []
        old, new = pair(*means)
        unit = self.rollout.outputs[metric.output].unit if metric.loss == "absolute_error" else None
        what = f"{LOSSES[metric.loss or '']} of {humanised(metric.output)}"
        if old == new:
            return [f"The {what} stays at {new}{f' {unit}' if unit else ''}."]
        verb = "is better" if means[1] < means[0] else "is worse"
        if self.word != "promote" and means[1] < means[0]:
            verb = "looks better"
        return [f"The {what} {verb}: {new} instead of {old}{f' {unit}' if unit else ''}."]

    def _headline_loss(self) -> Metric | None:
        for gate in self.rollout.gates:
            if gate.metric.kind == "loss" and gate.metric.loss in ("absolute_error", "squared_error"):
                return gate.metric
        for output in self.rollout.outputs.values():
            truth = self.rollout.truth_of(output.name)
            if output.type == "number" and truth is not None and not is_class(self.table, truth):
                return Metric(kind="loss", loss="absolute_error", output=output.name, truth_name=truth)
        return None


def is_class(table: PairTable, truth: str) -> bool:
    """Whether every truth seen is 0 or 1: a class, as booleans are stored."""
    seen = table[f"truth.{truth}"]
    seen = seen[np.isfinite(seen)]
    return bool(len(seen) and np.isin(seen, (0.0, 1.0)).all())


def mean_losses(table: PairTable, output: str, truth: str, loss: str) -> tuple[float, float] | None:
    """(incumbent, challenger) mean absolute or squared error over labelled pairs, in the output's unit or its square; None without any."""
    names = [f"{output}.{lane}" for lane in ("incumbent", "challenger")]
    if loss not in ("absolute_error", "squared_error") or any(n not in table.columns for n in (*names, f"truth.{truth}")):
        return None
    rows = paired_rows(table) & np.isfinite(table[f"truth.{truth}"])
    if not rows.any():
        return None
    errors = [np.abs(table[name][rows] - table[f"truth.{truth}"][rows]) for name in names]
    old, new = (float(np.mean(e if loss == "absolute_error" else e**2)) for e in errors)
    return old, new


def _harms_first(gates: Sequence[GateIntervals]) -> list[GateIntervals]:
    order = {"harm": 0, "loss": 2, "precision": 1, "recall": 1}
    return sorted(gates, key=lambda g: order.get(g.gate.metric.kind, 3))


def _instead(old: float, new: float) -> str:
    before, after = per_thousand(old), per_thousand(new)
    return f"{after} as before" if before == after else f"{after} instead of {before}"


def _named(names: Sequence[str]) -> str:
    shown = [f"“{name}”" for name in names[:MOST_NAMES]]
    if len(names) > MOST_NAMES:
        shown.append(f"{count(len(names) - MOST_NAMES)} more")
    return listed(shown)


def _ended(reason: str) -> str:
    reason = reason.strip()
    return reason[:1].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else ".")


def rows_of(table: PairTable, segment: Mapping[str, str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Where all segments have these values, shape (rows,)."""
    rows = np.ones(len(table), bool)
    for name, value in segment.items():
        words = table.words[f"segment.{name}"]
        rows &= table[f"segment.{name}"] == (words.index(value) if value in words else -2)
    return rows
