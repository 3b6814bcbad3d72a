"""The rollouts of a store: which there are, and how each was created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Directory(Protocol):
    """Names to entries (small JSON: config, folder, shards)."""

    def register(self, name: str, entry: bytes) -> bytes:
        """Writes the entry if the name is new, durable on return; returns the entry that stands there now."""

    def replace(self, name: str, entry: bytes) -> None:
        """Writes the entry of a name that is there, durable on return. The journal says which is right: whoever finds another mends it."""

    def all(self) -> Mapping[str, bytes]:
        """Every rollout with its entry."""
