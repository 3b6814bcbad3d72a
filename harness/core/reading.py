"""CloudEvents to entries: what is an event, what is an outcome, and why a record is neither. Never repeats what a record says.

Events and outcomes are structured CloudEvents 1.0 in JSON. One type is ours: `io.shadow-harness.watermark` says that nothing
older than its `time` will follow on its partition; it counts nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from harness.core.events import Event, Invalid, InvalidOutcome, Outcome
from harness.core.outputs import LONGEST_LABEL, MISSING, pointed, tokens_of
from harness.core.outputs import pointer as resolve
from harness.core.rollout import Rollout, Segment
from harness.core.routing import Hasher
from harness.core.table import recorded_decisions

WATERMARK = "io.shadow-harness.watermark"
_RFC3339 = re.compile(r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d+)?([Zz]|[+-]\d{2}:\d{2})")
_NEEDED = ("id", "source", "type", "specversion")
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", type(None): "null"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MINUTES = 4_096
_MINUTES: dict[str, int] = {}  # "2026-03-02T00:06:" -> microseconds: a memory of what was parsed, no state


def microseconds(text: object) -> int | None:
    """An RFC 3339 time as microseconds since 1970; None for anything else. Digits beyond microseconds are cut."""
    if not isinstance(text, str):
        return None
    minute = _MINUTES.get(text[:17])
    if minute is not None and text[-1] == "Z" and text.isascii():  # the usual form, in a minute that was read before
        second = text[17:-1]
        digits = second[:2] + second[3:]
        if digits.isdecimal() and second < "6" and (len(second) == 2 or (len(digits) > 2 and second[2] == ".")):
            return minute + int((digits + "000000")[:8])
    return _any_form(text)


def _any_form(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    leap = clock.endswith(":60")
    try:
        when = datetime.fromisoformat(f"{day}T{clock[:-2] + '59' if leap else clock}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return None
    delta = when - _EPOCH
    whole = (delta.days * 86_400 + delta.seconds + leap) * 1_000_000
    if zone == "Z" and not leap:
        if len(_MINUTES) >= _MOST_MINUTES:
            _MINUTES.clear()
        _MINUTES[text[:17]] = whole - when.second * 1_000_000
    return whole + (int((fraction[1:] + "000000")[:6]) if fraction else 0)


def timestamp(time: int) -> str:
    """Microseconds since 1970 as RFC 3339 in UTC."""
    seconds, rest = divmod(time, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + (f".{rest:06d}Z" if rest else "Z")


def attributes_problem(document: Any) -> str | None:
    """Why this is no CloudEvent; None if it is one. Its times are looked at elsewhere."""
    if not isinstance(document, dict):
        return f"expected a JSON object, got {_KINDS.get(type(document), 'a text')}"
    get = document.get
    id, source, kind, version = get("id"), get("source"), get("type"), get("specversion")
    if id and source and kind and version and type(id) is type(source) is type(kind) is type(version) is str:
        return None
    for name in _NEEDED:
        value = document.get(name)
        if not isinstance(value, str) or not value:
            return f"{name}: expected non-empty text, got {_kind(document, name)}"
    return None


def _kind(document: dict[str, Any], name: str) -> str:
    """What stands in an attribute, in words and never its content."""
    if name not in document:
        return "nothing"
    return "empty text" if document[name] == "" else _KINDS.get(type(document[name]), "something else")


def stated_time(document: dict[str, Any], name: str) -> int | str | None:
    """The time in an attribute, None if it is not there, or what is wrong with it."""
    if name not in document:
        return None
    found = microseconds(document[name])
    return f"{name}: expected an RFC 3339 text" if found is None else found


def field_reader(field: str) -> Callable[[dict[str, Any]], Any]:
    """Finds a field of an event: an attribute, or a pointer into its data."""
    if not field.startswith("/"):
        return lambda document: document.get(field, MISSING)
    find = pointed(field)
    return lambda document: find(document.get("data"))


def _segment_reader(segment: Segment) -> Callable[[dict[str, Any]], str]:
    """Reads one segment's value of an event."""
    find, (name, in_data) = field_reader(segment.field or ""), _plain_field(segment.field or "")
    listed, other = frozenset(segment.values), segment.other

    def read(document: dict[str, Any]) -> str:
        data = document.get("data") if in_data else document
        found = data.get(name) if type(data) is dict and name is not None else find(document)
        if type(found) is not str or not found:
            word = word_of(found)
            if word is None:
                return segment.missing
            found = word
        if listed:  # a text that is empty never comes here
            return found if found in listed else other
        return found if len(found) <= LONGEST_LABEL else other

    return read


def _plain_field(field: str) -> tuple[str | None, bool]:
    """(name, whether it stands in the data) of a field that is found with one step; else (None, ...)."""
    if not field.startswith("/"):
        return field, False
    tokens = tokens_of(field)
    return (tokens[0] if tokens is not None and len(tokens) == 1 else None), True


Facts = tuple[str, bytes, int, tuple[str, ...], tuple[str | None, ...], str, int | None]
"""Of an event: its id, its key, its unit's hash, segments, decisions, its unit, the arrival time that it states."""


class Reader:
    """Reads the events and outcomes of one rollout."""

    def __init__(self, rollout: Rollout, hasher: Hasher) -> None:
        self.rollout, self.hasher = rollout, hasher
        self._recorded = recorded_decisions(rollout)
        self._segments = tuple(_segment_reader(segment) for segment in rollout.event_segments)
        self._find_unit = field_reader(rollout.events.unit)

    # ------------------------------------------------------------------------------------------------------------------ events
    def event(self, document: Any, *, position: int, payload: bytes) -> tuple[Event | Invalid, str, int | None]:
        """(entry, unit, stated arrival time) of one decoded event; the arrival time of the entry is still to be stamped.

        The stated time is the extension `recordedtime`, else `time`, None when there is neither.
        """
        facts = self.facts(document)
        if isinstance(facts, str):
            return Invalid(position=position, reason=facts), "", None
        id, key, unit, segments, decisions, text, stated = facts
        return Event(position, key, unit, id, 0, segments, decisions, payload), text, stated

    def facts(self, document: Any) -> Facts | str:
        """What one decoded event says, or why it is none: `event` without making one."""
        problem = attributes_problem(document)
        if problem is not None:
            return problem
        stated = stated_time(document, "time")
        if "recordedtime" in document and not isinstance(stated, str):
            stated = stated_time(document, "recordedtime")
        if isinstance(stated, str):
            return stated
        unit, id = self._unit(document), document["id"]
        key, hashed = self.hasher.key_and_unit(document["source"], id, unit)
        segments = tuple([read(document) for read in self._segments])
        decisions = tuple([_decision(resolve(document.get("data"), pointer)) for _, _, pointer in self._recorded]) if self._recorded else ()
        return id, key, hashed, segments, decisions, unit, stated

    def _unit(self, document: dict[str, Any]) -> str:
        """The unit of an event; one that names none is a unit of its own."""
        found = word_of(self._find_unit(document))
        return found if found is not None else f"event {document['source']} {document['id']}"

    # ---------------------------------------------------------------------------------------------------------------- outcomes
    def outcome(self, document: Any, *, position: int, time: int) -> Outcome | InvalidOutcome:
        """One decoded outcome; `time` is the bus's, for one that states none. One before 1970 is a time that nobody set: 0."""
        spec = self.rollout.outcomes
        problem = attributes_problem(document)
        if problem is not None or spec is None:
            return InvalidOutcome(position=position, reason=problem or "this rollout has no outcomes")
        stated = stated_time(document, "time")
        if isinstance(stated, str):
            return InvalidOutcome(position=position, reason=stated)
        data = document.get("data")
        event_id = resolve(data, spec.event)
        if not isinstance(event_id, str) or not event_id:
            return InvalidOutcome(position=position, reason=f"{spec.event}: expected the id of an event")
        asked = self._asked(data)
        if isinstance(asked, str):
            return InvalidOutcome(position=position, reason=asked)
        truths = [resolve(data, pointer) for pointer in spec.truth.values()]
        if asked:  # a queue that writes the label's place beforehand leaves it null
            truths = [MISSING if truth is None else truth for truth in truths]
        for pointer, truth in zip(spec.truth.values(), truths, strict=True):
            if truth is not MISSING and not _is_truth(truth):
                found = type(truth).__name__
                return InvalidOutcome(position=position, reason=f"{pointer}: expected a boolean or a finite number, got {found}")
        if not asked and all(truth is MISSING for truth in truths):
            request = f", and no request in {spec.requested}" if spec.requested else ""
            return InvalidOutcome(position=position, reason=f"{', '.join(spec.truth.values())}: no truth in it{request}")
        propensity = self._propensity(data, asked)
        if isinstance(propensity, str):
            return InvalidOutcome(position=position, reason=propensity)
        return Outcome(
            position=position, key=self.hasher.event_id(event_id), time=max(time if stated is None else stated, 0),
            number=int.from_bytes(self.hasher.digest(b"outcome", f"{document['source']}\0{document['id']}\0{truths}", 8), "big") >> 1,
            truths=tuple(None if truth is MISSING else truth if isinstance(truth, bool) else float(cast(float, truth)) for truth in truths),
            propensity=propensity,
        )  # fmt: skip

    def _asked(self, data: Any) -> bool | str:
        """Whether this record says that a label was asked for, or what is wrong with what it says."""
        spec = self.rollout.outcomes
        found = MISSING if spec is None or spec.requested is None else resolve(data, spec.requested)
        if found is MISSING or found is None or isinstance(found, bool):
            return found is True
        if microseconds(found) is None:
            return f"{spec.requested if spec else ''}: expected true or the time of the request as an RFC 3339 text, or nothing"
        return True

    def _propensity(self, data: Any, asked: bool) -> float | str | None:
        """The recorded sampling probability, None if the config reads none or the request has it, or what is wrong with it."""
        spec = self.rollout.outcomes
        if spec is None or spec.propensity is None:
            return None
        found = resolve(data, spec.propensity)
        if spec.requested and not asked and (found is MISSING or found is None):
            return None
        if isinstance(found, bool) or not isinstance(found, int | float) or not (spec.least or 0.0) <= found <= 1.0:
            return f"{spec.propensity}: expected a probability of at least {spec.least:g}, the config's `least`"
        return float(found)


def watermark(document: Any) -> int | None:
    """The time before which nothing more will come, if this record says so."""
    if isinstance(document, dict) and document.get("type") == WATERMARK:
        return microseconds(document.get("time"))
    return None


def word_of(value: Any) -> str | None:
    """A value of a field as a word: text as it is, numbers and booleans as JSON writes them, nothing else."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else None


def _decision(value: Any) -> str | None:
    """What production recorded as its decision: a word; of a text that is none only the beginning, which is still no other word."""
    word = word_of(value)
    return word if word is None else word[:LONGEST_LABEL]


def _is_truth(value: Any) -> bool:
    if isinstance(value, bool):
        return True
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
