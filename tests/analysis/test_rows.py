"""What the rows of a gate say: each word, option and reason, on simulated streams."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan, combine
from analysis.gates import prepare
from analysis.simulate import World, ages, hours
from analysis.types import Gate, GateResult, Metric, PairTable, Status

HARM = Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
FLIP = Metric(kind="flip", policy="over_18")
LOSS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
GATES = (
    Gate(name="flips", metric=FLIP, word="below", limit=0.1),
    Gate(name="flips by region", metric=FLIP, word="below", limit=0.15, each=(("region",),)),
    Gate(name="answers", metric=Metric(kind="missing"), word="below", limit=0.05),
    Gate(name="watched", metric=Metric(kind="flip", policy="over_18", from_="false", to="true"), word="below", limit=0.02, dry_run=True),
    Gate(name="fast", metric=Metric(kind="latency", quantile=0.9), word="below", limit=80.0),
    Gate(name="harm", metric=HARM, word="better_by_more_than", limit=0.0, each=(("gender",),)),
    Gate(name="harm crossed", metric=HARM, word="worse_by_at_most", limit=0.2, each=(("gender", "region"),), on_fail="report"),
    Gate(name="guesses", metric=LOSS, word="worse_by_at_most", limit=1.0),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=2, listed={"gender": ("male", "female"), "region": None})


def folded(plan: Plan, table: PairTable, *, labelled: bool = False, looks: np.ndarray | None = None) -> Evidence:
    evidence = Evidence(plan, labelled)
    evidence.fold(table, hours(table) if looks is None else looks)
    return evidence


def both(plan: Plan, table: PairTable) -> dict[tuple[str, tuple[str, ...]], GateResult]:
    rows = combine(plan, folded(plan, table), folded(plan, table, labelled=True))
    return {(row.name, tuple((row.segment or {}).values())): row for row in rows}


def one(table: PairTable, **changes: object) -> GateResult:
    """The row of a single gate: flips below 0.1 unless changed."""
    plan = Plan((replace(GATES[0], **changes),), alpha=0.05, n_stages=1, listed={"gender": ("male", "female"), "region": None})
    return both(plan, table)["flips", ()]


# -------------------------------------------------------------------------------------------------------- words of a gate
def test_a_latched_fail_stays_when_the_numbers_get_better():
    """Fails are read at every look; a pass at the end does not undo what was proved before."""
    bad, good = (ages(np.random.default_rng(2), n, World(shift=shift)) for n, shift in ((2_000, -6.0), (1, 0.0)))
    n = 60_000
    calm = ages(np.random.default_rng(3), n, World(events_a_unit=1.0))
    calm = PairTable({**calm.columns, "unit_id": np.arange(1, n + 1, dtype=np.uint64), "over_18.challenger": calm["over_18.incumbent"],
                      "arrived": calm["arrived"] + 10**15}, calm.words)
    evidence = folded(Plan(GATES[:1], alpha=0.05, n_stages=1, listed={}), bad)
    failed_at = evidence.failed_at("flips")
    evidence.fold(calm, hours(calm))
    (row,) = evidence.results()
    assert (row.status, row.reason, evidence.failed_at("flips")) == (Status.FAIL, None, failed_at)
    assert row.log_e_pass > log(20) and row.upper < row.limit and len(good) == 1


def test_a_pass_is_taken_back_when_the_numbers_get_worse():
    """Passes are not latched: a verdict speaks of the prefix it was read at."""
    calm = ages(np.random.default_rng(3), 2_000)
    calm = PairTable({**calm.columns, "over_18.challenger": calm["over_18.incumbent"]}, calm.words)
    plan = Plan((replace(GATES[0], limit=0.25),), alpha=0.05, n_stages=1, listed={}, detect_units=10**90)
    evidence = folded(plan, calm)
    assert evidence.results()[0].status is Status.PASS
    worse = np.where(np.arange(2_000) % 2 == 0, 1 - calm["over_18.incumbent"], calm["over_18.incumbent"])
    bad = PairTable({**calm.columns, "unit_id": calm["unit_id"] + np.uint64(1), "arrived": calm["arrived"] + 10**12,
                     "over_18.challenger": worse}, calm.words)
    evidence.fold(bad, hours(bad))
    assert evidence.results()[0].status is Status.UNDECIDED


def test_a_gate_passes_when_all_its_segments_do():
    """The whole row has the worst status of its segments, with their reason, and its own numbers."""
    rows = both(PLAN, ages(np.random.default_rng(20240611), 1_500, World(missing=0.02, shift=-0.5)))
    for gate in GATES:
        parts = [row for (name, value), row in rows.items() if name == gate.name and value]
        if parts:
            assert rows[gate.name, ()].status is max(row.status for row in parts)
            assert rows[gate.name, ()].n_events == sum(row.n_events for row in parts)


def test_a_listed_value_that_nobody_has_seen_holds_the_gate():
    """The config promised evidence for it: an empty segment is not a pass."""
    table = ages(np.random.default_rng(4), 6_000)
    gate = replace(GATES[0], limit=0.4, each=(("gender",),))
    for values, status in ((("female", "male"), Status.PASS), (("female", "male", "other"), Status.UNDECIDED)):
        rows = both(Plan((gate,), alpha=0.05, n_stages=1, listed={"gender": values}), table)
        assert rows["flips", ()].status is status
    lost = rows["flips", ("other",)]
    assert (lost.n_events, lost.status, lost.reason, lost.estimate, lost.lower) == (0, Status.UNDECIDED, "insufficient", None, None)


def test_a_value_outside_a_closed_list_must_pass_and_cannot_fail():
    """It holds the gate back like any value that is seen, but K was fixed without it."""
    table = ages(np.random.default_rng(4), 6_000, World(shift=-8.0))
    gate = replace(GATES[0], limit=0.05, each=(("gender",),))
    rows = both(Plan((gate,), alpha=0.05, n_stages=1, listed={"gender": ("female",)}), table)
    assert (rows["flips", ("female",)].status, rows["flips", ("male",)].status) == (Status.FAIL, Status.UNDECIDED)
    assert rows["flips", ("male",)].log_e_fail > 20


@pytest.mark.parametrize(("small", "status"), [("hold", Status.UNDECIDED), ("report", Status.PASS)])
def test_a_small_segment_holds_or_is_reported(small, status):
    """`min_units` with `small`: hold by default; report leaves it out of the worst."""
    table = ages(np.random.default_rng(4), 6_000)
    table = PairTable({**table.columns, "segment.gender": np.where(np.arange(6_000) < 40, 0, 1)}, table.words)
    gate = replace(GATES[0], limit=0.4, each=(("gender",),), min_units=1_000, small=small)
    rows = both(Plan((gate,), alpha=0.05, n_stages=1, listed={"gender": None}), table)
    assert (rows["flips", ("female",)].status, rows["flips", ("female",)].reason) == (Status.UNDECIDED, "insufficient")
    assert rows["flips", ()].status is status
    all_small = both(Plan((replace(gate, min_units=10**6),), alpha=0.05, n_stages=1, listed={"gender": None}), table)
    assert all_small["flips", ()].status is Status.UNDECIDED


def test_an_empty_listed_segment_holds_even_where_small_ones_are_only_reported():
    """Few units are a choice of the config; none at all of a listed value may be a broken pipe."""
    table = ages(np.random.default_rng(4), 6_000)
    gate = replace(GATES[0], limit=0.4, each=(("gender",),), min_units=100, small="report")
    for values, status in ((("female", "male"), Status.PASS), (("female", "male", "other"), Status.UNDECIDED)):
        assert both(Plan((gate,), alpha=0.05, n_stages=1, listed={"gender": values}), table)["flips", ()].status is status


def test_the_interval_of_an_unlisted_value_has_the_level_of_its_own_fail():
    """The k-th value by first sight is named at E >= K k(k+1) / alpha: its `lower` must not promise a fail before that."""
    table = ages(np.random.default_rng(4), 600)
    gate = replace(GATES[1], limit=0.01)
    rows = both(Plan((gate, GATES[0]), alpha=0.05, n_stages=1, listed={}), table)
    seen = dict.fromkeys(table.words["segment.region"][code] for code in table["segment.region"])
    process = prepare(gate).design.fail[0]
    for k, region in enumerate(seen, start=1):
        row = rows[gate.name, (region,)]
        changed = round(row.estimate * row.n_units)
        counts = np.array([row.n_units - changed, changed])
        assert row.lower == process.bound(counts, np.array([0.0, 1.0]), level=0.05 / 2 / (k * (k + 1)))


def test_an_answer_without_a_latency_is_slow_to_the_pass_and_fast_to_the_fail():
    """What is not known must not promote, and must not roll back."""
    table = ages(np.random.default_rng(4), 3_000)
    table = PairTable({**table.columns, "latency_ms.challenger": np.where(np.arange(3_000) % 2 == 0, np.nan, 10.0)}, table.words)
    row = one(table, metric=Metric(kind="latency", quantile=0.9), limit=80.0)
    assert (row.status, row.estimate, row.upper) == (Status.UNDECIDED, None, None)
    assert row.log_e_pass < 0.0 and row.log_e_fail < 0.0 and row.lower < 10.0


def test_too_few_units_hold_a_gate_without_segments():
    """`min_units` is a floor under a pass, never under a fail."""
    table = ages(np.random.default_rng(4), 6_000)
    assert one(table, limit=0.4).status is Status.PASS
    assert one(table, limit=0.4, min_units=5_000).reason == "insufficient"
    assert one(ages(np.random.default_rng(4), 6_000, World(shift=-8.0)), min_units=5_000).status is Status.FAIL


def test_the_alpha_of_a_gate_is_the_level_of_its_pass():
    """A stricter gate needs more evidence; its fail keeps the rollout's level."""
    table = ages(np.random.default_rng(4), 400)
    base = one(table, limit=0.35)
    strict = one(table, limit=0.35, alpha=exp(-base.log_e_pass) * 0.99)
    loose = one(table, limit=0.35, alpha=min(exp(-base.log_e_pass) * 1.01, 0.99))
    assert (strict.status, loose.status) == (Status.UNDECIDED, Status.PASS)
    assert strict.lower == base.lower and strict.upper > strict.limit > loose.upper


def test_expect_and_discordance_move_the_evidence_only():
    """They choose the bets before the data; estimates are not theirs."""
    table = ages(np.random.default_rng(4), 2_000)
    plain, known = one(table, limit=0.4), one(table, limit=0.4, expect=0.1)
    assert plain.estimate == known.estimate and plain.log_e_pass != known.log_e_pass
    gate = replace(GATES[5], each=(), word="worse_by_at_most", limit=0.1)
    rows = [both(Plan((replace(gate, discordance=d),), alpha=0.05, n_stages=1, listed={}), table)["harm", ()] for d in (None, 0.2)]
    assert rows[0].estimate == rows[1].estimate and rows[0].log_e_pass != rows[1].log_e_pass


@pytest.mark.parametrize(("metric", "word", "limit"), [
    (FLIP, "below", 0.4), (Metric(kind="recall", policy="over_18"), "above", 0.5), (HARM, "worse_by_at_most", 0.2),
    (HARM, "better_by_more_than", 0.0), (HARM, "within", 0.4), (LOSS, "worse_by_at_most", 12.0), (LOSS, "below", 30.0),
    (Metric(kind="difference", output="age", bound=120.0), "within", 20.0), (Metric(kind="precision", policy="over_18"), "above", 0.5),
    (Metric(kind="latency", quantile=0.99), "below", 400.0), (Metric(kind="errors"), "below", 0.05),
    (Metric(kind="missing"), "worse_by_at_most", 0.05),
    (Metric(kind="loss", loss="zero_one", policy="over_18"), "better_by_more_than", 0.0),
])
@pytest.mark.parametrize("n", [60, 6_000])
def test_a_row_passes_exactly_when_its_interval_is_inside_the_limit(metric, word, limit, n):
    """For every kind and word; the interval holds the estimate."""
    row = one(ages(np.random.default_rng(4), n, World(labelled=1.0)), metric=metric, word=word, limit=limit)
    bound = -limit if word == "worse_by_at_most" else limit
    inside = {"below": row.upper is not None and row.upper < bound, "within": -limit < row.lower and (row.upper or limit) < limit}.get(
        word, row.lower > bound)
    if metric.kind == "latency":
        inside = row.upper is not None and row.upper <= limit
    assert (row.status is Status.PASS) == inside
    assert row.lower <= row.estimate and (row.upper is None or row.estimate <= row.upper)


# ------------------------------------------------------------------------------------------------------------ no evidence
def test_nothing_seen_is_undecided_and_has_no_numbers():
    """Missing data is never a pass, and no number stands in its place."""
    rows = combine(PLAN, Evidence(PLAN, False), Evidence(PLAN, True))
    assert {(row.status, row.reason, row.estimate, row.lower, row.upper) for row in rows} == {
        (Status.UNDECIDED, "insufficient", None, None, None)}


def test_a_silent_challenger_is_unpaired_and_evidence_against_itself():
    """Gates on pairs have none and say so; missing and latency count every silent event as the worst."""
    rows = both(PLAN, ages(np.random.default_rng(4), 500, World(missing=1.0)))
    assert {rows[name, ()].reason for name in ("flips", "flips by region", "harm", "guesses")} == {"unpaired"}
    assert rows["answers", ()].status is Status.FAIL and rows["fast", ()].status is Status.FAIL
    assert rows["fast", ()].estimate is None and rows["fast", ()].upper is None and rows["fast", ()].lower > 80.0


def test_a_decision_cell_without_labels_turns_a_pass_into_no_support():
    """A removed post is never appealed: agreement among the labelled says nothing of a cell that nobody labels."""
    table = ages(np.random.default_rng(4), 6_000, World(shift=-2.0))
    gate = replace(GATES[5], each=())
    plan = Plan((gate, replace(gate, name="by gender", each=(("gender",),))), alpha=0.05, n_stages=1, listed={})
    fine = both(plan, table)
    blocked = (table["over_18.incumbent"] == 0) & (table["over_18.challenger"] == 1) & (table["segment.gender"] == 1)
    cut = {name: np.where(blocked, lost, table[name]) for name, lost in (("over_18.truth", -1), ("truth.age", np.nan))}
    rows = both(plan, PairTable({**table.columns, **cut}, table.words))
    assert fine["harm", ()].status is fine["by gender", ("male",)].status is Status.PASS
    assert (rows["harm", ()].status, rows["by gender", ("female",)].status) == (Status.PASS, Status.PASS)
    lost = rows["by gender", ("male",)]
    assert (lost.status, lost.reason, rows["by gender", ()].reason) == (Status.UNDECIDED, "no_support", "no_support")
    assert lost.estimate is not None and lost.log_e_pass > log(20)  # all that is left speaks for it, and it does not pass


def test_without_labels_labelled_gates_are_undecided():
    """`insufficient` or `no_support`, whatever the unlabelled gates say."""
    rows = both(PLAN, ages(np.random.default_rng(4), 2_000, World(labelled=0.0)))
    assert {(rows[name, ()].status, rows[name, ()].reason) for name in ("harm", "guesses")} == {
        (Status.UNDECIDED, "no_support"), (Status.UNDECIDED, "insufficient")}


def test_a_null_segment_is_unknown_once_it_can_be_seen():
    """Null is a value like others; a segment cut from the truth is null until the label is there, and then is no row of its own."""
    table = ages(np.random.default_rng(4), 2_000)
    unknown = np.isnan(table["truth.age"])
    bins = PairTable({**table.columns, "segment.gender": np.where(unknown, -1, table["segment.gender"])}, table.words)
    plan = Plan((replace(GATES[1], each=(("gender",),)), replace(GATES[5])), alpha=0.05, n_stages=1, listed={"gender": None})
    rows = both(plan, bins)
    assert ("flips by region", ("unknown",)) in rows and ("harm", ("unknown",)) not in rows


