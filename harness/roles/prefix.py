"""What the analyst has read of the pairs and not folded yet, in the order of arrival, and where the rows of a stage begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import Overrun
from harness.ports.pairlog import PairLog


@dataclass(slots=True)
class Prefix:
    """Rows read but not folded yet, by arrival; how far each shard was read; and the last look folded (-1: none).

    lag: microseconds by which rows count later than they arrived. floor: rows that arrived at or before it are of an earlier stage; -1:
    there is none. start: shard -> no row of this stage has a smaller ordinal.
    """

    lag: int
    floor: int = -1
    look: int = -1
    read_to: dict[int, int] = field(default_factory=dict)
    start: dict[int, int] = field(default_factory=dict)
    arrived: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    shard: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    ordinal: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @classmethod
    def of_stage(cls, lag: int, since: int, start: Mapping[int, int]) -> Prefix:
        """Of a stage whose rows arrived after `since` (record time, microseconds; -1: from the first row on), with nothing read yet."""
        return cls(lag=lag, floor=since, look=since + lag if since >= 0 else -1, read_to=dict(start), start=dict(start))

    def add(self, shard: int, start: int, arrived: NDArray[np.int64]) -> None:
        """Rows of a shard from ordinal `start` on; those at or before the last look were folded before."""
        ordinals = np.arange(start, start + len(arrived))
        if start == self.start.get(shard, 0):  # none of this stage was seen before these
            mine = np.flatnonzero(arrived > self.floor)
            self.start[shard] = start + (int(mine[0]) if len(mine) else len(arrived))
        new = arrived > self.look - self.lag if self.look >= 0 else np.ones(len(arrived), bool)
        self.arrived = np.concatenate([self.arrived, arrived[new]])
        self.shard = np.concatenate([self.shard, np.full(int(new.sum()), shard)])
        self.ordinal = np.concatenate([self.ordinal, ordinals[new]])

    def skip(self, shard: int, ordinal: int) -> None:
        """The rows of a shard before `ordinal` have expired, and no row of this stage was read before."""
        self.read_to[shard] = self.start[shard] = ordinal

    def needed(self) -> dict[int, int]:
        """Shard -> its first row that is not folded: those before it may expire."""
        return {shard: int(self.ordinal[self.shard == shard].min(initial=read_to)) for shard, read_to in self.read_to.items()}

    def take(self, upto: int) -> list[tuple[int, NDArray[np.int64]]]:
        """(shard, ordinals) of the rows that arrived at or before `upto`, which leave the prefix's buffer."""
        ready = self.arrived <= upto
        taken = [(int(s), np.sort(self.ordinal[ready & (self.shard == s)])) for s in np.unique(self.shard[ready])]
        self.arrived, self.shard, self.ordinal = self.arrived[~ready], self.shard[~ready], self.ordinal[~ready]
        return taken


def first_stored(log: PairLog, start: int, stop: int) -> int:
    """The first ordinal from `start` on whose row has not expired; `stop` when none before it is left. Older rows expire first."""
    middle = start
    while start < stop:
        try:
            log.rows(middle, middle + 1)
        except Overrun:
            start = middle + 1
        else:
            stop = middle
        middle = (start + stop) // 2
    return start
