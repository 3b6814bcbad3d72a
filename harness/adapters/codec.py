"""Core objects to bytes and back, with msgspec: the records of the bus, and what the store keeps.

Every value is an array that starts with the version of its layout. Fields are only ever added, at the end and with a default, so
every release reads what an older one wrote; `tests/golden` holds the bytes of each release. Payloads pass as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from harness.core.accounting import Counts
from harness.core.columns import AnswerRun, Blob, EventRun, OutputColumn, Words
from harness.core.errors import RecordError
from harness.core.events import ANSWERED, Answer, AnswerFrame, Entry, Event, Frame, Invalid, InvalidOutcome, Outcome
from harness.core.held import Open
from harness.core.pairing import Head
from harness.core.rollout import MISSING_REASONS
from harness.core.routing import ID_BYTES, KEY_BYTES
from harness.ports.intake import Taken
from harness.ports.journal import Link
from harness.ports.ledger import Folded
from harness.ports.observations import Observed
from harness.ports.seats import Seat

_STATUSES = frozenset({ANSWERED, *MISSING_REASONS})
_KEY_SIZES = frozenset({KEY_BYTES})
_LINK = re.compile(rb"1[0-9a-f]{128}")
_UNREADABLE = (ValueError, RecursionError, OverflowError)  # those of msgspec and of Unicode are ValueErrors


class _Frame(Struct, array_like=True, frozen=True, tag=1):
    config: str
    source: str
    sent: int
    upto: int
    events: tuple[Event, ...]
    invalid: tuple[Invalid, ...]
    outcomes: tuple[Outcome, ...]
    invalid_outcomes: tuple[InvalidOutcome, ...]


class _RunFrame(Struct, array_like=True, frozen=True, tag=2):
    """A mirror frame of nothing but events, as columns."""

    config: str
    source: str
    sent: int
    upto: int
    keys: bytes
    positions: bytes
    arrived: bytes
    units: bytes
    sets: tuple[Words, ...]
    set_of: bytes
    ids: Blob
    payloads: Blob


class _RunAnswers(Struct, array_like=True, frozen=True, tag=2):
    """An answer frame as columns."""

    lane: str
    mirror: int
    version: str | None
    keys: bytes
    statuses: bytes
    latencies: bytes
    outputs: tuple[OutputColumn, ...]


class _AnswerFrame(Struct, array_like=True, frozen=True, tag=1):
    lane: str
    mirror: int
    version: str | None
    answers: tuple[Answer, ...]


class _AnswerLane(Struct, array_like=True, frozen=True, tag=1):
    lane: str


class _RunLane(Struct, array_like=True, frozen=True, tag=2):
    lane: str


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
    event: Event
    mirror: int
    sent: int
    answers: dict[str, Answer]
    outcome: Outcome | None


class _Outcomes(Struct, array_like=True, frozen=True, tag=1):
    outcomes: tuple[Outcome, ...]


class _Taken(Struct, array_like=True, frozen=True, tag=1):
    position: int
    arrived: int
    read: int
    unsampled: int
    overrun: int


class _Seat(Struct, array_like=True, frozen=True, tag=1):
    version: int
    holder: str
    head: str


class _Observed(Struct, array_like=True, frozen=True, tag=1):
    position: int
    arrived: int
    read: int
    invalid: int
    overrun: int


class _Folded(Struct, array_like=True, frozen=True, tag=1):
    version: int
    state: bytes


def _check_keys(events: Sequence[Event | Answer], outcomes: Sequence[Outcome]) -> None:
    """Raises RecordError for keys that are no keys."""
    if not _KEY_SIZES.issuperset([len(event.key) for event in events]) or any(len(outcome.key) != ID_BYTES for outcome in outcomes):
        raise RecordError("a key of another length than those of this release")


def _check_answers(answers: Sequence[Answer]) -> None:
    _check_keys(answers, ())
    if not _STATUSES.issuperset([answer.status for answer in answers]):
        raise RecordError("an answer with a status that this release does not know")


def _event_run(wire: _RunFrame) -> EventRun:
    """Raises RecordError for columns that do not belong together."""
    try:
        run = EventRun(
            keys=wire.keys, positions=wire.positions, arrived=wire.arrived, units=wire.units, sets=wire.sets, set_of=wire.set_of,
            ids=wire.ids, payloads=wire.payloads,
        )  # fmt: skip
        whole = run.whole()
    except ValueError:  # a column of half a number
        whole = False
    if not whole:
        raise RecordError("columns of events that do not belong together")
    return run


def _answer_run(wire: _RunAnswers) -> AnswerRun:
    """Raises RecordError for columns that do not belong together, and statuses that this release does not know."""
    run = AnswerRun(keys=wire.keys, statuses=wire.statuses, latencies=wire.latencies, outputs=wire.outputs)
    if not run.whole():
        raise RecordError("columns of answers that do not belong together, or a status that this release does not know")
    return run


def _in_order(kinds: Sequence[Sequence[Entry]]) -> tuple[Entry, ...]:
    """The entries of a frame in the order of their source; mostly they are of one kind."""
    some = [kind for kind in kinds if kind]
    if len(some) == 1:
        return tuple(some[0])
    return tuple(sorted((entry for kind in some for entry in kind), key=attrgetter("position")))


def _reader(wire: Any, what: str) -> Callable[[bytes], Any]:
    """Decodes one kind of value. Its errors never hold what was read, and so not the words of msgspec, which may."""
    decoder = msgspec.msgpack.Decoder(wire)

    def read(value: bytes) -> Any:
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
        self._frame: Callable[[bytes], _Frame | _RunFrame] = _reader(_Frame | _RunFrame, "mirror frame")
        self._answers: Callable[[bytes], _AnswerFrame | _RunAnswers] = _reader(_AnswerFrame | _RunAnswers, "answer frame")
        self._lane: Callable[[bytes], _AnswerLane | _RunLane] = _reader(_AnswerLane | _RunLane, "answer frame")
        self._head, self._open = _reader(_Head, "head"), _reader(_Open, "open event")
        self._outcomes, self._taken = _reader(_Outcomes, "list of outcomes"), _reader(_Taken, "state of a source")
        self._folded = _reader(_Folded, "folded statistics")
        self._seat = _reader(_Seat, "seat")
        self._observed = _reader(_Observed, "state of a source of observations")

    # ------------------------------------------------------------------------------------------------------ records of the bus
    def encode_frame(self, frame: Frame) -> bytes:
        """A mirror frame as one record's value."""
        run = frame.entries
        if isinstance(run, EventRun):
            return self._encode(_RunFrame(
                frame.config, frame.source, frame.sent, frame.upto, run.keys, run.positions.tobytes(), run.arrived.tobytes(),
                run.units.tobytes(), run.sets, run.set_of.tobytes(), run.ids, run.payloads,
            ))  # fmt: skip
        kinds: dict[type[Entry], list[Any]] = {Event: [], Invalid: [], Outcome: [], InvalidOutcome: []}
        for entry in frame.entries:
            kinds[type(entry)].append(entry)
        return self._encode(_Frame(frame.config, frame.source, frame.sent, frame.upto, *map(tuple, kinds.values())))

    def decode_frame(self, value: bytes) -> Frame:
        """Raises RecordError when it is no mirror frame."""
        wire = self._frame(value)
        if isinstance(wire, _RunFrame):
            return Frame(config=wire.config, source=wire.source, sent=wire.sent, upto=wire.upto, entries=_event_run(wire))
        _check_keys(wire.events, wire.outcomes)
        entries = _in_order((wire.events, wire.invalid, wire.outcomes, wire.invalid_outcomes))
        return Frame(config=wire.config, source=wire.source, sent=wire.sent, upto=wire.upto, entries=entries)

    def encode_answers(self, frame: AnswerFrame) -> bytes:
        """An answer frame as one record's value."""
        run = frame.answers
        if isinstance(run, AnswerRun):
            return self._encode(_RunAnswers(frame.lane, frame.mirror, frame.version, run.keys, run.statuses, run.latencies, run.outputs))
        return self._encode(_AnswerFrame(frame.lane, frame.mirror, frame.version, tuple(frame.answers)))

    def decode_answers(self, value: bytes) -> AnswerFrame:
        """Raises RecordError when it is no answer frame."""
        wire = self._answers(value)
        if isinstance(wire, _RunAnswers):
            return AnswerFrame(lane=wire.lane, mirror=wire.mirror, answers=_answer_run(wire), version=wire.version)
        _check_answers(wire.answers)
        return AnswerFrame(lane=wire.lane, mirror=wire.mirror, version=wire.version, answers=wire.answers)

    def lane_of(self, value: bytes) -> str:
        """Raises RecordError when it is no answer frame."""
        return self._lane(value).lane

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
        return self._encode(_Open(opened.ordinal, opened.event, opened.mirror, opened.sent, dict(opened.answers), opened.outcome))

    def decode_open(self, value: bytes) -> Open:
        """Raises RecordError when it is no open event."""
        wire = self._open(value)
        _check_keys((wire.event,), () if wire.outcome is None else (wire.outcome,))
        _check_answers(tuple(wire.answers.values()))
        return Open(
            ordinal=wire.ordinal, event=wire.event, mirror=wire.mirror, sent=wire.sent, answers=wire.answers, outcome=wire.outcome
        )  # fmt: skip

    def encode_outcomes(self, outcomes: Sequence[Outcome]) -> bytes:
        """Outcomes that wait for their event."""
        return self._encode(_Outcomes(tuple(outcomes)))

    def decode_outcomes(self, value: bytes) -> tuple[Outcome, ...]:
        """Raises RecordError when it is no list of outcomes."""
        found: tuple[Outcome, ...] = self._outcomes(value).outcomes
        _check_keys((), found)
        return found

    def encode_taken(self, taken: Taken) -> bytes:
        """The state of a source."""
        return self._encode(_Taken(taken.position, taken.arrived, taken.read, taken.unsampled, taken.overrun))

    def decode_taken(self, value: bytes) -> Taken:
        """Raises RecordError when it is no state of a source."""
        wire = self._taken(value)
        return Taken(position=wire.position, arrived=wire.arrived, read=wire.read, unsampled=wire.unsampled, overrun=wire.overrun)

    def encode_observed(self, observed: Observed) -> bytes:
        """The state of a source of observations."""
        return self._encode(_Observed(observed.position, observed.arrived, observed.read, observed.invalid, observed.overrun))

    def decode_observed(self, value: bytes) -> Observed:
        """Raises RecordError when it is no state of a source of observations."""
        wire = self._observed(value)
        return Observed(position=wire.position, arrived=wire.arrived, read=wire.read, invalid=wire.invalid, overrun=wire.overrun)

    def encode_seat(self, seat: Seat) -> bytes:
        """Which of several challengers may serve."""
        return self._encode(_Seat(seat.version, seat.holder, seat.head))

    def decode_seat(self, value: bytes) -> Seat:
        """Raises RecordError when it is no seat."""
        wire = self._seat(value)
        return Seat(version=wire.version, holder=wire.holder, head=wire.head)

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
