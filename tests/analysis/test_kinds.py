"""Metrics on actions, costs, disagreement and the noise floor: each number against its definition, a row at a time."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan
from analysis.simulate import HOUR_US
from analysis.types import Gate, GateResult, Metric, PairTable, Status

DECISIONS = ("allow", "check_id", "block")
N = 3_000
COSTS = (("adult", False, ("allow",), 10.0), ("adult", True, ("check_id", "block"), 1.0))


def stream(*, share: float = 1.0, self_noise: float = 0.02, noise: float = 0.05, seed: int = 4) -> PairTable:
    """Three decisions of two models and a copy that is asked about a share of the events; every tenth pair is incomplete."""
    rng = np.random.default_rng(seed)
    said = {"incumbent": rng.integers(0, 3, N)}
    for lane, chance in (("challenger", noise), ("replica", self_noise)):
        said[lane] = np.where(rng.random(N) < chance, (said["incumbent"] + 1) % 3, said["incumbent"])
    asked = rng.random(N) < share
    gone = np.arange(N) % 10 == 9
    columns = {"event_id": np.arange(N), "unit_id": np.arange(N).astype(np.uint64), "arrived": np.arange(N) * 1_000_000,
               "adult.truth": rng.integers(-1, 2, N).astype(np.int32)}
    for lane, decisions in said.items():
        lost = {"challenger": gone, "replica": ~asked}.get(lane, np.zeros(N, bool))
        columns[f"adult.{lane}"] = np.where(lost, -1, decisions).astype(np.int32)
        columns[f"missing.{lane}"] = np.where(lost, 1 if lane == "replica" else 0, -1).astype(np.int32)
        columns[f"age.{lane}"] = np.where(lost, np.nan, decisions * 1.5)
        columns[f"kind.{lane}"] = columns[f"adult.{lane}"]
        columns[f"hate.a.{lane}"], columns[f"hate.b.{lane}"] = columns[f"age.{lane}"] / 10, np.where(lost, np.nan, 0.3)
    return PairTable(columns, {"adult": DECISIONS, "kind": ("x", "y", "z"), "missing": ("timeout", "not_asked")})


def one(table: PairTable, metric: Metric, word: str, limit: float) -> GateResult:
    gate = Gate(name="new", metric=metric, word=word, limit=limit)  # type: ignore[arg-type]
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), metric.labelled)
    evidence.fold(table, np.array([HOUR_US]))
    assert not evidence.broken, evidence.broken
    return evidence.results()[0]


def pairs(table: PairTable) -> list[int]:
    return [k for k in range(N) if table["missing.incumbent"][k] < 0 and table["missing.challenger"][k] < 0]


@pytest.mark.parametrize("lane", ["incumbent", "challenger"])
def test_an_action_is_the_share_of_pairs_with_these_decisions(lane):
    """Of one lane: what the reviewers would have to do."""
    table = stream()
    row = one(table, Metric(kind="action", policy="adult", decisions=("check_id", "block"), lane=lane), "below", 0.9)
    wanted = [table[f"adult.{lane}"][k] in (1, 2) for k in pairs(table)]
    assert (row.n_events, row.estimate) == (len(wanted), pytest.approx(np.mean(wanted))) and row.status is Status.PASS


def test_actions_are_compared_as_incumbent_minus_challenger():
    """Positive is less work."""
    table = stream(noise=0.4)
    metric = Metric(kind="action", policy="adult", decisions=("check_id",))
    expected = np.mean([(table["adult.incumbent"][k] == 1) * 1.0 - (table["adult.challenger"][k] == 1) for k in pairs(table)])
    for word in ("worse_by_at_most", "better_by_more_than", "within"):
        assert one(table, metric, word, 0.2).estimate == pytest.approx(expected)


@pytest.mark.parametrize("word", ["below", "worse_by_at_most"])
def test_a_cost_is_the_mean_of_what_each_harm_costs(word):
    """Over labelled pairs of either class; a pair can cost the larger weight at most."""
    table = stream(noise=0.4)
    metric = Metric(kind="cost", policy="adult", costs=COSTS, bound=10.0)

    def cost(k: int, lane: str) -> float:
        decision, truth = DECISIONS[table[f"adult.{lane}"][k]], table["adult.truth"][k]
        return 10.0 * (truth == 0 and decision == "allow") + 1.0 * (truth == 1 and decision != "allow")

    labelled = [k for k in pairs(table) if table["adult.truth"][k] >= 0]
    own, old = (np.mean([cost(k, lane) for k in labelled]) for lane in ("challenger", "incumbent"))
    row = one(table, metric, word, 6.0)
    assert (row.n_events, row.estimate) == (len(labelled), pytest.approx(own if word == "below" else old - own))
    assert row.status is Status.PASS


@pytest.mark.parametrize(("metric", "differs"), [
    (Metric(kind="disagreement", output="age", tolerance=0.0), lambda a, b: a != b),
    (Metric(kind="disagreement", output="age", tolerance=1.5), lambda a, b: abs(a - b) > 1),
    (Metric(kind="disagreement", output="kind"), lambda a, b: a != b),
    (Metric(kind="disagreement", output="hate", labels=("a", "b"), tolerance=0.1), lambda a, b: a != b),
    (Metric(kind="disagreement", output="hate", labels=("b",), tolerance=0.0), lambda a, b: False),
])
def test_a_disagreement_is_typed(metric, differs):
    """Numbers and scores by more than the tolerance (equal to it is equal), labels at all."""
    table = stream(noise=0.3)
    row = one(table, metric, "below", 0.9)
    expected = np.mean([differs(int(table["adult.incumbent"][k]), int(table["adult.challenger"][k])) for k in pairs(table)])
    assert row.estimate == pytest.approx(expected) and row.n_events == len(pairs(table))


@pytest.mark.parametrize("share", [1.0, 0.25])
def test_excess_disagreement_takes_the_incumbents_own_noise_off(share):
    """Z = V - xi U / rho: where the copy is asked about a quarter of the events each of its flips counts four times."""
    table = stream(share=share)
    row = one(table, Metric(kind="excess_disagreement", policy="adult", share=share), "below", 0.2)
    z = [(table["adult.incumbent"][k] != table["adult.challenger"][k]) * 1.0
         - (table["adult.replica"][k] >= 0 and table["adult.replica"][k] != table["adult.incumbent"][k]) / share for k in pairs(table)]
    assert row.estimate == pytest.approx(np.mean(z), abs=1e-9) and row.n_units == len(z) and row.status is Status.PASS
    assert row.lower < 0.03 < row.upper


def test_a_mere_copy_has_no_excess_and_a_noisy_one_fails():
    """The gate approves what is as noisy as the incumbent itself, and stops what is not."""
    metric = Metric(kind="excess_disagreement", policy="adult", share=1.0)
    assert one(stream(noise=0.1, self_noise=0.1), metric, "below", 0.05).status is Status.PASS
    assert one(stream(noise=0.3, self_noise=0.1), metric, "below", 0.05).status is Status.FAIL


@pytest.mark.parametrize(("metric", "word"), [
    (Metric(kind="action", policy="adult"), "below"),
    (Metric(kind="action", policy="adult", decisions=("block",), lane="replica"), "below"),
    (Metric(kind="action", policy="adult", decisions=("block",), lane="incumbent"), "within"),
    (Metric(kind="cost", policy="adult", bound=1.0), "below"),
    (Metric(kind="cost", policy="adult", costs=COSTS), "below"),
    (Metric(kind="disagreement", output="age"), "within"),
    (Metric(kind="disagreement"), "below"),
    (Metric(kind="excess_disagreement", policy="adult"), "below"),
    (Metric(kind="excess_disagreement", policy="adult", share=2.0), "below"),
    (Metric(kind="excess_disagreement", policy="adult", share=0.5), "worse_by_at_most"),
])
def test_what_makes_no_sense_is_a_compute_error(metric, word):
    """An incomplete metric holds; it has no default that passes."""
    gate = Gate(name="new", metric=metric, word=word, limit=0.1)
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), metric.labelled)
    evidence.fold(stream(), np.array([HOUR_US]))
    assert evidence.results()[0].reason == "compute_error" and "InputError" in evidence.broken["new"]


def test_a_weighted_cost_counts_all_pairs():
    """psi = xi D / pi, as for a loss; where decisions agree no label is needed for the comparison."""
    table = stream(noise=0.4)
    known = table["adult.truth"] >= 0
    table = PairTable({**table.columns, "propensity": np.where(known, 2 / 3, np.nan)}, table.words)
    row = one(table, Metric(kind="cost", policy="adult", costs=COSTS, bound=10.0, least=0.5), "below", 9.0)
    unweighted = one(table, Metric(kind="cost", policy="adult", costs=COSTS, bound=10.0), "below", 9.0)
    assert row.n_units == len(pairs(table)) > unweighted.n_units
    assert row.estimate == pytest.approx(unweighted.estimate * unweighted.n_units * 1.5 / row.n_units)
