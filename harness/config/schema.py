"""The JSON Schema of a rollout config, for editors: shape only; `shadow validate` also checks names and meanings."""

from __future__ import annotations

import json
from typing import Any

from harness.config import challengers
from harness.config.gatewords import RolloutWords
from harness.core.rollout import CHALLENGER


def json_schema() -> dict[str, Any]:
    """The schema (draft 2020-12) of one rollout's YAML; published as configs/rollout.schema.json."""
    schema = _tidy(RolloutWords.model_json_schema(by_alias=True), names=False)
    _by_lane(schema["$defs"]["ModelsWords"], CHALLENGER, counted=True)
    for words in ("OutputWords", "LineByLane"):
        _by_lane(schema["$defs"][words], "incumbent", counted=False)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Shadow Harness rollout"}


def json_schema_text() -> str:
    """The published file: `json_schema` with two spaces a level and an end of line."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _by_lane(words: dict[str, Any], lane: str, *, counted: bool) -> None:
    """A mapping by lane takes challengers of any name, each as the property `lane`. counted: one of them must be there."""
    words["required"] = [name for name in words["required"] if name != CHALLENGER]
    words["additionalProperties"] = words["properties"][lane]
    words["propertyNames"] = {"pattern": challengers.NAME}
    if counted:
        words |= {"if": {"required": ["replica"]}, "then": {"minProperties": 3}, "else": {"minProperties": 2}}


def _tidy(node: Any, *, names: bool) -> Any:
    """Without made-up titles, and without null, which no config holds. `names`: the keys are a config's, not the schema's."""
    if isinstance(node, list):
        return [_tidy(item, names=False) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    if names:
        return {key: _tidy(item, names=False) for key, item in node.items()}
    kept = {key: item for key, item in node.items() if not (key == "title" or (key == "default" and item is None))}
    tidy = {key: _tidy(item, names=key in ("properties", "$defs")) for key, item in kept.items()}
    if len(tidy.get("anyOf", ())) == 1:
        tidy = {**tidy.pop("anyOf")[0], **tidy}
    return tidy
