"""Which decisions change into which, and which of those changes anybody has checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.types import PairTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Pairs with one (incumbent, challenger) decision; how many have a label, and of how many it is of the true class."""

    incumbent: str
    challenger: str
    pairs: int
    labelled: int
    true: int

    @property
    def changed(self) -> bool:
        """Whether the two lanes decide differently here."""
        return self.incumbent != self.challenger

    @property
    def unchecked(self) -> bool:
        """Whether pairs are here and none has a label."""
        return self.pairs > 0 and self.labelled == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionMatrix:
    """One policy's decisions, incumbent by row and challenger by column. `judged`: the policy has a truth at all."""

    policy: str
    decisions: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    judged: bool

    @property
    def pairs(self) -> int:
        """All pairs that both lanes decided."""
        return sum(cell.pairs for row in self.cells for cell in row)

    @property
    def changed(self) -> int:
        """Pairs whose decision changes."""
        return sum(cell.pairs for row in self.cells for cell in row if cell.changed)


def decision_matrix(table: PairTable, policy: str) -> DecisionMatrix:
    """Counts of every combination of decisions, over pairs that both lanes decided."""
    words = table.words[policy]
    old, new = table[f"{policy}.incumbent"], table[f"{policy}.challenger"]
    judged = f"{policy}.truth" in table.columns
    truth = table[f"{policy}.truth"] if judged else np.full(len(table), -1)
    both = (old >= 0) & (new >= 0)
    place = old[both].astype(np.int64) * len(words) + new[both]
    truth = truth[both]

    def counted(rows: NDArray[np.bool_]) -> list[int]:
        return [int(n) for n in np.bincount(place[rows], minlength=len(words) ** 2)]

    pairs, labelled, true = counted(np.ones(len(truth), bool)), counted(truth >= 0), counted(truth == 1)
    cells = tuple(
        tuple(
            Cell(incumbent=a, challenger=b, pairs=pairs[k], labelled=labelled[k], true=true[k])
            for j, b in enumerate(words)
            for k in (i * len(words) + j,)
        )
        for i, a in enumerate(words)
    )
    return DecisionMatrix(policy=policy, decisions=words, cells=cells, judged=judged)
