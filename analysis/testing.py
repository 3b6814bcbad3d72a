"""What every metric must keep, as a suite for pytest: ours and those that other packages add by an entry point.

Subclass `MetricContract`, name the class `Test...`, and give it gates and a table; pytest collects the tests. They fold through the real
evidence, as a rollout does, so what passes here is counted right there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.evidence import Evidence
from analysis.gates import Test, prepare
from analysis.metrics.contributions import contributions_of, domain_of, paired_difference, rows_of
from analysis.metrics.tally import Batch, Tally
from analysis.plan import Plan
from analysis.types import Gate, GateResult, PairTable, Status

LANES = ("incumbent", "challenger")
SEED = 20240611


class MetricContract:
    """Override `gates`, the ways in which the metric may be asked, and `table`, pairs on which it is defined often enough."""

    sizes: tuple[int, ...] = (40, 1_500)
    """How many rows the tests take."""

    def gates(self) -> Sequence[Gate]:
        """Gates of the metric: each limit word that it takes, at a limit inside its range."""
        raise NotImplementedError

    def table(self, rng: np.random.Generator, n: int) -> PairTable:
        """n rows in order of arrival, some of the same unit, some without an answer of the challenger; the same rng, the same rows."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------------ the suite
    def test_each_gate_can_be_computed(self) -> None:
        """An error would leave the gate undecided for ever; a metric that counts nothing proves nothing."""
        for gate, rows in self._cases():
            row = judged(gate, rows)
            assert row.reason != "compute_error", f"{gate.name}: {broken(gate, rows)}"
            assert row.n_units > 0 and row.estimate is not None, f"{gate.name}: no row of the table counts"

    def test_numbers_stay_in_their_range(self) -> None:
        """The range is what makes the evidence valid: a number outside it stops the gate."""
        for gate, rows in self._cases():
            test = prepare(gate)
            values = contributions_of(gate, rows)[0][rows_of(test.domain, rows)]
            faulty = int(test.support.faulty(values).sum())
            assert not faulty, f"{gate.name}: {faulty} of {len(values)} numbers are not finite or outside {test.support}"

    def test_parts_add_up_to_the_whole(self) -> None:
        """Days, shards and workers merge by addition, to the last bit."""
        for gate, rows in self._cases():
            once = first_events(rows)
            half = len(once) // 2
            parts = tally_of(gate, once.take(slice(0, half))) + tally_of(gate, once.take(slice(half, None)))
            assert same(parts, tally_of(gate, once)), f"{gate.name}: two halves do not add up to the whole"

    def test_the_order_of_units_moves_nothing(self) -> None:
        """A number of a row must not depend on the rows before it."""
        for gate, rows in self._cases():
            once = first_events(rows)
            mixed = once.take(np.random.default_rng(SEED + 1).permutation(len(once)))
            assert same(tally_of(gate, mixed), tally_of(gate, once)), f"{gate.name}: another order, other sums"

    def test_a_unit_counts_once(self) -> None:
        """Copies of a unit's event are no new evidence: only the numbers over events may notice them."""
        for gate, rows in self._cases():
            twice = rows.take(np.repeat(np.arange(len(rows)), 2))
            row, copied = judged(gate, rows), judged(gate, twice)
            same_evidence = (row.n_units, row.estimate, row.log_e_pass, row.log_e_fail, row.lower, row.upper)
            found = (copied.n_units, copied.estimate, copied.log_e_pass, copied.log_e_fail, copied.lower, copied.upper)
            assert found == same_evidence, f"{gate.name}: {same_evidence} became {found} when each event came twice"
            assert copied.n_events == 2 * row.n_events

    def test_a_gate_passes_exactly_when_its_interval_keeps_the_limit(self) -> None:
        """The status and the interval are one statement, and the interval holds the estimate."""
        for gate, rows in self._cases():
            row = judged(replace(gate, min_units=0), rows)
            if row.status is Status.FAIL or row.estimate is None:
                continue
            low, high = -np.inf if row.lower is None else row.lower, np.inf if row.upper is None else row.upper
            line = -gate.limit if gate.word == "worse_by_at_most" else gate.limit
            inside = {"below": high <= line, "within": -line <= low and high <= line}.get(gate.word, low >= line)
            if row.reason not in (None, "insufficient"):
                continue  # held back by something else than the number
            assert (row.status is Status.PASS) == inside, f"{gate.name}: {row.status.name} with [{low}, {high}] and the limit {line}"
            assert low <= row.estimate <= high, f"{gate.name}: {row.estimate} lies outside [{low}, {high}]"

    def test_a_row_without_an_answer_is_no_pair(self) -> None:
        """Where a lane did not answer there is nothing to compare; what counts such rows must say so by its domain, as `missing` does."""
        for gate, rows in self._cases():
            if domain_of(gate.metric) == ("all",):
                continue
            silent = without_answers(rows)
            assert judged(gate, silent).n_events == 0, f"{gate.name}: counts rows that the challenger did not answer"

    def test_a_row_without_a_label_is_not_guessed(self) -> None:
        """A metric that needs labels has nothing to say of a row without one, unless its labels are weighted."""
        for gate, rows in self._cases():
            if gate.metric.labelled and not gate.metric.weighted:
                assert judged(gate, without_labels(rows)).n_events == 0, f"{gate.name}: counts rows without a label"

    def test_two_equal_models_do_not_differ(self) -> None:
        """Compared with itself, a model is neither better nor worse."""
        for gate, rows in self._cases():
            if paired_difference(gate):
                values = contributions_of(gate, equal_lanes(rows))[0][rows_of(domain_of(gate.metric), equal_lanes(rows))]
                assert not np.any(values), f"{gate.name}: differs from itself"

    def _cases(self) -> list[tuple[Gate, PairTable]]:
        return [(gate, self.table(np.random.default_rng(SEED), n)) for n in self.sizes for gate in self.gates()]


# ------------------------------------------------------------------------------------------------------------------- folding
def evidence_of(gate: Gate, rows: PairTable) -> Evidence:
    """All rows folded at one look."""
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), gate.metric.labelled)
    evidence.fold(rows, np.array([int(rows["arrived"].max()) + 1]) if len(rows) else np.array([1]))
    return evidence


def judged(gate: Gate, rows: PairTable) -> GateResult:
    """The whole row of a gate over a table."""
    return evidence_of(gate, rows).results()[0]


def broken(gate: Gate, rows: PairTable) -> str:
    """Why a gate could not be computed."""
    return evidence_of(gate, rows).broken.get(gate.name, "")


def tally_of(gate: Gate, rows: PairTable) -> Tally:
    """The sufficient statistics of a table in which each unit comes once."""
    test: Test = prepare(gate)
    at = np.flatnonzero(rows_of(test.domain, rows))
    values, weights = contributions_of(gate, rows)
    if weights is not None:
        at = at[weights[at] > 0.0]
    cells = test.cells(rows)
    tally = Tally(test.support, 0 if test.edges is None else len(test.edges) + 3)
    tally.grow(1)
    tally.add(Batch(np.zeros(len(at), np.int64), values[at], np.ones(len(at), bool), None if cells is None else cells[at],
                    None if weights is None else weights[at]))
    return tally


def same(one: Tally, other: Tally) -> bool:
    """Whether two tallies hold the same integers."""
    sums = [(t.event_sums, t.unit_sums, t.event_weights, t.unit_weights) for t in (one, other)]
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("counts", "events", "cells"))
    return arrays and sums[0] == sums[1]


# -------------------------------------------------------------------------------------------------------------------- tables
def first_events(rows: PairTable) -> PairTable:
    """The first event of each unit."""
    return rows.take(np.sort(np.unique(rows["unit_id"], return_index=True)[1]))


def without_answers(rows: PairTable) -> PairTable:
    """The same events, of which the challenger answered none."""
    columns = dict(rows.columns)
    columns["missing.challenger"] = np.zeros(len(rows), np.int32)
    said = {name: _null(column) for name, column in columns.items() if name.endswith(".challenger") and not name.startswith("missing.")}
    return PairTable(columns | said, rows.words)


def without_labels(rows: PairTable) -> PairTable:
    """The same events without any truth."""
    of_truth = [name for name in rows.columns if name.startswith("truth.") or name.endswith(".truth")]
    return PairTable({**rows.columns, **{name: _null(rows[name]) for name in of_truth}}, rows.words)


def equal_lanes(rows: PairTable) -> PairTable:
    """The same events, of which the challenger answered what the incumbent did."""
    own = {name: rows[f"{name.removesuffix('.challenger')}.incumbent"] for name in rows.columns
           if name.endswith(".challenger") and f"{name.removesuffix('.challenger')}.incumbent" in rows.columns}
    return PairTable({**rows.columns, **own}, rows.words)


def _null(column: np.ndarray[tuple[int], np.dtype[np.generic]]) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    return np.full_like(column, np.nan if column.dtype.kind == "f" else -1)
