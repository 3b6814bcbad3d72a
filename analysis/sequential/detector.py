"""Change detection: an e-detector beside each fail, for a model that gets worse after a good start.

A fail speaks of the average so far; after a long good time that average stays good while the model does harm. An e-detector forgets.

Per bet M_t = L_t (M_{t-1} + 1) (Shiryaev-Roberts), M = sum of w_j M_j over the bets of the fail, read after each 32nd contribution.
While the fail's null holds for every contribution, M_t + N - t is a supermartingale that starts at N, so that
P(M ever reaches A within N contributions) <= N / A. It needs the order of the prefix: detectors of two shards do not add up.

Source: Shin, Ramdas & Rinaldo (2024), e-detectors; STATISTICS 6.10.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from analysis.metrics.support import Floats, Ints
from analysis.sequential.mixture import Process

BLOCK = 32
_CHUNK = 1_024


@dataclass(slots=True)
class Detectors:
    """The detectors of one gate and what it is split by: one for each slot.

    processes: those of the fail, of equal weight. repeats: whether values are few (0, 1, -1) and have no weights, so that equal blocks are
    computed once. filled: whether contributions may be unknown: each is then (least, greatest, weight, whether it may be none at all) and
    every process takes the end that is worst for it, so that a level lies under that of every completion; else it is (value, weight).
    levels: M of each bet after the last whole block, shape (slots, bets). waiting: the contributions since, shape (slots, 32, 2 or 4).
    n: contributions taken. stopped: whether it raised its alarm; it takes nothing more then.
    """

    processes: tuple[Process, ...]
    repeats: bool
    filled: bool = False
    levels: Floats = field(init=False)
    waiting: Floats = field(init=False)
    n: Ints = field(init=False)
    stopped: Ints = field(init=False)
    _shares: Floats = field(init=False)

    def __post_init__(self) -> None:
        self._shares = np.concatenate([np.exp(p.bets.log_weights) for p in self.processes]) / len(self.processes)
        self.levels = np.zeros((0, len(self._shares)))
        self.waiting = np.zeros((0, BLOCK, 4 if self.filled else 2))
        self.n, self.stopped = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def arrays(self) -> dict[str, Ints]:
        """The state, by name."""
        return {"levels": self.levels, "waiting": self.waiting, "n": self.n, "stopped": self.stopped}  # type: ignore[dict-item]

    def load(self, arrays: dict[str, Ints]) -> None:
        """Take a state that `arrays` gave."""
        for name, array in arrays.items():
            setattr(self, name, array)

    def grow(self, n_slots: int) -> None:
        """Make room for slots up to `n_slots`."""
        more = n_slots - len(self.n)
        if more > 0:
            self.levels = np.concatenate([self.levels, np.zeros((more, len(self._shares)))])
            self.waiting = np.concatenate([self.waiting, np.zeros((more, *self.waiting.shape[1:]))])
            self.n = np.concatenate([self.n, np.zeros(more, np.int64)])
            self.stopped = np.concatenate([self.stopped, np.zeros(more, np.int64)])

    def add(self, slots: Ints, contributions: Floats, enough: Floats) -> dict[int, int]:
        """Take contributions in prefix order; how they are cut into calls moves no bit.

        Args:
            slots: The slot of each, shape (n,).
            contributions: (value, weight) of each, shape (n, 2), or four numbers where they may be unknown.
            enough: A of each slot, shape (slots,); infinite where nothing is watched.

        Returns:
            For each slot that raised its alarm in this call the index of the contribution that did.
        """
        order = np.argsort(slots, kind="stable")
        ends = np.searchsorted(slots[order], np.arange(len(self.n) + 1))
        found: dict[int, int] = {}
        for slot in np.flatnonzero((np.diff(ends) > 0) & np.isfinite(enough) & (self.stopped == 0)).tolist():
            mine = order[ends[slot] : ends[slot + 1]]
            at = self._advance(slot, contributions[mine], float(enough[slot]))
            if at is not None:
                found[slot] = int(mine[at])
        return found

    def _advance(self, slot: int, new: Floats, enough: float) -> int | None:
        """The index in `new` of the contribution at whose block's end M reached `enough`; None if it did not."""
        n_waiting = int(self.n[slot]) % BLOCK
        data = np.concatenate([self.waiting[slot, :n_waiting], new])
        n_blocks = len(data) // BLOCK
        blocks = data[: n_blocks * BLOCK].reshape(n_blocks, BLOCK, data.shape[1])
        self.waiting[slot] = 0.0
        for start in range(0, n_blocks, _CHUNK):
            path = self._path(self.levels[slot], blocks[start : start + _CHUNK])
            reached = (path * self._shares).sum(axis=1) >= enough
            last = int(np.argmax(reached)) if reached.any() else len(path) - 1
            self.levels[slot] = path[last]
            if reached.any():
                at = (start + last + 1) * BLOCK - n_waiting
                self.n[slot] += at
                self.stopped[slot] = 1
                return at - 1
        rest = data[n_blocks * BLOCK :]
        self.waiting[slot, : len(rest)] = rest
        self.n[slot] += len(new)
        return None

    def _path(self, levels: Floats, blocks: Floats) -> Floats:
        """M of each bet after each block, shape (blocks, bets). A block maps M to a M + g, whatever M is."""
        if self.repeats:
            words = np.ascontiguousarray(blocks[:, :, 0].astype(np.int8)).view(f"V{BLOCK}").ravel()
            _, first, of_block = np.unique(words, return_index=True, return_inverse=True)
        else:
            first = of_block = np.arange(len(blocks))
        growth, gain = np.ones((len(first), len(self._shares))), np.zeros((len(first), len(self._shares)))
        with np.errstate(over="ignore"):
            for k in range(BLOCK):
                factors = np.concatenate([self._factors(p, blocks[first, k]) for p in self.processes], axis=1)
                gain = (gain + self._counts(blocks[first, k])) * factors
                growth *= factors
            path = np.empty((len(blocks), len(levels)))
            for k, one in enumerate(of_block.reshape(-1).tolist()):
                levels = path[k] = growth[one] * levels + gain[one]
        return path

    def _counts(self, contributions: Floats) -> Floats | float:
        """1 for each contribution, 0 for one that may be none: M only shrinks there, as it stays what it is if there is none."""
        return 1.0 - contributions[:, 3:] if self.filled else 1.0

    def _factors(self, process: Process, contributions: Floats) -> Floats:
        """The factor of each bet for each contribution, shape (n, bets)."""
        if not self.filled:
            return process.factors(*contributions.T)
        least, greatest, weights, optional = contributions.T
        found = process.factors(greatest if process.proves == "below" else least, weights)
        return np.where(optional[:, None] > 0.0, np.minimum(found, 1.0), found)
