"""Each kind of metric on a table of a few rows that can be read by eye."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.metrics.contributions import domain_of, labelled_rows, rows_of, support_of, values_of
from analysis.types import Gate, InputError, Metric, PairTable

NAN = float("nan")
# row:      0 both right, 1 incumbent wrong, 2 challenger wrong, 3 no label, 4 challenger missing, 5 incumbent missing
TABLE = PairTable(
    {
        "adult.incumbent": np.array([1, 1, 0, 1, 0, -1]), "adult.challenger": np.array([1, 0, 1, 0, -1, 1]),
        "adult.truth": np.array([1, 0, 0, -1, 1, 1]), "age.incumbent": np.array([20.0, 19.0, 17.0, 18.0, 10.0, NAN]),
        "age.challenger": np.array([21.0, 16.0, 19.0, 17.0, NAN, 30.0]), "truth.age": np.array([20.0, 17.0, 16.0, NAN, 20.0, 20.0]),
        "p.incumbent": np.array([0.5, 0.5, 0.5, 0.5, 0.5, NAN]), "p.challenger": np.array([0.9, 0.2, 1.0, 0.5, NAN, 0.5]),
        "truth.p": np.array([1.0, 0.0, 1.0, NAN, 1.0, 1.0]),
        "missing.incumbent": np.array([-1, -1, -1, -1, -1, 0]), "missing.challenger": np.array([-1, -1, -1, -1, 1, -1]),
        "latency_ms.challenger": np.array([10.0, 100.0, 100.5, NAN, 5.0, 20.0]),
    },
    {"adult": ("false", "true"), "missing": ("timeout", "error")},
)
AGE_LOSS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
HARM = Metric(kind="harm", policy="adult", truth=False, decisions=("true",))


def found(metric: Metric, word: str = "below", limit: float = 0.1) -> list[tuple[int, float]]:
    gate = Gate(name="g", metric=metric, word=word, limit=limit)
    values = values_of(gate, TABLE)
    return [(int(row), float(values[row])) for row in np.flatnonzero(rows_of(domain_of(metric), TABLE))]


@pytest.mark.parametrize(("metric", "word", "expected"), [
    (Metric(kind="flip", policy="adult"), "below", [(0, 0), (1, 1), (2, 1), (3, 1)]),
    (Metric(kind="flip", policy="adult", from_="false", to="true"), "below", [(0, 0), (1, 0), (2, 1), (3, 0)]),
    (Metric(kind="flip", policy="adult", from_="true"), "below", [(0, 0), (1, 1), (2, 0), (3, 1)]),
    (HARM, "below", [(1, 0), (2, 1)]),
    (HARM, "worse_by_at_most", [(1, 1), (2, -1)]),
    (HARM, "within", [(1, 1), (2, -1)]),
    (Metric(kind="recall", policy="adult"), "above", [(0, 1)]),
    (Metric(kind="precision", policy="adult"), "above", [(0, 1), (2, 0)]),
    (Metric(kind="loss", loss="zero_one", policy="adult"), "below", [(0, 0), (1, 0), (2, 1)]),
    (Metric(kind="loss", loss="zero_one", policy="adult"), "better_by_more_than", [(0, 0), (1, 1), (2, -1)]),
    (AGE_LOSS, "worse_by_at_most", [(0, -1), (1, 1), (2, -2)]),
    (replace(AGE_LOSS, loss="squared_error", bound=14400.0), "below", [(0, 1), (1, 1), (2, 9)]),
    (Metric(kind="missing"), "below", [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 0)]),
    (Metric(kind="missing"), "worse_by_at_most", [(0, 0), (1, 0), (2, 0), (3, 0), (4, -1), (5, 1)]),
    (Metric(kind="errors"), "below", [(0, 0), (1, 0), (2, 0), (3, 0), (4, 1), (5, 0)]),
    (Metric(kind="errors", lane="incumbent"), "below", [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]),
    (Metric(kind="difference", output="age", bound=120.0), "within", [(0, 1), (1, -3), (2, 2), (3, -1)]),
])
def test_each_kind_counts_its_rows_and_its_number(metric, word, expected):
    """The contract of the numbers: which pairs, and positive where the challenger is better."""
    assert found(metric, word) == expected


def test_log_loss_is_the_log_of_the_chance_given_to_the_truth():
    """A certain and right answer costs nothing; the truth is a class."""
    metric = Metric(kind="loss", loss="log_loss", output="p", truth_name="p", bound=10.0)
    assert [value for _, value in found(metric)] == pytest.approx([-np.log(0.9), -np.log(0.8), 0.0])


def test_an_unknown_latency_is_neither_fast_nor_slow():
    """Missing is slow; the limit itself is fast; an answer without a latency is left to each process to fill at its worst."""
    metric = Metric(kind="latency", quantile=0.99)
    assert [value for _, value in found(metric, limit=100.0)] == [0, 0, 1, 2, 1, 0]


def test_a_better_recall_is_positive():
    """Recall is better when it is larger, unlike every loss: the sign of a difference must not flatter a worse model."""
    table = TABLE.take([0, 0])
    table = PairTable({**table.columns, "adult.incumbent": np.array([1, 0]), "adult.challenger": np.array([0, 1])}, TABLE.words)
    gate = Gate(name="g", metric=Metric(kind="recall", policy="adult"), word="worse_by_at_most", limit=0.1)
    assert values_of(gate, table).tolist() == [-1.0, 1.0]


def test_a_null_decision_of_an_answer_is_not_a_number():
    """An answer without a decision must stop the gate: dropping it would hide what the model could not decide."""
    table = PairTable({**TABLE.columns, "adult.challenger": np.full(6, -1)}, TABLE.words)
    for metric in (Metric(kind="flip", policy="adult"), HARM, Metric(kind="precision", policy="adult")):
        gate = Gate(name="g", metric=metric, word="below", limit=0.1)
        rows = rows_of(domain_of(metric), table)
        assert rows.any() and np.isnan(values_of(gate, table)[rows]).all()


@pytest.mark.parametrize(("metric", "word"), [
    (Metric(kind="charm"), "below"), (Metric(kind="harm", policy="adult"), "below"), (Metric(kind="flip"), "below"),
    (Metric(kind="flip", policy="adult"), "worse_by_at_most"), (Metric(kind="flip", policy="teen"), "below"),
    (Metric(kind="precision", policy="adult"), "worse_by_at_most"), (Metric(kind="latency", quantile=0.9), "above"),
    (replace(AGE_LOSS, bound=None), "below"), (replace(AGE_LOSS, truth_name=None), "below"), (replace(AGE_LOSS, loss="hinge"), "below"),
    (Metric(kind="difference", output="age"), "within"), (Metric(kind="difference", output="age", bound=-1.0), "within"),
])
def test_what_cannot_be_computed_is_an_input_error(metric, word):
    """A gate that cannot be computed must say so, and never give a number."""
    gate = Gate(name="g", metric=metric, word=word, limit=0.1)
    with pytest.raises(InputError):
        rows_of(domain_of(metric), TABLE)
        support_of(gate)
        values_of(gate, TABLE)


def test_labelled_rows_are_those_with_any_truth():
    """A label without a pair is a label too."""
    assert labelled_rows(TABLE).tolist() == [True, True, True, False, True, True]
