"""Are labels as frequent as their recorded propensities say? If not, weighting by them makes every weighted gate wrong.

With xi = 1 for a labelled pair and pi its propensity, E[xi / pi] = 1; where requests are recorded xi = 1 for a pair of which a label was
asked for, whether it came or not. Both sides are tested at each look, over the first pair of each unit, at alpha 0.001: lost labels lie
under one, labels with too small a propensity over it.

A team may label disagreements only; where the decisions agree, two models have the same loss, and no label is needed. Then the pairs
that a comparison of losses speaks of are the disagreements of its policy, as long as no agreement has been labelled.

Source: STATISTICS 7.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log

import numpy as np

from analysis.gates import Test, fail_paths
from analysis.metrics.contributions import agreement_is_known, labelled_rows
from analysis.metrics.support import Support
from analysis.metrics.tally import Batch, Tally
from analysis.metrics.waiting import asked
from analysis.prefix import Indices, Mask
from analysis.sequential.designs import Design
from analysis.sequential.mixture import Process, undesigned_bets
from analysis.types import Gate, InputError, Metric, PairTable

ALPHA = 0.001
ALL = ""
_CERTAIN = 1e-3


@dataclass(slots=True)
class Sampling:
    """The test of the propensities of a plan's weighted gates; it does nothing without one.

    gates: all that the evidence folds. fired: the first look, in microseconds, at which the test rejected, for all pairs (`ALL`) and for
    the disagreements of each policy. labelled: the first look with a label, on agreements and on disagreements of each policy.
    """

    gates: tuple[Gate, ...]
    fired: dict[str, int] = field(default_factory=dict)
    labelled: dict[str, int] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(init=False, default_factory=dict)
    _test: Test | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        least = min((gate.metric.least for gate in self.gates if gate.metric.weighted and gate.metric.least), default=None)
        if least is None:
            return
        self._test = _test(least)
        policies = [gate.metric.policy for gate in self.gates if agreement_is_known(gate) and gate.metric.policy]
        for frame in (ALL, *dict.fromkeys(policies)):
            self.tallies[frame] = Tally(self._test.support)
            self.tallies[frame].grow(1)

    @property
    def test(self) -> Test:
        """The test itself.

        Raises:
            InputError: no gate is weighted, so there is none.
        """
        if self._test is None:
            raise InputError("no gate is weighted by a propensity")
        return self._test

    @property
    def needed(self) -> bool:
        """Whether there is a weighted gate."""
        return self._test is not None

    def fold(self, table: PairTable, rows: Indices, looks: Indices, look_of_row: Indices) -> None:
        """Fold the first pairs of units.

        Args:
            table: Rows of the prefix.
            rows: Which of them are the first pair of their unit, rising.
            looks: Record times.
            look_of_row: The first look that counts each row of the table.
        """
        if self._test is None:
            return
        chance = table["propensity"][rows]
        known = ~np.isnan(chance) if any(asked(gate) for gate in self.gates) else labelled_rows(table)[rows]
        least = 1.0 / self._test.support.high
        with np.errstate(invalid="ignore"):
            drawn = np.where(known & (chance > 0.0), 1.0 / np.clip(chance, least, 1.0), 0.0)
        for frame, tally in self.tallies.items():
            mine = np.ones(len(rows), bool) if frame == ALL else table[f"{frame}.incumbent"][rows] != table[f"{frame}.challenger"][rows]
            at = look_of_row[rows]
            self._note(f"{frame}=", at[known & ~mine], looks)
            self._note(f"{frame}!", at[known & mine], looks)
            n = int(mine.sum())
            batch = Batch(np.zeros(n, np.int64), drawn[mine], np.ones(n, bool))
            path = fail_paths(self._test, tally, batch, at[mine], len(looks))[0]
            tally.add(batch)
            if frame not in self.fired and (path >= -log(ALPHA)).any():
                self.fired[frame] = int(looks[np.argmax(path >= -log(ALPHA))])

    def _note(self, what: str, at: Indices, looks: Indices) -> None:
        if len(at) and what not in self.labelled:
            self.labelled[what] = int(looks[at[0]])

    def misdrawn(self, gate: Gate, looks: Iterable[int]) -> Mask:
        """At which looks the labels of a gate are known not to be drawn as recorded, shape (looks,)."""
        times = np.asarray(list(looks), np.int64)
        if not gate.metric.weighted:
            return np.zeros(len(times), bool)
        policy = gate.metric.policy or ALL
        over_all = self._since(self.fired, ALL, times)
        if not agreement_is_known(gate):
            return over_all
        only_changed = self._since(self.labelled, f"{policy}!", times) & ~self._since(self.labelled, f"{policy}=", times)
        return np.where(only_changed, self._since(self.fired, policy, times), over_all)

    @staticmethod
    def _since(first: dict[str, int], what: str, times: Indices) -> Mask:
        found: Mask = times >= first.get(what, np.iinfo(np.int64).max)
        return found

    def facts(self) -> str:
        """Everything that is fixed before the data, in words."""
        return "" if self._test is None else self._test.facts()


def _test(least: float) -> Test:
    """E[xi/pi] = 1 on [0, 1/least], both sides with half the weight each; where every pair must be labelled, one without is enough."""
    high = max(1.0 / least, 1.0 + _CERTAIN)
    bets = undesigned_bets(_CERTAIN)
    sides = (Process("below", 1.0, 0.0, high, bets), Process("above", 1.0, 0.0, high, bets))
    gate = Gate(name="labels as recorded", metric=Metric(kind="sample_ratio"), word="within", limit=1.0)
    return Test(gate, ("pairs",), Support("numeric", 0.0, high), Design(sides, sides))


