"""How long until a gate can decide: the gate's own evidence along a stream that is exactly as assumed.

No formula stands in for the method: the counts that n units give on average are put into the very e-processes of the gate, and n grows
until the level is reached. Real streams scatter around it: about half of them take longer, few take twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, log
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.gates import Test
from analysis.metrics.contributions import contributions_of, rows_of
from analysis.metrics.support import FAST, SLOW, UNKNOWN, Floats
from analysis.online.judge import ArmsTest, SplitTest
from analysis.online.judge import prepare as prepare_arms
from analysis.online.sums import N_FIRST
from analysis.sequential.groups import boundary, futility
from analysis.staged import moments, null_mean, plan_of
from analysis.types import Gate, InputError, PairTable

Ends = Literal["pass", "fail", "never", "unknown"]
MOST_UNITS = 10**11
FEW_UNITS = 30
DISCORDANCE = 0.05
SPREAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What contributions are assumed to be. shares: chance of each cell of the gate's support, None where nobody can know.

    words: the same for people. n_units: how many it was measured on, 0 where it was only assumed. moments: mean and variance of a
    contribution, for an asymptotic gate in place of shares.
    """

    shares: Floats | None
    words: str
    n_units: int = 0
    moments: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where a gate ends if all is as assumed. units: how many contributions it takes (one a unit); None where it never ends."""

    ends: Ends
    units: int | None
    assumed: Assumed


# ---------------------------------------------------------------------------------------------------------------- assumptions
def assumed(test: Test) -> Assumed:
    """From what the config says beforehand: `expect` and `discordance`; where they are absent, from what the gate was designed for."""
    gate, kind = test.gate, test.support.kind
    if kind == "latency":
        slow = (1.0 - (gate.metric.quantile or 0.0)) / 2.0
        words = f"{slow:.3g} of the answers are over the limit (half of what may)"
        return Assumed(shares=_shares(test, ((FAST, 1.0 - slow), (SLOW, slow))), words=words)
    if test.edges is not None:
        return _assumed_quantile(test, gate.metric.quantile or 0.0)
    mean, why = _mean(gate, kind)
    if mean is None:
        return Assumed(shares=None, words="no `expect`: nobody says how much better it is; give it, or --pairs")
    if test.wide is not None and gate.discordance is None:
        return Assumed(shares=None, words="nobody says how much it varies: give `discordance`, its variance, or --pairs")
    if test.wide is not None:
        words = f"the mean is {mean:.3g} ({why}), its variance {gate.discordance:.3g} (`discordance`)"
        return Assumed(shares=None, words=words, moments=(mean, gate.discordance or 0.0))
    if kind == "rate":
        return Assumed(shares=_shares(test, ((0.0, 1.0 - mean), (1.0, mean))), words=f"the rate is {mean:.3g} ({why})")
    if kind == "sign":
        share = max(gate.discordance or DISCORDANCE, abs(mean))
        said = "`discordance`" if gate.discordance else "a guess: give `discordance`, or --pairs"
        chances = ((-1.0, (share - mean) / 2.0), (0.0, 1.0 - share), (1.0, (share + mean) / 2.0))
        words = f"the difference is {mean:+.3g} ({why}), {share:.3g} of the decisions differ ({said})"
        return Assumed(shares=_shares(test, chances), words=words)
    low, high = test.support.low, test.support.high
    spread = gate.discordance**0.5 if gate.discordance else SPREAD * high
    said = "`discordance`" if gate.discordance else f"a guess, {SPREAD:.0%} of the range: give `discordance`, or --pairs"
    ends = ((max(mean - spread, low), 0.5), (min(mean + spread, high), 0.5))
    words = f"the mean is {mean:.3g} ({why}), its standard deviation {spread:.3g} ({said})"
    return Assumed(shares=_shares(test, ends), words=words)


def _assumed_quantile(test: Test, quantile: float) -> Assumed:
    """Of a difference: half of what may lie on the wrong side of each limit does."""
    over, word = 1.0 - quantile, test.gate.word
    if word == "within":
        chances = ((-1.0, quantile / 2.0), (0.0, 0.5), (1.0, over / 2.0))
        said = f"{over / 2.0:.3g} of the differences are over the limit and {quantile / 2.0:.3g} under minus it (half of what may)"
        return Assumed(shares=_shares(test, chances), words=said)
    share = over / 2.0 if word == "below" else (1.0 + over) / 2.0
    said = f"{share:.3g} of the differences are over the limit ({'half of what may' if word == 'below' else 'halfway to all'})"
    return Assumed(shares=_shares(test, ((0.0, 1.0 - share), (1.0, share))), words=said)


def _mean(gate: Gate, kind: str) -> tuple[float | None, str]:
    """(the mean contribution, why it is taken)."""
    if gate.expect is not None:
        return gate.expect, "`expect`"
    if gate.word == "worse_by_at_most" or gate.word == "within":
        return 0.0, "no difference"
    if gate.word == "better_by_more_than":
        return None, ""
    if kind == "rate" and gate.word == "above":
        return (1.0 + gate.limit) / 2.0, "halfway to 1"
    if gate.limit <= 0.0:
        return None, ""
    return (gate.limit / 2.0, "half of the limit") if gate.word == "below" else (gate.limit * 2.0, "twice the limit")


def _shares(test: Test, chances: Sequence[tuple[float, float]]) -> Floats:
    """Chances of values as chances of the support's cells; with weights every one counts as drawn for sure."""
    shares = np.zeros(test.support.n_values)
    for value, chance in chances:
        if test.support.kind == "latency":
            shares[int(value)] += chance
            continue
        weights = None if test.support.least is None else np.ones(1)
        _, cells, parts = test.support.spread(np.array([value]), weights)
        np.add.at(shares, cells, chance * parts / test.support.one)
    return shares


def measured(test: Test, table: PairTable, rows: NDArray[np.bool_] | None = None) -> Assumed:
    """From a pair table: the contributions of the first event of each unit among these rows (all rows without a mask).

    Raises:
        InputError: the table lacks a column, or holds what the gate cannot take.
    """
    chosen = rows_of(test.domain, table) if rows is None else rows_of(test.domain, table) & rows
    at = np.flatnonzero(chosen)
    at = at[np.unique(table["unit_id"][at], return_index=True)[1]]
    n = len(at)
    if n < FEW_UNITS:
        return Assumed(shares=None, words=f"{n} units in the table are too few to say anything", n_units=n)
    every, weight = contributions_of(test.gate, table)
    values, weights = every[at], None if weight is None else weight[at]
    if test.support.faulty(values).any() or (weights is not None and not np.isfinite(weights).all()):
        raise InputError(f"{test.gate.name}: a contribution of the table lies outside [{test.support.low}, {test.support.high}]")
    if test.wide is not None:
        said = f"as in the table: mean {values.mean():.3g}, standard deviation {values.std(ddof=1):.3g} over {n:,} units"
        return Assumed(shares=None, words=said, n_units=n, moments=(float(values.mean()), float(values.var(ddof=1))))
    shares = np.zeros(test.support.n_values)
    if test.support.kind == "latency":
        shares = np.array([np.mean(values == cell) for cell in (FAST, SLOW, UNKNOWN)])
    else:
        _, cells, parts = test.support.spread(values, weights)
        np.add.at(shares, cells, parts / (test.support.one * n))
    return Assumed(shares=shares, words=f"as in the table: {_said(test, values)} over {n:,} units", n_units=n)


def _said(test: Test, values: Floats) -> str:
    if test.support.kind == "latency":
        return f"{np.mean(values == SLOW):.3g} over the limit"
    if test.support.kind == "sign":
        return f"mean {values.mean():+.3g}, {np.mean(values != 0):.3g} differ"
    return f"mean {values.mean():.3g}"


# ------------------------------------------------------------------------------------------------------------------ how long
def forecast(test: Test, what: Assumed, *, alpha: float, fail_level: float) -> Forecast:
    """Where the gate ends, and after how many units.

    Args:
        test: The gate with its bets.
        what: What contributions are.
        alpha: Level of its pass, in (0, 1).
        fail_level: Level of its fail, in (0, 1).
    """
    if test.wide is not None and what.moments is not None and what.moments[1] > 0.0:
        (mean, variance), wide = what.moments, test.wide
        passes = _crossing(lambda n: float(wide.log_e_pass(mean, (variance / n) ** 0.5, n)), -log(alpha))
        fails = _crossing(lambda n: float(wide.log_e_fail(mean, (variance / n) ** 0.5, n)), -log(fail_level))
        ends = [None if n is None else max(n, test.gate.burn_in) for n in (passes, fails)]
        return _first(test.gate, ends[0], ends[1], what)
    if what.shares is None:
        return Forecast(ends="unknown", units=None, assumed=what)
    if test.gate.method == "group_sequential":
        return _forecast_staged(test, what, what.shares, alpha=alpha, fail_level=fail_level)
    shares: Any = what.shares * test.support.one  # counts, of which a fraction is one too
    passes = _crossing(lambda n: float(test.log_e_pass(shares * n)), -log(alpha))
    fails = _crossing(lambda n: float(test.log_e_fail(shares * n)), -log(fail_level))
    return _first(test.gate, passes, fails, what)


def forecast_arms(gate: Gate, share: float, *, alpha: float, fail_level: float) -> Forecast:
    """Where a gate on a canary's two arms ends, and after how many units of both arms together.

    While events are rare pairs of units decide, and may do so sooner; what is told here is the mixture over lifts, which decides from
    `N_FIRST` units of each arm on (STATISTICS 6.7), or the asymptotic sequence, from the gate's burn-in on.

    Args:
        gate: Of the kind `online` or `sample_ratio`.
        share: Of the units that the challenger serves, in (0, 1).
        alpha: Level of its pass, in (0, 1).
        fail_level: Level of its fail, in (0, 1).

    Raises:
        InputError: the gate cannot be computed.
    """
    test = prepare_arms(gate)
    mean, why = _mean(gate, "numeric")
    if mean is None:
        return Forecast(ends="unknown", units=None, assumed=Assumed(shares=None, words="no `expect`: nobody says how much better it is"))
    if isinstance(test, SplitTest):
        served, design, values = share + mean, test.design, np.array([-share, 1.0 - share])
        if not 0.0 <= served <= 1.0:
            words = f"`expect` would make the challenger's share {served:.3g}"
            return Forecast(ends="unknown", units=None, assumed=Assumed(shares=None, words=words))
        chances = np.array([1.0 - served, served])
        passes = _crossing(lambda n: float(design.log_e_pass(chances * n, values)), -log(alpha))
        fails = _crossing(lambda n: float(design.log_e_fail(chances * n, values)), -log(fail_level))
        return _first(gate, passes, fails, Assumed(shares=chances, words=f"the challenger serves {served:.3g} of the units"))
    variance, how = _variance_of_a_unit(test)
    if variance is None:
        return Forecast(ends="unknown", units=None, assumed=Assumed(shares=None, words=how))
    error = (variance / (share * (1.0 - share))) ** 0.5  # of the difference, at one unit of both arms together
    passes = _crossing(lambda n: float(test.lifts.log_e_pass(mean, error / n**0.5, n)), -log(alpha))
    fails = _crossing(lambda n: float(test.lifts.log_e_fail(mean, error / n**0.5, n)), -log(fail_level))
    least = ceil((gate.burn_in if gate.method == "asymptotic" else N_FIRST) / min(share, 1.0 - share))
    words = f"the difference is {mean:+.3g} ({why}), a unit's standard deviation {variance**0.5:.3g} ({how})"
    first = [None if n is None else max(n, least) for n in (passes, fails)]
    return _first(gate, first[0], first[1], Assumed(shares=None, words=words))


def _variance_of_a_unit(test: ArmsTest) -> tuple[float | None, str]:
    """Of what is measured of one unit, and where it is from; None, and why, where nobody can know."""
    gate, spec = test.gate, test.spec
    if spec.type == "ratio":
        return None, "a ratio: how much it varies is known from its units only"
    if gate.discordance is not None:
        return gate.discordance / 2.0, "`discordance`, the variance of the difference of two units, is twice its square"
    give = "give `discordance`, the variance of the difference of two units"
    if spec.bound is not None:
        return spec.bound**2 / 4.0, f"the largest there can be, so it takes fewer: {give}"
    return None, f"nobody says how much a unit varies: {give}"


def _first(gate: Gate, passes: int | None, fails: int | None, what: Assumed) -> Forecast:
    """The end that comes first."""
    if passes is not None:
        passes = max(passes, gate.min_units)
    if fails is not None and (passes is None or fails < passes):
        return Forecast(ends="fail", units=fails, assumed=what)
    return Forecast(ends="never" if passes is None else "pass", units=passes, assumed=what)


def _forecast_staged(test: Test, what: Assumed, shares: Floats, *, alpha: float, fail_level: float) -> Forecast:
    """The first planned look at which the mean, as assumed, is over a boundary; and what maximum would do with power 0.9."""
    plan = plan_of(test)
    times = tuple(k / plan.looks for k in range(1, plan.looks + 1))
    passing, failing = boundary(plan, times, alpha), boundary(plan, times, fail_level)
    ends: Ends = "never"
    units, sign = None, -1.0 if test.gate.word == "below" else 1.0
    for k, t in enumerate(times):
        n = ceil(t * plan.maximum)
        found = moments(test, shares * test.support.one * n)
        z = None if found.error is None else sign * (found.mean - null_mean(test)) / found.error
        if z is not None and (z >= passing[k] or -z >= failing[k]):
            ends, units = ("pass", max(n, test.gate.min_units)) if z >= passing[k] else ("fail", n)
            break
    return Forecast(ends=ends, units=units, assumed=replace(what, words=f"{what.words}; {_power(test, shares, passing, times)}"))


def _power(test: Test, shares: Floats, passing: tuple[float, ...], times: tuple[float, ...]) -> str:
    """What maximum passes with chance 0.9 if all is as assumed, and where a pass is no longer likely on the way (non-binding)."""
    found = moments(test, shares * test.support.one * MOST_UNITS)
    effect = (found.mean - null_mean(test)) * (-1.0 if test.gate.word == "below" else 1.0)
    if found.error is None or effect <= 0.0:
        return "no maximum would pass it"
    lower, drift = futility(plan_of(test), passing, times, 0.1)
    normal = _crossing(lambda n: float(moments(test, shares * test.support.one * n).error is not None), 1.0)
    maximum = max(ceil((drift * found.error / effect) ** 2 * MOST_UNITS), normal or 0)
    bounds = ", ".join("none" if not isfinite(z) else f"{z:.2f}" for z in lower[:-1])
    hope = f"; little hope below z = {bounds} at its looks" if bounds else ""
    return f"a plan with the maximum {maximum:,} passes with chance 0.9{hope}"


def _crossing(log_e: Callable[[float], float], enough: float) -> int | None:
    """The smallest n, in whole units, at which evidence that rises with n reaches a level; None if it does not up to 10^11."""
    high = 1.0
    while log_e(high) < enough:
        high *= 2.0
        if high > MOST_UNITS:
            return None
    low = high / 2.0
    while high - low > max(0.5, 1e-6 * high):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if log_e(middle) >= enough else (middle, high)
    return ceil(high)


def information_limit(p: float, limit: float, *, alpha: float) -> float:
    """Units that no valid test can beat on average, for a rate p under its limit: ln(1/alpha) / KL(p, limit).

    Source: Wald (1945), Ann. Math. Statist. 16(2).

    >>> round(information_limit(0.0005, 0.001, alpha=0.05))
    19543
    """
    if not (0.0 <= p < limit < 1.0 and 0.0 < alpha < 1.0):
        raise InputError(f"a rate must lie in [0, limit), limit and alpha in (0, 1), got {p}, {limit}, {alpha}")
    information = (1.0 - p) * log((1.0 - p) / (1.0 - limit)) + (p * log(p / limit) if p else 0.0)
    return -log(alpha) / information
