"""The seat of a family in memory: a double of `ports.seats`, beside those of `doubles`."""

from __future__ import annotations

import threading

from harness.core.errors import HeadMoved
from harness.ports.seats import Seat


class MemorySeats:
    """`ports.seats.Seats` in one value. Thread-safe."""

    def __init__(self) -> None:
        self._seat, self._lock = Seat(), threading.Lock()

    def load(self) -> Seat:
        """The seat as it is."""
        return self._seat

    def save(self, seat: Seat, *, after: Seat) -> None:
        """Replaces it."""
        with self._lock:
            if self._seat != after:
                raise HeadMoved(f"the seat is not that of version {after.version}")
            self._seat = seat
