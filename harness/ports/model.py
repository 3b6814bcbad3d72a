"""A model being called. Adapters: a Python function in a killable child, recorded answers, servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol


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


class Reply(NamedTuple):
    """A model's raw answer, or the reason why there is none.

    status: answered, timeout, error, bad_output, no_answer. `answer` is the JSON-like answer that output pointers read.
    """

    status: str
    answer: Any = None
    latency_ms: float | None = None
    version: str | None = None


class ModelPort(Protocol):
    """One model behind one lane."""

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """One reply a call, in order. Never raises for what a model does: hanging, dying, wrong counts and shapes are replies.

        Returns within about `timeout_s` whatever the model does.
        """

    def close(self) -> None:
        """Stops what was started."""
