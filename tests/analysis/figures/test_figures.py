"""The data of each figure against a slow, plain version in Python loops."""

from __future__ import annotations

import doctest
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from analysis.figures import shares
from analysis.figures.allowed import allowed_by_truth
from analysis.figures.decisions import decision_matrix
from analysis.figures.gates import gate_intervals
from analysis.figures.harms import FEW_UNITS, harm_counts, segment_effects
from analysis.figures.shares import share_of, wilson
from analysis.types import Gate, Metric, PairTable

HARM = Metric(kind="harm", policy="over", truth=False, decisions=("true",))


def table_of(seed: int, n: int = 400, *, classes: bool = False) -> PairTable:
    """A seeded table: some lanes missing, some labels unknown, units with several events."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n).astype(float) if classes else random.integers(8, 30, n).astype(float)
    at_least = 1.0 if classes else 13.0
    old, new = (random.integers(0, 2, n).astype(np.int32) for _ in range(2))
    missing_old, missing_new = (np.where(random.random(n) < 0.1, 0, -1).astype(np.int32) for _ in range(2))
    old[missing_old >= 0], new[missing_new >= 0] = -1, -1
    truth[random.random(n) < 0.3] = np.nan
    known = np.where(np.isnan(truth), -1, truth >= at_least).astype(np.int32)
    return PairTable(
        {
            "unit_id": random.integers(0, n // 2, n).astype(np.uint64),
            "missing.incumbent": missing_old,
            "missing.challenger": missing_new,
            "over.incumbent": old,
            "over.challenger": new,
            "over.truth": known,
            "truth.age": truth,
            "segment.region": random.integers(-1, 3, n).astype(np.int32),
        },
        {"over": ("false", "true"), "segment.region": ("north", "south", "west"), "missing": ("timeout",)},
    )


def rows_of(table: PairTable) -> list[dict[str, float]]:
    return [{name: column[k] for name, column in table.columns.items()} for k in range(len(table))]


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_shares_by_truth_are_those_of_counting_row_by_row(seed, classes):
    """Every labelled pair is in one bin or in `cut`, and each bin's hits are what a loop counts."""
    table = table_of(seed, classes=classes)
    figure = allowed_by_truth(table, "over", ("true",), truth="age", lines=(13.0,))
    plain: dict[float, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows_of(table):
        if row["over.incumbent"] >= 0 and row["over.challenger"] >= 0 and row["truth.age"] == row["truth.age"]:
            found = plain[row["truth.age"]]
            found[0], found[1], found[2] = found[0] + 1, found[1] + int(row["over.incumbent"]), found[2] + int(row["over.challenger"])
    assert figure is not None and figure.classes is classes and figure.lines == (() if classes else (13.0,))
    for bin_ in figure.bins:
        assert [bin_.incumbent.n, bin_.incumbent.hits, bin_.challenger.hits] == plain[bin_.low]
    assert sum(b.incumbent.n for b in figure.bins) + figure.cut == sum(n for n, _, _ in plain.values())


def test_the_picture_ends_where_both_lanes_agree_and_never_loses_the_line():
    """Ages 40 to 80 say nothing about a line at 13, and would make the interesting part a finger's width."""
    ages = np.repeat(np.arange(8.0, 80.0), 20)
    says = (ages >= 13).astype(np.int32)
    table = PairTable(
        {"unit_id": np.arange(len(ages)), "truth.age": ages, "over.incumbent": says, "over.challenger": says},
        {"over": ("false", "true")},
    )
    figure = allowed_by_truth(table, "over", ("true",), truth="age", lines=(13.0,))
    assert figure is not None
    assert [b.low for b in figure.bins] == [10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0]
    assert figure.cut == 20 * (72 - 7)


def test_numbers_that_are_not_whole_get_bins_with_an_edge_at_the_line():
    """A bin across the line would mix those under it with those over it."""
    truth = np.random.default_rng(7).random(500)
    says = (truth > 0.4).astype(np.int32)
    table = PairTable(
        {"unit_id": np.arange(500), "truth.x": truth, "over.incumbent": says, "over.challenger": says}, {"over": ("false", "true")}
    )
    figure = allowed_by_truth(table, "over", ("true",), truth="x", lines=(0.37,))
    assert figure is not None and any(b.low == pytest.approx(0.37) for b in figure.bins)


def test_without_a_label_there_is_no_picture():
    """Nothing seen is not a share of zero."""
    table = table_of(1)
    table.columns["truth.age"][:] = np.nan
    assert allowed_by_truth(table, "over", ("true",), truth="age", lines=(13.0,)) is None


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_matrix_counts_every_decided_pair_once(seed):
    """Cells, labels and true classes against a loop."""
    table = table_of(seed)
    matrix = decision_matrix(table, "over")
    plain: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows_of(table):
        if row["over.incumbent"] >= 0 and row["over.challenger"] >= 0:
            found = plain[int(row["over.incumbent"]), int(row["over.challenger"])]
            found[0], found[1], found[2] = found[0] + 1, found[1] + int(row["over.truth"] >= 0), found[2] + int(row["over.truth"] == 1)
    for i, row in enumerate(matrix.cells):
        for j, cell in enumerate(row):
            assert [cell.pairs, cell.labelled, cell.true] == plain[i, j]
    assert matrix.changed == plain[0, 1][0] + plain[1, 0][0]


def test_a_cell_with_pairs_and_no_label_is_unchecked():
    """It is where `no_support` comes from."""
    table = table_of(3)
    table.columns["over.truth"][(table["over.incumbent"] == 0) & (table["over.challenger"] == 1)] = -1
    matrix = decision_matrix(table, "over")
    assert [cell.unchecked for row in matrix.cells for cell in row] == [False, True, False, False]


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_harms_are_counted_in_both_lanes_among_labelled_pairs_of_the_class(seed):
    """Over everyone and in each segment, against a loop."""
    table = table_of(seed)
    plain: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in rows_of(table):
        if row["over.incumbent"] >= 0 and row["over.challenger"] >= 0 and row["over.truth"] == 0:
            for key in (-9, int(row["segment.region"])):
                found = plain[key]
                found[0], found[1], found[2] = found[0] + 1, found[1] + int(row["over.incumbent"]), found[2] + int(row["over.challenger"])
    effects = segment_effects(table, HARM, ["region"], alpha=0.05)
    overall = harm_counts(table, HARM)
    assert effects.overall == overall
    assert [overall.n_events, overall.incumbent, overall.challenger] == plain[-9]
    words = table.words["segment.region"]
    for row in effects.rows:
        assert [row.counts.n_events, row.counts.incumbent, row.counts.challenger] == plain[words.index(row.value)]


def harmful(n: int, old: float, new: float) -> PairTable:
    """n units of one event, of the class false; the first shares of them harmed by each lane."""
    return PairTable(
        {
            "unit_id": np.arange(n),
            "missing.incumbent": np.full(n, -1),
            "missing.challenger": np.full(n, -1),
            "over.incumbent": (np.arange(n) < old * n).astype(np.int32),
            "over.challenger": (np.arange(n) < new * n).astype(np.int32),
            "over.truth": np.zeros(n, np.int32),
            "segment.region": np.zeros(n, np.int32),
        },
        {"over": ("false", "true"), "segment.region": ("north",)},
    )


@pytest.mark.parametrize(
    ("n", "old", "new", "effect"),
    [(500, 0.1, 0.3, "worse"), (500, 0.3, 0.1, "better"), (500, 0.1, 0.1, "cannot tell"), (FEW_UNITS - 1, 0.0, 1.0, "cannot tell")],
)
def test_a_segment_is_called_worse_or_better_only_on_evidence(n, old, new, effect):
    """Few units cannot tell, however large their change looks."""
    assert [row.effect for row in segment_effects(harmful(n, old, new), HARM, ["region"], alpha=0.05).rows] == [effect]


def test_one_busy_unit_is_not_evidence():
    """A thousand events of one account are one voice."""
    table = harmful(1_000, 0.0, 1.0)
    table.columns["unit_id"][:] = 7
    assert [row.effect for row in segment_effects(table, HARM, ["region"], alpha=0.05).rows] == ["cannot tell"]


def test_segments_without_any_effect_are_rarely_called_worse_or_better_at_any_look():
    """Looking after every 50 units, 200 streams without an effect: at most the 0.999 quantile of Binomial(200, 0.05) are ever called."""
    random = np.random.default_rng(20240611)
    called = 0
    for _ in range(200):
        table = harmful(400, 0.0, 0.0)
        table.columns["over.incumbent"][:] = random.random(400) < 0.3
        table.columns["over.challenger"][:] = random.random(400) < 0.3
        looks = (segment_effects(table.take(slice(0, n)), HARM, ["region"], alpha=0.05).rows[0] for n in range(50, 401, 50))
        called += any(row.effect != "cannot tell" for row in looks)
    assert called <= 21


def test_the_worst_segment_comes_first_and_those_nobody_can_tell_last():
    """The order in which people read."""
    parts = [harmful(400, 0.1, share) for share in (0.3, 0.6, 0.1, 0.0)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].columns}
    columns["segment.region"] = np.repeat(np.arange(4), 400).astype(np.int32)
    columns["unit_id"] = np.arange(1_600)
    table = PairTable(columns, {"over": ("false", "true"), "segment.region": ("a", "b", "c", "d")})
    rows = segment_effects(table, HARM, ["region"], alpha=0.05).rows
    assert [(row.value, row.effect) for row in rows] == [("b", "worse"), ("a", "worse"), ("d", "better"), ("c", "cannot tell")]


@given(st.integers(1, 300), st.integers(0, 300))
def test_the_interval_of_independent_events_is_wilsons(n, hits):
    """Against scipy."""
    hits = min(hits, n)
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_same_events_of_fewer_units_give_a_wider_interval():
    """Ten copies of each unit's event are no ten times the evidence: the interval is that of the units."""
    random = np.random.default_rng(5)
    hit = random.random(200) < 0.4
    one, ten = share_of(hit, np.arange(200)), share_of(np.repeat(hit, 10), np.repeat(np.arange(200), 10))
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high))
    assert ten.n == 2_000 and ten.n_units == 200


def test_units_that_all_have_the_same_share_are_as_many_voices_as_events():
    """Nothing between the units: the spread is not divided by it. Small streams have such bins, and a page must come of them."""
    share = share_of(np.array([True, False, True, False]), np.array([1, 1, 2, 2]))
    assert (share.low, share.high) == wilson(0.5, 4.0)


def test_the_examples_in_the_docstrings_hold():
    """They are what people copy."""
    result = doctest.testmod(shares)
    assert result.attempted and not result.failed


def row(name: str, segment: dict[str, str] | None, status: str, estimate: float | None) -> dict[str, object]:
    ends = {"lower": None, "upper": None} if estimate is None else {"lower": estimate - 0.1, "upper": estimate + 0.1}
    return {"name": name, "segment": segment, "status": status, "reason": None, "estimate": estimate, "estimate_events": estimate,
            "n_units": 1, "n_events": 1, **ends}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "limit", "lines", "good"),
    [
        ("below", 0.3, (0.3,), "below"),
        ("above", 0.3, (0.3,), "above"),
        ("worse_by_at_most", 0.2, (-0.2,), "above"),
        ("better_by_more_than", 0.0, (0.0,), "above"),
        ("within", 0.2, (-0.2, 0.2), "between"),
    ],
)
def test_the_line_of_a_gate_stands_where_passing_begins(word, limit, lines, good):
    """A limit of 0.2 worse is a line at -0.2, because positive means better."""
    figure = gate_intervals([Gate(name="g", metric=HARM, word=word, limit=limit)], [row("g", None, "pass", 0.5)])[0]
    assert (figure.lines, figure.good) == (lines, good)
    assert all(figure.low < x < figure.high for x in (*lines, 0.5, 0.4, 0.6))


def test_rows_of_a_gate_come_with_the_whole_first_then_the_worst():
    """Fails, then what cannot be told, then passes; in each the worst estimate first."""
    gate = Gate(name="g", metric=HARM, word="better_by_more_than", limit=0.0)
    rows = [row("g", {"r": "a"}, "pass", 0.3), row("g", {"r": "b"}, "fail", -0.1), row("g", {"r": "c"}, "undecided", None),
            row("g", {"r": "d"}, "fail", -0.4), row("g", None, "fail", 0.0), row("other", None, "fail", 9.0)]  # fmt: skip
    figure = gate_intervals([gate], rows)[0]
    assert [r.segment and r.segment["r"] for r in figure.rows] == [None, "d", "b", "c", "a"]


def test_a_gate_without_a_row_keeps_its_place():
    """It is shown as undecided, not left out."""
    figures = gate_intervals([Gate(name="g", metric=HARM, word="below", limit=0.1)], [])
    assert [(figure.gate.name, figure.whole) for figure in figures] == [("g", None)]
