"""The append-only chain of records of one rollout: what was decided, on which evidence. What a rollout is, is a fold of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

ROOT = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One record of the chain: its canonical JSON, its hash (over `previous` and the body), and the hash before it."""

    hash: str
    previous: str
    body: bytes


class Journal(Protocol):
    """A chain that two writers can never both extend."""

    def append(self, body: bytes, *, after: str) -> Link:
        """Adds a record behind the one whose hash is `after` (ROOT: the first), durable on return.

        Raises HeadMoved when the head of the chain is another.
        """

    def read(self, start: int = 0) -> Sequence[Link]:
        """The chain from its record number `start` on, oldest first; empty when it has no more than that."""
