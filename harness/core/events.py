"""What goes over the bus and into a pair: entries of mirror frames, answers, frames. All immutable.

The small ones, made and read for every event, are named tuples: a frozen dataclass takes four times as long to make.

Times are integers, microseconds since 1970. An event's key is 14 bytes: the keyed hash of its id (10 bytes, by which outcomes find
it), then that of its source (4). A unit is the 64-bit keyed hash of what is assigned and counted once. A position is an integer that
rises along one partition of a topic; a source names one partition of a source topic, as in "events/0" or "outcomes/3".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ANSWERED = "answered"


class Event(NamedTuple):
    """A sampled event of the mirror: everything the joiner needs, and the payload for the lanes.

    segments: one value for each of the rollout's event segments; decisions: what production recorded, one for each (policy, lane) of
    `table.recorded_decisions`. `id` is the plain id, for recorded models and as idempotency key; it stays on the bus, unless the config's
    `keep.ids` asks for it.
    """

    position: int
    key: bytes
    unit: int
    id: str
    arrived: int
    segments: tuple[str, ...]
    decisions: tuple[str | None, ...]
    payload: bytes


def stamped(event: Event, arrived: int) -> Event:
    """The event with its arrival time; `_replace` takes twice as long."""
    position, key, unit, id, _, segments, decisions, payload = event
    return Event(position, key, unit, id, arrived, segments, decisions, payload)


class Invalid(NamedTuple):
    """An event that could not be read: known by its position alone."""

    position: int
    reason: str


class Outcome(NamedTuple):
    """What was learnt later of an event, or (without any truth) that a label of it was asked for.

    key: the 10-byte hash of its event's id. truths: one for each of the rollout's truths (a float, a bool, or None when absent).
    `number` breaks ties of equal times. propensity: the chance with which the event was chosen for labelling; where the rollout has
    requests, one that is there says that a label was asked for.
    """

    position: int
    key: bytes
    time: int
    number: int
    truths: tuple[float | bool | None, ...]
    propensity: float | None = None


class InvalidOutcome(NamedTuple):
    """An outcome that could not be read."""

    position: int
    reason: str


Entry = Event | Invalid | Outcome | InvalidOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Many entries of one source in one record of the mirror topic; without entries it is a heartbeat. entries: a tuple, or a run of
    events (`columns.EventRun`).

    sent: bus time, when the router wrote it. upto: no later entry of this source will have an arrival time at or before it.
    """

    config: str
    source: str
    sent: int
    upto: int
    entries: Sequence[Entry] = ()


class Answer(NamedTuple):
    """What one lane said of one event. status: "answered" or the reason why it is missing.

    outputs: one for each of the rollout's outputs: a float, a word, a tuple of floats (scores); empty when missing.
    """

    key: bytes
    status: str
    outputs: tuple[float | str | tuple[float, ...], ...] = ()
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFrame:
    """One lane's answers on one mirror frame, in one record of the predictions topic. `mirror`: that frame's position.
    answers: a tuple, or a run of them (`columns.AnswerRun`)."""

    lane: str
    mirror: int
    answers: Sequence[Answer]
    version: str | None = None
