"""Labels drawn with a recorded propensity: estimates of all traffic, against slow versions, and the test that they were drawn so."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, log1p

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan, combine
from analysis.gates import prepare
from analysis.metrics.contributions import contributions_of
from analysis.simulate import HOUR_US
from analysis.types import Gate, GateResult, Metric, PairTable, Status

HARM = Metric(kind="harm", policy="adult", truth=False, decisions=("true",), least=0.1)
WRONG = Metric(kind="loss", loss="zero_one", policy="adult", bound=1.0, least=0.1)
YEARS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=50.0, least=0.1)
GATES = (
    Gate(name="harm", metric=HARM, word="below", limit=0.3),
    Gate(name="harm by region", metric=HARM, word="worse_by_at_most", limit=0.1, each=(("region",),)),
    Gate(name="precision", metric=Metric(kind="precision", policy="adult", least=0.1), word="above", limit=0.5),
    Gate(name="wrong", metric=WRONG, word="worse_by_at_most", limit=0.05),
    Gate(name="years", metric=YEARS, word="below", limit=9.0),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=1, listed={"region": None})


def stream(n: int, *, seed: int = 1, agree: float = 0.2, differ: float = 0.5, lost: float = 0.0, events_a_unit: int = 1) -> PairTable:
    """Two age models; labels drawn at `agree` or `differ`, as recorded; a share `lost` of the drawn ones never comes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(10, 30, n).astype(float)
    old, new = np.clip(truth + rng.normal(1.0, 4.0, n), 0, 50), np.clip(truth + rng.normal(0.0, 3.0, n), 0, 50)
    chance = np.where((old >= 18) == (new >= 18), agree, differ)
    known = (rng.random(n) < chance) & (rng.random(n) >= lost)
    columns = {
        "event_id": np.arange(n), "unit_id": (np.arange(n) // events_a_unit).astype(np.uint64), "arrived": np.arange(n) * 10_000_000,
        "segment.region": rng.integers(0, 2, n).astype(np.int32), "truth.age": np.where(known, truth, np.nan),
        "adult.truth": np.where(known, truth >= 18, -1).astype(np.int32), "propensity": np.where(known, chance, np.nan),
        "age.incumbent": old, "age.challenger": new, "adult.incumbent": (old >= 18).astype(np.int32),
        "adult.challenger": (new >= 18).astype(np.int32), "hidden": truth,
        **{f"missing.{lane}": np.full(n, -1, np.int32) for lane in ("incumbent", "challenger")},
    }
    return PairTable(columns, {"segment.region": ("SE", "ES"), "adult": ("false", "true"), "missing": ("timeout",)})


def folded(table: PairTable, plan: Plan = PLAN, cuts: int = 1) -> Evidence:
    looks = np.arange(1, int(table["arrived"][-1]) // HOUR_US + 2) * HOUR_US
    evidence, start = Evidence(plan, True), -1
    for chosen in np.array_split(looks, cuts):
        evidence.fold(table.take((table["arrived"] > start) & (table["arrived"] <= chosen[-1])), chosen)
        evidence = Evidence.from_bytes(plan, True, evidence.to_bytes())
        start = int(chosen[-1])
    return evidence


def rows_of(evidence: Evidence) -> dict[str, GateResult]:
    return {row.name: row for row in evidence.results() if row.segment is None}


def weighted(table: PairTable, rows: np.ndarray) -> list[tuple[float, float, float]]:
    """(1/propensity, incumbent wrong or harmful, challenger) of labelled rows, one at a time."""
    return [(1 / table["propensity"][k], float(table["adult.incumbent"][k]), float(table["adult.challenger"][k])) for k in rows]


def test_a_rate_of_a_class_is_the_ratio_of_weighted_sums_and_its_evidence_that_of_the_slow_version():
    """Weighted by 1/propensity it speaks of all traffic; unweighted, disagreements that are labelled more often push it up."""
    table = stream(9_000)
    negative = np.flatnonzero(table["adult.truth"] == 0)
    found = weighted(table, negative)
    row = rows_of(folded(table))["harm"]
    assert (row.n_units, row.n_events, row.method) == (len(found), len(found), "mixture, weighted")
    total = sum(w for w, *_ in found)
    assert row.estimate == row.estimate_events == pytest.approx(sum(w * b for w, _, b in found) / total, abs=1e-9)
    truth = table["adult.challenger"][table["hidden"] < 18].mean()
    naive = float(np.mean([b for *_, b in found]))
    assert abs(row.estimate - truth) < 0.03 < abs(naive - truth)
    bets = prepare(GATES[0]).design.pass_[0].bets
    slow = [weight + sum(log1p(f / 0.7 * 0.1 * w * (0.3 - b)) for w, _, b in found)
            for f, weight in zip(bets.fractions, bets.log_weights, strict=True)]
    assert row.log_e_pass == pytest.approx(log(sum(exp(x) for x in slow)), abs=0.02)  # weights are shared by steps of 1/256


def test_a_loss_counts_pairs_without_a_label_as_nothing():
    """psi = xi D / pi: mean over all pairs, unlabelled ones too, so that the chance of a label cancels."""
    table = stream(9_000)
    row = rows_of(folded(table))["wrong"]
    known = np.flatnonzero(table["adult.truth"] >= 0)
    psi = sum(((table["adult.incumbent"][k] != table["adult.truth"][k]) * 1.0 - (table["adult.challenger"][k] != table["adult.truth"][k]))
              / table["propensity"][k] for k in known)
    assert (row.n_units, row.n_events) == (9_000, 9_000)
    assert row.estimate == pytest.approx(psi / 9_000, abs=1e-9)
    right = table["hidden"] >= 18
    truth = np.mean((table["adult.incumbent"] != right) * 1.0 - (table["adult.challenger"] != right))
    assert row.lower < truth < (row.upper or 1.0)


def test_without_a_propensity_nothing_is_weighted():
    """The same stream, the same gates without `least`: among labelled, and said so."""
    plan = Plan(tuple(replace(g, metric=replace(g.metric, least=None)) for g in GATES), alpha=0.05, n_stages=1, listed={"region": None})
    table = stream(4_000)
    row = rows_of(folded(table, plan))["harm"]
    negative = table["adult.truth"] == 0
    assert row.estimate == pytest.approx(table["adult.challenger"][negative].mean()) and row.method == "mixture, among labelled"
    unlabelled = Gate(name="flips", metric=Metric(kind="flip", policy="adult"), word="below", limit=0.5)
    flips = Evidence(Plan((unlabelled,), alpha=0.05, n_stages=1, listed={}), False)
    assert flips.results()[0].method == "mixture"


@pytest.mark.parametrize("events_a_unit", [1, 3])
@pytest.mark.parametrize("cuts", [2, 9])
def test_weights_survive_any_cut_and_every_byte(cuts, events_a_unit):
    """Sums of weights are integers like the others."""
    table = stream(3_000, events_a_unit=events_a_unit)
    one, many = folded(table), folded(table, cuts=cuts)
    assert one.to_bytes() == many.to_bytes() and one.results() == many.results() and not one.broken
    assert rows_of(one)["wrong"].n_units == -(-3_000 // events_a_unit)


@pytest.mark.parametrize("chance", [0.05, np.nan, 1.5])
def test_a_propensity_that_cannot_be_trusted_stops_the_gates(chance):
    """Smaller than `least` the bets could lose more than they have: refused, not clipped."""
    table = stream(500)
    bad = table["propensity"].copy()
    bad[np.flatnonzero(table["adult.truth"] == 0)[3]] = chance
    rows = rows_of(folded(PairTable({**table.columns, "propensity": bad}, table.words)))
    assert {rows[name].reason for name in ("harm", "wrong", "years")} == {"compute_error"}


def test_a_propensity_kept_in_single_precision_is_as_good():
    """A table may keep 0.1 as 0.099999994."""
    table = stream(2_000, agree=0.1)
    lower = np.nextafter(table["propensity"].astype(np.float32), np.float32(0)).astype(float)
    assert not folded(PairTable({**table.columns, "propensity": lower}, table.words)).broken


def test_labels_drawn_as_recorded_fire_nothing():
    """25 runs, a look each hour: at alpha 0.001 none is expected."""
    for seed in range(25):
        assert {row.reason == "sample_ratio" for row in folded(stream(3_000, seed=seed)).results()} == {False}


def test_lost_labels_are_found_about_as_soon_as_published():
    """A tenth of the sampled labels lost at 0.25 (STATISTICS 7.5: after 5,900 events); the gate is then undecided, whatever it says."""
    plan = Plan((replace(GATES[4], metric=replace(YEARS, least=0.25)),), alpha=0.05, n_stages=1, listed={})
    at = []
    for seed in range(12):
        evidence = folded(stream(16_000, seed=seed, agree=0.25, differ=0.25, lost=0.1), plan)
        row = rows_of(evidence)["years"]
        assert (row.status, row.reason) == (Status.UNDECIDED, "sample_ratio") and row.log_e_pass > log(20)
        at.append(evidence._sampling.fired[""] / 10_000_000)
    assert 4_000 < np.mean(at) < 8_000


def test_labels_with_too_small_a_propensity_are_found():
    """The other side: more labels than the propensities tell."""
    table = stream(6_000, agree=0.5, differ=0.5)
    lied = PairTable({**table.columns, "propensity": table["propensity"] * 0.8}, table.words)
    assert {row.reason for row in folded(lied).results()} == {"sample_ratio"}


def test_a_dead_source_of_labels_passes_nothing_and_fails_nothing():
    """Without any label every psi is 0, which looks like no loss at all."""
    table = stream(20_000, lost=1.0)
    rows = rows_of(folded(table))
    assert rows["years"].log_e_pass > log(20)
    assert {(row.status, row.reason) for row in rows.values()} == {(Status.UNDECIDED, "sample_ratio")}
    better = Plan((replace(GATES[3], word="better_by_more_than", limit=0.05),), alpha=0.05, n_stages=1, listed={})
    assert rows_of(folded(table, better))["wrong"].status is Status.UNDECIDED  # psi = 0 speaks against an improvement


def test_where_only_disagreements_are_labelled_losses_compare_and_rates_do_not():
    """Equal decisions have equal zero_one losses without a label; a rate of a class needs the others too."""
    rows = rows_of(folded(stream(20_000, agree=0.0, differ=0.5)))
    assert rows["wrong"].status is Status.PASS
    assert {rows[name].reason for name in ("harm", "harm by region", "precision", "years")} == {"sample_ratio"}
    lossy = rows_of(folded(stream(20_000, agree=0.0, differ=0.5, lost=0.5)))
    assert lossy["wrong"].reason == "sample_ratio"


def test_a_weighted_loss_cannot_be_split_by_a_segment_of_the_truth():
    """Nobody knows the segment of a pair without a label, so there is no share of pairs to speak of."""
    table = stream(1_000)
    cut = PairTable({**table.columns, "segment.region": np.where(table["adult.truth"] >= 0, 0, -1).astype(np.int32)}, table.words)
    plan = Plan((replace(GATES[3], each=(("region",),)), replace(GATES[0], each=(("region",),))), alpha=0.05, n_stages=1, listed={})
    rows = rows_of(folded(cut, plan))
    assert (rows["wrong"].reason, rows["harm"].reason) == ("compute_error", None) and rows["harm"].estimate is not None


def test_false_passes_at_the_margin_stay_under_alpha():
    """A weighted rate at its limit, propensities of 0.1 to 1, a look at each 20th label: at most the 0.999 quantile of 400 runs."""
    test = prepare(GATES[0])
    rng = np.random.default_rng(20240611)
    n_runs, n_looks, step = 400, 100, 20
    passes = 0
    for _ in range(n_runs):
        truth = rng.random(n_looks * step * 3) < 0.3
        chance = np.where(truth, 0.3, 0.15)  # labels depend on the number itself, and the weights undo it
        known = rng.random(len(truth)) < chance
        values, weights = truth[known][: n_looks * step].astype(float), (1.0 / chance[known])[: n_looks * step]
        counts = np.zeros((len(values) // step, test.support.n_values), np.int64)
        row, cell, share = test.support.spread(values[: len(counts) * step], weights[: len(counts) * step])
        np.add.at(counts, (row // step, cell), share)
        passes += bool((test.log_e_pass(np.cumsum(counts, axis=0)) >= log(20)).any())
    assert passes <= 34


def test_the_levels_of_combine_hold_for_weighted_gates():
    """Both halves of a plan give all its rows."""
    table = stream(500)
    flips = Gate(name="flips", metric=Metric(kind="flip", policy="adult"), word="below", limit=0.5)
    plan = Plan((flips, *GATES), alpha=0.05, n_stages=1, listed={"region": None})
    unlabelled = Evidence(plan, False)
    unlabelled.fold(table, np.array([10**12]))
    assert [row.name for row in combine(plan, unlabelled, folded(table, plan))][:2] == ["flips", "harm"]


def test_the_worst_log_loss_counts_as_the_bound():
    """A model that is certain and wrong has no finite log loss; the config's bound of 20 is used, and the gate goes on."""
    table = stream(400)
    sure = np.where(np.arange(400) % 2 == 0, 0.0, 0.9)
    truth = np.where(np.isnan(table["truth.age"]), np.nan, 1.0)
    table = PairTable({**table.columns, "p.incumbent": np.full(400, 0.5), "p.challenger": sure, "truth.p": truth}, table.words)
    metric = Metric(kind="loss", loss="log_loss", output="p", truth_name="p", bound=20.0)
    gate = Gate(name="log", metric=metric, word="below", limit=15.0)
    evidence = folded(table, Plan((gate,), alpha=0.05, n_stages=1, listed={}))
    known = ~np.isnan(truth)
    expected = np.where(sure[known] == 0, 20.0, -log(0.9)).mean()
    assert not evidence.broken and rows_of(evidence)["log"].estimate == pytest.approx(expected)


def test_a_change_detector_tells_equal_decisions_of_other_weights_apart():
    """Blocks of 32 equal values are computed once only where they have no weights."""
    table = stream(2_000)
    table = PairTable({**table.columns, "adult.challenger": (np.arange(2_000) % 900 == 7).astype(np.int32)}, table.words)
    evidence, gate = folded(table), GATES[0]
    detectors, (process,) = evidence._detectors["harm", ()], prepare(gate).design.fail
    values, weights = contributions_of(gate, table)
    rows = np.flatnonzero(weights > 0.0)
    level = np.zeros(len(process.bets.fractions))
    for row in rows[: len(rows) // 32 * 32]:
        level = (level + 1.0) * process.factors(values[[row]], weights[[row]] * 0.1)[0]
    assert detectors.levels[0] == pytest.approx(level, rel=1e-9)
