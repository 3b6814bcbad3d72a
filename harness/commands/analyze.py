"""Analyze: the gates of a config folded over a pair table from a file, with the looks and the order of the analyst. No bus, no store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis import frames
from analysis.evidence import Evidence, combine
from analysis.metrics import plugins
from analysis.types import Column, InputError, Metric, PairTable
from harness.core.errors import UsageError
from harness.core.policies import decide, truth_class
from harness.core.reading import timestamp
from harness.core.rollout import MISSING_REASONS, Policy, Rollout
from harness.core.table import flips
from harness.core.verdicts import decide as follow
from harness.core.verdicts import reasons, row_document
from harness.roles.analyst import plan_of

MISSING_WORDS = (*MISSING_REASONS, "not_asked")
BASE = frozenset({"event_id", "unit_id", "arrived", "missing.incumbent", "missing.challenger"})


# --------------------------------------------------------------------------------------------------------------------- the table
def table_of(rollout: Rollout, columns: Mapping[str, Any], *, source: str) -> PairTable:
    """The pair table that a frame's columns hold, as a rollout reads it. `source` names the file in messages.

    Decisions that stand in the table are used; those that are absent are made from the outputs by the config's policies. Where both are
    there, and production records no decision of its own, they must agree: else the table belongs to another config.

    Raises:
        UsageError: a column that a gate needs is missing, or one holds what cannot be there.
    """
    words: dict[str, tuple[str, ...]] = {"missing": MISSING_WORDS}
    words |= {f"segment.{segment.name}": segment.listed or () for segment in rollout.events.segments}
    words |= {output.name: output.labels for output in rollout.outputs.values() if output.type == "label"}
    words |= {policy.name: policy.decisions for policy in rollout.policies.values()}
    try:
        given = frames.series(columns)
        boolean = {name for name in rollout.truths if f"truth.{name}" in given and frames.kind(given[f"truth.{name}"]) == "boolean"}
        _needed(rollout, set(given))
        table = frames.pair_table(given, words=words)
        return _Reading(rollout, table, boolean).table()
    except InputError as error:
        raise UsageError(f"{source}: {error}") from None


def _needed(rollout: Rollout, there: set[str]) -> None:
    """Raises InputError naming every column that the gates read and that is not there."""
    wanted = dict.fromkeys(sorted(BASE))
    for gate in rollout.gates_of(0):
        wanted |= dict.fromkeys(_columns(rollout, gate.metric))
        wanted |= dict.fromkeys(f"segment.{name}" for item in gate.each for name in item)
    absent = [name for name in wanted if name not in there and not _made(rollout, name, there)]
    if absent:
        raise InputError(f"the gates need the columns {', '.join(absent)}; the table has {', '.join(sorted(there)) or 'none'}")


def _columns(rollout: Rollout, metric: Metric) -> list[str]:
    """The columns that a metric reads."""
    found = [f"missing.{metric.lane}"] if metric.kind in ("missing", "errors", "latency") else []
    if metric.kind == "latency":
        found.append(f"latency_ms.{metric.lane}")
    for policy in dict.fromkeys([metric.policy, *(policy for policy, *_ in metric.costs)]):
        if policy is not None:
            found += [f"{policy}.incumbent", f"{policy}.challenger"]
            found += [f"{policy}.truth"] if metric.labelled else []
    if metric.kind == "excess_disagreement":
        found += [f"{metric.policy}.replica", "missing.replica"]
    if metric.kind == "python":
        found += [column.format(lane=lane) for column in plugins.of(metric).columns for lane in ("incumbent", "challenger")]
    if metric.labels:
        found += [f"{metric.output}.{label}.{lane}" for label in metric.labels for lane in ("incumbent", "challenger")]
    elif metric.output is not None:
        found += [f"{metric.output}.incumbent", f"{metric.output}.challenger"]
    return found + ([f"truth.{metric.truth_name}"] if metric.truth_name is not None else [])


def _made(rollout: Rollout, name: str, there: set[str]) -> bool:
    """Whether a decision or the class of a truth can be made from what is there."""
    prefix, _, lane = name.rpartition(".")
    policy = rollout.policies.get(prefix)
    if policy is None:
        return False
    source = f"truth.{rollout.truth_of(policy.output)}" if lane == "truth" else _output_column(policy, lane)
    return source in there


def _output_column(policy: Policy, lane: str) -> str:
    return f"{policy.output}.{policy.label}.{lane}" if policy.label else f"{policy.output}.{lane}"


class _Reading:
    """A frame's pair table, completed and checked against the rollout. Errors are InputError."""

    def __init__(self, rollout: Rollout, table: PairTable, boolean: set[str]) -> None:
        self.rollout, self.boolean, self.n = rollout, boolean, len(table)
        self.columns: dict[str, Column] = dict(table.columns)
        self.words = dict(table.words)

    def table(self) -> PairTable:
        """Everything that the gates, and the counts of flips, read."""
        if self.words["missing"] != MISSING_WORDS:
            strange = len(self.words["missing"]) - len(MISSING_WORDS)
            raise InputError(f"missing.*: expected null or one of {', '.join(MISSING_WORDS)}; found {strange} other words")
        for lane in self.rollout.lanes:
            self.columns.setdefault(f"missing.{lane}", np.full(self.n, len(MISSING_REASONS), np.int32))
        for segment in self.rollout.events.segments:
            self._segment(segment.name)
        for output in self.rollout.outputs.values():
            if output.type == "number":
                for lane in self.rollout.lanes:
                    self._number(f"{output.name}.{lane}", output.range)
        for policy in self.rollout.policies.values():
            for lane in self.rollout.lanes:
                self._decision(policy, lane)
            self._truth(policy)
        return PairTable(self.columns, self.words)

    def _segment(self, name: str) -> None:
        """Listed segments: a value that is not listed is `other`; without a value `missing`, where the value is not the truth's."""
        key = f"segment.{name}"
        segment = next(s for s in self.rollout.events.segments if s.name == name)
        if key not in self.columns:
            return
        words, codes = list(self.words[key]), self.columns[key].copy()
        if segment.truth is not None:
            if tuple(words) != segment.bin_names:
                raise InputError(f"{key}: expected null or one of the config's bins {', '.join(segment.bin_names)}")
            return
        if segment.values:
            known = [word in (*segment.values, segment.other, segment.missing) for word in words]
            strange = np.array([*(not k for k in known), False])[codes]
            if strange.any():
                words, codes[strange] = _with(words, segment.other)
        if (codes < 0).any():
            words, codes[codes < 0] = _with(words, segment.missing)
        self.words[key], self.columns[key] = tuple(words), codes

    def _number(self, name: str, span: tuple[float, float] | None) -> None:
        column = self.columns.get(name)
        if column is None:
            return
        if column.dtype.kind != "f":
            raise InputError(f"{name}: expected numbers, as its output is one in the config; found words")
        if span is not None:
            with np.errstate(invalid="ignore"):
                outside = (column < span[0]) | (column > span[1])
            self._none(outside, f"{name}: expected values in {span[0]:g} to {span[1]:g}, the range of the config; others stand")

    def _decision(self, policy: Policy, lane: str) -> None:
        """What stands in the table if it may, else what the policy makes of the output."""
        name, source = f"{policy.name}.{lane}", _output_column(policy, lane)
        made = None
        if source in self.columns:
            output = self.rollout.outputs[policy.output]
            made = decide(policy, output, lane, self.columns[source], self.words.get(output.name, ()), self._codes)
        said = self.columns.get(name)
        extra = self.words[policy.name][len(policy.decisions) :]
        if extra and not policy.recorded:
            raise InputError(f"{policy.name}.*: expected the decisions {', '.join(policy.decisions)}; found {len(extra)} other words")
        if said is None and made is not None:
            self.columns[name] = made
        elif said is not None and made is not None and lane not in policy.recorded:
            hint = "the table belongs to another config; take the column out, and the decisions are made anew"
            self._none(said != made, f"{name}: decisions are not those that the config makes of {source} ({hint}); they differ")

    def _truth(self, policy: Policy) -> None:
        name, truth = f"{policy.name}.truth", self.rollout.truth_of(policy.output)
        if truth is None or f"truth.{truth}" not in self.columns:
            return
        values = self.columns[f"truth.{truth}"]
        binary = np.isnan(values) | np.isin(values, (0.0, 1.0))
        as_number = truth_class(policy, values, np.zeros(self.n, bool), self._codes)
        as_class = truth_class(policy, values, np.ones(self.n, bool), self._codes)
        if name not in self.columns:
            self.columns[name] = as_class if truth in self.boolean or (self.n and binary.all()) else as_number
            return
        agrees = (self.columns[name] == as_number) | (binary & (self.columns[name] == as_class))
        hint = "take the column out, and they are made anew"
        self._none(~agrees, f"{name}: classes are not those that the config makes of truth.{truth} ({hint}); they differ")

    def _codes(self, name: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        key = f"segment.{name}"
        if key not in self.columns:
            raise InputError(f"a line differs by {name}, and the table has no column {key}")
        return self.columns[key], self.words[key]

    def _none(self, wrong: NDArray[np.bool_], said: str) -> None:
        """Raises InputError if any row is wrong, with their number."""
        at = np.flatnonzero(wrong)
        if len(at):
            raise InputError(f"{said} in {len(at):,} of {self.n:,} rows")


def _with(words: list[str], word: str) -> tuple[list[str], int]:
    found = words if word in words else [*words, word]
    return found, found.index(word)


# ---------------------------------------------------------------------------------------------------------------------- the fold
def fold(rollout: Rollout, table: PairTable, *, until: int | None = None) -> tuple[Evidence, Evidence]:
    """(unlabelled, labelled) evidence of a whole pair table, as the analyst folds it: the same order, the same looks.

    until: stop record time here (microseconds): later events, labels that came later, and labelled events younger than `matures` are
    not folded. Without it time runs on until every wait is over.
    """
    plan = plan_of(rollout)
    grid, matures = int(rollout.looks_s * 1e6), int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
    found = []
    for labelled, lag in ((False, 0), (True, matures)):
        evidence, rows = Evidence(plan, labelled), table
        if until is not None:
            rows = table.take(table["arrived"] <= until // grid * grid - lag)
        looks = np.unique(-(-(rows["arrived"] + lag) // grid)) * grid
        evidence.fold(rows, (looks - lag).astype(np.int64))
        found.append(evidence)
    return found[0], found[1]


def known_at(rollout: Rollout, table: PairTable, until: int) -> PairTable:
    """The table as it was known at a moment: later rows and later labels are not there."""
    labels = [name for name in table.columns if name.startswith("truth.") or name.endswith(".truth")]
    labels += [f"segment.{segment.name}" for segment in rollout.events.segments if segment.truth is not None]
    labelled = np.zeros(len(table), bool)
    for name in labels:
        column = table.columns.get(name)
        if column is not None:
            labelled |= ~np.isnan(column) if column.dtype.kind == "f" else column >= 0
    if (labelled & (table["label_time"] < 0)).any():
        raise UsageError("a moment to stop at needs label_time in every row that has a label")
    columns = dict(table.columns)
    for name in (*labels, "label_time"):
        if name in columns:
            late = columns[name].copy()
            late[table["label_time"] > until] = np.nan if late.dtype.kind == "f" else -1
            columns[name] = late
    return PairTable(columns, table.words).take(table["arrived"] <= until)


def last_look(rollout: Rollout, until: int | None) -> int | None:
    """The last look of a fold up to `until`, microseconds; None where record time runs on until every wait is over."""
    grid = int(rollout.looks_s * 1e6)
    return None if until is None else until // grid * grid


def analyze(rollout: Rollout, table: PairTable, *, until: int | None = None) -> dict[str, Any]:
    """The verdict that the gates give over a pair table: rows as in verdict.json, the word, and its reasons.

    Counts are those of the table; what was lost before it (duplicates, invalid events, overruns) does not stand in one.
    """
    if until is not None:
        table = known_at(rollout, table, until)
    unlabelled, labelled = fold(rollout, table, until=until)
    rows = combine(unlabelled.plan, unlabelled, labelled)
    gates = unlabelled.plan.gates  # those of the shadow: a table has no arms
    judged = [name for name in rollout.policies if f"{name}.incumbent" in table.columns and f"{name}.challenger" in table.columns]
    paired = (table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)
    return {
        "rollout": rollout.name,
        "verdict": follow(gates, {row.name: row for row in rows if row.segment is None}),
        "reasons": reasons(gates, rows, labelled_wait=None),
        "rows": len(table),
        "pairs": int(paired.sum()),
        "gates": [row_document(row) for row in rows],
        "flips": flips(table, judged),
        "config_sha256": rollout.sha256,
        "as_of": None if unlabelled.last_look is None else timestamp(unlabelled.last_look),
    }
