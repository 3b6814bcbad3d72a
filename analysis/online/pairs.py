"""Two arms while events are rare, exactly: the i-th units of both arms make a pair, and the bounded mixture bets on their difference.

A pair is one unit of the smaller arm and the mean of a block of r units of the other (arms r : 1), both taken in prefix order, so that
the two halves of a pair are of about the same time. Exact at every n, however rare the events and however many looks. It needs the order:
pairs of two shards do not add up.

Source: STATISTICS 6.7 and 6.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.metrics.support import Floats, Ints, Support
from analysis.online.sums import CHALLENGER, INCUMBENT
from analysis.types import InputError


def _nothing() -> list[Floats]:
    return [np.zeros(0), np.zeros(0)]


@dataclass(slots=True)
class Blocks:
    """The pairs of one allocation period.

    share: the challenger's configured share of the units, in (0, 1). waiting: the units of each arm that fill no block yet, and so their
    values in order; done: the means of each arm's whole blocks that have no partner yet.
    """

    share: float
    waiting: list[Floats] = field(default_factory=_nothing)
    done: list[Floats] = field(default_factory=_nothing)

    def __post_init__(self) -> None:
        check_share(self.share)

    @property
    def sizes(self) -> tuple[int, int]:
        """Units of a block of each arm (incumbent, challenger): r and 1, or 1 and r."""
        odds = (1.0 - self.share) / self.share
        return (max(round(odds), 1), 1) if odds >= 1.0 else (1, max(round(1.0 / odds), 1))

    def add(self, values: Floats, arm: Ints) -> Floats:
        """The pairs that units in prefix order complete: challenger minus incumbent of each, shape (pairs,).

        Args:
            values: Of each unit, shape (n,).
            arm: 0 or 1 of each, shape (n,).
        """
        for which, size in zip((INCUMBENT, CHALLENGER), self.sizes, strict=True):
            queue = np.concatenate([self.waiting[which], values[arm == which]])
            whole = len(queue) // size * size
            self.waiting[which] = queue[whole:]
            self.done[which] = np.concatenate([self.done[which], queue[:whole].reshape(-1, size).mean(axis=1)])
        n = min(len(done) for done in self.done)
        found: Floats = self.done[CHALLENGER][:n] - self.done[INCUMBENT][:n]
        self.done = [done[n:] for done in self.done]
        return found

    def arrays(self) -> dict[str, Floats]:
        """The state, by name."""
        names = ("waiting.0", "waiting.1", "done.0", "done.1")
        return dict(zip(names, (*self.waiting, *self.done), strict=True))

    def load(self, arrays: dict[str, Floats]) -> None:
        """Take a state that `arrays` gave."""
        self.waiting, self.done = [arrays["waiting.0"], arrays["waiting.1"]], [arrays["done.0"], arrays["done.1"]]


def check_share(share: float) -> None:
    """Raises InputError where this is no share of the challenger."""
    if not 0.0 < share < 1.0:
        raise InputError(f"the challenger's share of a period must lie in (0, 1), got {share}")


def pair_support(bound: float) -> Support:
    """The grid of the differences of pairs whose values lie in [0, bound]."""
    return Support("numeric", -bound, bound)


def pair_counts(differences: Floats, support: Support) -> Ints:
    """How often each value of the grid was seen, shape (values,), in multiples of 1 / `support.one`; such counts add up.

    Raises:
        InputError: a difference lies outside the grid or is not finite.
    """
    bad = np.flatnonzero(support.faulty(differences))
    if len(bad):
        raise InputError(f"the difference of a pair lies outside [{support.low}, {support.high}]: got {differences[bad[0]]}")
    counts = np.zeros(support.n_values, np.int64)
    _, cell, share = support.spread(differences)
    np.add.at(counts, cell, share)
    return counts
