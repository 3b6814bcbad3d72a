"""What a good config becomes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.types import Metric
from harness.config import load, load_all, parse
from harness.core.rollout import LAYOUT, Line, Reader, Rollout, Stage
from harness.core.table import RowLayout, recorded_decisions

CONFIGS = Path(__file__).parents[3] / "configs"


def rollout_of(document: object) -> Rollout:
    return parse(document, source="test", folder=Path())


@pytest.fixture(scope="module")
def age() -> Rollout:
    """The published example with most words."""
    return load(CONFIGS / "age-regression.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_config_is_accepted(path: Path) -> None:
    """People copy them."""
    for rollout in load_all(path):
        assert rollout.gates and rollout.folder == CONFIGS


def test_the_good_document_of_these_tests_is_accepted(good: Any, said: Callable[[object], dict[str, str]]) -> None:
    """Else every refusal here might be for another reason."""
    assert said(good) == {}


def test_lanes_are_resolved(age: Rollout) -> None:
    """The replica is the incumbent called once more, by the same rules."""
    assert age.lanes == ("incumbent", "challenger", "replica")
    replica, incumbent = age.models["replica"], age.models["incumbent"]
    assert (replica.uri, replica.timeout_s, replica.of, replica.percent) == (incumbent.uri, 0.3, "incumbent", 5.0)
    assert (age.models["challenger"].concurrency, age.models["challenger"].batch) == (64, 32)


def test_the_replica_is_read_as_the_incumbent_is(age: Rollout) -> None:
    """A noise floor compares like with like."""
    edges = (8.0, 13.0, 16.0, 18.0, 25.0, 40.0, 80.0)
    assert age.outputs["age"].readers["incumbent"] == Reader(how="median", pointer="/bands", edges=edges)
    assert age.outputs["age"].readers["replica"] == age.outputs["age"].readers["incumbent"]
    assert age.outputs["age"].readers["challenger"] == Reader(how="field", pointer="/age")


def test_rows_are_laid_out_the_same_whatever_the_order_of_keys(good: Any) -> None:
    """The order is no part of a config's hash, and a config that comes from the store has another one: rows would be misread."""
    turned = json.loads(json.dumps(good, sort_keys=True))
    turned["events"]["segments"] = dict(reversed(turned["events"]["segments"].items()))
    turned |= {name: dict(reversed(turned[name].items())) for name in ("outputs", "policies")}
    recorded = {"incumbent": {"decision": "/a"}, "challenger": {"decision": "/b"}}
    for document in (good, turned):
        document["policies"]["over_18"] |= recorded
        document["policies"]["adult"] |= dict(reversed(recorded.items()))
        document["outcomes"]["truth"] = {name: "/" + name for name in (("age", "level") if document is good else ("level", "age"))}
    one, other = rollout_of(good), rollout_of(turned)
    assert (one.sha256, one.version) == (other.sha256, other.version)
    assert RowLayout(one).dtype == RowLayout(other).dtype
    assert [s.name for s in one.event_segments] == [s.name for s in other.event_segments] == ["gender", "platform", "race_eth"]
    assert (one.truths, recorded_decisions(one)) == (other.truths, recorded_decisions(other))


def test_the_words_of_pages_stand_with_the_policy() -> None:
    """False before true, as everywhere; what says true or false in YAML is the word of a decision."""
    policies = load(CONFIGS / "content-moderation.yaml").policies
    assert policies["remove"].classes == ("harmless posts", "violating posts")
    assert policies["remove"].says == {"true": "be removed", "false": "stay up"}


def test_a_policy_has_a_line_for_each_lane_and_for_the_truth(age: Rollout) -> None:
    """The core looks them up by name."""
    assert age.policies["over_13"].lines == dict.fromkeys(("incumbent", "challenger", "replica", "truth"), Line(default=13.0))
    by_region = Line(default=16.0, by="region", values={"ES": 14.0, "SE": 13.0})
    assert age.policies["consent"].lines["truth"] == by_region


def test_decisions_keep_their_order_and_lines(age: Rollout) -> None:
    """The first line that is reached decides; the line on the truth is `at_least`."""
    adult = age.policies["adult"]
    assert [(c.decision, c.at_least) for c in adult.choices] == [
        ("allow", Line(default=25.0)),
        ("check_id", Line(default=18.0)),
        ("block", None),
    ]
    assert adult.lines["truth"] == Line(default=18.0)
    assert adult.recorded == {"incumbent": "/action"}


def test_lines_by_model_give_the_truth_that_of_the_incumbent(put: Callable[..., Any]) -> None:
    """The challenger may be calibrated differently; what is true does not move with it."""
    lines = rollout_of(put("policies.over_18.at_least", {"incumbent": 18, "challenger": 18.4})).policies["over_18"].lines
    assert {name: line.default for name, line in lines.items()} == {"incumbent": 18.0, "challenger": 18.4, "truth": 18.0}
    lines = rollout_of(put("policies.over_18.at_least", {"incumbent": 18, "challenger": 18.4, "truth": 17})).policies["over_18"].lines
    assert lines["truth"].default == 17.0


def test_harms_and_flips_speak_of_decisions_by_name(good: Any) -> None:
    """YAML's true and false are the words of a policy with two decisions."""
    rollout = rollout_of(good)
    assert rollout.harms["let_in"].decisions == ("true",)
    assert rollout.gates[1].metric == Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
    assert rollout.gates[1].each == (("gender",), ("gender", "platform"))
    assert rollout.gates[2].metric == Metric(kind="flip", policy="over_18", from_="false", to="true")


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ({"false_positive_rate": "over_18"}, Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))),
        ({"false_negative_rate": "over_18"}, Metric(kind="harm", policy="over_18", truth=True, decisions=("false",))),
        ({"precision": "over_18"}, Metric(kind="precision", policy="over_18")),
        ({"recall": "over_18"}, Metric(kind="recall", policy="over_18")),
        ({"loss": "zero_one", "policy": "over_18"}, Metric(kind="loss", loss="zero_one", policy="over_18", bound=1.0)),
        (
            {"loss": "absolute_error", "output": "age"},
            Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0),
        ),
        (
            {"loss": "squared_error", "output": "age"},
            Metric(kind="loss", loss="squared_error", output="age", truth_name="age", bound=14_400.0),
        ),
        ({"errors": "incumbent"}, Metric(kind="errors", lane="incumbent")),
        ({"difference": "mean", "output": "age"}, Metric(kind="difference", output="age", bound=120.0)),
        ({"difference": "p99.9", "output": "age"}, Metric(kind="difference", output="age", bound=120.0, quantile=0.999)),
    ],
)
def test_metrics_are_resolved_to_columns(words: Any, metric: Metric, put: Callable[..., Any]) -> None:
    """The analysis never sees a word of the config."""
    rollout = rollout_of(put("gates.5", {"name": "new", "metric": words, "below": 0.5}))
    assert rollout.gates[5].metric == metric


def test_a_log_loss_is_bounded_by_twenty(put: Callable[..., Any]) -> None:
    """A loss without end needs a bound that is stated before the start."""
    new = {"name": "new", "metric": {"loss": "log_loss", "output": "age"}, "worse_by_at_most": 0.1}
    document = put("outputs.age.range", [0, 1], "gates.5", new, "policies", {}, "harms", {}, "gates.0.worse_by_at_most", 0.1)
    document["gates"] = [document["gates"][0], document["gates"][5]]
    assert rollout_of(document).gates[1].metric.bound == 20.0


@pytest.mark.parametrize(("text", "milliseconds"), [("250ms", 250.0), ("70ms", 70.0), ("1.5s", 1_500.0)])
def test_latency_limits_are_milliseconds_to_the_digit(text: str, milliseconds: float, put: Callable[..., Any]) -> None:
    """0.07 s is not 70 ms in binary; a limit is what the config says."""
    gate = rollout_of(put("gates.4.below", text)).gates[4]
    assert (gate.limit, gate.metric) == (milliseconds, Metric(kind="latency", lane="challenger", quantile=0.99))


def test_stages_have_their_times_and_people(age: Rollout) -> None:
    """The controller moves by them."""
    assert age.stages == (
        Stage(kind="shadow", percent=100.0, at_least_s=86_400.0),
        Stage(kind="canary", percent=1.0, at_least_s=21_600.0, people=2, roles=("policy",), stop_after={"minor_allowed": 3}),
        Stage(kind="canary", percent=10.0, at_least_s=43_200.0),
        Stage(kind="promote", bake_s=7 * 86_400.0),
    )


def test_a_stage_may_ask_for_pairs_and_end_at_a_count_of_harms(put: Callable[..., Any]) -> None:
    """Numbers that the controller compares with those of the verdict; without them none is asked for, and none ends a stage."""
    exposures = {"topic": "age.exposures", "unit": "subject", "arm": "/arm"}
    canary = {"canary": {"percent": 5}, "pairs": 500, "stop_after": {"let_in": 3}}
    stages = rollout_of(put("exposures", exposures, "stages.1", canary)).stages
    assert (stages[1].pairs, dict(stages[1].stop_after)) == (500, {"let_in": 3})
    assert [(stage.pairs, stage.stop_after) for stage in (stages[0], stages[2])] == [(0, {})] * 2


def test_what_is_left_out_has_its_stated_default(put: Callable[..., Any]) -> None:
    """The defaults are part of the contract, and pairs outlive the wait for their labels."""
    rollout = rollout_of(put("stages", ..., "outcomes.matures", "60d"))
    assert [stage.kind for stage in rollout.stages] == ["shadow"], "nobody is served by a challenger unless somebody wrote it down"
    assert (rollout.alpha, rollout.looks_s, rollout.expires_s, rollout.models["incumbent"].timeout_s) == (0.05, 3_600.0, 30 * 86_400.0, 1.0)
    assert rollout.keep.pairs_s == 60 * 86_400.0


@pytest.mark.parametrize(("text", "n_bytes"), [("32MiB", 32 << 20), ("1536MiB", 3 << 29), ("2GiB", 2 << 30)])
def test_a_models_memory_is_read_in_bytes(text: str, n_bytes: int, put: Callable[..., Any]) -> None:
    """And without the key there is no limit."""
    models = rollout_of(put("models.challenger.uri", "onnx:model.onnx", "models.challenger.memory", text)).models
    assert (models["challenger"].memory, models["incumbent"].memory) == (n_bytes, None)


def test_an_empty_list_of_gates_is_accepted(put: Callable[..., Any]) -> None:
    """It holds for ever: shadowing without a decision is a use."""
    assert rollout_of(put("gates", [])).gates == ()


def test_the_whole_answer_can_be_the_output(put: Callable[..., Any]) -> None:
    """A score that stands alone in the event has no field of its own."""
    document = put("models.incumbent.uri", "recorded:event:/score", "outputs.age.incumbent", {"field": ""})
    assert rollout_of(document).outputs["age"].readers["incumbent"].pointer == ""


def test_the_hash_is_of_what_the_config_says(good: Any, put: Callable[..., Any], tmp_path: Path) -> None:
    """Comments, layout and order do not matter; every value does."""
    before = rollout_of(good)
    turned = {key: good[key] for key in reversed(good)}
    assert rollout_of(turned).sha256 == before.sha256 != rollout_of(put("sample.percent", 30)).sha256
    path = tmp_path / "rollout.yaml"
    text = (CONFIGS / "age-regression.yaml").read_text()
    path.write_text("# another comment\n" + text)
    assert load(path).sha256 == load(CONFIGS / "age-regression.yaml").sha256
    assert len(before.sha256) == 64


def test_frames_of_another_layout_are_of_another_version(age: Rollout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router of before must not hand a joiner of now a segment's value in the place of another one's."""
    before = age.version
    monkeypatch.setattr("harness.core.rollout.LAYOUT", LAYOUT + 1)
    assert age.version != before


def test_a_rollout_goes_to_another_process(age: Rollout) -> None:
    """The roles run in processes of their own."""
    assert pickle.loads(pickle.dumps(age)) == age


def test_the_document_is_a_copy(good: Any) -> None:
    """Who changes theirs must not change what a record will say."""
    rollout = rollout_of(good)
    good["sample"]["percent"] = 1
    assert rollout.document["sample"] == {"percent": 100}
