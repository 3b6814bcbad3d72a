"""The statistics once more, in plain Python and as slow as the formulas read: what the fast versions in `analysis` are tested against.

Nothing here is shared with `analysis`: constants and formulas are written again from STATISTICS 3, 6.1 to 6.3 and 6.10.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from math import comb, exp, fsum, inf, log, log1p

Bets = list[tuple[float, float]]
"""(fraction of the largest bet, weight)."""


def designed(best: float, *, zero_events: bool = False) -> Bets:
    """60 fractions, log-spaced, with a bell around the best one; a fifth of the weight on 0.995 for a rate without events."""
    best = min(best, 0.97)
    low = min(0.004, best / 8)
    fractions = [low * (0.97 / low) ** (k / 59) for k in range(60)]
    bell = [exp(-0.5 * (log(f / best) / 0.5) ** 2) for f in fractions]
    near = 0.75 if zero_events else 0.95
    found = [(f, near * b / fsum(bell) + 0.05 / 60) for f, b in zip(fractions, bell, strict=True)]
    return [*found, (0.995, 0.2)] if zero_events else found


def undesigned(smallest: float) -> Bets:
    """60 fractions of equal weight, log-spaced."""
    return [(smallest * (0.97 / smallest) ** (k / 59), 1 / 60) for k in range(60)]


def mixture_log_e(xs: Sequence[float], m: float, low: float, high: float, proves: str, bets: Bets) -> float:
    """ln of the weighted mean over bets of the product of 1 + lambda (x - m), or (m - x) for a mean proved to lie below."""
    room = m - low if proves == "above" else high - m
    wealth = [log(weight) + fsum(log1p(max(f / room * (x - m if proves == "above" else m - x), -f)) for x in xs) for f, weight in bets]
    largest = max(wealth)
    return largest + log(fsum(exp(w - largest) for w in wealth))


def interval_end(xs: Sequence[float], low: float, high: float, proves: str, bets: Bets, level: float) -> float:
    """The mean at which the evidence is just enough, by bisection over the whole range: the fractions and weights stay as they are."""
    accepted, rejected = (low, high) if proves == "below" else (high, low)
    for _ in range(60):
        middle = 0.5 * (accepted + rejected)
        if middle in (accepted, rejected):
            break
        enough = mixture_log_e(xs, middle, low, high, proves, bets) >= log(1 / level)
        accepted, rejected = (accepted, middle) if enough else (middle, rejected)
    return rejected


def detector_levels(xs: Sequence[float], m: float, low: float, high: float, proves: str, bets: Bets) -> list[float]:
    """Shiryaev-Roberts after each contribution: M <- L (M + 1) for each bet, then their weighted sum."""
    room = m - low if proves == "above" else high - m
    states, path = [0.0] * len(bets), []
    for x in xs:
        gain = x - m if proves == "above" else m - x
        states = [(1 + f / room * gain) * (state + 1) for state, (f, _) in zip(states, bets, strict=True)]
        path.append(fsum(weight * state for state, (_, weight) in zip(states, bets, strict=True)))
    return path


def truncated_beta_log_e(n: int, s: int, c: Fraction, proves: str) -> float:
    """The mean likelihood ratio of the rates under c (or over it) against c, with a uniform prior on them, in exact fractions.

    The integral of t^s (1-t)^(n-s) over (0, c) is 1 / ((n+1) C(n, s)) times the chance that a Binomial(n+1, c) is more than s.
    """
    if proves == "above":
        s, c = n - s, 1 - c
    more = sum(comb(n + 1, k) * c**k * (1 - c) ** (n + 1 - k) for k in range(s + 1, n + 2))
    ratio = more / ((n + 1) * comb(n, s)) / c / (c**s * (1 - c) ** (n - s))
    return log(ratio.numerator) - log(ratio.denominator)


def closed_by_means(e_values: Sequence[float], level: float) -> list[bool]:
    """A member fails when the mean of every set of members that holds it reaches 1/level."""
    found = []
    for member, value in enumerate(e_values):
        others = [e for k, e in enumerate(e_values) if k != member]
        means = (fsum([value, *chosen]) / (size + 1) for size in range(len(others) + 1) for chosen in combinations(others, size))
        found.append(min(means, default=inf) >= 1 / level)
    return found


def linear_bins(xs: Sequence[Fraction], low: Fraction, high: Fraction, n_bins: int) -> list[Fraction]:
    """A number between two edges adds to both, the more to the nearer one: the mean stays as it was, exactly."""
    counts = [Fraction(0)] * (n_bins + 1)
    for x in xs:
        place = (x - low) / (high - low) * n_bins
        left = min(int(place), n_bins - 1)
        counts[left] += left + 1 - place
        counts[left + 1] += place - left
    return counts
