"""Quantiles by rates: a p-quantile lies under c exactly where fewer than 1 - p of the values lie over c.

So a gate on a quantile is a gate on a rate, exact whatever the distribution, ties and tails. `within` asks of two cuts at once.

Source: STATISTICS 4 (latency pN, any quantile) and 6.9; Howard & Ramdas (2022), Bernoulli 28(3).
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from analysis.sequential.designs import Design, Question, design
from analysis.sequential.mixture import Floats, Process
from analysis.types import InputError, Word


@dataclass(frozen=True, slots=True)
class TailProcess(Process):
    """A process about the rate of values that are at least `cut`, among the values -1, 0 and 1."""

    _: KW_ONLY
    cut: float

    def _gains(self, values: Floats, limit: float) -> Floats:
        return Process._gains(self, (values >= self.cut).astype(np.float64), limit)


def quantile_design(quantile: float, word: Word) -> Design:
    """The processes of a gate on a quantile, for the places of values that `analysis.metrics.quantiles.places` gives.

    Raises:
        InputError: the quantile does not lie in (0, 1), or the word compares two models.
    """
    if not 0.0 < quantile < 1.0:
        raise InputError(f"a quantile must lie in (0, 1), got {quantile}")
    over = round(1.0 - quantile, 12)

    def rate(side: Word) -> Design:
        return design(Question(kind="rate", low=0.0, high=1.0, word=side, limit=over))

    if word in ("below", "above"):
        return rate(word)
    if word != "within":
        raise InputError(f"a quantile takes below, above or within, got {word}")
    few, many = rate("below"), rate("above")  # few lie over the limit, many over minus the limit
    passes = (_at(few.pass_[0], 1.0), _at(many.pass_[0], 0.0))
    return Design(passes, (_at(few.fail[0], 1.0), _at(many.fail[0], 0.0)))


def _at(process: Process, cut: float) -> TailProcess:
    return TailProcess(process.proves, process.limit, process.low, process.high, process.bets, cut=cut)


def of_rates(process: Process) -> Process:
    """The same process for counts of 0 and 1."""
    return Process(process.proves, process.limit, process.low, process.high, process.bets)
