"""Two arms and asymptotic sequences: error rates at the limits, and how long a decision takes, look by look."""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import numpy as np

from analysis.calibration.conditions import hits
from analysis.calibration.measure import ALPHA, Measured, Size, ratio, share
from analysis.metrics.support import Floats, Ints
from analysis.sequential.normal import design_wide

CHUNK = 50


def arms(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """The lines of the table of two arms."""
    for part in (sequences,):
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


def _difference(values: Floats, looks: Ints) -> tuple[Floats, Floats, Floats]:
    """(challenger - incumbent, standard error, units) at each look, shape (runs, looks), from values of shape (runs, 2, units)."""
    n = looks.astype(np.float64)
    total, squares = (np.cumsum(values**power, axis=2)[:, :, looks - 1] for power in (1, 2))
    variance = (squares - total**2 / n) / (n - 1.0)
    means = total / n
    return means[:, 1] - means[:, 0], np.sqrt(variance.sum(axis=1) / n), np.broadcast_to(2.0 * n, means[:, 0].shape)
