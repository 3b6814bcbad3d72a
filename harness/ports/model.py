"""A model being called. Adapters: a Python function in a killable child, recorded answers, servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol, overload

from harness.core.events import ANSWERED


class Call:
    """One event to score: its plain id (idempotency key), and the whole event, for answers that stand in it.

    Made of the event, or of its bytes and what decodes them: then it is decoded when somebody first asks for it.
    """

    __slots__ = ("_decode", "_event", "event_id", "payload")

    def __init__(
        self, *, event_id: str, event: dict[str, Any] | None = None, payload: bytes = b"", decode: Callable[[bytes], Any] = json.loads
    ) -> None:
        self.event_id, self.payload = event_id, payload
        self._event, self._decode = event, decode

    @property
    def event(self) -> dict[str, Any]:
        """The event, decoded. Raises what `decode` raises."""
        if self._event is None:
            self._event = self._decode(self.payload)
        return self._event

    @property
    def data(self) -> Any:
        """The event's `data`: what a model is given."""
        return self.event.get("data")


class Calls(Sequence[Call]):
    """Calls of events that nobody has decoded, made when they are asked for. A model may read `payloads` alone."""

    def __init__(self, ids: Sequence[str], payloads: Sequence[bytes], decode: Callable[[bytes], Any]) -> None:
        self.ids, self.payloads, self._decode = ids, payloads, decode

    @cached_property
    def _made(self) -> list[Call]:
        decode = self._decode
        return [Call(event_id=id, payload=payload, decode=decode) for id, payload in zip(self.ids, self.payloads, strict=True)]

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, at: int) -> Call: ...
    @overload
    def __getitem__(self, at: slice) -> list[Call]: ...
    def __getitem__(self, at: int | slice) -> Call | list[Call]:
        return self._made[at]

    def __iter__(self) -> Iterator[Call]:
        return iter(self._made)


class Reply(NamedTuple):
    """A model's raw answer, or the reason why there is none.

    status: answered, timeout, error, bad_output, no_answer. `answer` is the JSON-like answer that output pointers read.
    """

    status: str
    answer: Any = None
    latency_ms: float | None = None
    version: str | None = None


class AllAnswered(Sequence[Reply]):
    """Replies that are all answered and of which nothing else is known, by their answers."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.answers = answers

    def __len__(self) -> int:
        return len(self.answers)

    @overload
    def __getitem__(self, at: int) -> Reply: ...
    @overload
    def __getitem__(self, at: slice) -> list[Reply]: ...
    def __getitem__(self, at: int | slice) -> Reply | list[Reply]:
        found = self.answers[at]
        return [Reply(ANSWERED, answer) for answer in found] if isinstance(at, slice) else Reply(ANSWERED, found)


class ModelPort(Protocol):
    """One model behind one lane."""

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """One reply a call, in order. Never raises for what a model does: hanging, dying, wrong counts and shapes are replies.

        Returns within about `timeout_s` whatever the model does.
        """

    def close(self) -> None:
        """Stops what was started."""
