"""What pydantic found, in our words: what was found, what is expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.gatewords import METRICS
from harness.config.problems import Steps, instead, listed, shown

_NOT_YET = "not available in this version"
_KINDS = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_MISSING = {
    "rollout": "the rollout's name",
    "events": "where events come from, as in {topic: age.events, unit: subject}",
    "models": "the models, {incumbent: {uri: ...}, challenger: {uri: ...}}",
    "outputs": "what the models' answers mean",
    "sample": "the share of units to mirror, as in {percent: 100}",
    "pairing": "how long to wait for the answers to one event, as in {window: 30s}",
    "gates": "the list of gates that must pass ([] holds for ever)",
    "matures": "how old an event must be before its label counts, as in 14d",
    "window": "a duration as in 30s",
    "percent": "a percent over 0, up to 100",
    "uri": "the model's address, as in python:package.module:function",
    "unit": "what is counted once: an attribute as in subject, or a /pointer",
    "default": "the line for every other value of the segment",
    "by": "the segment whose values choose the line",
}


def message(kind: str, value: object, context: Mapping[str, Any], path: Steps, known: frozenset[str]) -> str:
    """One problem in words. `known`: the words that stand where the last step of `path` stands."""
    last = path[-1] if path else ""
    if kind == "missing":
        return f"is missing; expected {_MISSING[last]}" if last in _MISSING else "is missing, and it is mandatory"
    if kind == "extra_forbidden":
        return _unknown(str(last), path, known)
    if kind == "no_metric":
        return _metric(value)
    if kind == "said":
        return str(context.get("said") or "unexpected value")
    if kind in _KINDS:
        return f"got {shown(value)}, expected {_KINDS[kind]}"
    if kind == "literal_error":
        return _literal(value, str(context.get("expected", "")), path)
    return _bounds(kind, value, context, path)


def _unknown(word: str, path: Steps, known: frozenset[str]) -> str:
    if path[0] == "models" and len(path) == 2:
        return "unknown model: expected incumbent, replica, or the name of a challenger"
    if path[-2:-1] == ("metric",) and word in METRICS:
        return "a metric has one kind only; make two gates of it"
    return f"unknown key{instead(word, known)}"


def _metric(value: object) -> str:
    if not isinstance(value, dict) or not value:
        return f"got {shown(value)}, expected a metric as in {{flip: POLICY}}; kinds: {listed(METRICS)}"
    return f"unknown metric `{next(iter(value))}`{instead(str(next(iter(value))), METRICS)}"


def _literal(value: object, expected: str, path: Steps) -> str:
    words = expected.replace("'", "").replace(" or ", ", ").split(", ")
    if path[0] == "gates" and path[-1] in ("unit", "method") and isinstance(value, str):
        return f"got {shown(value)}, {_NOT_YET}; expected {listed(words)}"
    guess = instead(value, words) if isinstance(value, str) else f"; expected {listed(words)}"
    return f"got {shown(value)}{guess}"


def _bounds(kind: str, value: object, context: Mapping[str, Any], path: Steps) -> str:
    last = path[-1] if path else ""
    got = f"got {shown(value)}{' percent' if last == 'percent' and isinstance(value, (int, float)) else ''}"
    match kind:
        case "greater_than":
            return f"{got}, must be > {context['gt']:g}"
        case "greater_than_equal":
            return f"{got}, must be >= {context['ge']:g}"
        case "less_than":
            return f"{got}, must be < {context['lt']:g}"
        case "less_than_equal":
            return f"{got}, must be <= {context['le']:g}"
        case "too_short":
            return f"{got}, expected at least {context['min_length']} of them"
        case "too_long":
            return f"{got}, expected at most {context['max_length']} of them"
        case "string_too_short":
            return "got an empty text"
        case "string_too_long":
            return f"{got}, expected at most {context['max_length']} letters"
        case "finite_number":
            return f"{got}, must be a finite number"
        case _:
            return f"{got}, which is not allowed here ({kind})"


def words_at(schema: Mapping[str, Any], place: Steps) -> frozenset[str]:
    """The keys that a JSON Schema allows at a place, over all branches."""
    at: list[Mapping[str, Any]] = _branches(schema, schema)
    for step in place:
        under: list[Any] = []
        for branch in at:
            named = branch.get("properties", {}).get(step, branch.get("additionalProperties"))
            items = branch.get("items") if isinstance(step, int) else named
            if isinstance(items, dict):
                under += _branches(items, schema)
        at = under
    return frozenset(key for branch in at for key in branch.get("properties", {}))


def _branches(node: Mapping[str, Any], root: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "$ref" in node:
        return _branches(root["$defs"][node["$ref"].rsplit("/", 1)[-1]], root)
    inner = [*node.get("anyOf", ()), *node.get("oneOf", ())]
    return [branch for item in inner for branch in _branches(item, root)] + [node]
