"""A model being called. Adapters: a Python function in a killable child, recorded answers, servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One event to score: its plain id (idempotency key), its data, and the whole event (for answers that stand in it)."""

    event_id: str
    event: dict[str, Any]

    @property
    def data(self) -> Any:
        """The event's `data`: what a model is given."""
        return self.event.get("data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
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
