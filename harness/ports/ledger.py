"""Folded statistics with their cursor, and the verdict read from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """What the analyst has folded: opaque bytes, and a version that rises with every save."""

    version: int = 0
    state: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The verdict last written, as canonical JSON, and the wall-clock time at which the analyst last looked (microseconds).

    version: rises with every verdict.
    """

    verdict: bytes
    looked: int
    version: int = 1


class Ledger(Protocol):
    """The analyst's durable state of one rollout."""

    def load(self) -> Folded:
        """The statistics last saved; `Folded()` before the first."""

    def save(self, folded: Folded, *, after: Folded) -> None:
        """Replaces them, durable on return. Raises HeadMoved when the stored version is not that of `after`."""

    def publish(self, published: Published, *, after: Published | None) -> None:
        """Replaces the verdict that people and machines read, durable on return.

        Raises HeadMoved when the stored version is not that of `after` (None: no verdict yet): another analyst has taken over, and what
        this one knows is old.
        """

    def published(self) -> Published | None:
        """The verdict last written; None before the first."""
