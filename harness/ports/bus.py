"""The bus: durable logs in partitions, read by position.

Promises every adapter keeps:

- A position is an integer that rises along one partition; positions need not be dense.
- `append` is durable on return and keeps its order; after a failure a *suffix* of what was sent may be missing, never a middle.
  Appending again after a failure may repeat records: readers know them by what is inside.
- Readers are independent; reading never removes. Positions are handed in by the caller; `commit` is a note for trimming and for
  displays of lag, never a source of truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

BEFORE_ALL = -1


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record: where it stands, when the bus took it (microseconds since 1970), and its bytes."""

    partition: Partition
    position: int
    time: int
    value: bytes


class Reader(Protocol):
    """Reads some partitions forward from given positions. Not for use by several threads."""

    def read(self, *, limit: int, wait_s: float) -> Sequence[Record]:
        """Up to `limit` further records, those of one partition in order; waits at most `wait_s` for the first.

        Raises Overrun when records that were not read yet are gone; BusUnavailable, retriable.
        """

    def seek(self, partition: Partition, after: int) -> None:
        """Reads on after this position (BEFORE_ALL: from the first record)."""

    def close(self) -> None:
        """Lets go of the connection."""


class Bus(Protocol):
    """Topics with partitions."""

    def ensure(self, topic: str, partitions: int | None = None, *, keep_s: float = 0.0) -> int:
        """Creates the topic if it is not there (`partitions` None: with one) and returns how many partitions it has.

        keep_s: for how long a reader may need its records. Raises UsageError when it exists with another number than a given one, or
        when a topic of ours (with a number) loses records sooner; for a source that is a warning.
        """

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        """Appends in order; durable on return.

        Raises BusUnavailable (retriable), StoreFull, or TooLarge when a value is larger than the topic takes.
        """

    def reader(self, after: Mapping[Partition, int]) -> Reader:
        """A reader of these partitions, each after its position."""

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The position of the last record of each, BEFORE_ALL when it has none."""

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Notes that `group` needs nothing at or before these positions."""

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """What `group` committed, BEFORE_ALL where nothing."""

    def trim(self, partition: Partition, upto: int) -> None:
        """May drop the records at or before this position; a hint, and nothing on a bus with retention of its own."""

    def close(self) -> None:
        """Lets go of all connections."""
