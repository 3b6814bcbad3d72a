"""The published JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # no types published

from harness.config import json_schema
from harness.config.schema import json_schema_text

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


def test_the_published_schema_is_current() -> None:
    """`python -c "from harness.config.schema import json_schema_text as t; print(t(), end='')" > configs/rollout.schema.json` renews it."""
    assert (CONFIGS / "rollout.schema.json").read_text() == json_schema_text()


def test_the_schema_is_one() -> None:
    """Editors refuse a broken one in silence."""
    Draft202012Validator.check_schema(json.loads(json_schema_text()))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_published_configs_follow_it(path: Path, validator: Draft202012Validator) -> None:
    """An editor must not underline what the product accepts."""
    assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.parametrize(
    "changes",
    [
        ("colour", "blue"),
        ("gates.2.bellow", 0.05),
        ("gates.2.metric", {"flipp": "over_18"}),
        ("gates.0.worse_by_at_most", ...),
        ("gates.0.below", 1),
        ("pairing.window", "30 parsecs"),
        ("pairing.window", 30),
        ("sample", ...),
        ("sample.percent", 140),
        ("outcomes.matures", ...),
        ("models.challenger", ...),
        ("outputs.age.type", "numbr"),
        ("policies.over_13.at_least", {"by": "gender", "default": 13, "x": "y"}),
        ("stages.0.canary", {"percent": 3}),
        ("harms", None),
        ("alpha", None),
        ("gates.2.unit", "sometimes"),
    ],
    ids=lambda changes: f"{changes[0]}={changes[1]}",
)
def test_an_editor_sees_a_wrong_shape(changes: Any, put: Callable[..., Any], validator: Draft202012Validator) -> None:
    """The schema says no where the product says no, as far as shape goes."""
    assert list(validator.iter_errors(put(*changes)))


def test_the_good_document_follows_it(good: Any, validator: Draft202012Validator) -> None:
    """With every kind of segment, output and policy."""
    assert list(validator.iter_errors(good)) == []
