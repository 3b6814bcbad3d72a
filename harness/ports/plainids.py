"""The plain ids that a rollout's `keep.ids` asks for, of one shard, so that reviewers find the events of which its rows speak.

They stand beside the pairs and never in them: no verdict, record, report or archive is made of what is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class PlainId(NamedTuple):
    """The plain id of one event. key: as in its row; unit: the keyed hash of whose event it is; ordinal: its place in the shard."""

    ordinal: int
    key: bytes
    unit: int
    id: str


class PlainIds(Protocol):
    """The plain ids of one shard, for as long as its pairs are kept. Written by the joiner, before the rows that they belong to."""

    def keep(self, ids: Sequence[PlainId]) -> None:
        """All of them, durable on return; done again it changes nothing.

        Raises StoreUnavailable (retriable: some may be written), StoreFull.
        """

    def between(self, start: int, stop: int) -> Mapping[bytes, str]:
        """Key -> plain id of the ordinals start <= ordinal < stop that have one; perhaps of some near them too."""

    def forget(self, unit: int, *, before: int) -> int:
        """Takes out those of a unit whose ordinals are below `before`; returns how many. Raises StoreUnavailable (retriable)."""
