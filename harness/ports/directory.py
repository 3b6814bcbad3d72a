"""Which rollouts there are: for commands that are given no name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Directory(Protocol):
    """The rollouts that were ever started on a store."""

    def register(self, name: str, entry: bytes) -> None:
        """Notes a rollout with a small JSON of what it is, in place of what was noted before; durable on return."""

    def all(self) -> Mapping[str, bytes]:
        """Every rollout's entry, by name."""
