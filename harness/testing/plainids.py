"""Plain ids in memory: passes the same contract as the store, for tests of the roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.ports.plainids import PlainId


class MemoryPlainIds:
    """`ports.plainids.PlainIds` in a dictionary. `kept` is what it holds, by key."""

    def __init__(self) -> None:
        self.kept: dict[bytes, PlainId] = {}

    def keep(self, ids: Sequence[PlainId]) -> None:
        """All of them."""
        self.kept |= {one.key: one for one in ids}

    def between(self, start: int, stop: int) -> Mapping[bytes, str]:
        """Exactly those."""
        return {key: one.id for key, one in self.kept.items() if start <= one.ordinal < stop}

    def forget(self, unit: int, *, before: int) -> int:
        """Takes out a unit's."""
        gone = [key for key, one in self.kept.items() if one.unit == unit and one.ordinal < before]
        for key in gone:
            del self.kept[key]
        return len(gone)
