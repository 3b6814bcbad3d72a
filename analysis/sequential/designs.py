"""The e-processes of a gate: which hypotheses its pass and its fail reject, and the bets for them, fixed before the data.

Source: STATISTICS 3 (what a gate tests) and 6.1 (designs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np

from analysis.sequential.betas import BetaProcess
from analysis.sequential.mixture import (
    LARGEST_FRACTION,
    Bets,
    Counts,
    Floats,
    Process,
    Waiting,
    designed_bets,
    log_sum_exp,
    undesigned_bets,
)
from analysis.types import InputError, Word

Kind = Literal["rate", "sign", "numeric"]
Proves = Literal["below", "above"]
SMALLEST_FRACTION = 0.001


@dataclass(frozen=True, slots=True)
class Design:
    """The processes that pass a gate (all must) and those that fail it (their mean counts)."""

    pass_: tuple[Process, ...]
    fail: tuple[Process, ...]

    def log_e_pass(self, counts: Counts, values: Floats, weights: Floats | None = None, waiting: Waiting | None = None) -> Floats:
        """The smallest log e-value of the pass processes, shape (...,)."""
        return np.min([p.log_e(counts, values, weights=weights, waiting=waiting) for p in self.pass_], axis=0)  # type: ignore[no-any-return]

    def log_e_fail(self, counts: Counts, values: Floats, weights: Floats | None = None, waiting: Waiting | None = None) -> Floats:
        """The log of the mean e-value of the fail processes, shape (...,)."""
        found = [p.log_e(counts, values, weights=weights, waiting=waiting) for p in self.fail]
        return found[0] if len(found) == 1 else log_sum_exp(np.stack(found, axis=-1)) - log(len(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a gate asks, in numbers: the kind of its contributions, their range, and what the config says beforehand.

    `discordance` is P(D != 0) of a sign, the variance of a numeric contribution.
    """

    kind: Kind
    low: float
    high: float
    word: Word
    limit: float
    expect: float | None = None
    discordance: float | None = None
    method: Literal["mixture", "beta-binomial"] = "mixture"


def design(question: Question) -> Design:
    """The processes for a question.

    Raises:
        InputError: the limit lies outside the range of the contributions, or `expect` on the wrong side of the limit.
    """
    q = question
    if not np.isfinite(q.limit) or (q.word == "worse_by_at_most" and q.limit <= 0) or (q.word == "better_by_more_than" and q.limit < 0):
        raise InputError(f"{q.word} got {q.limit}, which is no limit")
    if q.method == "beta-binomial" and (q.kind != "rate" or q.word not in ("below", "above")):
        raise InputError(f"beta-binomial is for a rate below or above a limit, got a {q.kind} {q.word}")
    if q.word == "within":
        return _within(q)
    if q.kind == "rate":
        return _rate(q)
    passes, fails = _means(q)
    proves_pass: Proves = "below" if q.word == "below" else "above"
    proves_fail: Proves = "above" if q.word == "below" else "below"
    limit = -q.limit if q.word == "worse_by_at_most" else q.limit
    return Design((_process(q, proves_pass, limit, passes),), (_process(q, proves_fail, limit, fails),))


def _rate(q: Question) -> Design:
    """A rate below its limit; above is the same through 1 - X."""
    if q.word not in ("below", "above"):
        raise InputError(f"a rate takes below, above or within, got {q.word}")
    c = q.limit if q.word == "below" else 1.0 - q.limit
    if not 0.0 < c < 1.0:
        raise InputError(f"the limit of a rate must lie in (0, 1), got {q.limit}")
    good = c / 2.0 if q.expect is None else (q.expect if q.word == "below" else 1.0 - q.expect)
    if not 0.0 <= good < c:
        raise InputError(f"expect must lie on the passing side of the limit {q.limit}, got {q.expect}")
    bad = min(2.0 * c, (1.0 + c) / 2.0)
    pass_bets = designed_bets(1.0 - good / c, zero_events=True)
    fail_bets = designed_bets((bad - c) / (1.0 - c))
    below, above = ("below", "above") if q.word == "below" else ("above", "below")
    made = BetaProcess if q.method == "beta-binomial" else Process
    return Design((made(below, q.limit, 0.0, 1.0, pass_bets),), (made(above, q.limit, 0.0, 1.0, fail_bets),))  # type: ignore[arg-type]


def _means(q: Question) -> tuple[float | None, float | None]:
    """The designed means of the contribution for pass and fail; None where there is no design."""
    passes: float | None
    fails: float | None
    if q.word == "worse_by_at_most":
        passes, fails = 0.0, -2.0 * q.limit
    elif q.word == "better_by_more_than":
        passes, fails = q.expect, None if q.expect is None else 2.0 * q.limit - q.expect
    else:
        far = 2.0 * q.limit if q.word == "below" else 0.5 * q.limit
        near = 0.5 * q.limit if q.word == "below" else 2.0 * q.limit
        passes, fails = (near, far) if q.limit > 0 else (None, None)
    return (passes if q.expect is None else q.expect), fails


def _within(q: Question) -> Design:
    if q.limit <= 0:
        raise InputError(f"within must be positive, got {q.limit}")
    middle = 0.0 if q.expect is None else q.expect
    pass_ = (_process(q, "below", q.limit, middle), _process(q, "above", -q.limit, middle))
    fail = (_process(q, "above", q.limit, 2.0 * q.limit), _process(q, "below", -q.limit, -2.0 * q.limit))
    return Design(pass_, fail)


def _process(q: Question, proves: Proves, limit: float, mean: float | None) -> Process:
    return Process(proves, limit, q.low, q.high, _bets(q, proves, limit, mean))


def _bets(q: Question, proves: Proves, limit: float, mean: float | None) -> Bets:
    """Bets of a difference or a numeric mean: around the design where it and its spread are given, else log-uniform."""
    room = q.high - limit if proves == "below" else limit - q.low
    if mean is not None and (limit - mean if proves == "below" else mean - limit) <= 0:
        raise InputError(f"expect must lie on the passing side of the limit {q.limit}, got {q.expect}")
    if room <= 0 or mean is None or q.discordance is None:
        distance = abs(q.limit) or SMALLEST_FRACTION * (q.high - q.low)
        return undesigned_bets(min(distance / (q.high - q.low), LARGEST_FRACTION / 2.0))
    gap = abs(mean - limit)
    if q.kind == "sign":
        return designed_bets(_best_sign_bet(mean, q.discordance, limit, proves) * room)
    return designed_bets(gap / (q.discordance + gap**2) * room)


def _best_sign_bet(mean: float, discordance: float, limit: float, proves: Proves) -> float:
    """The bet of largest growth on D in {-1, 0, 1} with this mean and P(D != 0): where the slope of the growth is zero."""
    share = min(max(discordance, abs(mean)), 1.0)
    chances = ((-1.0, (share - mean) / 2.0), (0.0, 1.0 - share), (1.0, (share + mean) / 2.0))
    sign = 1.0 if proves == "above" else -1.0
    largest = 1.0 / ((limit + 1.0) if proves == "above" else (1.0 - limit))

    def slope(bet: float) -> float:
        return sum(p * sign * (d - limit) / (1.0 + bet * sign * (d - limit)) for d, p in chances if p > 0)

    return _root(slope, 0.0, largest * (1.0 - 1e-9))


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function meets zero, by bisection; `high` where it never does."""
    if falling(high) > 0:
        return high
    for _ in range(80):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return 0.5 * (low + high)
