"""The durable state of one shard: open events, pairs, counts, positions.

One object a shard. Everything that one fold changes is written by one `apply`, beside the head it started from: counts, rows and
positions can never part. Written by the joiner alone; the analyst and the pages read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.core.held import Known, Open
from harness.core.pairing import Effects, Head, Snapshot


class PairLog(Protocol):
    """The joins of one shard."""

    def load(self) -> tuple[Head, Mapping[int, Open], Sequence[str]]:
        """The head, the open events by ordinal (also those settled but behind an unsettled one) and the words of the shard, at once."""

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Known]:
        """What is stored of these events: those seen before with their ordinal and row (None while open), and early outcomes.

        Keys of which nothing is known are not in the answer.
        """

    def due(self, before: int, limit: int) -> Sequence[bytes]:
        """Keys of early outcomes that are due to be given up, `before` a record time in microseconds; at most `limit`."""

    def apply(self, effects: Effects, *, after: Head) -> None:
        """All effects and their new head, durable on return, or nothing.

        Raises HeadMoved when the stored head is not `after`; StoreUnavailable (retriable: whether it happened is unknown, so
        load again); StoreFull when it was refused whole.
        """

    def snapshot(self) -> Snapshot:
        """Head and number of open events, read at once."""

    def rows(self, start: int, stop: int) -> bytes:
        """The packed rows of the ordinals start <= ordinal < stop, in order; all below `head.resolved`.

        Raises Overrun when the first of them have expired.
        """

    def words(self) -> Sequence[str]:
        """The shard's dictionary: what a coded field of a row means."""

    def forget(self, unit: int) -> int:
        """Leaves nothing of a unit's rows but when they arrived (`RowLayout.forgotten`), and nothing of their ids; returns how many it was.

        Each run of rows is changed with the head, whose version rises by one: a joiner that works on the shard finds HeadMoved and
        loads again. Counts stay. Events of the unit that are in flight are not rows yet. Raises StoreUnavailable (retriable; done again
        it does the rest).
        """
