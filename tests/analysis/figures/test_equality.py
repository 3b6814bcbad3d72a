"""The two questions of a report: counts by plain loops, answers on streams with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.figures.equality import accuracy, copy_of_decisions, copy_of_numbers
from analysis.sequential.mcnemar import log_e_equal
from analysis.simulate import World, ages
from analysis.types import PairTable

WRONG = ((False, ("true",)), (True, ("false",)))


def with_replica(table: PairTable, rng: np.random.Generator, *, of: str, asked: float = 0.5) -> PairTable:
    """A replica of the incumbent as noisy as it: every lane says the truth plus its own noise, `of` whose noise the replica's is like."""
    n, age = len(table), table["age.incumbent"]
    noise = rng.normal(0.0, 1.0, n)
    columns = dict(table.columns)
    columns["age.replica"] = np.clip(age + noise, 0.0, 120.0)
    if of == "copy":  # the challenger is one more noisy copy
        columns["age.challenger"] = np.clip(age + rng.normal(0.0, 1.0, n), 0.0, 120.0)
        columns["missing.challenger"] = np.full(n, -1, np.int32)
    gone = rng.random(n) >= asked
    columns["missing.replica"] = np.where(gone, 0, -1).astype(np.int32)
    columns["age.replica"] = np.where(gone, np.nan, columns["age.replica"])
    for lane in ("challenger", "replica"):
        said = columns[f"age.{lane}"]
        columns[f"over_18.{lane}"] = np.where(np.isnan(said), -1, said >= 18.0).astype(np.int32)
    return PairTable(columns, table.words)


def test_accuracy_counts_the_first_labelled_pair_of_each_unit():
    """By a plain loop: one voice a unit, only labelled pairs that both models answered."""
    rows = ages(np.random.default_rng(3), 3_000, World(missing=0.1))
    found = accuracy(rows, "over_18", WRONG, alpha=0.05)
    seen: set[int] = set()
    counts = {1: 0, -1: 0, 0: 0}
    for k in range(len(rows)):
        truth, unit = int(rows["over_18.truth"][k]), int(rows["unit_id"][k])
        if truth < 0 or rows["missing.challenger"][k] >= 0 or unit in seen:
            continue
        seen.add(unit)
        counts[int(rows["over_18.challenger"][k] == truth) - int(rows["over_18.incumbent"][k] == truth)] += 1
    assert (found.challenger, found.other, found.concordant) == (counts[1], counts[-1], counts[0])
    assert found.log_e == log_e_equal(counts[1], counts[-1])


def test_a_better_model_is_found_and_an_equal_one_is_not():
    """The challenger of the stream has less noise; the same noise in both says nothing."""
    rows = ages(np.random.default_rng(4), 12_000)
    assert accuracy(rows, "over_18", WRONG, alpha=0.05).different
    same = PairTable({**rows.columns, **{f"{name}.challenger": rows[f"{name}.incumbent"] for name in ("age", "over_18")}}, rows.words)
    assert not accuracy(same, "over_18", WRONG, alpha=0.05).different


@pytest.mark.parametrize(("of", "different"), [("copy", False), ("another model", True)])
def test_a_copy_is_told_from_another_model_by_decisions_and_by_numbers(of, different):
    """The noise floor: what departs no more than a second copy does is a copy, however often it departs."""
    rng = np.random.default_rng(6)
    rows = with_replica(ages(rng, 8_000), rng, of=of)
    by_decisions = copy_of_decisions(rows, "over_18", alpha=0.05)
    by_numbers = copy_of_numbers(rows, "age", alpha=0.05)
    assert (by_decisions.different, by_numbers.different) == (different, different)
    assert by_numbers.challenger + by_numbers.other + by_numbers.concordant < 8_000 * 0.6  # only where the replica was asked


def test_what_cannot_be_asked_has_no_answer():
    """No replica, no label, no errors named: no row, rather than one that says "equal"."""
    rows = ages(np.random.default_rng(3), 300, World(labelled=0.0))
    assert accuracy(rows, "over_18", WRONG, alpha=0.05) is None
    assert accuracy(rows, "over_18", (), alpha=0.05) is None
    assert copy_of_decisions(rows, "over_18", alpha=0.05) is None and copy_of_numbers(rows, "age", alpha=0.05) is None
