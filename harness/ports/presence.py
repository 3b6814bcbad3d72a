"""Which roles of a rollout are at work: what each said last, and how long ago. For people and health checks; nothing is decided by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

State = Literal["steps", "waits", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a role said last. state: steps, waits (for a server that is away, named in `why`) or stopped. age_s: how long ago, by the
    clock of the store alone, so that the clocks of machines need not agree."""

    state: State
    why: str = ""
    age_s: float


class Presence(Protocol):
    """The last word of each role of one rollout."""

    def note(self, role: str, state: State, why: str = "") -> None:
        """Replaces the role's last word. Raises StoreUnavailable (retriable) within about a second, or StoreFull."""

    def all(self) -> Mapping[str, Seen]:
        """The last word of every role that spoke within the last day."""
