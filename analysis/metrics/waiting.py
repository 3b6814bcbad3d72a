"""Labels that were asked for and have not come: what the contribution of such a row may turn out to be, at the least and at the most.

A process then takes the value that is worst for what it proves, so that its evidence can only grow when the label comes; it may be read
at any time, and who labels late, or never, cannot help a model. A row of which no label was asked for is no such row: it counts 0.

Source: STATISTICS 7.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from analysis.metrics.contributions import labelled_rows, paired_difference, paired_rows, values_of, weights_of
from analysis.metrics.numbers import Mask, needed, policy_of, says
from analysis.metrics.support import Floats, Ints
from analysis.types import CLASS_KINDS, Gate, Metric, PairTable


@dataclass(frozen=True, slots=True)
class Fill:
    """What is known of requests, row by row, shape (rows,) each.

    asked: whether a label was asked for, of a pair. known: whether the label is there. needed: whether one was asked for and the
    contribution depends on what it says. waits: whether such a one has not come; low, high: its least and its greatest value then.
    chances: 1/propensity where asked.
    """

    asked: Mask
    known: Mask
    needed: Mask
    waits: Mask
    low: Floats
    high: Floats
    chances: Floats

    def take(self, rows: Mask | Ints) -> Fill:
        """The rows that a mask or an index array chooses."""
        return Fill(self.asked[rows], self.known[rows], self.needed[rows], self.waits[rows], self.low[rows], self.high[rows],
                    self.chances[rows])


def asked(gate: Gate) -> bool:
    """Whether it is recorded for a gate's labels that they were asked for."""
    return gate.metric.weighted and gate.metric.requested


def asked_rows(table: PairTable) -> Mask:
    """Of which rows a label was asked for, shape (rows,), where the table records it."""
    found: Mask = ~np.isnan(table["propensity"])
    return found


def without_unasked(table: PairTable) -> PairTable:
    """The table without the labels that nobody asked for: they are a sample of nothing, so no gate that speaks of all pairs takes them."""
    return _without_truth(table, labelled_rows(table) & ~asked_rows(table))


def _without_truth(table: PairTable, rows: Mask) -> PairTable:
    """The table as if no label of these rows had come."""
    if not rows.any():
        return table
    columns = dict(table.columns)
    for name, column in table.columns.items():
        if name.startswith("truth.") or name.endswith(".truth"):
            columns[name] = np.where(rows, np.nan if column.dtype.kind == "f" else -1, column).astype(column.dtype)
    return PairTable(columns, table.words)


def fill_of(gate: Gate, table: PairTable) -> Fill | None:
    """What is known of a gate's requests; None where the plan has none. A table without unasked labels is expected."""
    metric = gate.metric
    if not asked(gate):
        return None
    wanted, known = paired_rows(table) & asked_rows(table), _known(metric, table)
    low, high = _ends(gate, _without_truth(table, known))
    chances, telling = np.where(wanted, weights_of(metric, table), 0.0), wanted
    if metric.kind == "precision":
        telling = wanted & (says(table, policy_of(metric), "challenger", ("true",)) == 1.0)
    elif metric.kind not in CLASS_KINDS:
        telling = wanted & ((low != 0.0) | (high != 0.0))  # two losses that are equal whatever is true need no label
        low, high = low * chances, high * chances
    return Fill(wanted, wanted & known, telling, telling & ~known, low, high, chances)


def _known(metric: Metric, table: PairTable) -> Mask:
    """Which rows have the label that the metric needs, shape (rows,)."""
    if metric.kind == "python":
        return labelled_rows(table)
    if metric.kind == "loss" and metric.loss != "zero_one":
        found: Mask = ~np.isnan(table[f"truth.{needed(metric.truth_name, 'truth_name', metric)}"])
        return found
    return np.all([table[f"{policy}.truth"] >= 0 for policy in _policies(metric)], axis=0)  # type: ignore[no-any-return]


def _policies(metric: Metric) -> tuple[str, ...]:
    return tuple(dict.fromkeys(policy for policy, *_ in metric.costs)) if metric.kind == "cost" else (policy_of(metric),)


def _ends(gate: Gate, table: PairTable) -> tuple[Floats, Floats]:
    """(least, greatest) value of each row over all labels that it may get, before any weight; meaningful for pairs without a label."""
    metric = gate.metric
    if metric.kind in ("harm", "recall"):  # what was decided is known; the label says whether it counts
        own = values_of(gate, table)
        return own, own
    if metric.kind == "precision":
        return np.zeros(len(table)), np.ones(len(table))
    if metric.kind == "python" or metric.loss in ("absolute_error", "squared_error"):
        high = _most(gate, table)
        return (-high if paired_difference(gate) else np.zeros(len(table))), high
    ends = [np.stack([values_of(part, done) for done in completed]) for part, completed in _completions(gate, table)]
    return np.sum([values.min(axis=0) for values in ends], axis=0), np.sum([values.max(axis=0) for values in ends], axis=0)


def _most(gate: Gate, table: PairTable) -> Floats:
    """The largest loss, or difference of two: no truth makes two errors differ by more than what the lanes said does."""
    metric = gate.metric
    bound = np.full(len(table), needed(metric.bound, "bound", metric))
    if metric.kind == "python" or not paired_difference(gate):
        return bound
    apart: Floats = np.abs(np.asarray(table[f"{metric.output}.challenger"] - table[f"{metric.output}.incumbent"], np.float64))
    if metric.loss == "squared_error":
        # with both errors at most r = sqrt(bound), (a - y)^2 - (b - y)^2 is largest where the worse one is r
        apart = apart * np.maximum(2.0 * np.sqrt(bound) - apart, 0.0)
    most: Floats = np.minimum(apart, bound)
    return most


def _completions(gate: Gate, table: PairTable) -> Iterator[tuple[Gate, list[PairTable]]]:
    """The parts of a gate's number that depend on one unknown each, and the table with either value of it."""
    metric = gate.metric
    if metric.loss == "log_loss":
        name = f"truth.{needed(metric.truth_name, 'truth_name', metric)}"
        yield gate, [_with(table, name, np.where(np.isnan(table[name]), truth, table[name])) for truth in (0.0, 1.0)]
        return
    for policy in _policies(metric):
        name, own = f"{policy}.truth", tuple(cost for cost in metric.costs if cost[0] == policy)
        part = replace(gate, metric=replace(metric, costs=own)) if metric.kind == "cost" else gate
        yield part, [_with(table, name, np.where(table[name] < 0, truth, table[name])) for truth in (0, 1)]


def _with(table: PairTable, name: str, column: Floats) -> PairTable:
    return PairTable({**table.columns, name: column}, table.words)
