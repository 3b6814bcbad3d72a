"""Labels that were asked for and have not come: filled with the worst for each process, so that evidence can only grow when they come."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence import Evidence, Plan
from analysis.gates import prepare
from analysis.metrics.requests import Requests
from analysis.metrics.tally import Batch
from analysis.metrics.waiting import fill_of
from analysis.simulate import HOUR_US
from analysis.types import Gate, GateResult, InputError, Labels, Metric, PairTable, Status

HARM = Metric(kind="harm", policy="adult", truth=False, decisions=("true",), least=0.25, requested=True)
RECALL = replace(HARM, kind="recall", truth=None, decisions=())
PRECISION = replace(RECALL, kind="precision")
WRONG = Metric(kind="loss", loss="zero_one", policy="adult", least=0.25, requested=True)
YEARS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=40.0, least=0.25, requested=True)
SQUARED = replace(YEARS, loss="squared_error", bound=1600.0)
COSTS = (("adult", False, ("true",), 3.0), ("adult", True, ("false",), 1.0))
COST = Metric(kind="cost", costs=COSTS, bound=3.0, least=0.25, requested=True)
GATES = tuple(
    Gate(name=f"{metric.kind} {metric.loss or ''} {word}", metric=metric, word=word, limit=limit, each=each)  # type: ignore[arg-type]
    for metric, word, limit, each in (
        (HARM, "below", 0.3, (("region",),)), (HARM, "above", 0.3, ()), (HARM, "worse_by_at_most", 0.1, ()), (HARM, "within", 0.2, ()),
        (RECALL, "above", 0.6, ()), (RECALL, "better_by_more_than", 0.0, ()), (PRECISION, "above", 0.6, ()), (PRECISION, "below", 0.6, ()),
        (WRONG, "below", 0.3, ()), (WRONG, "worse_by_at_most", 0.1, (("region",),)), (WRONG, "within", 0.1, ()),
        (YEARS, "below", 6.0, ()), (YEARS, "worse_by_at_most", 1.0, ()), (SQUARED, "worse_by_at_most", 20.0, ()),
        (COST, "below", 1.0, ()), (COST, "worse_by_at_most", 0.2, ()),
    ))  # fmt: skip
PLAN = Plan(GATES, alpha=0.05, n_stages=1, listed={"region": None})
AGES = (12.0, 30.0)


def stream(n: int, *, seed: int = 0, coming: float = 0.7) -> PairTable:
    """Two age models; an event is asked about with the chance that is recorded, and a label that was asked for comes with `coming`."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(AGES, n)
    old, new = np.clip(truth + rng.normal(1.0, 9.0, n), 0, 40), np.clip(truth + rng.normal(0.0, 7.0, n), 0, 40)
    chance = np.where((old >= 18) == (new >= 18), 0.25, 0.8)
    asked = rng.random(n) < chance
    columns = {
        "event_id": np.arange(n), "unit_id": (np.arange(n) // 2).astype(np.uint64), "arrived": np.arange(n) * 60_000_000,
        "segment.region": rng.integers(0, 2, n).astype(np.int32), "propensity": np.where(asked, chance, np.nan),
        "age.incumbent": old, "age.challenger": new, "adult.incumbent": (old >= 18).astype(np.int32),
        "adult.challenger": (new >= 18).astype(np.int32), "hidden": truth,
        **{f"missing.{lane}": np.full(n, -1, np.int32) for lane in ("incumbent", "challenger")},
    }
    words = {"segment.region": ("SE", "ES"), "adult": ("false", "true"), "missing": ("timeout",)}
    return labelled(PairTable(columns, words), asked & (rng.random(n) < coming), truth)


def labelled(table: PairTable, known: np.ndarray, truth: np.ndarray) -> PairTable:
    """The table with these labels and no others."""
    columns = {"truth.age": np.where(known, truth, np.nan), "adult.truth": np.where(known, truth >= 18, -1).astype(np.int32)}
    return PairTable({**table.columns, **columns}, table.words)


def folded(table: PairTable, plan: Plan = PLAN, cuts: int = 1) -> Evidence:
    looks = np.arange(1, int(table["arrived"][-1]) // HOUR_US + 2) * HOUR_US
    evidence, start = Evidence(plan, True), -1
    for chosen in np.array_split(looks, cuts):
        evidence.fold(table.take((table["arrived"] > start) & (table["arrived"] <= chosen[-1])), chosen)
        evidence = Evidence.from_bytes(plan, True, evidence.to_bytes())
        start = int(chosen[-1])
    assert not evidence.broken
    return evidence


def rows_of(evidence: Evidence) -> dict[tuple[str, str], GateResult]:
    return {(row.name, str(row.segment)): row for row in evidence.results()}


def e_values(table: PairTable, plan: Plan = PLAN) -> dict[tuple[str, str], tuple[float, float]]:
    return {key: (float(row.log_e_pass or 0.0), float(row.log_e_fail or 0.0)) for key, row in rows_of(folded(table, plan)).items()}


# ------------------------------------------------------------------------------------------------------------- the fill
@pytest.mark.parametrize("seed", range(4))
def test_the_fill_is_a_lower_bound_of_every_completion_for_each_process(seed):
    """Who never labels, or labels late what is bad for the challenger, must not be able to pass it, nor to fail it."""
    table = stream(60, seed=seed)
    asked = ~np.isnan(table["propensity"])
    pending = np.flatnonzero(asked)[:5]
    table = labelled(table, asked & ~np.isin(np.arange(60), pending), table["hidden"])
    filled, tightest = e_values(table), {}
    for answer in product(AGES, repeat=len(pending)):
        truth = table["hidden"].copy()
        truth[pending] = answer
        for key, found in e_values(labelled(table, asked, truth)).items():
            for side in (0, 1):
                assert filled[key][side] <= found[side] + 1e-9, (key, side, answer)
                tightest[key, side] = min(tightest.get((key, side), np.inf), found[side])
    exact = [key for key in filled if key[0].startswith(("harm", "recall", "precision", "loss zero_one", "cost"))]
    assert any(filled[key][0] > tightest[key, 0] - 1e-9 for key in exact)  # and for some not a hair lower


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), share=st.floats(0.0, 1.0))
def test_a_label_that_comes_can_only_raise_the_evidence_of_either_side(seed, share):
    """So an e-value may be read before all labels are there, and latched fails stay true."""
    table = stream(150, seed=seed, coming=0.4)
    more = (~np.isnan(table["truth.age"])) | (~np.isnan(table["propensity"]) & (np.random.default_rng(seed).random(150) < share))
    before, after = e_values(table), e_values(labelled(table, more, table["hidden"]))
    assert all(before[key][side] <= after[key][side] + 1e-9 for key in before for side in (0, 1))


def test_intervals_hold_whatever_the_pending_labels_are_and_agree_with_the_status():
    """A pass and its interval are one statement; with labels that wait both are the careful one."""
    table = stream(3_000, coming=0.6)
    full = rows_of(folded(labelled(table, ~np.isnan(table["propensity"]), table["hidden"])))
    for key, row in rows_of(folded(table)).items():
        assert row.lower is None or full[key].lower is None or row.lower <= full[key].lower + 1e-9
        assert row.upper is None or full[key].upper is None or row.upper >= full[key].upper - 1e-9
        limit = {"below": row.limit, "above": row.limit, "worse_by_at_most": -row.limit}.get(key[0].split()[-1])
        if limit is not None and row.log_e_pass is not None and row.segment is None:
            below = key[0].endswith("below")
            inside = row.upper is not None and row.upper < limit if below else row.lower is not None and row.lower > limit
            assert inside == (row.log_e_pass >= log(20)), key


def test_without_pending_labels_requests_change_no_evidence():
    """Recording that labels were asked for costs nothing where all of them came."""
    table = stream(2_000, coming=1.0)
    gates = tuple(replace(gate, metric=replace(gate.metric, requested=False)) for gate in GATES)
    plain = rows_of(folded(table, replace(PLAN, gates=gates)))
    for key, row in rows_of(folded(table)).items():
        assert (row.log_e_pass, row.log_e_fail, row.lower, row.upper) == pytest.approx(
            (plain[key].log_e_pass, plain[key].log_e_fail, plain[key].lower, plain[key].upper), abs=1e-9)
        assert row.estimate == pytest.approx(plain[key].estimate)
        assert (row.n_units, row.n_events) == (plain[key].n_units, plain[key].n_events)
        assert row.labels is not None and row.labels.pending == 0 and "pending labels filled" in row.method and plain[key].labels is None


def test_pending_labels_where_both_models_decide_alike_change_no_comparison():
    """Two losses that are equal whatever is true need no label, asked for or not."""
    table = stream(2_000, coming=1.0)
    agree = table["adult.incumbent"] == table["adult.challenger"]
    fewer = labelled(table, ~np.isnan(table["truth.age"]) & ~agree, table["hidden"])
    gate = Gate(name="wrong", metric=WRONG, word="worse_by_at_most", limit=0.1)
    plan = Plan((gate,), alpha=0.05, n_stages=1, listed={})
    assert e_values(table, plan) == e_values(fewer, plan)


# ------------------------------------------------------------------------------------------------------ who was asked about
def test_rows_say_how_many_labels_were_asked_for_came_and_wait():
    """A reader must see at once how much of a verdict stands on labels that are not there."""
    table = stream(500)
    asked, known = ~np.isnan(table["propensity"]), ~np.isnan(table["truth.age"])
    for (_, segment), row in rows_of(folded(table)).items():
        mine = np.ones(500, bool) if segment == "None" else table["segment.region"] == ("SE", "ES").index(dict(row.segment or {})["region"])
        n, came = int((asked & mine).sum()), int((known & mine).sum())
        assert row.labels == Labels(requested=n, labelled=came, pending=n - came)


def test_a_label_that_nobody_asked_for_counts_in_no_gate():
    """Appeals are labels too, of those who appeal; they have no chance to be weighted by."""
    table = stream(1_000)
    unasked = np.isnan(table["propensity"])
    more = labelled(table, ~np.isnan(table["truth.age"]) | unasked, np.where(unasked, 12.0, table["hidden"]))
    assert rows_of(folded(more)) == rows_of(folded(table))


def test_the_estimate_takes_labels_that_wait_to_be_like_those_that_came():
    """Counting them as no loss would show a good challenger because reviewers are slow."""
    table = stream(60_000, coming=0.5)
    for name in ("loss zero_one below", "loss absolute_error below", "cost  below"):
        found = rows_of(folded(table))[name, "None"].estimate_events
        wrong = (table["adult.challenger"] == 1) != (table["hidden"] >= 18)
        cost = np.where(wrong, np.where(table["hidden"] < 18, 3.0, 1.0), 0.0)
        true = {"loss": wrong.mean(), "cost": cost.mean()}[name.split()[0]]
        if "absolute" in name:
            true = np.abs(table["age.challenger"] - table["hidden"]).mean()
        assert found == pytest.approx(float(true), rel=0.05)


def test_labels_that_are_not_needed_do_not_move_the_estimate_of_a_comparison():
    """Asked about everything, reviewers begin with the disagreements; where both decide alike the difference is known to be 0."""
    table = stream(60_000, coming=1.0)
    table = PairTable({**table.columns, "propensity": np.ones(60_000)}, table.words)
    agree = table["adult.incumbent"] == table["adult.challenger"]
    gate = Gate(name="wrong", metric=WRONG, word="worse_by_at_most", limit=0.1)
    plan = Plan((gate,), alpha=0.05, n_stages=1, listed={})
    true = rows_of(folded(labelled(table, np.ones(60_000, bool), table["hidden"]), plan))["wrong", "None"]
    first = rows_of(folded(labelled(table, ~agree, table["hidden"]), plan))["wrong", "None"]
    assert (first.estimate, first.estimate_events) == pytest.approx((true.estimate, true.estimate_events))
    assert first.lower < first.estimate < first.upper
    half = ~agree & (np.random.default_rng(3).random(60_000) < 0.5)
    slow = rows_of(folded(labelled(table, half | agree, table["hidden"]), plan))["wrong", "None"]
    assert slow.estimate_events == pytest.approx(true.estimate_events, rel=0.1)


def test_requests_that_are_not_drawn_as_recorded_are_found_and_missing_labels_are_no_such_sign():
    """xi says that a label was asked for: reviewers who lose labels are slow, a queue that loses requests is wrong."""
    slow = rows_of(folded(stream(20_000, coming=0.5)))
    assert not any(row.reason == "sample_ratio" for row in slow.values())
    table = stream(20_000, coming=1.0)
    lost = np.random.default_rng(5).random(20_000) < 0.2
    gone = labelled(PairTable({**table.columns, "propensity": np.where(lost, np.nan, table["propensity"])}, table.words),
                    ~np.isnan(table["truth.age"]) & ~lost, table["hidden"])
    assert {row.reason for row in rows_of(folded(gone)).values() if row.status is not Status.FAIL} == {"sample_ratio"}


# --------------------------------------------------------------------------------------------- order, merging and the bytes
def test_how_the_prefix_is_cut_and_stored_moves_no_number():
    """A restart, or another batch size, is no event of the statistics."""
    table = stream(900)
    assert rows_of(folded(table)) == rows_of(folded(table, cuts=7))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), cut=st.integers(0, 80))
def test_requests_of_two_parts_add_up_in_any_order(seed, cut):
    """Shards and days merge."""
    gate, table = GATES[0], stream(80, seed=seed)
    fill, test = fill_of(gate, table), prepare(gate)
    assert fill is not None
    order = np.random.default_rng(seed).permutation(80)

    def counted(rows: np.ndarray) -> Requests:
        requests = Requests(test.support)
        requests.grow(2)
        requests.add(Batch(table["segment.region"][rows].astype(np.int64), fill.low[rows], np.ones(len(rows), bool),
                           weights=fill.chances[rows], fill=fill.take(rows)))
        return requests

    whole, merged = counted(np.arange(80)), counted(order[:cut]) + counted(order[cut:])
    assert all((array == merged.arrays()[name]).all() for name, array in whole.arrays().items())
    with pytest.raises(InputError):
        counted(order) + Requests(prepare(GATES[-1]).support)


def test_a_request_with_a_propensity_below_the_least_stops_the_gates():
    """Its weight would break the bound of the bets."""
    table = stream(200)
    low = table["propensity"].copy()
    low[np.flatnonzero(~np.isnan(low) & np.isnan(table["truth.age"]))[0]] = 0.01
    evidence = Evidence(PLAN, True)
    evidence.fold(PairTable({**table.columns, "propensity": low}, table.words), np.array([24 * HOUR_US]))
    assert {row.reason for row in evidence.results() if row.name == "loss zero_one below"} == {"compute_error"}


def test_a_challenger_that_gets_worse_is_found_by_labels_that_came_and_never_by_those_that_wait():
    """A change detector takes pending labels at their best."""
    n, gate = 8_000, Gate(name="harm", metric=HARM, word="below", limit=0.3)
    plan = Plan((gate,), alpha=0.05, n_stages=1, listed={}, detect_units=1_000)
    table = stream(n, coming=1.0)
    table = PairTable({**table.columns, "unit_id": np.arange(n).astype(np.uint64), "adult.challenger": np.ones(n, np.int32),
                       "propensity": np.where(np.isnan(table["propensity"]), np.nan, 0.8)}, table.words)
    assert rows_of(folded(table, plan))["harm", "None"].status is Status.FAIL
    waiting = rows_of(folded(labelled(table, np.zeros(n, bool), table["hidden"]), plan))["harm", "None"]
    assert waiting.alarmed_at is None and waiting.status is Status.UNDECIDED


def test_labels_that_wait_raise_no_alarm_however_many_they_are():
    """Of a harm that may turn out to be none nothing is counted: a level that grew by one at each would reach any line in time."""
    n, gate = 12_000, Gate(name="harm", metric=HARM, word="below", limit=0.3)
    table = stream(n, coming=0.0)
    table = PairTable({**table.columns, "unit_id": np.arange(n).astype(np.uint64), "adult.challenger": np.ones(n, np.int32),
                       "propensity": np.ones(n)}, table.words)
    for units in (1, 100):
        plan = Plan((gate,), alpha=0.05, n_stages=1, listed={}, detect_units=units)
        assert rows_of(folded(table, plan))["harm", "None"].alarmed_at is None


def test_a_truth_outside_the_range_stops_a_comparison_of_squared_errors_that_were_filled_inside_it():
    """(20 - 50)^2 - (12 - 50)^2 is -544; while the label waited it was -416 at worst, the most that errors of at most 30 allow."""
    gate = Gate(name="squares", metric=replace(SQUARED, bound=900.0), word="worse_by_at_most", limit=20.0)
    plan, table = Plan((gate,), alpha=0.05, n_stages=1, listed={}), stream(200, coming=1.0)
    table = PairTable({**table.columns, "age.incumbent": np.full(200, 20.0), "age.challenger": np.full(200, 12.0)}, table.words)
    asked = np.flatnonzero(~np.isnan(table["propensity"]))
    far = labelled(table, np.isin(np.arange(200), asked), np.where(np.arange(200) == asked[3], 50.0, table["hidden"]))
    evidence = Evidence(plan, True)
    evidence.fold(far, np.array([24 * HOUR_US]))
    assert [row.reason for row in evidence.results()] == ["compute_error"]
    assert not folded(table, plan).broken
