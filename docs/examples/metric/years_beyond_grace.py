"""How many years an age estimate is off, beyond a grace in which nobody minds: {python: years_beyond_grace, with: {grace: 2}}."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.types import PairTable


@dataclass(frozen=True, slots=True, kw_only=True)
class YearsBeyondGrace:
    """0 where the estimate lies within `grace` years of the truth, else the years beyond; all under 120 years."""

    output: str = "age"
    truth: str = "age"
    grace: float = 0.0
    bound: float = 120.0
    labelled: bool = True  # it reads a truth: fold an event only once its label has matured

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads of the pair table."""
        return f"{self.output}.{{lane}}", f"truth.{self.truth}"

    def rows(self, table: PairTable) -> NDArray[np.bool_]:
        """Where the truth is known; whatever the models said."""
        return ~np.isnan(table[f"truth.{self.truth}"])

    def values(self, table: PairTable, lane: str) -> NDArray[np.float64]:
        """The lane's own number on every row."""
        off = np.abs(table[f"{self.output}.{lane}"] - table[f"truth.{self.truth}"])
        return np.maximum(off - self.grace, 0.0)
