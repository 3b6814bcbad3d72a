"""Many events, or many answers, of one frame as columns: what a role handles at once instead of one by one.

A run stands where a frame's tuple of entries or answers may stand, is equal to it, and makes the same objects when it is iterated. The
rules (`pairing`) are written for the objects; `bulk` follows them for whole runs. Columns are little-endian.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain
from struct import pack
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from harness.core.events import ANSWERED, Answer, Event
from harness.core.rollout import MISSING_REASONS
from harness.core.routing import ID_BYTES, KEY_BYTES

STATUSES = (ANSWERED, *MISSING_REASONS)
"""A status is its place here, in one byte; 0 is an answer."""
A_NUMBER, A_LABEL = 0, -1
_NO_WORD = 0xFFFF
FEWEST = 16
"""Fewer of them are handled faster one by one."""
MOST_ITEMS = 0xFFFF  # in one run: what a set or a word is known by has two bytes
_CODES = {status: code for code, status in enumerate(STATUSES)}
Words = tuple[tuple[str, ...], tuple[str | None, ...]]


class Blob(NamedTuple):
    """Many byte strings in one: `ends` is where each ends, as little-endian unsigned 32 bits."""

    content: bytes
    ends: bytes

    @classmethod
    def of(cls, parts: Sequence[bytes]) -> Blob:
        """These, one behind the other."""
        return cls(b"".join(parts), pack(f"<{len(parts)}I", *accumulate(map(len, parts))))

    def parts(self) -> list[bytes]:
        """The strings."""
        content, ends = self.content, np.frombuffer(self.ends, "<u4").tolist()
        return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def texts(self) -> list[str]:
        """The strings as UTF-8."""
        if not self.content.isascii():
            return [part.decode() for part in self.parts()]
        content, ends = self.content.decode(), np.frombuffer(self.ends, "<u4").tolist()
        return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def holds(self, n: int) -> bool:
        """Whether these are n strings, each behind the one before, and nothing else."""
        ends = np.frombuffer(self.ends, "<u4") if len(self.ends) == 4 * n else None
        if ends is None:
            return False
        return (int(ends[-1]) if n else 0) == len(self.content) and bool((ends[1:] >= ends[:-1]).all())


class EventRun(Sequence[Event]):
    """Events of one frame, in the order of their positions.

    keys: 14 bytes each. positions, arrived: int64; units: uint64. sets: the different (segments, decisions) of these events in the order
    in which they first come; set_of: which one each event has, uint16. ids, payloads: UTF-8 and bytes.
    """

    def __init__(
        self, *, keys: bytes, positions: bytes, arrived: bytes, units: bytes, sets: tuple[Words, ...], set_of: bytes, ids: Blob,
        payloads: Blob,
    ) -> None:  # fmt: skip
        self.keys, self.sets, self.ids, self.payloads = keys, sets, ids, payloads
        self.positions: NDArray[np.int64] = np.frombuffer(positions, "<i8")
        self.arrived: NDArray[np.int64] = np.frombuffer(arrived, "<i8")
        self.units: NDArray[np.uint64] = np.frombuffer(units, "<u8")
        self.set_of: NDArray[np.uint16] = np.frombuffer(set_of, "<u2")

    @classmethod
    def of(cls, events: Sequence[Event]) -> EventRun:
        """These events as a run."""
        positions, keys, units, ids, arrived, segments, decisions, payloads = zip(*events, strict=True)
        n, words = len(keys), list(zip(segments, decisions, strict=True))
        sets = {each: code for code, each in enumerate(dict.fromkeys(words))}
        return cls(
            keys=b"".join(keys), positions=pack(f"<{n}q", *positions), arrived=pack(f"<{n}q", *arrived), units=pack(f"<{n}Q", *units),
            sets=tuple(sets), set_of=pack(f"<{n}H", *map(sets.__getitem__, words)), ids=Blob.of(list(map(str.encode, ids))),
            payloads=Blob.of(payloads),
        )  # fmt: skip

    def whole(self) -> bool:
        """Whether all columns are of one length, and each event has its words."""
        n = len(self)
        lengths = {len(self.positions), len(self.arrived), len(self.units), len(self.set_of)}
        if len(self.keys) != n * KEY_BYTES or lengths != {n} or not 0 < n <= MOST_ITEMS:
            return False
        if not (self.ids.holds(n) and self.payloads.holds(n) and int(self.set_of.max()) < len(self.sets)):
            return False
        return self.ids.content.isascii() or self._ids_are_text()

    def _ids_are_text(self) -> bool:
        try:
            return all(id.decode() is not None for id in self.ids.parts())
        except UnicodeDecodeError:
            return False

    @cached_property
    def id_hashes(self) -> list[bytes]:
        """The 10 bytes of each event's id."""
        keys = np.frombuffer(self.keys, np.uint8).reshape(-1, KEY_BYTES)
        found: list[bytes] = np.ascontiguousarray(keys[:, :ID_BYTES]).view(f"V{ID_BYTES}").ravel().tolist()
        return found

    @cached_property
    def key_list(self) -> list[bytes]:
        """The key of each event."""
        found: list[bytes] = np.frombuffer(self.keys, f"V{KEY_BYTES}").tolist()
        return found

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """The events as objects."""
        segments, decisions = zip(*[self.sets[n] for n in self.set_of.tolist()], strict=True)
        columns = self.positions.tolist(), self.key_list, self.units.tolist(), self.ids.texts(), self.arrived.tolist()
        return tuple(map(Event, *columns, segments, decisions, self.payloads.parts()))

    def bare(self, n: int) -> Event:
        """One event without payload and plain id, as it is stored while it waits."""
        segments, decisions = self.sets[self.set_of[n]]
        key = self.keys[n * KEY_BYTES : (n + 1) * KEY_BYTES]
        return Event(int(self.positions[n]), key, int(self.units[n]), "", int(self.arrived[n]), segments, decisions, b"")

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Event, ...]: ...
    def __getitem__(self, at: int | slice) -> Event | tuple[Event, ...]:
        return self.events[at]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __eq__(self, other: object) -> bool:
        return self.events == tuple(other) if isinstance(other, EventRun | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.events)

    def __repr__(self) -> str:
        return repr(self.events)


class OutputColumn(NamedTuple):
    """One output of many answers.

    kind: A_NUMBER, A_LABEL, or how many scores each has. values: float64, NaN without an answer; for a label uint16 places in `words`,
    65535 without one.
    """

    kind: int
    values: bytes
    words: tuple[str, ...] = ()

    def width(self) -> int:
        """Bytes an answer."""
        return 2 if self.kind == A_LABEL else 8 * max(self.kind, 1)

    def objects(self) -> list[Any]:
        """The value of each."""
        if self.kind == A_LABEL:
            words = (*self.words, None)
            return [words[min(code, len(self.words))] for code in np.frombuffer(self.values, "<u2").tolist()]
        floats = np.frombuffer(self.values, "<f8")
        return list(map(tuple, floats.reshape(-1, self.kind).tolist())) if self.kind else floats.tolist()


class AnswerRun(Sequence[Answer]):
    """Answers of one lane on one frame, in its order.

    keys: 14 bytes each. statuses: one byte each, a place in STATUSES. latencies: milliseconds, float64, NaN where none is known; empty
    when none of them is. outputs: one for each of the rollout's outputs; empty when nothing was answered.
    """

    def __init__(self, *, keys: bytes, statuses: bytes, latencies: bytes, outputs: tuple[OutputColumn, ...]) -> None:
        self.keys, self.statuses, self.latencies, self.outputs = keys, statuses, latencies, outputs

    @classmethod
    def of(cls, answers: Sequence[Answer], kinds: Sequence[int]) -> AnswerRun:
        """Answers as a run; `kinds` are those of the rollout's outputs, and each that was answered has all of them."""
        keys, statuses, outputs, latencies = zip(*answers, strict=True)
        return cls.made(b"".join(keys), statuses, outputs, latencies, kinds)

    @classmethod
    def made(
        cls, keys: bytes, statuses: Sequence[str], outputs: Sequence[Sequence[Any]], latencies: Sequence[float | None], kinds: Sequence[int]
    ) -> AnswerRun:
        """The same from what answers consist of; `outputs` are empty where nothing was answered."""
        n, times = len(statuses), b""
        all_answered = statuses.count(ANSWERED) == n
        codes = bytes(n) if all_answered else bytes(map(_CODES.__getitem__, statuses))
        if latencies.count(None) < n:
            times = np.array(latencies, "<f8").tobytes()  # None becomes NaN
        if not all_answered:
            outputs = [said or (None,) * len(kinds) for said in outputs]
        columns = tuple(_column(values, kind) for values, kind in zip(zip(*outputs, strict=True), kinds, strict=True))
        return cls(keys=keys, statuses=codes, latencies=times, outputs=columns)

    def whole(self) -> bool:
        """Whether all columns are of one length, and hold what they may."""
        n = len(self.statuses)
        if len(self.keys) != n * KEY_BYTES or n == 0 or max(self.statuses) >= len(STATUSES):
            return False
        sized = all(each.kind >= A_LABEL and len(each.values) == n * each.width() for each in self.outputs)
        return sized and len(self.latencies) in (0, 8 * n)

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """The answers as objects."""
        n = len(self.statuses)
        keys: list[bytes] = np.frombuffer(self.keys, f"V{KEY_BYTES}").tolist()
        outputs = list(zip(*[column.objects() for column in self.outputs], strict=True)) if self.outputs else [()] * n
        times = [None if t != t else t for t in np.frombuffer(self.latencies, "<f8").tolist()] if self.latencies else [None] * n
        said = [() if code else values for code, values in zip(self.statuses, outputs, strict=True)]
        return tuple(map(Answer, keys, [STATUSES[code] for code in self.statuses], said, times))

    def __len__(self) -> int:
        return len(self.statuses)

    @overload
    def __getitem__(self, at: int) -> Answer: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Answer, ...]: ...
    def __getitem__(self, at: int | slice) -> Answer | tuple[Answer, ...]:
        return self.answers[at]

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.answers)

    def __eq__(self, other: object) -> bool:
        return self.answers == tuple(other) if isinstance(other, AnswerRun | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.answers)

    def __repr__(self) -> str:
        return repr(self.answers)


def _column(values: Sequence[Any], kind: int) -> OutputColumn:
    if kind == A_NUMBER:
        return OutputColumn(kind, np.array(values, "<f8").tobytes())  # None becomes NaN
    if kind != A_LABEL:
        none = (float("nan"),) * kind
        return OutputColumn(kind, np.fromiter(chain.from_iterable(each or none for each in values), "<f8", kind * len(values)).tobytes())
    words: dict[str, int] = {}
    codes = [_NO_WORD if each is None else words.setdefault(each, len(words)) for each in values]
    return OutputColumn(kind, np.array(codes, "<u2").tobytes(), tuple(words))
