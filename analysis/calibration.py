"""The goals of the statistics, measured: error rates at the limits, stopping times as ratios to the information limit, delays.

Seeded, so that two runs print the same table. `make calibrate` runs it whole and prints it for docs/statistics.md; the tests run it
reduced. A look at every contribution unless a line says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log

import numpy as np

from analysis.gates import Test, closed_test, prepare
from analysis.metrics.support import Floats, Ints
from analysis.sampling import ALPHA as SAMPLING_ALPHA
from analysis.sampling import Sampling
from analysis.sequential.designs import Kind, Question, design
from analysis.sequential.detector import Detectors
from analysis.sequential.mixture import Process, log_sum_exp
from analysis.types import Gate, Metric, Word

ALPHA = 0.05
FLIP = Metric(kind="flip", policy="p")
RATE = Gate(name="rate", metric=FLIP, word="below", limit=0.02)
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


FULL, REDUCED = Size(10_000, 400), Size(200, 40)


def everything(size: Size, seed: int = 20240611) -> Iterator[Measured]:
    """The whole table, a line at a time."""
    rng = np.random.default_rng(seed)
    for part in (rate_gate, paired_accuracy, gate_kinds, fail_side, whole_verdict, detectors, propensities):
        yield from part(rng, size)


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


def _ratio(task: str, stops: Floats, limit: float, most: float, published: str) -> Measured:
    ratios = np.where(np.isfinite(stops), stops, 4.0 * limit) / limit
    return Measured(task=task, value=float(ratios.mean()), most=most, runs=len(stops), error=float(ratios.std() / np.sqrt(len(stops))),
                    published=published)


def _share(task: str, hits: int, runs: int, most: float = ALPHA, published: str = "") -> Measured:
    error = float(np.sqrt(most * (1.0 - most) / runs))
    return Measured(task=task, value=hits / runs, most=most, runs=runs, error=error, published=published)


def kl(q: float, p: float) -> float:
    """Kullback-Leibler divergence of a Bernoulli(q) from a Bernoulli(p), in nats a contribution."""
    return q * log(q / p) + (1.0 - q) * log((1.0 - q) / (1.0 - p))


# -------------------------------------------------------------------------------------------------------------- the lines
def rate_gate(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """A rate under 0.02, designed for 0.01."""
    process = prepare(RATE).design.pass_[0]
    runs = size.runs // 5
    for truth, most, published in ((0.01, 1.25, "1.12"), (0.005, 1.35, "1.18"), (0.015, 1.6, "1.28")):
        times = arrivals(rng, runs, truth, 60_000)
        stops = stopping_times(process, times, np.ones(times.shape), 60_000)
        limit = log(1 / ALPHA) / kl(truth, 0.02)
        yield _ratio(f"rate below 0.02, truth {truth}: mean stopping time / limit", stops, limit, most, published)
    times = np.array([[10_000]])
    yield Measured(task="rate below 0.02, no event at all: decided after", runs=0, most=205, published="201",
                   value=float(stopping_times(process, times, np.ones((1, 1)), 5_000)[0]))
    times = arrivals(rng, size.runs, 0.02, 60_000)
    stops = stopping_times(process, times, np.ones(times.shape), 60_000)
    yield _share("rate below 0.02, truth 0.02: passes by 60,000", int(np.isfinite(stops).sum()), size.runs, published="0.048")


def _pairs(rng: np.random.Generator, runs: int, *, mean: float, differ: float, horizon: int) -> tuple[Ints, Floats]:
    times = arrivals(rng, runs, differ, horizon)
    return times, np.where(rng.random(times.shape) < 0.5 * (1.0 + mean / differ), 1.0, -1.0)


def paired_accuracy(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Accuracy worse by at most 0.01, the models differ on 5 % of the events, truth equal."""
    runs = size.runs // 5

    def process(discordance: float | None, margin: float = 0.01) -> Process:
        return design(Question(kind="sign", low=-1.0, high=1.0, word="worse_by_at_most", limit=margin, discordance=discordance)).pass_[0]

    for given, most, published in ((0.05, 1.25, "1.09"), (None, 1.6, "1.4 to 1.55")):
        said = "given" if given else "not given"
        stops = stopping_times(process(given), *_pairs(rng, runs, mean=0.0, differ=0.05, horizon=40_000), 40_000)
        task = f"accuracy worse by at most 0.01, discordance 0.05 {said}: mean stopping time / limit"
        yield _ratio(task, stops, 3_048.0, most, published)
        stops = stopping_times(process(given), *_pairs(rng, size.runs, mean=-0.01, differ=0.05, horizon=40_000), 40_000)
        yield _share(f"the same, worse by 0.01: passes by 40,000 (discordance {said})", int(np.isfinite(stops).sum()), size.runs)
    stops = stopping_times(process(0.05, 0.94 * 0.01), *_pairs(rng, runs, mean=0.0, differ=0.05, horizon=100_000), 100_000)
    labels = stops[np.isfinite(stops)] * 0.05
    yield Measured(task="labels until decided, only disagreements labelled, reviewers wrong in 3 %", value=float(labels.mean()), most=210,
                   runs=runs, error=float(labels.std() / np.sqrt(runs)), published="188")


_KINDS: tuple[tuple[str, Kind, Word, float, float], ...] = (
    ("a rate above 0.9", "rate", "above", 0.9, 0.9),
    ("a difference better by more than 0", "sign", "better_by_more_than", 0.0, 0.0),
    ("a difference within 0.02, at its upper end", "sign", "within", 0.02, 0.02),
    ("a mean of numbers in [-1, 1] worse by at most 0.05", "numeric", "worse_by_at_most", 0.05, -0.05),
    ("a mean of numbers in [-1, 1] below 0.3", "numeric", "below", 0.3, 0.3),
)


def gate_kinds(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """False passes of each kind of gate at its limit, and false fails of the same there; 200 looks in 10,000 contributions."""
    runs, n_looks, step = max(size.runs // 10, 100), 200, 50
    for task, kind, word, limit, truth in _KINDS:
        low = 0.0 if kind == "rate" else -1.0
        made = design(Question(kind=kind, low=low, high=1.0, word=word, limit=limit))
        values = np.linspace(low, 1.0, 2 if kind == "rate" else 3 if kind == "sign" else 21)
        chances = np.array([1.0 - truth, truth]) if kind == "rate" else _around(truth, len(values))
        passes = fails = 0
        for _ in range(runs):
            counts = np.cumsum(rng.multinomial(step, chances, n_looks), axis=0)
            passes += bool((made.log_e_pass(counts, values) >= -log(ALPHA)).any())
            fails += bool((made.log_e_fail(counts, values) >= -log(ALPHA)).any())
        yield _share(f"false passes, {task}", passes, runs)
        yield _share(f"false fails, {task}", fails, runs)


def _around(mean: float, n: int) -> Floats:
    """Chances of n equal steps over [-1, 1] with this mean: most of the mass at 0, the rest at both ends and evenly between."""
    if n == 3:
        return np.array([(0.1 - mean) / 2.0, 0.9, (0.1 + mean) / 2.0])
    values = np.linspace(-1.0, 1.0, n)
    chances = np.exp(values * 3.0 * mean / (1.0 - mean**2))
    for _ in range(60):
        chances *= np.exp(values * (mean - chances @ values / chances.sum()) * 2.0)
    return chances / chances.sum()  # type: ignore[no-any-return]


def fail_side(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Twenty gates, closed testing; 200 looks in 20,000 contributions."""
    test, runs = prepare(RATE), size.few
    stopped = sum(np.isfinite(_first_fail(rng, test, np.full(20, 0.02), 200, 100, ALPHA)) for _ in range(runs))
    task = "20 gates at their limits: stopped by a fail within 20,000"
    yield _share(task, int(stopped), runs, published="0.02; every fail at alpha 0.37")
    truths = np.append(np.full(19, 0.01), 0.04)
    first = [_first_fail(rng, test, truths, 300, 20, ALPHA) for _ in range(runs)]
    yield Measured(task="one gate at twice its limit among 19 good ones: fails after", value=float(np.mean(first)), most=900, runs=runs,
                   error=float(np.std(first) / np.sqrt(runs)), published="758; alone 420")


def _first_fail(rng: np.random.Generator, test: Test, truths: Floats, n_looks: int, step: int, level: float) -> float:
    """The contribution at which any gate of a closed test first fails; infinite if none does."""
    events = np.cumsum(rng.binomial(step, truths[:, None], (len(truths), n_looks)), axis=1)
    n = step * np.arange(1, n_looks + 1)
    log_e = test.log_e_fail(np.stack([n - events, events], axis=-1))
    for at in np.flatnonzero((log_e >= -log(level)).any(axis=0)).tolist():
        if closed_test(log_e[:, at], -log(level)).any():
            return float(n[at])
    return NEVER


def whole_verdict(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Twenty gates by five segments in three stages: 100 members of the closed test in each, 60 looks in 3,000 contributions a segment."""
    test, runs, members = prepare(RATE), max(size.few // 2, 20), 100
    level = ALPHA / 3.0
    stopped = alarmed = promoted = 0
    for _ in range(runs):
        stopped += any(np.isfinite(_first_fail(rng, test, np.full(members, 0.02), 60, 50, level)) for _ in range(3))
        alarmed += any(_alarms(rng, test, members, 3_000, members * 3_000 / level) for _ in range(3))
    yield _share("20 gates x 5 segments x 3 stages, all at their limits: stopped by a fail", stopped, runs)
    yield _share("the same: stopped by an alarm", alarmed, runs)
    runs = max(size.runs // 20, 100)
    for _ in range(runs):  # 99 of the members are far better than their limit, one is at it: a promotion would be false
        events = np.cumsum(rng.binomial(50, np.append(np.full(99, 0.001), 0.02)[:, None], (members, 60)), axis=1)
        n = 50 * np.arange(1, 61)
        log_e = test.log_e_pass(np.stack([n - events, events], axis=-1))
        promoted += bool((log_e >= -log(ALPHA)).all(axis=0).any())
    yield _share("the same with 99 good members and one at its limit: promoted", promoted, runs)


def _alarms(rng: np.random.Generator, test: Test, members: int, n: int, enough: float) -> bool:
    watch = Detectors(test.design.fail, True)
    watch.grow(members)
    values = rng.binomial(1, 0.02, n * members).astype(np.float64)
    rows = np.stack([values, np.ones(len(values))], axis=-1)
    return bool(watch.add(np.repeat(np.arange(members), n), rows, np.full(members, enough)))


def detectors(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Change detectors: false alarms of one at its limit, and how long after a change they find it (K = 20, N = 40,000)."""
    test, runs = prepare(RATE), size.few
    n = 10_000
    watch = Detectors(test.design.fail, True)
    watch.grow(runs)
    values = rng.binomial(1, 0.02, n * runs).astype(np.float64)
    found = watch.add(np.repeat(np.arange(runs), n), np.stack([values, np.ones(n * runs)], axis=-1), np.full(runs, n / ALPHA))
    yield _share("detector at its limit: false alarm within its 10,000 units", len(found), runs, published="0.035")
    for after, most, published in ((0.03, 5_500, "4,800"), (0.04, 1_700, "1,400"), (0.06, 650, "490")):
        watch = Detectors(test.design.fail, True)
        watch.grow(runs)
        good, bad = 20_000, 20_000
        drawn = [rng.binomial(1, 0.005, (runs, good)), rng.binomial(1, after, (runs, bad))]
        values = np.concatenate(drawn, axis=1).ravel().astype(np.float64)
        found = watch.add(np.repeat(np.arange(runs), good + bad), np.stack([values, np.ones(len(values))], axis=-1),
                          np.full(runs, 20 * 40_000 / ALPHA))
        delays = np.array([at - slot * (good + bad) - good for slot, at in found.items()] + [bad] * (runs - len(found)), np.float64)
        yield Measured(task=f"rate 0.005, then {after}: units from the change to the alarm, mean", value=float(delays.mean()), most=most,
                       runs=runs, error=float(delays.std() / np.sqrt(runs)), published=published)


def propensities(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Labels drawn with a recorded propensity: false passes at the limit, and how soon lost labels are found."""
    metric = Metric(kind="harm", policy="p", truth=False, decisions=("true",), least=0.1)
    test, runs = prepare(Gate(name="weighted", metric=metric, word="below", limit=0.3)), size.few
    passes = 0
    for _ in range(runs):
        truth = rng.random(10_000) < 0.3
        chance = np.where(truth, 0.3, 0.15)
        known = rng.random(10_000) < chance
        values, weights = truth[known].astype(np.float64), 1.0 / chance[known]
        counts = np.zeros((-(-len(values) // 20), test.support.n_values), np.int64)
        row, cell, share = test.support.spread(values, weights)
        np.add.at(counts, (row // 20, cell), share)
        passes += bool((test.log_e_pass(np.cumsum(counts, axis=0)) >= -log(ALPHA)).any())
    yield _share("false passes, a weighted rate of a class at its limit, label chance depends on the number", passes, runs)
    first = [_found_lost(rng, 0.25, 0.1, 30_000) for _ in range(min(runs, 100))]
    yield Measured(task="a tenth of the labels drawn at 0.25 lost: found after", value=float(np.mean(first)), most=8_000, runs=len(first),
                   error=float(np.std(first) / np.sqrt(len(first))), published="5,900")


def _found_lost(rng: np.random.Generator, chance: float, lost: float, n: int) -> float:
    gate = Gate(name="w", metric=Metric(kind="loss", loss="zero_one", policy="p", least=chance), word="below", limit=0.5)
    test = Sampling((gate,)).test
    drawn = rng.binomial(100, chance * (1.0 - lost), n // 100)
    counts = np.zeros((len(drawn), test.support.n_values), np.int64)
    counts[:, 0], counts[:, -1] = (100 - drawn) * test.support.one, drawn * test.support.one
    fired = test.log_e_fail(np.cumsum(counts, axis=0)) >= -log(SAMPLING_ALPHA)
    return float(100 * (np.argmax(fired) + 1)) if fired.any() else float(n)


def table(lines: list[Measured], show: Callable[[float], str] | None = None) -> str:
    """The lines as a Markdown table."""
    show = show or (lambda x: f"{x:,.0f}" if x >= 100 else f"{x:.3g}")
    rows = [f"| {m.task} | {show(m.value)} | {show(m.most)} | {m.published} | {m.runs or 'computed'} | {'yes' if m.met else '**no**'} |"
            for m in lines]
    return "\n".join(["| task | measured | at most | published | runs | met |", "|---|---|---|---|---|---|", *rows]) + "\n"
