"""Two questions of a report that no gate asks: are the models equally accurate, and is the challenger different from a mere copy?

Each unit counts once, with its first event that the question is defined on. The e-values hold at every look of a prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

from analysis.metrics.contributions import paired_rows
from analysis.metrics.numbers import says
from analysis.metrics.support import Floats
from analysis.prefix import Mask
from analysis.sequential.mcnemar import log_e_equal, log_e_more
from analysis.types import PairTable

Wrong = Sequence[tuple[bool, tuple[str, ...]]]
"""(class of the truth, decisions that are an error there)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Equality:
    """Discordant pairs and what they prove.

    name: of the policy or output. question: equally accurate, or different from a copy. challenger, other: units in which only the
    challenger, or only the other one (incumbent, replica), was right (or, of a copy, departed from the incumbent). concordant: the other
    units. log_e: against "equal" (accuracy) or "no more than a copy" (copy). alpha: its level, in (0, 1).
    """

    name: str
    question: Literal["accuracy", "copy"]
    challenger: int
    other: int
    concordant: int
    log_e: float
    alpha: float

    @property
    def different(self) -> bool:
        """Whether equality is rejected; if not, it is not proved either."""
        return self.log_e >= -log(self.alpha)


def accuracy(table: PairTable, policy: str, wrong: Wrong, *, alpha: float) -> Equality | None:
    """Are incumbent and challenger equally accurate under a policy, among labelled units? None without a labelled pair.

    Args:
        table: Matured rows in prefix order.
        policy: Its name.
        wrong: The errors of the policy, for each class of the truth.
        alpha: Level, in (0, 1).
    """
    name = f"{policy}.truth"
    if name not in table.columns or not wrong:
        return None
    known: Mask = paired_rows(table) & np.isin(table[name], [int(truth) for truth, _ in wrong])
    rows = table.take(_firsts(table, known))
    if not len(rows):
        return None
    truth = rows[name]
    errors = {lane: np.sum([(truth == int(side)) * says(rows, policy, lane, decisions) for side, decisions in wrong], axis=0) > 0.0
              for lane in ("incumbent", "challenger")}
    return _equality(policy, "accuracy", errors["incumbent"].astype(float) - errors["challenger"], alpha)


def copy_of_decisions(table: PairTable, policy: str, *, alpha: float) -> Equality | None:
    """Does the challenger depart from the incumbent's decisions more often than a second copy of it does? None where none was asked."""
    if f"{policy}.replica" not in table.columns or "missing.replica" not in table.columns:
        return None
    old, new, copy = (table[f"{policy}.{lane}"] for lane in ("incumbent", "challenger", "replica"))
    rows = _firsts(table, paired_rows(table) & (table["missing.replica"] < 0) & (old >= 0) & (new >= 0) & (copy >= 0))
    if not len(rows):
        return None
    departs = (new != old)[rows].astype(np.float64) - (copy != old)[rows]
    return _equality(policy, "copy", departs, alpha)


def copy_of_numbers(table: PairTable, output: str, *, alpha: float) -> Equality | None:
    """The same for an output that is a number: which of the two lies further from the incumbent's."""
    if f"{output}.replica" not in table.columns or "missing.replica" not in table.columns or output in table.words:
        return None
    old, new, copy = (table[f"{output}.{lane}"] for lane in ("incumbent", "challenger", "replica"))
    rows = _firsts(table, paired_rows(table) & (table["missing.replica"] < 0) & ~np.isnan(old + new + copy))
    if not len(rows):
        return None
    further = np.sign(np.abs(new - old) - np.abs(copy - old))[rows]
    return _equality(output, "copy", further, alpha)


def _firsts(table: PairTable, known: Mask) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The first row of each unit among those that count."""
    rows = np.flatnonzero(known)
    return np.sort(rows[np.unique(table["unit_id"][rows], return_index=True)[1]])


def _equality(name: str, question: Literal["accuracy", "copy"], signs: Floats, alpha: float) -> Equality:
    challenger, other = int((signs > 0).sum()), int((signs < 0).sum())
    log_e = log_e_equal(challenger, other) if question == "accuracy" else log_e_more(challenger, other)
    return Equality(name=name, question=question, challenger=challenger, other=other, concordant=len(signs) - challenger - other,
                    log_e=log_e, alpha=alpha)
