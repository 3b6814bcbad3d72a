"""Group sequential boundaries: a fixed number of looks at a horizon that is known, for numbers of which the mean is normal.

Faster than a test that holds at every look where the plan is kept; worth nothing without one. The statistic at information t is a Brownian
motion with drift, S(t) ~ N(drift t, t), z = S / sqrt(t), and a boundary is found look by look: its density inside the boundary is carried
from one look to the next by Simpson's rule.

Source: STATISTICS 6.8; Armitage, McPherson & Rowe (1969), JRSS-A 132(2); Lan & DeMets (1983), Biometrika 70(3); Kim & DeMets (1987),
Biometrika 74(1); Hwang, Shih & De Cani (1990), Statist. Med. 9(12); Wang & Tsiatis (1987), Biometrics 43(1); Jennison & Turnbull (2000),
chapters 2, 7 and 19; Pampallona, Tsiatis & Kim (2001) for beta spending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import e, expm1, inf, isfinite, log, sqrt

import numpy as np

from analysis.sequential.mixture import Floats
from analysis.types import InputError, LookPlan

POINTS = 801
MOST_POINTS = 4_001
REACH = 9.0
NEVER = 1e-13
_TOL = 1e-11

Times = tuple[float, ...]
"""Information at each look as a fraction of the plan's maximum, rising, > 0."""


# ------------------------------------------------------------------------------------------------------------- how alpha is spent
def spent(plan: LookPlan, t: float, alpha: float) -> float:
    """How much of a one-sided alpha may be spent by information t; past the plan (t > 1) all of it, and no more."""
    if t <= 0.0:
        return 0.0
    if t >= 1.0:
        return alpha
    p = plan.parameter
    match plan.spending:
        case "obrien_fleming":
            from scipy.stats import norm

            return 2.0 * float(norm.sf(norm.isf(alpha / 2.0) / sqrt(t)))
        case "pocock":
            return alpha * log(1.0 + (e - 1.0) * t)
        case "power":
            return float(alpha * t ** _needed(p, plan))
        case "hwang_shih_decani":
            gamma = _needed(p, plan)
            return alpha * (t if gamma == 0.0 else expm1(-gamma * t) / expm1(-gamma))
        case "wang_tsiatis":
            times = tuple(k / plan.looks for k in range(1, plan.looks + 1))
            exits = np.cumsum(classical(_needed(p, plan), times, alpha)[1])
            return float(np.interp(t, (0.0, *times), (0.0, *exits)))


def _needed(parameter: float | None, plan: LookPlan) -> float:
    if parameter is None:
        raise InputError(f"the spending {plan.spending} needs its parameter")
    return parameter


@lru_cache(maxsize=256)
def classical(delta: float, times: Times, alpha: float, sides: int = 1) -> tuple[float, tuple[float, ...]]:
    """(c, chance of the first crossing at each look) of z_k = c t_k^(delta - 1/2), t relative to the last look, at level alpha.

    delta 0 is O'Brien and Fleming's boundary (c is then C_B), 1/2 Pocock's (C_P), between them the family of Wang and Tsiatis.

    Raises:
        InputError: times do not rise from over 0, alpha or sides is out of range.
    """
    from scipy.optimize import brentq

    _check(times, alpha)
    if sides not in (1, 2):
        raise InputError(f"a boundary has one side or two, got {sides}")

    def exits(c: float) -> Floats:
        bounds = [c * (t / times[-1]) ** (delta - 0.5) for t in times]
        return crossing(bounds, times, lower=[-u for u in bounds] if sides == 2 else None)[0] * sides

    c = float(brentq(lambda c: float(exits(c).sum()) - alpha, 0.0 if sides == 1 else 0.1, 12.0, xtol=1e-9))
    return c, tuple(exits(c).tolist())


# ------------------------------------------------------------------------------------------------------------------ boundaries
@dataclass(frozen=True, slots=True)
class _Inside:
    """The density of S at a look, on Simpson's points inside the boundary. weighted: density times weight, shape (points,)."""

    t: float
    points: Floats
    weighted: Floats


_START = _Inside(0.0, np.zeros(1), np.ones(1))


def boundary(plan: LookPlan, times: Times, alpha: float) -> tuple[float, ...]:
    """One-sided upper bounds of z at the looks taken so far, level alpha over all of them; infinite where nothing is spent yet.

    Args:
        plan: The spending function and what it was planned for; only `spending`, `parameter` and `looks` are read.
        times: Information at each look as a fraction of the planned maximum; equal or not, one may pass 1 (over-run), and is the last.
        alpha: Level, in (0, 1/2].

    Raises:
        InputError: times do not rise from over 0, one follows a look past 1, or alpha is out of range.
    """
    _check(times, alpha)
    if len(times) > 1 and times[-2] >= 1.0:
        raise InputError(f"nothing is left to spend after the maximum: looks at {times}")
    return _spending_state(plan, times, alpha)[0]


@lru_cache(maxsize=4_096)
def _spending_state(plan: LookPlan, times: Times, alpha: float) -> tuple[tuple[float, ...], _Inside]:
    """(bounds, density inside them at the last look); each look builds on the one before."""
    if not times:
        return (), _START
    bounds, before = _spending_state(plan, times[:-1], alpha)
    t, share = times[-1], spent(plan, times[-1], alpha) - spent(plan, before.t, alpha)
    bound = _bound(before, t, share) if share > NEVER else inf
    return (*bounds, bound), _step(before, t, -inf, bound)


def _bound(before: _Inside, t: float, share: float, *, drift: float = 0.0, below: bool = False) -> float:
    """The z that the first crossing at t has this chance to be beyond (below: to be under)."""
    from scipy.optimize import brentq

    def excess(z: float) -> float:
        return _beyond(before, t, z, drift=drift, below=below) - share

    low, high = (drift * sqrt(t) - REACH, drift * sqrt(t) + REACH)
    if (excess(low) > 0) == (excess(high) > 0):  # more than there is left inside: everything is beyond
        return -inf if not below else inf
    return float(brentq(excess, low, high, xtol=_TOL))


def _beyond(before: _Inside, t: float, z: float, *, drift: float, below: bool = False) -> float:
    """Chance to be inside until now and over z (or under it) at t."""
    from scipy.special import ndtr

    if not isfinite(z):
        return 0.0 if (z > 0) != below else float(before.weighted.sum())
    away = (z * sqrt(t) - before.points - drift * (t - before.t)) / sqrt(t - before.t)
    return float((before.weighted * ndtr(away if below else -away)).sum())


def _step(before: _Inside, t: float, lower: float, upper: float, *, drift: float = 0.0) -> _Inside:
    """The density at t inside (lower, upper), both in z."""
    sd, gap = sqrt(t), sqrt(t - before.t)
    low, high = max(lower * sd, drift * t - REACH * sd), min(upper * sd, drift * t + REACH * sd)
    if not low < high:
        return _Inside(t, np.zeros(1), np.zeros(1))
    n = int(min(max(POINTS, 4.0 * (high - low) / gap), MOST_POINTS)) // 2 * 2 + 1
    points = np.linspace(low, high, n)
    simpson = np.ones(n)
    simpson[1:-1:2], simpson[2:-1:2] = 4.0, 2.0
    away = (points[:, None] - before.points[None, :] - drift * (t - before.t)) / gap
    density = np.exp(-0.5 * away**2) @ before.weighted / (gap * sqrt(2.0 * np.pi))
    return _Inside(t, points, density * simpson * (points[1] - points[0]) / 3.0)


def crossing(
    upper: Sequence[float], times: Sequence[float], *, drift: float = 0.0, lower: Sequence[float] | None = None
) -> tuple[Floats, Floats]:
    """(chance of the first crossing of `upper` at each look, of `lower`), shape (looks,) each.

    Args:
        upper: Bounds of z.
        times: Information at each look, rising, > 0.
        drift: Mean of z at information 1.
        lower: Bounds of z below; None for none.
    """
    inside, up, down = _START, [], []
    for k, t in enumerate(times):
        low = -inf if lower is None else lower[k]
        up.append(_beyond(inside, t, upper[k], drift=drift))
        down.append(_beyond(inside, t, low, drift=drift, below=True))
        inside = _step(inside, t, low, upper[k], drift=drift)
    return np.array(up), np.array(down)


# -------------------------------------------------------------------------------------------------------------------- futility
def futility(plan: LookPlan, upper: Sequence[float], times: Times, beta: float) -> tuple[tuple[float, ...], float]:
    """(lower bounds of z, drift) by beta spending: stop early where a pass is no longer likely. Non-binding: `upper` stays as it is.

    Under the drift the chance of the first fall below the bound by time t is the spending function's at beta; the drift is the one at
    which the two boundaries meet at the last look, so that power there is 1 - beta. In units, the maximum is (drift sd / effect)^2.

    Args:
        upper: Bounds of z, of `boundary` at these times.
        times: Information at each look; the last is 1.
        beta: Chance to miss the effect, in (0, 1).

    Raises:
        InputError: beta is out of range, or the last look is not at 1.
    """
    from scipy.optimize import brentq

    _check(times, 0.5)
    if not 0.0 < beta < 1.0 or times[-1] != 1.0:
        raise InputError(f"futility needs beta in (0, 1) and a last look at 1, got {beta} and {times[-1]}")
    final: Callable[[float], float] = lambda drift: _lower(plan, upper, times, beta, drift)[-1] - upper[-1]  # noqa: E731
    drift = float(brentq(final, 0.1, 15.0, xtol=1e-8))
    return (*_lower(plan, upper, times, beta, drift)[:-1], upper[-1]), drift


def _lower(plan: LookPlan, upper: Sequence[float], times: Times, beta: float, drift: float) -> list[float]:
    inside, found = _START, []
    for k, t in enumerate(times):
        share = spent(plan, t, beta) - spent(plan, inside.t, beta)
        low = _bound(inside, t, share, drift=drift, below=True) if share > NEVER else -inf
        found.append(low if k == len(times) - 1 else min(low, upper[k]))
        inside = _step(inside, t, found[-1], upper[k], drift=drift)
    return found


def _check(times: Sequence[float], alpha: float) -> None:
    if not times or times[0] <= 0.0 or any(b <= a for a, b in pairwise(times)):
        raise InputError(f"looks must be at rising information over 0, got {times}")
    if not 0.0 < alpha <= 0.5:
        raise InputError(f"a one-sided level must lie in (0, 1/2], got {alpha}")
