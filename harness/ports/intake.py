"""How far each source was read: the router's position beside its counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What the router has done with one source partition.

    position: the last record read (-1: none). arrived: the last arrival time given out, microseconds. read: records that
    are events (or outcomes); unsampled: events.
    """

    position: int = -1
    arrived: int = 0
    read: int = 0
    unsampled: int = 0
    overrun: int = 0


class Intake(Protocol):
    """The router's durable state, one value a source."""

    def load(self, source: str) -> Taken:
        """The state of a source; `Taken()` before the first save."""

    def save(self, source: str, taken: Taken, *, after: Taken) -> None:
        """Replaces the state, durable on return.

        Raises HeadMoved when the stored state is not `after` (another router was faster); StoreUnavailable, retriable; StoreFull.
        """
