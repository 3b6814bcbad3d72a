"""Time as a port: the machine's clocks in production, moved by hand in a replay and in tests."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time, which somebody may set, and steady time, which nobody can: when something was, and how long ago."""

    def now(self) -> int:
        """The time now, microseconds since 1970."""

    def steady(self) -> int:
        """Microseconds since some moment; never backwards, and in no jumps."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        """The time now."""
        return time.time_ns() // 1_000

    def steady(self) -> int:
        """Microseconds since some moment."""
        return time.monotonic_ns() // 1_000


class ManualClock:
    """A clock that stands until it is moved; never backwards."""

    def __init__(self, now: int = 0) -> None:
        self._now = now

    def now(self) -> int:
        """The time it was last moved to."""
        return self._now

    def steady(self) -> int:
        """The same: nobody sets this clock."""
        return self._now

    def move_to(self, now: int) -> None:
        """Moves on to `now`; a time already passed changes nothing."""
        self._now = max(self._now, now)
