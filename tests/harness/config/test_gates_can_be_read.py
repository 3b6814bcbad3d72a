"""The config and the analysis agree on what a gate is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence import Evidence
from analysis.plan import Plan
from harness.config import load_all, parse
from harness.core.errors import ConfigError
from harness.core.rollout import Rollout
from harness.core.table import RowLayout, TableBuilder

CONFIGS = Path(__file__).parents[3] / "configs"
AGE: dict[str, Any] = yaml.safe_load((CONFIGS / "age-regression.yaml").read_text())
METRICS: list[dict[str, Any]] = [
    {"flip": "adult"},
    {"harm": "minor_allowed"},
    {"false_positive_rate": "over_13"},
    {"false_negative_rate": "consent"},
    {"precision": "over_13"},
    {"recall": "over_13"},
    {"loss": "absolute_error", "output": "age"},
    {"loss": "squared_error", "output": "age"},
    {"loss": "zero_one", "policy": "over_13"},
    {"missing": "challenger"},
    {"errors": "replica"},
    {"latency": "p99.9", "lane": "incumbent"},
    {"difference": "mean", "output": "age"},
    {"difference": "p95", "output": "age"},
    {"action": "adult", "decision": "check_id"},
    {"action": "over_13", "decision": [False], "lane": "incumbent"},
    {"cost": {"minor_allowed": 10, "adult_stopped": 0.5}},
    {"disagreement": "age", "tolerance": 2},
    {"excess_disagreement": "adult"},
]
WORDS = ["below", "above", "worse_by_at_most", "better_by_more_than", "within"]
NUMBERS = st.sampled_from([-3.0, -0.5, -0.01, 0, 0.001, 0.01, 0.3, 0.5, 0.99, 1, 5, 119, 120, 14_399]) | st.floats(-2, 2)
LIMITS = NUMBERS | st.sampled_from(["1ms", "250ms", "3s", "1h", "0s"])


def broken_gates(rollout: Rollout) -> dict[str, str]:
    """Gates that the analysis cannot read, with its reason."""
    listed = {segment.name: segment.listed for segment in rollout.events.segments}
    plan = Plan(rollout.gates, alpha=rollout.alpha, n_stages=len(rollout.stages), listed=listed)
    return {name: why for labelled in (False, True) for name, why in Evidence(plan, labelled).broken.items()}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_gate_of_the_published_configs_can_be_read(path: Path) -> None:
    """Down to the pair table."""
    for rollout in load_all(path):
        assert broken_gates(rollout) == {}
        assert RowLayout(rollout).width > 0
        assert len(TableBuilder(rollout).build([])) == 0


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(METRICS), st.sampled_from(WORDS), LIMITS, st.none() | LIMITS, st.none() | st.floats(0, 3))
def test_a_gate_that_is_accepted_can_be_read(metric: Any, word: str, limit: Any, expect: Any, discordance: Any) -> None:
    """A gate that can never be evaluated would hold for ever, and nobody would know before the end."""
    design = {key: value for key, value in (("expect", expect), ("discordance", discordance)) if value is not None}
    document = copy.deepcopy(AGE)
    document["gates"] = [{"name": "new", "metric": metric, word: limit, **design}]
    try:
        rollout = parse(document, source="test", folder=Path())
    except ConfigError as error:
        assert all(problem.path.startswith("gates.0.") for problem in error.problems), error
    else:
        assert broken_gates(rollout) == {}


def test_a_difference_may_be_expected_on_the_other_side_of_zero() -> None:
    """Its limit has a sign."""
    gate = {"name": "new", "metric": {"difference": "mean", "output": "age"}, "below": 1, "expect": -1}
    assert parse({**AGE, "gates": [gate]}, source="test", folder=Path()).gates[0].expect == -1.0


@pytest.mark.parametrize("metric", METRICS, ids=str)
def test_every_metric_is_accepted_with_some_limit(metric: Any) -> None:
    """Else the agreement above would be empty."""
    document = {**AGE, "gates": [{"name": "new", "metric": metric, "below": "1s" if "latency" in metric else 0.5}]}
    assert len(parse(document, source="test", folder=Path()).gates) == 1


def test_labelled_gates_are_weighted_when_outcomes_declare_a_propensity() -> None:
    """The config says it once, for all of them; unlabelled gates have nothing to weight."""
    weighted = parse(AGE, source="test", folder=Path()).gates
    assert {gate.metric.least for gate in weighted if gate.metric.labelled} == {0.1}
    assert {gate.metric.least for gate in weighted if not gate.metric.labelled} == {None}
    outcomes = {key: value for key, value in AGE["outcomes"].items() if key != "propensity"}
    assert {gate.metric.least for gate in parse({**AGE, "outcomes": outcomes}, source="test", folder=Path()).gates} == {None}


@pytest.mark.parametrize("metric", METRICS, ids=str)
def test_gates_are_told_of_requests_and_can_be_read(metric: Any) -> None:
    """Labels that wait are filled for every metric of labels and every word, and for no other."""
    asking = {**AGE, "outcomes": {**AGE["outcomes"], "requested": {"field": "/asked"}}}
    for word in WORDS:
        gate = {"name": "new", "metric": metric, word: "1s" if "latency" in metric else 0.5}
        try:
            rollout = parse({**asking, "gates": [gate]}, source="test", folder=Path())
        except ConfigError as error:
            assert all(problem.path.startswith("gates.0.") for problem in error.problems), error
        else:
            assert broken_gates(rollout) == {}
            assert [gate.metric.requested for gate in rollout.gates] == [rollout.gates[0].metric.labelled]


def test_a_weighted_loss_by_a_segment_of_the_truth_is_refused() -> None:
    """Of a pair without a label nobody knows the segment; the rate of a class is a ratio and needs none."""
    gates = [{"name": "loss", "metric": {"loss": "zero_one", "policy": "over_13"}, "worse_by_at_most": 0.01, "each": ["true_age"]},
             {"name": "harm", "metric": {"harm": "minor_allowed"}, "worse_by_at_most": 0.01, "each": ["true_age"]}]
    with pytest.raises(ConfigError) as refused:
        parse({**AGE, "gates": gates}, source="test", folder=Path())
    assert [problem.path for problem in refused.value.problems] == ["gates.0.each"]


WAYS: list[dict[str, Any]] = [
    {"method": "beta-binomial"}, {"unit": "ever", "unit_window": "7d"}, {"unit": "mean", "unit_window": "7d"},
    {"method": "group_sequential", "plan": {"maximum": 10_000, "looks": 5}},
    {"method": "group_sequential", "plan": {"maximum": 9_000, "looks": 5, "spending": "power", "parameter": 2}, "unit": "mean",
     "unit_window": "7d"},
    {"unit": "ever", "unit_window": "7d", "method": "beta-binomial"}, {"unit": "mean", "unit_window": "7d", "method": "beta-binomial"},
]


@pytest.mark.parametrize("propensity", [True, False])
@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("metric", METRICS, ids=str)
def test_a_way_of_counting_that_is_accepted_can_be_read(metric: Any, way: Any, propensity: bool) -> None:
    """Units and methods fit some metrics and words only: what is refused says so, what is accepted is computed."""
    outcomes = {key: value for key, value in AGE["outcomes"].items() if propensity or key != "propensity"}
    for word in WORDS:
        gate = {"name": "new", "metric": metric, word: "1s" if "latency" in metric else 0.5, **way}
        try:
            rollout = parse({**AGE, "outcomes": outcomes, "gates": [gate]}, source="test", folder=Path())
        except ConfigError as error:
            assert all(problem.path.startswith("gates.0.") for problem in error.problems), error
        else:
            assert broken_gates(rollout) == {}
