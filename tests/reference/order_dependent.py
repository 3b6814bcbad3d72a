"""What others would use for the same questions: for comparison only, no part of the product. All in plain Python.

Three of them choose each bet from the contributions before it. They need the order of the contributions, two shards of theirs do not add
up, and under drift they say nothing about the running mean. The last, mSPRT, needs the counts only, but holds for normal data.

Sources: Waudby-Smith & Ramdas (2024), JRSS-B 86(1), for the first three; Johari, Koomen, Pekelis & Walsh (2022), Oper. Res. 70(3), and
Robbins (1970) for mSPRT. Each yields, after every contribution in [0, 1], whether "the mean is at least m" is rejected for good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, log, log1p, sqrt


class _Spread:
    """Running mean and variance, both started at a half and a quarter: those of the paper, predictable."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, 0.5, 0.25

    @property
    def mean(self) -> float:
        return self.total / (self.n + 1)

    @property
    def variance(self) -> float:
        return self.squares / (self.n + 1)

    def add(self, x: float) -> None:
        self.n, self.total = self.n + 1, self.total + x
        self.squares += (x - self.mean) ** 2


def hedged_betting(xs: Iterable[float], m: float, alpha: float = 0.05) -> Iterator[bool]:
    """Capital from bets on a smaller and on a larger mean, half of it on each; a bet of at most half of what can be lost.

    Order-dependent. Rejected once the half on the smaller mean has grown to 1/alpha.
    """
    spread, wealth, rejected = _Spread(), log(0.5), False
    for t, x in enumerate(xs, start=1):
        bet = min(sqrt(2 * log(2 / alpha) / (spread.variance * t * log(t + 1))), 0.5 / (1 - m))
        wealth += log1p(bet * (m - x))
        spread.add(x)
        rejected = rejected or wealth >= log(1 / alpha)
        yield rejected


def empirical_bernstein(xs: Iterable[float], m: float, alpha: float = 0.05) -> Iterator[bool]:
    """Upper end of the predictable plug-in interval under m; one side, so that it is as favourable as can be.

    Order-dependent.
    """
    spread, bets, weighted, slack, rejected = _Spread(), 0.0, 0.0, log(1 / alpha), False
    for t, x in enumerate(xs, start=1):
        bet = min(sqrt(2 * log(1 / alpha) / (spread.variance * t * log(t + 1))), 0.5)
        slack += 4 * (x - spread.mean) ** 2 * (-log(1 - bet) - bet) / 4
        bets, weighted = bets + bet, weighted + bet * x
        spread.add(x)
        rejected = rejected or (weighted + slack) / bets < m
        yield rejected


def forgetful_betting(xs: Iterable[float], m: float, alpha: float = 0.05, memory: float = 200.0) -> Iterator[bool]:
    """Bets by aGRAPA, (m - mean) / (variance + (m - mean)^2), from a mean and variance that forget all but about `memory` contributions.

    Order-dependent; made for change, and therefore the one that drift misleads most.
    """
    mean, variance, wealth, rejected, keep = 0.5, 0.25, 0.0, False, 1 - 1 / memory
    for x in xs:
        gap = m - mean
        wealth += log1p(min(max(gap / (variance + gap**2), 0.0), 0.5 / (1 - m)) * (m - x))
        variance = keep * variance + (1 - keep) * (x - mean) ** 2
        mean = keep * mean + (1 - keep) * x
        rejected = rejected or wealth >= log(1 / alpha)
        yield rejected


def msprt(xs: Iterable[float], m: float, *, variance: float, tau: float, alpha: float = 0.05) -> Iterator[bool]:
    """Normal mixture of means around m with the standard deviation tau, for contributions of a known variance; both sides.

    Asymptotic: the level holds for normal contributions. Rejected once it is, on the side of the smaller mean.
    """
    total, rejected = 0.0, False
    for n, x in enumerate(xs, start=1):
        total += x - m
        of_mean = variance / n
        d = total / n
        log_ratio = 0.5 * log(of_mean / (of_mean + tau**2)) + tau**2 * d**2 / (2 * of_mean * (of_mean + tau**2))
        rejected = rejected or (d < 0 and log_ratio >= log(1 / alpha))
        yield rejected


def first(rejections: Iterable[bool]) -> float:
    """How many contributions it took; infinite if it was not rejected."""
    return next((float(n) for n, rejected in enumerate(rejections, start=1) if rejected), inf)
