"""The goals of the statistics, measured: error rates at the limits, stopping times as ratios to the information limit, delays.

A look at every contribution unless a line says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log

import numpy as np

from analysis.calibration.measure import ALPHA, NEVER, Measured, Size, arrivals, kl, ratio, share, stopping_times
from analysis.gates import Test, closed_test, prepare
from analysis.metrics.support import Floats, Ints
from analysis.sampling import ALPHA as SAMPLING_ALPHA
from analysis.sampling import Sampling
from analysis.sequential.designs import Question, design
from analysis.sequential.detector import Detectors
from analysis.sequential.mixture import Process
from analysis.types import Gate, Metric

FLIP = Metric(kind="flip", policy="p")
RATE = Gate(name="rate", metric=FLIP, word="below", limit=0.02)


def goals(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """The lines of the table of goals."""
    for part in (rate_gate, paired_accuracy, fail_side, whole_verdict, detectors, propensities):
        yield from part(rng, size)


def rate_gate(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """A rate under 0.02, designed for 0.01."""
    process = prepare(RATE).design.pass_[0]
    runs = size.runs // 5
    for truth, most, published in ((0.01, 1.25, "1.12"), (0.005, 1.35, "1.18"), (0.015, 1.6, "1.28")):
        times = arrivals(rng, runs, truth, 60_000)
        stops = stopping_times(process, times, np.ones(times.shape), 60_000)
        limit = log(1 / ALPHA) / kl(truth, 0.02)
        yield ratio(f"rate below 0.02, truth {truth}: mean stopping time / limit", stops, limit, most, published)
    times = np.array([[10_000]])
    yield Measured(task="rate below 0.02, no event at all: decided after", runs=0, most=205, published="201",
                   value=float(stopping_times(process, times, np.ones((1, 1)), 5_000)[0]))
    times = arrivals(rng, size.runs, 0.02, 60_000)
    stops = stopping_times(process, times, np.ones(times.shape), 60_000)
    yield share("rate below 0.02, truth 0.02: passes by 60,000", int(np.isfinite(stops).sum()), size.runs, published="0.048")


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
        yield ratio(task, stops, 3_048.0, most, published)
        stops = stopping_times(process(given), *_pairs(rng, size.runs, mean=-0.01, differ=0.05, horizon=40_000), 40_000)
        yield share(f"the same, worse by 0.01: passes by 40,000 (discordance {said})", int(np.isfinite(stops).sum()), size.runs)
    stops = stopping_times(process(0.05, 0.94 * 0.01), *_pairs(rng, runs, mean=0.0, differ=0.05, horizon=100_000), 100_000)
    labels = stops[np.isfinite(stops)] * 0.05
    yield Measured(task="labels until decided, only disagreements labelled, reviewers wrong in 3 %", value=float(labels.mean()), most=210,
                   runs=runs, error=float(labels.std() / np.sqrt(runs)), published="188")


def fail_side(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Twenty gates, closed testing; 200 looks in 20,000 contributions."""
    test, runs = prepare(RATE), size.few
    stopped = sum(np.isfinite(_first_fail(rng, test, np.full(20, 0.02), 200, 100, ALPHA)) for _ in range(runs))
    task = "20 gates at their limits: stopped by a fail within 20,000"
    yield share(task, int(stopped), runs, published="0.02; every fail at alpha 0.37")
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
    test, runs, members = prepare(RATE), max(size.few // 2, 12), 100
    level = ALPHA / 3.0
    stopped = alarmed = promoted = 0
    for _ in range(runs):
        stopped += any(np.isfinite(_first_fail(rng, test, np.full(members, 0.02), 60, 50, level)) for _ in range(3))
        alarmed += any(_alarms(rng, test, members, 3_000, members * 3_000 / level) for _ in range(3))
    yield share("20 gates x 5 segments x 3 stages, all at their limits: stopped by a fail", stopped, runs)
    yield share("the same: stopped by an alarm", alarmed, runs)
    runs = max(size.runs // 20, 100)
    for _ in range(runs):  # 99 of the members are far better than their limit, one is at it: a promotion would be false
        events = np.cumsum(rng.binomial(50, np.append(np.full(99, 0.001), 0.02)[:, None], (members, 60)), axis=1)
        n = 50 * np.arange(1, 61)
        log_e = test.log_e_pass(np.stack([n - events, events], axis=-1))
        promoted += bool((log_e >= -log(ALPHA)).all(axis=0).any())
    yield share("the same with 99 good members and one at its limit: promoted", promoted, runs)


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
    yield share("detector at its limit: false alarm within its 10,000 units", len(found), runs, published="0.035")
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
        row, cell, part = test.support.spread(values, weights)
        np.add.at(counts, (row // 20, cell), part)
        passes += bool((test.log_e_pass(np.cumsum(counts, axis=0)) >= -log(ALPHA)).any())
    yield share("false passes, a weighted rate of a class at its limit, label chance depends on the number", passes, runs)
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
