"""Plain values -> the models of `words`, as far as possible: what is broken is reported once, taken out, and the rest goes on to the
second pass. So all problems come together, and none that only follows from another.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.config.gatewords import GateWords, RolloutWords, StageWords
from harness.config.messages import message, words_at
from harness.config.problems import Problems, Steps, instead
from harness.config.words import (
    EventsWords,
    ExposuresWords,
    HarmWords,
    ModelsWords,
    OnlineWords,
    OutcomesWords,
    OutputWords,
    PolicyWords,
)

T = TypeVar("T")
REQUIRED = tuple(name for name, info in RolloutWords.model_fields.items() if info.is_required())
_LARGEST_NUMBER = 1e15
_DEEPEST = 48
_NEVER_EMPTY = (("outputs",), ("outcomes", "truth"))


class Bad:
    """Stands for a value that was reported already; no model accepts it."""


BAD = Bad()


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a document can be used. `simple` holds the sections that other sections do not refer to, by name."""

    document: Mapping[str, Any]
    events: EventsWords | None
    models: ModelsWords | None
    outputs: Mapping[str, OutputWords]
    policies: Mapping[str, PolicyWords]
    harms: Mapping[str, HarmWords]
    outcomes: OutcomesWords | None
    exposures: ExposuresWords | None
    online: Mapping[str, OnlineWords]
    gates: Mapping[int, GateWords]
    stages: Mapping[int, StageWords]
    simple: Mapping[str, Any] = field(default_factory=dict)

    def named(self, *path: str) -> frozenset[str] | None:
        """Every name written in a mapping of the document, usable or not; None when that cannot be known."""
        value: Any = self.document
        for step in path:
            if not isinstance(value, dict):
                return None
            if step not in value:
                return None if step in REQUIRED else frozenset()
            value = value[step]
        if not isinstance(value, dict) or (not value and path in _NEVER_EMPTY):
            return None
        return frozenset(value)


def parts_of(value: object, problems: Problems) -> Parts:
    """Everything of the document that has the right shape; all else is in `problems`."""
    document = clean(value, (), problems)
    if not isinstance(document, dict):
        found = {type(None): "nothing", list: "a list"}.get(type(document), "one value")
        problems.add((), f"expected a mapping that begins with `rollout: NAME`, got {found}")
        document = {}
    for key in document.keys() - RolloutWords.model_fields.keys():
        problems.add((key,), f"unknown key{instead(key, RolloutWords.model_fields)}")
    got: dict[str, Any] = {}
    for name, info in RolloutWords.model_fields.items():
        if name in ("gates", "stages"):
            item = GateWords if name == "gates" else StageWords
            got[name] = _items(document, name, item, info.is_required(), problems)
        elif name in document:
            got[name] = checked(_adapter(name), document[name], (name,), problems)
        elif info.is_required():
            problems.add((name,), message("missing", None, {}, (name,), frozenset()))
        else:
            got[name] = info.get_default(call_default_factory=True)
    return Parts(
        document=document,
        events=got.get("events"),
        models=got.get("models"),
        outputs=got.get("outputs") or {},
        policies=got.get("policies") or {},
        harms=got.get("harms") or {},
        outcomes=got.get("outcomes"),
        exposures=got.get("exposures"),
        online=got.get("online") or {},
        gates=got["gates"],
        stages=got["stages"],
        simple={name: got.get(name) for name in ("rollout", "sample", "pairing", "alpha", "looks", "detect", "keep", "expires")},
    )


def clean(value: object, path: Steps, problems: Problems) -> object:
    """The value with everything replaced that no config may hold: empty values, NaN, huge numbers, keys that are no text."""
    said: str | None = None
    if len(path) > _DEEPEST:
        said = "nested too deeply"
    elif isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                problems.add(path, f"got the key {str(key)[:40]!r}, keys must be text")
        return {key: clean(item, (*path, key), problems) for key, item in value.items() if isinstance(key, str)}
    elif isinstance(value, (list, tuple)):
        return [clean(item, (*path, number), problems) for number, item in enumerate(value)]
    elif value is None:
        said = "has no value: give it one, or leave it out" if path else None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not abs(value) <= _LARGEST_NUMBER:
            finite = isinstance(value, int) or isfinite(value)
            said = "got a number over 1e15, which is too large" if finite else f"got {value}, must be a finite number"
    elif isinstance(value, str):
        said = "this text has half a character (a lone surrogate)" if any("\ud800" <= letter <= "\udfff" for letter in value) else None
    elif not isinstance(value, bool):
        said = f"got {type(value).__name__}, expected text, a number, true or false, a list or a mapping"
    if said is None:
        return value
    problems.add(path, said)
    return BAD


def checked(adapter: TypeAdapter[T], value: object, path: Steps, problems: Problems) -> T | None:
    """The model of `value`, without the parts that were reported; None when nothing usable is left."""
    value, first = copy.deepcopy(value), True
    while True:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            details = error.errors(include_url=False)
        places = [_place(detail, value) for detail in details]
        if first:
            for detail, place in zip(details, places, strict=True):
                known = words_at(_schema(adapter), place[:-1])
                context = {"said": detail["msg"], **detail.get("ctx", {})}
                problems.add((*path, *place), message(detail["type"], detail["input"], context, (*path, *place), known))
        first = False
        gone = [_remove(value, _removable(detail, place)) for detail, place in zip(details, places, strict=True)]
        if not any(gone):
            return None


def _items(document: Mapping[str, Any], name: str, model: type[T], required: bool, problems: Problems) -> dict[int, T]:
    """The usable items of a list, by their place in it."""
    if name not in document:
        if required:
            problems.add((name,), message("missing", None, {}, (name,), frozenset()))
        return {}
    listed = document[name]
    if not isinstance(listed, list):
        problems.add((name,), message("list_type", listed, {}, (name,), frozenset()))
        return {}
    if not listed and name == "stages":
        problems.add((name,), "got an empty list, expected a stage at least (or leave it out)")
    adapter: TypeAdapter[T] = TypeAdapter(model)
    found = {number: checked(adapter, item, (name, number), problems) for number, item in enumerate(listed)}
    return {number: item for number, item in found.items() if item is not None}


def _place(detail: ErrorDetails, value: object) -> Steps:
    """Where in the document an error is: pydantic's location without the names of branches."""
    place: list[str | int] = []
    for step in detail["loc"]:
        inside = isinstance(value, dict) and step in value
        if inside or (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            value = cast("Any", value)[step]
        elif not (detail["type"] == "missing" and step is detail["loc"][-1]):
            continue
        place.append(step)
    return tuple(place)


def _removable(detail: ErrorDetails, place: Steps) -> Steps:
    """What must go for an error to go: the value itself, what lacks a key, or a whole list for one of its items."""
    if detail["type"] == "missing":
        place = place[:-1]
    numbers = [number for number, step in enumerate(place) if isinstance(step, int)]
    return place[: numbers[0]] if numbers else place


def _remove(value: Any, place: Steps) -> bool:
    for step in place[:-1]:
        if not isinstance(value, dict) or step not in value:
            return False
        value = value[step]
    return bool(place) and isinstance(value, dict) and value.pop(place[-1], BAD) is not BAD


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    info: FieldInfo = RolloutWords.model_fields[name]
    return TypeAdapter(info.rebuild_annotation())


@cache
def _schema(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    return adapter.json_schema()
