"""What every line of the calibration shares: what is measured and promised, stopping times, and the table for the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np

from analysis.metrics.support import Floats, Ints
from analysis.sequential.mixture import Process, log_sum_exp

ALPHA = 0.05
NEVER = np.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line of the table. most: what it must not exceed. runs: simulated; 0 where it is computed. error: its standard error."""

    task: str
    value: float
    most: float
    runs: int
    error: float = 0.0
    published: str = ""

    @property
    def met(self) -> bool:
        """Whether it is within its goal, two standard errors allowed."""
        return self.value <= self.most + 2.0 * self.error


@dataclass(frozen=True, slots=True)
class Size:
    """How many runs: of cheap lines, and of those that need a loop."""

    runs: int
    few: int


FULL, REDUCED = Size(10_000, 400), Size(200, 24)


# ---------------------------------------------------------------------------------------------------------- stopping times
def stopping_times(process: Process, times: Ints, values: Floats, horizon: int, *, level: float = ALPHA) -> Floats:
    """The first contribution at which each run's e-value reaches 1/level, infinite if it does not by the horizon; shape (runs,).

    Args:
        process: The e-process.
        times: When the contributions that are not 0 come, 1, 2, ..., rising; shape (runs, events). The last lies past the horizon.
        values: What they are, of the same shape; every other contribution is 0.
        horizon: The last contribution looked at.
        level: One over the e-value that is enough.
    """
    enough, log_weights = -log(level), process.bets.log_weights
    (nothing,) = process.log_factors(np.array([0.0]), process.limit)
    found = np.full(len(times), NEVER)
    block = max(1, 2_000_000 // (times.shape[1] * len(log_weights)))
    for start in range(0, len(times), block):
        when, what = times[start : start + block], values[start : start + block]
        distinct, of = np.unique(what, return_inverse=True)
        steps = process.log_factors(distinct, process.limit)[of.reshape(what.shape)]
        after = np.cumsum(steps - nothing, axis=1) + log_weights  # without the zeros, of which there are as many as time has passed
        before = np.concatenate([np.broadcast_to(log_weights, (len(when), 1, len(log_weights))), after[:, :-1]], axis=1)
        if nothing[0] > 0.0:  # evidence grows while nothing comes: it is largest just before the next event
            last = np.minimum(when - 1, horizon)
            reached = log_sum_exp(before + last[..., None] * nothing) >= enough
        else:  # it is largest right at an event
            last = when
            reached = (log_sum_exp(after + when[..., None] * nothing) >= enough) & (when <= horizon)
        for run in np.flatnonzero(reached.any(axis=1)).tolist():
            k = int(np.argmax(reached[run]))
            previous = int(when[run, k - 1]) if k else 0
            found[start + run] = when[run, k] if last is when else _inside(before[run, k], nothing, previous - 1, int(last[run, k]), enough)
    return found


def _inside(log_wealth: Floats, nothing: Floats, low: int, high: int, enough: float) -> int:
    """The first time in (low, high] at which the e-value is enough; it only rises or only falls while nothing comes."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if log_sum_exp(log_wealth + middle * nothing) >= enough else (middle, high)
    return high


def arrivals(rng: np.random.Generator, runs: int, chance: float, horizon: int) -> Ints:
    """Times of the contributions that are not 0, each with this chance; shape (runs, events), the last past the horizon."""
    n = int(horizon * chance + 8.0 * np.sqrt(horizon * chance) + 12.0)
    times = np.cumsum(rng.geometric(chance, (runs, n)), axis=1)
    return np.concatenate([times, np.full((runs, 1), 4 * horizon)], axis=1)


def ratio(task: str, stops: Floats, limit: float, most: float, published: str) -> Measured:
    ratios = np.where(np.isfinite(stops), stops, 4.0 * limit) / limit
    return Measured(task=task, value=float(ratios.mean()), most=most, runs=len(stops), error=float(ratios.std() / np.sqrt(len(stops))),
                    published=published)


def share(task: str, hits: int, runs: int, most: float = ALPHA, published: str = "") -> Measured:
    error = float(np.sqrt(most * (1.0 - most) / runs))
    return Measured(task=task, value=hits / runs, most=most, runs=runs, error=error, published=published)


def kl(q: float, p: float) -> float:
    """Kullback-Leibler divergence of a Bernoulli(q) from a Bernoulli(p), in nats a contribution."""
    return q * log(q / p) + (1.0 - q) * log((1.0 - q) / (1.0 - p))


def table(lines: list[Measured], show: Callable[[float], str] | None = None) -> str:
    """The lines as a Markdown table."""
    show = show or (lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.3g}")
    rows = [f"| {m.task} | {show(m.value)} | {show(m.most) if np.isfinite(m.most) else ''} | {m.published} | {m.runs or 'computed'} "
            f"| {('yes' if m.met else '**no**') if np.isfinite(m.most) else ''} |" for m in lines]
    return "\n".join(["| task | measured | at most | published | runs | met |", "|---|---|---|---|---|---|", *rows]) + "\n"


def pairs_table(lines: list[tuple[Measured, Measured]]) -> str:
    """False passes and false fails of one gate in a row."""
    rows = [f"| {a.task} | {a.value:.3g} | {b.value:.3g} | {a.runs} | {'yes' if a.met and b.met else '**no**'} |" for a, b in lines]
    return "\n".join(["| gate at its limit | passes | fails | runs | both at most 0.05 |", "|---|---|---|---|---|", *rows]) + "\n"
