"""The values that contributions can take, and exact sums of them: integers only, so that no number depends on order or on batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, frexp
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.types import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_BINS = 1_000
WEIGHT_BITS = 32
FAST, SLOW, UNKNOWN = 0.0, 1.0, 2.0
EDGE_RATIO = 1.01
N_WEIGHTS = 256
N_EDGES_A_SIDE = 1_160


@dataclass(frozen=True, slots=True)
class Support:
    """A grid of values with fixed-point weights.

    kind: "rate" for 0 and 1; "sign" for -1, 0 and 1; "numeric" for 1,001 equal steps over [low, high], where a contribution between
    two steps is shared by both (linear binning: the mean is kept, and evidence can only get less); "latency" for fast, slow and
    unknown (answered, without a latency), where unknown is slow to a pass and fast to a fail.

    least: for a "rate" or a "sign" whose contributions have weights 1/propensity in [1, 1/least]: the cells are then every value times
    257 equal steps of the weight, relative to the largest, shared linearly like a numeric value.
    """

    kind: Literal["rate", "sign", "numeric", "latency"]
    low: float
    high: float
    least: float | None = None

    def __post_init__(self) -> None:
        if self.least is not None and (not 0.0 < self.least <= 1.0 or self.kind not in ("rate", "sign")):
            raise InputError(f"weights need a rate or a sign and a least propensity in (0, 1], got {self.kind} and {self.least}")
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise InputError(f"a range of contributions must be finite and not empty, got [{self.low}, {self.high}]")

    @property
    def n_values(self) -> int:
        distinct = {"rate": 2, "sign": 3, "latency": 3}.get(self.kind, N_BINS + 1)
        return distinct if self.least is None else distinct * (N_WEIGHTS + 1)

    @property
    def values(self) -> Floats:
        """The values that e-processes count: 0 and 1 for a latency, else one for each cell."""
        if self.least is not None:
            return np.repeat(np.linspace(self.low, self.high, self.n_values // (N_WEIGHTS + 1)), N_WEIGHTS + 1)
        return np.array([0.0, 1.0]) if self.kind == "latency" else np.linspace(self.low, self.high, self.n_values)

    @property
    def weights(self) -> Floats | None:
        """The weight of each of `values`, relative to the largest; None where all are one."""
        if self.least is None:
            return None
        return np.tile(np.linspace(0.0, 1.0, N_WEIGHTS + 1), self.n_values // (N_WEIGHTS + 1))

    def for_pass(self, counts: Ints) -> NDArray[Any]:
        """Counts of `values` as a pass process takes them, from counts of cells; shape (..., cells) to (..., values)."""
        if self.kind == "latency":
            return np.stack([counts[..., 0], counts[..., 1] + counts[..., 2]], axis=-1)
        return counts / self.one if self.one > 1 else counts

    def for_fail(self, counts: Ints) -> NDArray[Any]:
        """The same as a fail process takes them."""
        if self.kind == "latency":
            return np.stack([counts[..., 0] + counts[..., 2], counts[..., 1]], axis=-1)
        return self.for_pass(counts)

    def fail_values(self, values: Floats) -> Floats:
        """Single contributions as a fail process takes them: an unknown latency is fast."""
        return np.asarray(values == SLOW, np.float64) if self.kind == "latency" else values

    @property
    def one(self) -> int:
        """The weight of one contribution in `counts`."""
        return 1 << WEIGHT_BITS if self.kind == "numeric" or self.least is not None else 1

    @property
    def bits(self) -> int:
        """Sums are integer multiples of 2**-bits: 0 for discrete values, else as fine as 62 bits allow, at most 44."""
        if self.kind != "numeric":
            return 0 if self.least is None else min(44, 62 - max(frexp(1.0 / self.least)[1], 0))
        return min(44, 62 - max(frexp(max(abs(self.low), abs(self.high)))[1], 0))

    def spread(self, values: Floats, weights: Floats | None = None) -> tuple[Ints, Ints, Ints]:
        """(contribution, cell, share): which cells each contribution adds to and how much, in multiples of 1 / `one`.

        Args:
            values: Shape (n,).
            weights: 1/propensity of each, shape (n,), where the support has them.
        """
        n = len(values)
        if self.one == 1:
            return np.arange(n), self.cells(values), np.ones(n, np.int64)
        left, right_share = self.shared(values, weights)
        both = np.concatenate([np.arange(n), np.arange(n)])
        return both, np.concatenate([left, left + 1]), np.concatenate([self.one - right_share, right_share])

    def shared(self, values: Floats, weights: Floats | None = None) -> tuple[Ints, Ints]:
        """(cell, share of the next cell) of each contribution where two cells share it; the rest of `one` is the cell's own."""
        if self.least is not None:
            start, n_steps = self.cells(values) * (N_WEIGHTS + 1), N_WEIGHTS
            place = np.clip(np.asarray(weights) * self.least, 0.0, 1.0) * N_WEIGHTS
        else:
            start, n_steps = np.zeros(1, np.int64), N_BINS
            place = np.clip((values - self.low) / (self.high - self.low), 0.0, 1.0) * N_BINS
        left = np.minimum(place.astype(np.int64), n_steps - 1)
        return start + left, np.rint((place - left) * self.one).astype(np.int64)

    def binned(self, values: Floats, weights: Floats | None = None) -> tuple[Ints, Floats]:
        """`shared` for counting a block: a value on the last step is all its own, and shares are whole numbers as floats."""
        if self.least is not None:
            place = np.clip(np.asarray(weights) * self.least, 0.0, 1.0)
            place *= N_WEIGHTS
        else:
            place = values - self.low
            place /= self.high - self.low
            np.clip(place, 0.0, 1.0, out=place)
            place *= N_BINS
        whole = np.floor(place)
        place -= whole
        place *= self.one
        cells = whole.astype(np.int64)
        if self.least is not None:
            cells += self.cells(values) * (N_WEIGHTS + 1)
        return cells, np.rint(place, out=place)

    def cells(self, values: Floats) -> Ints:
        """The place of each discrete value among `values`, shape (n,)."""
        return values.astype(np.int64) + (1 if self.kind == "sign" else 0)

    def faulty(self, values: Floats) -> NDArray[np.bool_]:
        """Which contributions cannot be taken: not finite, or outside the range by more than rounding."""
        slack = 1e-12 * (self.high - self.low)
        high = UNKNOWN if self.kind == "latency" else self.high
        with np.errstate(invalid="ignore"):
            return ~((values >= self.low - slack) & (values <= high + slack))

    def takes(self, values: Floats) -> bool:
        """Whether none of them is `faulty`."""
        if not len(values):
            return True
        slack = 1e-12 * (self.high - self.low)
        high = UNKNOWN if self.kind == "latency" else self.high
        with np.errstate(invalid="ignore"):  # where there is a NaN it is the smallest and the largest
            return bool(values.min() >= self.low - slack and values.max() <= high + slack)

    def fixed(self, values: Floats) -> Ints:
        """Each value as a multiple of 2**-bits."""
        return np.rint(values * 2.0**self.bits).astype(np.int64)


BLOCK = 12_288
"""Values that are counted at a time: they stay in the cache, and 96 KiB are under what an allocator maps anew each time."""
_MOST_BLOCK = 1 << 20  # sums of so many shares of 2**32 are exact in floats
_FEW = 4
_PIECE = 24  # bits: float sums of up to 2**29 such pieces are exact


def exact_counts(places: NDArray[Any], amounts: Ints | None, n: int) -> Ints:
    """Sum of whole amounts in [0, 2**48) for each place in [0, n), shape (n,); None where every amount is 1.

    By `bincount`, which is many times as fast as `add.at`, in pieces that its float sums hold exactly.
    """
    if amounts is None and n <= _FEW:  # `bincount` waits for itself where most rows are of one place
        return np.array([np.count_nonzero(places == place) for place in range(n)], np.int64)
    if amounts is None:
        return np.bincount(places, minlength=n).astype(np.int64, copy=False)
    low = np.bincount(places, weights=amounts & ((1 << _PIECE) - 1), minlength=n).astype(np.int64)
    high = np.bincount(places, weights=amounts >> _PIECE, minlength=n).astype(np.int64)
    return low + (high << _PIECE)


def exact_sums(slots: NDArray[Any], fixed: Ints, n_slots: int) -> list[int]:
    """Sum of fixed-point values for each slot, as integers of any size."""
    if n_slots == 1:
        return [(int((fixed >> _PIECE).sum()) << _PIECE) + int((fixed & ((1 << _PIECE) - 1)).sum())]
    if not len(fixed) or max(-int(fixed.min()), int(fixed.max())) < 1 << _PIECE:
        return [int(x) for x in np.bincount(slots, weights=fixed, minlength=n_slots)]
    low, middle, high = (np.bincount(slots, weights=piece, minlength=n_slots) for piece in (
        fixed & ((1 << _PIECE) - 1), (fixed >> _PIECE) & ((1 << _PIECE) - 1), fixed >> (2 * _PIECE)))
    return [(int(h) << (2 * _PIECE)) + (int(m) << _PIECE) + int(x) for h, m, x in zip(high, middle, low, strict=True)]


def counted(support: Support, shape: tuple[int, ...], slots: NDArray[Any], values: Floats, weights: Floats | None) -> Ints:
    """What contributions add to the counts of each slot, of their shape (slots, values), in multiples of 1 / support.one."""
    n, cells = shape
    if support.one == 1 and n == 1:
        return _counted_alone(support, values)
    if support.one == 1:
        return exact_counts(slots * cells + support.cells(values), None, n * cells).reshape(n, cells)
    counts, moved = np.zeros(n * cells, np.int64), np.zeros(n * cells, np.int64)
    for part in _blocks(len(values), max(BLOCK, min(4 * n * cells, _MOST_BLOCK))):
        places, share = support.binned(values[part], None if weights is None else weights[part])
        if n > 1:
            places += slots[part] * cells
        counts += np.bincount(places, minlength=n * cells)
        moved += np.bincount(places, weights=share, minlength=n * cells).astype(np.int64)
    counts *= support.one
    counts -= moved
    counts[1:] += moved[:-1]  # the last cell of a slot shares with none
    return counts.reshape(n, cells)


def _counted_alone(support: Support, values: Floats) -> Ints:
    """The same for one slot of few values: how many reach each of them."""
    found = np.zeros((1, support.n_values), np.int64)
    for part in _blocks(len(values), BLOCK):
        block = values[part]
        reached = [len(block), *(int(np.count_nonzero(block >= value)) for value in (1.0, 2.0)[: support.n_values - 1])]
        if support.kind == "sign":
            reached = [len(block), len(block) - int(np.count_nonzero(block <= -1.0)), reached[1]]
        found[0] += np.subtract(reached, [*reached[1:], 0])
    return found


def summed(support: Support, slots: NDArray[Any], values: Floats, n_slots: int) -> list[int]:
    """Exact sums of values for each slot, as multiples of 2**-support.bits."""
    if n_slots > 1:
        return exact_sums(slots, support.fixed(values), n_slots)
    most = max(abs(support.low), abs(support.high), 1.0 / (support.least or 1.0)) * 2.0**support.bits * BLOCK
    total = 0
    for part in _blocks(len(values), BLOCK):
        steps = np.rint(values[part] * 2.0**support.bits)
        if most < 2.0**53:
            total += int(steps.sum())
        else:
            fixed = steps.astype(np.int64)
            total += int(fixed.sum()) if most < 2.0**62 else exact_sums(slots, fixed, 1)[0]
    return [total]


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def latency_edges(limit_ms: float) -> Floats:
    """Log-spaced edges in milliseconds, 1 % apart, from limit / 1e5 to limit * 1e5; the limit itself is one of them."""
    if not 0.0 < limit_ms < np.inf:
        raise InputError(f"a limit of latency must be positive milliseconds, got {limit_ms}")
    steps = np.arange(-N_EDGES_A_SIDE, N_EDGES_A_SIDE + 1)
    edges: Floats = limit_ms * EDGE_RATIO**steps.astype(np.float64)
    edges[N_EDGES_A_SIDE] = limit_ms
    return edges


def latency_cells(latency_ms: Floats, missing: NDArray[np.bool_], edges: Floats) -> Ints:
    """The cell of each row: k for (edges[k-1], edges[k]], then one past the last edge, unknown, and missing."""
    known = np.searchsorted(edges, np.where(np.isnan(latency_ms), 0.0, latency_ms), side="left")
    cells = np.where(np.isnan(latency_ms), len(edges) + 1, known)
    return np.where(missing, len(edges) + 2, cells).astype(np.int64)


def latency_quantile(cells: Ints, edges: Floats, quantile: float) -> float | None:
    """The quantile in milliseconds from counts of cells; None without rows, or where it is slower than every answer.

    Interpolated inside its cell, which is 1 % wide. Unknown and missing count as slower than anything.
    """
    total = int(cells.sum())
    if not total:
        return None
    rank = max(ceil(quantile * total - 1e-9), 1)
    below = np.cumsum(cells)
    cell = int(np.searchsorted(below, rank, side="left"))
    if cell >= len(edges):
        return None
    if cell == 0:
        return float(edges[0])
    share = (rank - int(below[cell - 1])) / int(cells[cell])
    return float(edges[cell - 1] * (edges[cell] / edges[cell - 1]) ** share)
