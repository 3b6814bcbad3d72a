"""Core objects to bytes and back, with msgspec: the records of the bus, and what the store keeps.

Every value is an array that starts with the version of its layout. Fields are only ever added, at the end and with a default, so
every release reads what an older one wrote; `tests/golden` holds the bytes of each release. Payloads pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from harness.core.accounting import Counts
from harness.core.errors import RecordError
from harness.core.events import Answer, AnswerFrame, Entry, Event, Frame, Invalid, InvalidOutcome, Outcome
from harness.core.pairing import Head, Open
from harness.ports.intake import Taken
from harness.ports.journal import Link
from harness.ports.ledger import Folded

Status = Literal["answered", "timeout", "error", "bad_output", "shed", "no_answer"]
_Id = Annotated[bytes, Meta(min_length=10, max_length=10)]
_Key = Annotated[bytes, Meta(min_length=14, max_length=14)]
_LINK = re.compile(rb"1[0-9a-f]{128}")
_UNREADABLE = (ValueError, RecursionError, OverflowError)  # those of msgspec and of Unicode are ValueErrors
T = TypeVar("T")


class _Event(Struct, array_like=True, frozen=True, tag=0):
    position: int
    key: _Key
    unit: int
    id: str
    arrived: int
    segments: tuple[str, ...]
    decisions: tuple[str | None, ...]
    payload: bytes


class _Invalid(Struct, array_like=True, frozen=True, tag=1):
    position: int
    reason: str


class _Outcome(Struct, array_like=True, frozen=True, tag=2):
    position: int
    key: _Id
    time: int
    number: int
    truths: tuple[float | bool | None, ...]
    propensity: float | None = None


class _InvalidOutcome(Struct, array_like=True, frozen=True, tag=3):
    position: int
    reason: str


_Entry = _Event | _Invalid | _Outcome | _InvalidOutcome


class _Frame(Struct, array_like=True, frozen=True, tag=1):
    config: str
    source: str
    sent: int
    upto: int
    entries: tuple[_Entry, ...]


class _Answer(Struct, array_like=True, frozen=True):
    key: _Key
    status: Status
    outputs: tuple[float | str | tuple[float, ...], ...]
    latency_ms: float | None


class _AnswerFrame(Struct, array_like=True, frozen=True, tag=1):
    lane: str
    mirror: int
    version: str | None
    answers: tuple[_Answer, ...]


class _Head(Struct, array_like=True, frozen=True, tag=1):
    version: int
    mirror: int
    predictions: int
    ordinal: int
    resolved: int
    seen: dict[str, int]
    upto: dict[str, int]
    watermark: int
    bus_time: int
    late_labels: int
    counts: Counts


class _Open(Struct, array_like=True, frozen=True, tag=1):
    ordinal: int
    event: _Event
    mirror: int
    sent: int
    answers: dict[str, _Answer]
    outcome: _Outcome | None


class _Outcomes(Struct, array_like=True, frozen=True, tag=1):
    outcomes: tuple[_Outcome, ...]


class _Taken(Struct, array_like=True, frozen=True, tag=1):
    position: int
    arrived: int
    read: int
    unsampled: int
    overrun: int


class _Folded(Struct, array_like=True, frozen=True, tag=1):
    version: int
    state: bytes


def _event_out(event: Event) -> _Event:
    return _Event(
        event.position, event.key, event.unit, event.id, event.arrived, event.segments, event.decisions, event.payload
    )  # fmt: skip


def _event_in(wire: _Event) -> Event:
    return Event(
        position=wire.position, key=wire.key, unit=wire.unit, id=wire.id, arrived=wire.arrived, segments=wire.segments,
        decisions=wire.decisions, payload=wire.payload,
    )  # fmt: skip


def _outcome_out(outcome: Outcome) -> _Outcome:
    return _Outcome(outcome.position, outcome.key, outcome.time, outcome.number, outcome.truths, outcome.propensity)


def _outcome_in(wire: _Outcome) -> Outcome:
    return Outcome(
        position=wire.position, key=wire.key, time=wire.time, number=wire.number, truths=wire.truths, propensity=wire.propensity
    )  # fmt: skip


def _entry_out(entry: Entry) -> _Entry:
    match entry:
        case Event():
            return _event_out(entry)
        case Outcome():
            return _outcome_out(entry)
        case Invalid():
            return _Invalid(entry.position, entry.reason)
        case InvalidOutcome():
            return _InvalidOutcome(entry.position, entry.reason)


def _entry_in(wire: _Entry) -> Entry:
    match wire:
        case _Event():
            return _event_in(wire)
        case _Outcome():
            return _outcome_in(wire)
        case _Invalid():
            return Invalid(position=wire.position, reason=wire.reason)
        case _InvalidOutcome():
            return InvalidOutcome(position=wire.position, reason=wire.reason)


def _answer_out(answer: Answer) -> _Answer:
    return _Answer(answer.key, answer.status, answer.outputs, answer.latency_ms)  # type: ignore[arg-type]  # checked when it is read


def _answer_in(wire: _Answer) -> Answer:
    return Answer(key=wire.key, status=wire.status, outputs=wire.outputs, latency_ms=wire.latency_ms)


def _reader(wire: type[T], what: str) -> Callable[[bytes], T]:
    """Decodes one kind of value. Its errors never hold what was read, and so not the words of msgspec, which may."""
    decoder = msgspec.msgpack.Decoder(wire)

    def read(value: bytes) -> T:
        try:
            return decoder.decode(value)
        except _UNREADABLE:
            raise RecordError(f"{len(value)} bytes that are no {what} of a release up to this one") from None

    return read


class MsgpackCodec:
    """`ports.codec.Codec`, and the same for what the Redis adapters store. Equal objects give equal bytes. Thread-safe."""

    def __init__(self) -> None:
        self._encode = msgspec.msgpack.Encoder(order="deterministic").encode
        self._json = msgspec.json.Decoder()
        self._frame, self._answers = _reader(_Frame, "mirror frame"), _reader(_AnswerFrame, "answer frame")
        self._head, self._open = _reader(_Head, "head"), _reader(_Open, "open event")
        self._outcomes, self._taken = _reader(_Outcomes, "list of outcomes"), _reader(_Taken, "state of a source")
        self._folded = _reader(_Folded, "folded statistics")

    # ------------------------------------------------------------------------------------------------------ records of the bus
    def encode_frame(self, frame: Frame) -> bytes:
        """A mirror frame as one record's value."""
        return self._encode(_Frame(frame.config, frame.source, frame.sent, frame.upto, tuple(map(_entry_out, frame.entries))))

    def decode_frame(self, value: bytes) -> Frame:
        """Raises RecordError when it is no mirror frame."""
        wire = self._frame(value)
        return Frame(
            config=wire.config, source=wire.source, sent=wire.sent, upto=wire.upto, entries=tuple(map(_entry_in, wire.entries))
        )  # fmt: skip

    def encode_answers(self, frame: AnswerFrame) -> bytes:
        """An answer frame as one record's value."""
        return self._encode(_AnswerFrame(frame.lane, frame.mirror, frame.version, tuple(map(_answer_out, frame.answers))))

    def decode_answers(self, value: bytes) -> AnswerFrame:
        """Raises RecordError when it is no answer frame."""
        wire = self._answers(value)
        return AnswerFrame(lane=wire.lane, mirror=wire.mirror, version=wire.version, answers=tuple(map(_answer_in, wire.answers)))

    def json(self, value: bytes) -> Any:
        """Strict JSON in UTF-8 to plain values: no NaN, nothing behind the value. Raises RecordError without what was read."""
        try:
            return self._json.decode(value)
        except _UNREADABLE:
            raise RecordError(f"{len(value)} bytes that are no JSON in UTF-8") from None

    # ------------------------------------------------------------------------------------------------- what the store keeps
    def encode_head(self, head: Head) -> bytes:
        """A shard's head."""
        return self._encode(_Head(
            head.version, head.mirror, head.predictions, head.ordinal, head.resolved, dict(head.seen), dict(head.upto), head.watermark,
            head.bus_time, head.late_labels, head.counts,
        ))  # fmt: skip

    def decode_head(self, value: bytes) -> Head:
        """Raises RecordError when it is no head."""
        wire = self._head(value)
        return Head(
            version=wire.version, mirror=wire.mirror, predictions=wire.predictions, ordinal=wire.ordinal, resolved=wire.resolved,
            seen=wire.seen, upto=wire.upto, watermark=wire.watermark, bus_time=wire.bus_time, late_labels=wire.late_labels,
            counts=wire.counts,
        )  # fmt: skip

    def encode_open(self, opened: Open) -> bytes:
        """An open or settled event."""
        answers: Mapping[str, _Answer] = {lane: _answer_out(answer) for lane, answer in opened.answers.items()}
        outcome = None if opened.outcome is None else _outcome_out(opened.outcome)
        return self._encode(_Open(opened.ordinal, _event_out(opened.event), opened.mirror, opened.sent, dict(answers), outcome))

    def decode_open(self, value: bytes) -> Open:
        """Raises RecordError when it is no open event."""
        wire = self._open(value)
        return Open(
            ordinal=wire.ordinal, event=_event_in(wire.event), mirror=wire.mirror, sent=wire.sent,
            answers={lane: _answer_in(answer) for lane, answer in wire.answers.items()},
            outcome=None if wire.outcome is None else _outcome_in(wire.outcome),
        )  # fmt: skip

    def encode_outcomes(self, outcomes: Sequence[Outcome]) -> bytes:
        """Outcomes that wait for their event."""
        return self._encode(_Outcomes(tuple(map(_outcome_out, outcomes))))

    def decode_outcomes(self, value: bytes) -> tuple[Outcome, ...]:
        """Raises RecordError when it is no list of outcomes."""
        return tuple(map(_outcome_in, self._outcomes(value).outcomes))

    def encode_taken(self, taken: Taken) -> bytes:
        """The state of a source."""
        return self._encode(_Taken(taken.position, taken.arrived, taken.read, taken.unsampled, taken.overrun))

    def decode_taken(self, value: bytes) -> Taken:
        """Raises RecordError when it is no state of a source."""
        wire = self._taken(value)
        return Taken(position=wire.position, arrived=wire.arrived, read=wire.read, unsampled=wire.unsampled, overrun=wire.overrun)

    def encode_folded(self, folded: Folded) -> bytes:
        """Folded statistics."""
        return self._encode(_Folded(folded.version, folded.state))

    def decode_folded(self, value: bytes) -> Folded:
        """Raises RecordError when they are no folded statistics."""
        wire = self._folded(value)
        return Folded(version=wire.version, state=wire.state)

    def encode_link(self, link: Link) -> bytes:
        """One record of a journal: "1", the two hashes, the body, so that a script finds the hash without decoding."""
        return b"1" + link.hash.encode() + link.previous.encode() + link.body

    def decode_link(self, value: bytes) -> Link:
        """Raises RecordError when it is no link."""
        if _LINK.match(value) is None:
            raise RecordError(f"{len(value)} bytes that are no link of a journal of a release up to this one")
        return Link(hash=value[1:65].decode(), previous=value[65:129].decode(), body=value[129:])
