"""Several challengers in one config: a rollout each, and every problem once, where it was written."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import chosen, digest, parse, parse_all
from harness.core.errors import ConfigError, UsageError
from harness.core.rollout import Family, Rollout

Document = dict[str, Any]
TWO = {
    "models": {"incumbent": {"uri": "recorded:i.jsonl"}, "fast": {"uri": "recorded:f.jsonl"}, "exact": {"uri": "http://exact:80/"}},
}  # fmt: skip


@pytest.fixture
def two(good: Document) -> Document:
    """The good document with two challengers."""
    return {**copy.deepcopy(good), **copy.deepcopy(TWO)}


def rollouts(document: Document) -> tuple[Rollout, ...]:
    return parse_all(document, source="test", folder=Path())


def problems(document: Document) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        rollouts(document)
    return [(problem.path, problem.message) for problem in error.value.problems]


def test_each_is_the_rollout_that_a_config_of_its_own_would_be(two: Document):
    """Nothing behind the config knows of several: gates, evidence, records and audits are those of one."""
    two["outputs"]["age"]["exact"] = {"field": "/exact_age"}
    two["policies"]["over_18"]["at_least"] = {"incumbent": 18, "fast": 18.4, "exact": 17.5, "truth": 18}
    two["gates"][3]["alpha"] = 0.01
    fast, exact = rollouts(two)
    alone = copy.deepcopy(two) | {"rollout": "age-test.exact", "alpha": 0.025}
    alone["models"] = {"incumbent": two["models"]["incumbent"], "challenger": two["models"]["exact"]}
    alone["outputs"]["age"] = {**two["outputs"]["age"], "challenger": {"field": "/exact_age"}}
    del alone["outputs"]["age"]["exact"]
    alone["policies"]["over_18"]["at_least"] = {"incumbent": 18, "challenger": 17.5, "truth": 18}
    alone["gates"][3]["alpha"] = 0.005
    assert exact.document == alone
    assert exact.sha256 == parse(alone, source="test", folder=Path()).sha256 == digest(alone)
    assert (fast.name, fast.alpha, fast.outputs["age"].readers["challenger"].pointer) == ("age-test.fast", 0.025, "/age")
    assert fast.policies["over_18"].lines["challenger"].default == 18.4
    assert fast.family == Family(name="age-test", challengers=("fast", "exact"), challenger="fast")


def test_they_read_one_mirror(two: Document):
    """The router stamps frames for all of them, whatever differs between them; a family of others would be another stream."""
    fast, exact = rollouts(two)
    assert (fast.version, fast.mirror) == (exact.version, "age-test")
    two["outputs"]["age"]["exact"] = {"field": "/exact_age"}
    assert [rollout.version for rollout in rollouts(two)] == [fast.version] * 2
    two["models"] = dict(reversed(two["models"].items()))
    assert {rollout.version for rollout in rollouts(two)} == {fast.version}, "the order of keys is no part of a config"
    two["models"]["third"] = {"uri": "recorded:t.jsonl"}
    assert fast.version not in {rollout.version for rollout in rollouts(two)}
    assert {rollout.alpha for rollout in rollouts(two)} == {0.05 / 3}


def test_one_under_a_name_of_its_own_has_all_of_alpha(two: Document):
    """The same words, one challenger; its decisions may stand in the event, as nobody else's can be meant."""
    del two["models"]["exact"]
    two["policies"]["over_13"]["fast"] = {"decision": "/took"}
    (fast,) = rollouts(two)
    assert (fast.name, fast.alpha) == ("age-test.fast", 0.05)
    assert fast.policies["over_13"].recorded == {"challenger": "/took"}


def test_a_challenger_called_challenger_is_one_of_several(two: Document):
    """What stands under its name is its own, and that of everybody without an own."""
    two["models"]["challenger"] = {"uri": "recorded:c.jsonl"}
    assert [rollout.name for rollout in rollouts(two)] == ["age-test.fast", "age-test.exact", "age-test.challenger"]
    assert rollouts(two)[2].outputs["age"].readers["challenger"].pointer == "/age"


def test_every_problem_is_told_once_at_the_path_that_was_written(two: Document):
    """Not once a challenger, and not at a path that nobody can find."""
    two["gates"][2]["below"] = -1
    two["models"]["fast"]["uri"] = "gopher://x"
    two["outputs"]["age"]["exact"] = {"fild": "/age"}
    two["policies"]["over_18"]["at_least"] = {"incumbent": 18, "fast": 400, "exact": 18}
    two["policies"]["over_13"]["at_least"] = {"incumbent": 13, "fast": 13}
    two["colour"] = "blue"
    found = problems(two)
    assert sorted(path for path, _ in found) == [
        "colour", "gates.2.below", "models.fast.uri", "outputs.age.exact", "policies.over_13.at_least.exact",
        "policies.over_18.at_least.fast",
    ]  # fmt: skip
    assert found == list(dict.fromkeys(found))


def test_an_output_that_one_of_them_cannot_read_is_missing_under_its_name(two: Document):
    """With a reader each, none for all."""
    two["outputs"]["age"] = {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "fast": {"field": "/age"}}
    assert [path for path, _ in problems(two)] == ["outputs.age.exact"]


@pytest.mark.parametrize("name", ["Fast", "a.b", "range", "predictions", "x" * 41])
def test_a_name_that_cannot_be_one_is_refused(two: Document, name: str):
    """It stands in names of topics and keys, and beside other words of the config."""
    two["models"][name] = {"uri": "recorded:x.jsonl"}
    ((path, said),) = problems(two)
    assert path == f"models.{name}"
    assert "name" in said


def test_a_name_that_gets_too_long_and_a_decision_of_one_of_them_are_refused(two: Document):
    """A rollout's name has at most a hundred characters; and a decision that was recorded was made by one model only."""
    two["rollout"] = "r" * 97
    two["policies"]["over_13"] |= {"fast": {"decision": "/took"}, "challenger": {"decision": "/took"}}
    found = dict(problems(two))
    assert found.keys() == {"rollout", "policies.over_13.fast", "policies.over_13.challenger"}
    assert "at most 94" in found["rollout"]


def test_who_asks_for_one_must_name_it(two: Document):
    """And hears whom there is."""
    several = rollouts(two)
    assert chosen(several, "exact", source="age.yaml") is several[1]
    for name, said in ((None, "several challengers; name one with --challenger: fast, exact"), ("slow", "age.yaml has fast, exact")):
        with pytest.raises(UsageError, match=said):
            chosen(several, name, source="age.yaml")


def test_words_of_a_segment_that_are_called_like_a_challenger_stay(two: Document, put: Callable[..., Document]):
    """A line by segment is no line by lane."""
    two["events"]["segments"]["platform"] = {"field": "/p", "values": ["fast", "web"]}
    two["policies"]["over_18"]["at_least"] = {"by": "platform", "default": 18, "fast": 20}
    for rollout in rollouts(two):
        assert rollout.policies["over_18"].lines["incumbent"].values == {"fast": 20}
