"""What voids the guarantee of many tests, done to ours: drift, clusters, copies, late labels, partitions that run ahead, a change midway.

Each line says what the product does and, where there is one, what the wrong way gives on the same streams: the contrast shows that the
condition is a hard one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log

import numpy as np

from analysis.calibration.measure import ALPHA, Measured, Size, share
from analysis.calibration.runs import log_e_of_runs
from analysis.gates import Test, prepare
from analysis.metrics.support import Floats, Ints
from analysis.sequential.detector import Detectors
from analysis.simulate import Late, flips, late_labels, persistent, turns, waves
from analysis.types import Gate, Metric

FLIP = Metric(kind="flip", policy="p")
RATE = Gate(name="rate", metric=FLIP, word="below", limit=0.02)
HALF = Gate(name="half", metric=FLIP, word="below", limit=0.5)
LOSS = Gate(name="accuracy", metric=Metric(kind="loss", loss="zero_one", policy="p"), word="worse_by_at_most", limit=0.01,
            discordance=0.05)
DAY_US = 86_400_000_000


def conditions(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """The lines of the table of hard conditions."""
    for part in (drift, clusters, users, copies, labels, change):
        yield from part(rng, size)


def hits(log_e: Floats) -> int:
    """How many runs reach 1/alpha at any look; log_e has the shape (runs, looks)."""
    return int((log_e >= -log(ALPHA)).any(axis=-1).sum())


def wrong(task: str, n: int, runs: int, published: str) -> Measured:
    """A contrast: nothing is promised of it, so it is met whatever it is."""
    return Measured(task=f"*wrong:* {task}", value=n / runs, most=np.inf, runs=runs, published=published)


def _by_look(values: Ints, step: int) -> Ints:
    """Counts of 0 and 1 at each `step`-th contribution, shape (runs, looks, 2), from values of shape (runs, n)."""
    ones = np.cumsum(values.reshape(len(values), -1, step).sum(axis=-1), axis=1)
    return np.stack([step * np.arange(1, ones.shape[1] + 1) - ones, ones], axis=-1)


def drift(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Means that never stay: what is rejected is said of their running mean, for both sides of the limit."""
    test, runs = prepare(HALF), max(size.runs // 10, 100)
    for name, means in (("means 0.45 and 0.55 in turn", turns(0.45, 0.55, 1, 10_000)),
                        ("means 0.55 and 0.45 in turns of 500", turns(0.55, 0.45, 500, 10_000)),
                        ("means in waves of 0.3 to 0.7, 2,000 long", waves(0.5, 0.2, 2_000, 10_000))):
        counts = _by_look((rng.random((runs, len(means))) < means).astype(np.int64), 25)
        running = (np.cumsum(means) / np.arange(1, len(means) + 1))[24::25]
        passes, fails = test.log_e_pass(counts), test.log_e_fail(counts)
        said = "0.03" if name.endswith("in turn") else ""
        task = f"{name}, limit 0.5: rejected while the running mean"
        yield share(f"{task} is not under it", hits(np.where(running >= 0.5 - 1e-12, passes, -np.inf)), runs, published=said)
        yield share(f"{task} is not over it", hits(np.where(running <= 0.5 + 1e-12, fails, -np.inf)), runs, published=said)


def clusters(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Five events that are all alike of each unit, the rate of units at its limit."""
    runs, n_units = max(size.runs // 25, 40), 4_000
    right = apart = 0
    for first in range(0, runs, 20):
        n_runs = min(20, runs - first)
        unit = np.repeat(np.arange(n_runs * n_units), 5)
        what = np.repeat(rng.random(n_runs * n_units) < 0.02, 5)
        table, run = flips(what, unit), unit // n_units
        table = replace(table, columns={**table.columns, "arrived": table["arrived"] % (5 * n_units * 1_000_000)})
        looks = np.arange(1, 101) * 5 * n_units * 10_000
        right += hits(log_e_of_runs(prepare(RATE), table, run, looks)[0])
        alone = replace(table, columns={**table.columns, "unit_id": np.arange(len(unit)).astype(np.uint64)})
        apart += hits(log_e_of_runs(prepare(RATE), alone, run, looks)[0])
    yield share("five equal events a unit, rate 0.02 at its limit, unit `first`: passes", right, runs)
    yield wrong("each event counted as a unit of its own", apart, runs, "0.64")


def users(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """2,000 users who come back for 30 days, each with a rate of its own; the limit is their mean."""
    runs = max(size.runs // 50, 30)
    gates = [("`first`", RATE), ("`mean`", replace(RATE, unit="mean", unit_window_us=7 * DAY_US))]
    ever = 1.0 - np.prod([(4.9 + k) / (5.0 + k) for k in range(7)])  # of a Beta(0.1, 4.9): never in seven days
    gates.append(("`ever`", replace(RATE, limit=float(ever), unit="ever", unit_window_us=7 * DAY_US)))
    found, days = dict.fromkeys((name for name, _ in gates), 0), 0
    for _ in range(runs):
        table = persistent(rng, 2_000, 30)
        run, looks = np.zeros(len(table), np.int64), (np.arange(300) + 1) * DAY_US // 10
        for name, gate in gates:
            found[name] += hits(log_e_of_runs(prepare(gate), table, run, looks)[0])
        alone = replace(table, columns={**table.columns, "unit_id": np.arange(len(table)).astype(np.uint64)})
        days += hits(log_e_of_runs(prepare(RATE), alone, run, looks)[0])
    for name, _ in gates:
        yield share(f"2,000 users for 30 days, rates Beta(0.1, 4.9), at the limit, unit {name}: passes", found[name], runs,
                    published={"`first`": "0.03", "`mean`": "0.01"}.get(name, ""))
    yield wrong("a contribution a user and day", days, runs, "0.21")


def copies(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Events delivered once to six times, those without a flip more often; limit 0.02."""
    runs, n = max(size.runs // 25, 40), 4_000
    test, right, naive = prepare(RATE), 0, 0
    for _ in range(runs):
        flipped = rng.random(n) < 0.02
        times = np.where(flipped, 1, rng.integers(1, 7, n))
        table = flips(np.repeat(flipped, times), np.repeat(np.arange(n), times))
        run, looks = np.zeros(len(table), np.int64), np.linspace(0, table["arrived"][-1], 101)[1:].astype(np.int64)
        right += hits(log_e_of_runs(test, table, run, looks)[0])
        alone = replace(table, columns={**table.columns, "unit_id": np.arange(len(table)).astype(np.uint64)})
        naive += hits(log_e_of_runs(test, alone, run, looks)[0])
    yield share("copies fed on purpose, more of those without a flip, rate 0.02 at its limit: passes", right, runs)
    yield wrong("each copy counted", naive, runs, "0.29 to 0.94")


def labels(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """Labels that come the later the worse they are for the challenger, exactly at the margin; and partitions read to unequal positions."""
    test, runs, looks = prepare(LOSS), max(size.runs // 25, 40), np.arange(200, 40_001, 200)
    asked = prepare(replace(LOSS, metric=replace(LOSS.metric, least=1.0, requested=True)))
    for delay, published in ((20, ("0.016", "0.38", "0.14", "0.33", "0.03")), (100, ("0.019", "1.00", "0.25", "0.98", "0.016"))):
        found = np.zeros(5, np.int64)
        for _ in range(runs):
            stream = late_labels(rng, 40_000, mean=-0.01, discordance=0.05, delay=delay, slower=20.0)
            ways = (stream.in_prefix(), stream.by_arrival(), stream.own_watermarks(8), stream.own_watermarks(64))
            log_e = [_log_e_of_signs(test, stream.values, since, looks) for since in ways]
            found += [hits(path) for path in (*log_e, _log_e_filled(asked, stream, looks))]
        said = f"labels {delay} events late, 20 times later where only the challenger is wrong, at the margin"
        yield share(f"{said}; one prefix: passes", int(found[0]), runs, published=published[0])
        yield share(f"{said}; every event at once, labels that wait filled: passes", int(found[4]), runs, published=published[4])
        yield wrong(f"{said}; in order of arrival", int(found[1]), runs, published[1])
        for k, n in ((2, 8), (3, 64)):
            yield wrong(f"{said}; {n} partitions, each up to its own watermark", int(found[k]), runs, published[k])


def _log_e_of_signs(test: Test, values: Ints, since: Floats, looks: Ints) -> Floats:
    """Log e-value of the pass at each look, shape (looks,), from values that count from a time on."""
    look = np.searchsorted(looks, since, side="left")
    kept = look < len(looks)
    counts = np.bincount(look[kept] * 3 + values[kept] + 1, minlength=3 * len(looks)).reshape(-1, 3)
    return test.log_e_pass(np.cumsum(counts, axis=0))


def _log_e_filled(test: Test, stream: Late, looks: Ints) -> Floats:
    """The same from all events so far, whose labels were all asked for: those that wait count as the worst, nothing waits to mature."""
    arrived, known = np.arange(len(stream.values)), np.searchsorted(looks, stream.known_at, side="left")
    seen, cells = np.searchsorted(looks, arrived, side="left"), test.support.n_values
    differs, n = stream.values != 0, len(looks)

    def by_look(look: Ints, values: Ints, amount: int) -> Ints:
        kept, at = look < n, (values + 1) * (cells // 2)
        return amount * test.support.one * np.bincount(look[kept] * cells + at[kept], minlength=n * cells).reshape(n, cells)

    def waiting(end: int) -> Ints:
        ends = np.full(int(differs.sum()), end)
        return np.cumsum(by_look(seen[differs], ends, 1) + by_look(known[differs], ends, -1), axis=0)

    told = np.cumsum(by_look(np.where(differs, known, seen), stream.values, 1), axis=0)
    return test.log_e_pass(told, test.filled(waiting(-1), waiting(1)))


def change(rng: np.random.Generator, size: Size) -> Iterator[Measured]:
    """A rate of 0.005 for 20,000 units, then 0.03 for 20,000, limit 0.02; the detector's level is that of 20 members over 40,000 units."""
    test, runs, good = prepare(RATE), max(size.few // 2, 40), 20_000
    values = np.concatenate([rng.random((runs, good)) < 0.005, rng.random((runs, good)) < 0.03], axis=1).astype(np.float64)
    watch = Detectors(test.design.fail, True)
    watch.grow(runs)
    slots = np.repeat(np.arange(runs), 2 * good)
    rows = np.stack([values.ravel(), np.ones(values.size)], axis=-1)
    found = watch.add(slots, rows, np.full(runs, 20 * 2 * good / ALPHA))
    at = np.array([found.get(run, np.inf) - 2 * good * run for run in range(runs)])
    task = "rate 0.005 for 20,000 units, then 0.03 for as many, limit 0.02"
    yield share(f"{task}: alarm before the change", int((at < good).sum()), runs, most=ALPHA / 20)
    yield share(f"{task}: no alarm after it", int(np.isinf(at).sum()), runs)
    ones = values.sum(axis=1).astype(np.int64)
    passes = test.log_e_pass(np.stack([2 * good - ones, ones], axis=-1))
    yield wrong(f"{task}: without a detector the gate still passes at the end", int((passes >= -log(ALPHA)).sum()), runs, "0.47")
