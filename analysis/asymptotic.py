"""Gates on numbers of which nobody knows the largest: asymptotic confidence sequences from exact sums of the values and their squares.

Use it for means of losses and differences whose output has no range, or one that is far wider than what comes; never for rates. Sums are
whole numbers of any size, so that no cut into folds, shards or days moves a digit, and a mean of 1e9 keeps a spread of 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, log, sqrt

import numpy as np

from analysis.gates import StagedRow, Test
from analysis.metrics.support import SCALE, Floats, Ints, exact_total
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.normal import NormalDesign
from analysis.types import InputError, Interval

N_RARE = 100
"""Units whose value is not 0 before which a mean is not taken for normal."""
_TOTAL_BYTES, _SQUARES_BYTES = 224, 424
_PIECE = 18  # bits: sums of products of two pieces are exact for 2**27 values


@dataclass(frozen=True, slots=True)
class Sums:
    """n values, their total in multiples of 2**-SCALE, the total of their squares in multiples of 2**-(2 SCALE), and how many of them are
    not 0; they add up."""

    n: int = 0
    total: int = 0
    squares: int = 0
    n_nonzero: int = 0

    @classmethod
    def of(cls, values: Floats) -> Sums:
        """Of finite values no larger than 1e150, shape (n,)."""
        return cls(len(values), exact_total(values), _exact_squares(values), int(np.count_nonzero(values)))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.n + other.n, self.total + other.total, self.squares + other.squares, self.n_nonzero + other.n_nonzero)

    @property
    def mean(self) -> float:
        """The mean; there must be a value."""
        return self.total / (self.n << SCALE)

    @property
    def error(self) -> float:
        """Standard error of the mean, 0 with fewer than two values or without a spread."""
        if self.n < 2:
            return 0.0
        return sqrt((self.n * self.squares - self.total**2) / (self.n**2 * (self.n - 1) << 2 * SCALE))


def _exact_squares(values: Floats) -> int:
    """The sum of the squares in multiples of 2**-(2 SCALE)."""
    mantissas, exponents = np.frexp(values)
    whole = (mantissas * 2.0**53).astype(np.int64)
    found = 0
    for exponent in np.unique(exponents).tolist():
        mine = whole[exponents == exponent]
        pieces = mine & (1 << _PIECE) - 1, mine >> _PIECE & (1 << _PIECE) - 1, mine >> 2 * _PIECE
        squares = sum(int((a * b).sum()) << _PIECE * (i + j) for i, a in enumerate(pieces) for j, b in enumerate(pieces))
        found += squares << 2 * (exponent - 53 + SCALE)
    return found


@dataclass(slots=True)
class Asymptotic:
    """The first contributions of units of one gate, by what it is split by, and what they are evidence of.

    alpha: level of its pass. fail_level: of its own fail, for the interval. sums: of each slot.
    """

    test: Test
    alpha: float
    fail_level: float
    sums: list[Sums] = field(default_factory=list)

    def arrays(self) -> dict[str, Ints]:
        """The state, by name: whole numbers as bytes, the smallest first."""
        wide = (("total", _TOTAL_BYTES), ("squares", _SQUARES_BYTES))
        found = {name: np.array([list(getattr(one, name).to_bytes(size, "little", signed=True)) for one in self.sums], np.uint8)
                 .reshape(-1, size) for name, size in wide}
        counts = {name: np.array([getattr(one, name) for one in self.sums], np.int64) for name in ("n", "n_nonzero")}
        return {**counts, **found}  # type: ignore[dict-item]

    def load(self, arrays: dict[str, Ints]) -> None:
        """Take a state that `arrays` gave."""
        numbers = zip(*(arrays[name] for name in ("n", "n_nonzero", "total", "squares")), strict=True)
        self.sums = [Sums(int(n), _whole(total), _whole(squares), int(n_nonzero)) for n, n_nonzero, total, squares in numbers]

    def paths(self, tally: Tally, batch: Batch, look_of_row: Ints, n_looks: int) -> Floats:
        """Log e-value of the fail for each slot and look, shape (slots, looks); takes the batch. Arguments as of `fail_paths`."""
        self.sums += [Sums()] * (len(tally.events) - len(self.sums))
        paths = np.repeat(np.array([self._log_e(one)[1] for one in self.sums]).reshape(-1, 1), n_looks, axis=1)
        slots, values, looks = batch.slots[batch.first], batch.values[batch.first], look_of_row[batch.first]
        for slot in np.unique(slots).tolist():
            mine = slots == slot
            for look in np.unique(looks[mine]).tolist():
                self.sums[slot] += Sums.of(values[mine & (looks == look)])
                paths[slot, look:] = self._log_e(self.sums[slot])[1]
        return paths

    def row(self, slot: int) -> StagedRow:
        """What the sums of a slot say; before the burn-in is over, while few units are other than 0, and without a spread, nothing."""
        one = self.sums[slot] if slot < len(self.sums) else Sums()
        for_pass, for_fail = self._log_e(one)
        interval = Interval(low=-inf, high=inf)
        if self._ready(one):
            interval = wide_of(self.test).interval(one.mean, one.error, one.n, alpha=self.alpha, fail_level=self.fail_level)
        return StagedRow(passed=for_pass >= -log(self.alpha), interval=interval, looks=0, log_e=(for_pass, for_fail))

    def _ready(self, one: Sums) -> bool:
        rare = min(self.test.gate.burn_in, N_RARE)  # a number that is rarely other than 0 is a rate in disguise
        return one.n >= self.test.gate.burn_in and one.n_nonzero >= rare and one.error > 0.0

    def _log_e(self, one: Sums) -> tuple[float, float]:
        """Log e-values of pass and fail."""
        if not self._ready(one):
            return 0.0, 0.0
        wide, look = wide_of(self.test), (one.mean, one.error, one.n)
        return float(wide.log_e_pass(*look)), float(wide.log_e_fail(*look))


def _whole(row: Ints) -> int:
    return int.from_bytes(row.tobytes(), "little", signed=True)


def wide_of(test: Test) -> NormalDesign:
    """The processes of an asymptotic gate. Raises InputError without them."""
    if test.wide is None:
        raise InputError(f"{test.gate.name}: has no asymptotic processes")
    return test.wide
