"""Two arms and asymptotic sequences: error rates at the limits, and how long a decision takes, look by look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.calibration.conditions import hits
from analysis.calibration.measure import ALPHA, Measured, Size, ratio, share
from analysis.metrics.support import Floats, Ints
from analysis.online.judge import ArmsTest, SplitTest, prepare
from analysis.sequential.normal import design_wide
from analysis.types import Gate, InputError, Metric

CHUNK, STEP = 50, 250
RATE = Metric(kind="online", measure="harm", type="binary", window_us=1, better="lower")
COUNT = Metric(kind="online", measure="harm", type="count", window_us=1, better="lower")
Draw = Callable[[tuple[int, int]], NDArray[Any]]


def arms(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """The lines of the table of two arms."""
    for part in (sequences, watches):
        yield from part(rng, size)


def sequences(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Asymptotic gates at their limit, after the burn-in; and a lift of 2 % with sd/mean 2, peeked at every 500 pairs."""
    made, looks = design_wide("worse_by_at_most", 1.0, 10_000), np.arange(1_000, 40_001, 100)
    for name, sigma in (("exponential", 0.0), ("lognormal, sigma 1.5", 1.5)):
        runs, passed, failed = max(size.runs // 10, 40), 0, 0
        for start in range(0, runs, CHUNK):
            shape = min(CHUNK, runs - start), 2, int(looks[-1])
            values = rng.lognormal(-(sigma**2) / 2.0, sigma, shape) if sigma else rng.exponential(1.0, shape)
            estimate, error, n = _difference(values, looks)
            passed += hits(made.log_e_pass(estimate - 1.0, error, n))
            failed += hits(made.log_e_fail(estimate - 1.0, error, n))
        task = f"`asymptotic` at its limit, two arms, {name} values, burn-in 1,000 a side"
        yield share(f"{task}: passes by 40,000 units an arm", passed, runs)
        yield share(f"{task}: fails by 40,000 units an arm", failed, runs)
    limit, step = 119_829, 500
    lift = 0.02 / (2.0 * np.sqrt(2.0) / np.sqrt(step))  # in standard errors of a step of so many pairs
    k = np.arange(1, 1_601)
    steps = np.cumsum(rng.normal(lift, 1.0, (size.few, len(k))), axis=1) / k
    for name, decide_at, most in (("", 2 * limit, 1.3), (", tuned for ten times as few", limit // 5, 1.5)):
        reached = design_wide("better_by_more_than", 0.0, decide_at).log_e_pass(steps, 1.0 / np.sqrt(k), 2.0 * step * k) >= -log(ALPHA)
        stops = np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1.0) * step, np.inf)
        yield ratio(f"`asymptotic`, two arms, lift 2 %, sd/mean 2, read every 500 pairs{name}: mean stopping time / limit", stops, limit,
                    most, "" if name else "two-sided default of gbstats 1.90")


def watches(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Change detectors of two arms: at the limit over the units that the config names, and from a change midway to the alarm."""
    n, runs = 10_000, size.few
    rare = prepare(Gate(name="rate", metric=RATE, word="worse_by_at_most", limit=0.02))
    counted = prepare(Gate(name="count", metric=COUNT, word="worse_by_at_most", limit=0.1))
    at_limit: list[tuple[ArmsTest | SplitTest, str, Draw]] = [
        (rare, "rates 0.02 and 0.04, margin 0.02", lambda shape: rng.random(shape) < 0.02 * _arms(shape)),
        (counted, "counts of 1 and 1.1, margin 0.1", lambda shape: np.asarray(rng.poisson(0.9 + 0.1 * _arms(shape))))]
    for test, task, draw in at_limit:
        alarms, _ = _alarms(test, draw, runs, n, n / ALPHA)
        yield share(f"detector of two arms at its limit, {task}: false alarm within its 10,000 pairs", alarms, runs)
    good, enough = 20_000, 20 * 100_000 / ALPHA
    midway: list[tuple[ArmsTest | SplitTest, str, Draw, Draw, float]] = [
        (rare, "rates 0.02, then 0.02 and 0.06, margin 0.02", lambda shape: rng.random(shape) < 0.02,
         lambda shape: rng.random(shape) < np.where(_arms(shape) == 1.0, 0.02, 0.06), 5_500.0),
        (counted, "counts of 1, then 1 and 1.25, margin 0.1", lambda shape: np.asarray(rng.poisson(1.0, shape)),
         lambda shape: np.asarray(rng.poisson(np.where(_arms(shape) == 1.0, 1.0, 1.25))), 4_000.0)]
    for test, task, before, after, most in midway:
        early, delays = _alarms(test, before, runs, good, enough, after=after)
        yield share(f"detector of two arms among 20, {task}: alarm in the 20,000 pairs before the change", early, runs, most=ALPHA / 20)
        found = np.where(np.isfinite(delays), delays, good)
        yield Measured(task=f"detector of two arms among 20, {task}: pairs from the change to the alarm, mean", value=float(found.mean()),
                       most=most, runs=runs, error=float(found.std() / np.sqrt(runs)))


def _arms(shape: tuple[int, int]) -> Floats:
    """1 for each unit of the incumbent, 2 for each of the challenger, in turn."""
    return np.broadcast_to(1.0 + np.arange(shape[1]) % 2, shape)


def _alarms(
    test: ArmsTest | SplitTest, draw: Draw, runs: int, n: int, enough: float, after: Draw | None = None
) -> tuple[int, Floats]:
    """(runs with an alarm in n pairs, pairs from then to the alarm of each other run, infinite for none in as many again)."""
    if not isinstance(test, ArmsTest):
        raise InputError("the split has no change detector")
    alarms, delays = 0, []
    for _ in range(runs):
        watch, arm = test.detector(1), np.arange(2 * STEP) % 2
        raised, at = False, 0
        while not raised and at < (n if after is None else 2 * n):
            source = draw if at < n or after is None else after
            values = np.asarray(source((1, 2 * STEP))[0], np.float64)
            rows = values, np.ones(len(arm)), np.zeros(len(arm)), arm, 0 * arm
            raised, at = watch.take(0, rows, values[1::2] - values[::2], enough), at + STEP
        alarms += raised and at <= n
        if not (raised and at <= n):
            delays.append(at - n if raised else np.inf)
    return alarms, np.array(delays)


def _difference(values: Floats, looks: Ints) -> tuple[Floats, Floats, Floats]:
    """(challenger - incumbent, standard error, units) at each look, shape (runs, looks), from values of shape (runs, 2, units)."""
    n = looks.astype(np.float64)
    total, squares = (np.cumsum(values**power, axis=2)[:, :, looks - 1] for power in (1, 2))
    variance = (squares - total**2 / n) / (n - 1.0)
    means = total / n
    return means[:, 1] - means[:, 0], np.sqrt(variance.sum(axis=1) / n), np.broadcast_to(2.0 * n, means[:, 0].shape)
