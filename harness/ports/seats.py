"""Which of several challengers may serve people: one seat, and who has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """Who has the seat, empty for nobody, and the head of that challenger's chain when it took it. version: rises with every change."""

    version: int = 0
    holder: str = ""
    head: str = ""


class Seats(Protocol):
    """The seat of one family of challengers."""

    def load(self) -> Seat:
        """The seat as it is; `Seat()` before anybody had it."""

    def save(self, seat: Seat, *, after: Seat) -> None:
        """Replaces it, durable on return. Raises HeadMoved when the stored seat is not `after`: somebody was faster; StoreUnavailable."""
