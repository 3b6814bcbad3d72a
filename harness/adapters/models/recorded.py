"""Models whose answers were recorded: in a file, one line an event, or in the event itself. Nothing is called.

A line is `{"event_id": ..., "output": ..., "latency_ms": ..., "error": ..., "model_version": ...}`. The first readable line of an
event counts; NaN and numbers beyond a float are read as they stand, so that the output is bad and not lost.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from harness.core.errors import UsageError
from harness.core.events import ANSWERED
from harness.core.outputs import MISSING, finite, pointer, tokens_of
from harness.core.rollout import Rollout
from harness.ports.model import AllAnswered, Call, Calls, Reply

NO_ANSWER = Reply(status="no_answer")


def _long_int(digits: str) -> int | float:
    """Integers of more digits than Python converts are infinite as floats too."""
    return int(digits) if len(digits) < 1000 else float(digits)


def _decoded(line: bytes) -> dict[str, Any] | None:
    """A line's object, if it is one with an event id that is text."""
    try:
        text = line.decode()
        try:
            record = json.loads(text)
        except json.JSONDecodeError:
            return None
        except ValueError:
            record = json.loads(text, parse_int=_long_int)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("event_id"), str) else None


def _content(path: Path) -> bytes:
    """The file's bytes, unpacked. Raises UsageError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: recorded predictions not found") from None
    except OSError as error:
        raise UsageError(f"{path}: recorded predictions cannot be read: {error.strerror}") from error
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{path}: recorded predictions cannot be unpacked: {error}") from error
    return content.removeprefix(b"\xef\xbb\xbf")


def check_recorded(*rollouts: Rollout) -> None:
    """Raises UsageError naming every `recorded:` file of these rollouts that is not there: found before anything is started."""
    absent = [
        f"models.{rollout.spoken(lane)}.uri: {path}: recorded predictions not found; relative paths start at {rollout.folder.resolve()}"
        for rollout in rollouts
        for lane, model in rollout.models.items()
        if model.uri.startswith("recorded:") and not model.uri.startswith("recorded:event:")
        for path in (rollout.folder / model.uri.removeprefix("recorded:"),)
        if not path.is_file()
    ]
    if absent:
        raise UsageError("\n".join(dict.fromkeys(absent)))


class RecordedFile:
    """Recorded answers of one model. Holds the file's bytes and where each event's line starts, and decodes a line when it is asked for."""

    def __init__(self, path: Path) -> None:
        """Reads the file (.jsonl, also gzipped). Raises UsageError, naming it, if that cannot be done."""
        self._content = _content(path)
        self._starts: dict[str, int] = {}
        self.n_unreadable = 0
        start = 0
        while start < len(self._content):
            line = self._line(start)
            record = _decoded(line)
            if record is not None:
                self._starts.setdefault(record["event_id"], start)
            elif line.strip():
                self.n_unreadable += 1
            start += len(line) + 1

    def __len__(self) -> int:
        """Events that have a line."""
        return len(self._starts)

    def _line(self, start: int) -> bytes:
        end = self._content.find(b"\n", start)
        return self._content[start:] if end < 0 else self._content[start:end]

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """What was recorded: `error` if the line says so, `timeout` if it took longer than that, `no_answer` without a line."""
        return [self._reply(call.event_id, timeout_s) for call in calls]

    def _reply(self, event_id: str, timeout_s: float) -> Reply:
        start = self._starts.get(event_id)
        record = None if start is None else _decoded(self._line(start))
        if record is None:
            return NO_ANSWER
        latency_ms = finite(record.get("latency_ms"))
        if latency_ms is not None and latency_ms < 0:
            latency_ms = None
        version = record.get("model_version")
        version = version if isinstance(version, str) and version else None
        if record.get("error"):
            return Reply(status="error", latency_ms=latency_ms, version=version)
        if latency_ms is not None and latency_ms > round(timeout_s * 1000, 6):
            return Reply(status="timeout", latency_ms=latency_ms, version=version)
        return Reply(status="answered", answer=record.get("output"), latency_ms=latency_ms, version=version)

    def close(self) -> None:
        """Nothing was started."""


def _only(tokens: Sequence[str]) -> Callable[[bytes], Any]:
    """Decodes what stands at these keys of a JSON document and nothing else, MISSING without it: most of an event is skipped.

    The router has read the same bytes in full, so they are JSON. Raises msgspec.ValidationError where a key leads into no object.
    """
    kind: Any = Any
    for token in reversed(tokens):
        part = msgspec.defstruct("Part", [("found", kind, msgspec.UNSET)], rename={"found": token})
        kind = part | msgspec.UnsetType
    decoder = msgspec.json.Decoder(part)

    decode, absent = decoder.decode, msgspec.UNSET

    def read(payload: bytes) -> Any:
        found: Any = decode(payload)
        for _ in tokens:
            found = found.found
            if found is absent:
                return MISSING
        return found

    return read


class RecordedInEvent:
    """An answer that stands in the event's data, because production has already computed it."""

    def __init__(self, path: str) -> None:
        """`path` is a JSON pointer into the data. Raises UsageError if it cannot be one."""
        if path and not path.startswith("/"):
            raise UsageError(f"recorded:event:{path}: expected a JSON pointer, as in recorded:event:/score")
        self._path = path
        tokens = tokens_of(path)
        self._narrow = None if tokens is None else _only(("data", *tokens))

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """What stands in each event; `no_answer` if nothing does, or null. How long it took is not known."""
        if isinstance(calls, Calls) and self._narrow is not None:
            with suppress(msgspec.ValidationError):  # something on the way is no object
                found = list(map(self._narrow, calls.payloads))
                if None not in found and MISSING not in found:
                    return AllAnswered(found)
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply:
        if call.payload and self._narrow is not None:
            try:
                found = self._narrow(call.payload)
            except msgspec.ValidationError:  # something on the way is no object
                found = pointer(call.data, self._path)
        else:
            found = pointer(call.data, self._path)
        return NO_ANSWER if found is MISSING or found is None else Reply(ANSWERED, found)

    def close(self) -> None:
        """Nothing was started."""
