"""A place outside the store where the head of a chain is noted, so that the chain cannot be cut off or written anew unseen."""

from __future__ import annotations

from typing import Protocol


class Anchor(Protocol):
    """Somebody else's file or server. It is told, never asked."""

    def put(self, rollout: str, record: int, head: str) -> None:
        """Notes that the record of this number has this hash. Told again, it may be noted again.

        Raises Unavailable, retriable: whether it was noted is unknown.
        """
