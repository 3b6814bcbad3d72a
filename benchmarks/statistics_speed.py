"""`make bench-statistics`: what the statistics cost: an observation, a look, an interval; as ratios to `numpy.cumsum` in the same run.

    python benchmarks/statistics_speed.py [--write docs/performance.md] [--runs 30] [--n 50000]

The best of some runs each, as a busy machine only ever adds time. Beside other libraries: `compare_libraries.py`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
from calibrate import write

from analysis.gates import prepare
from analysis.metrics.support import Support
from analysis.metrics.tally import Batch, Tally
from analysis.sequential.designs import Question, design
from analysis.sequential.detector import Detectors
from analysis.types import Gate, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. most: what the goal allows, in the unit of `value`; infinite where there is none."""

    what: str
    value: float
    unit: str
    ratio: float | None = None
    most: float = inf

    @property
    def met(self) -> str:
        """What the page says of the goal."""
        if self.most == inf:
            return ""
        return "yes" if (self.value if self.ratio is None else self.ratio) <= self.most else "**no**"


def best(call: Callable[[], object], runs: int) -> float:
    """Seconds of the quickest of some calls."""
    found = inf
    for _ in range(runs):
        began = time.perf_counter()
        call()
        found = min(found, time.perf_counter() - began)
    return found


def ingest(n: int, runs: int) -> Iterator[Row]:
    """Nanoseconds an observation: the floor, counts, a validated histogram, and a change detector's vector of bets."""
    rng = np.random.default_rng(1)
    numbers = rng.random(n)
    floor = best(lambda: np.cumsum(numbers), runs) / n * 1e9
    yield Row(what="`numpy.cumsum`, the floor", value=floor, unit="ns", ratio=1.0)
    bits = (numbers < 0.02).astype(np.float64)
    for what, support, values, most in (
        ("0 and 1 into counts, checked", Support("rate", 0.0, 1.0), bits, 2.0),
        ("-1, 0 and 1 into counts, checked", Support("sign", -1.0, 1.0), np.rint(2.0 * numbers - 1.0), 2.0),
        ("numbers into a histogram of 1,000 bins and exact sums, checked", Support("numeric", 0.0, 1.0), numbers, 4.0),
    ):
        tally, batch = Tally(support), Batch(np.zeros(n, np.int64), values, np.ones(n, bool))
        tally.grow(1)
        took = best(lambda tally=tally, batch=batch: tally.add(batch), runs) / n * 1e9  # type: ignore[misc]
        yield Row(what=what, value=took, unit="ns", ratio=took / floor, most=most)
    test = prepare(Gate(name="rate", metric=Metric(kind="flip", policy="p"), word="below", limit=0.02))
    rows, slots, enough = np.stack([bits, np.ones(n)], axis=-1), np.zeros(n, np.int64), np.array([1e300])

    def watch() -> None:
        found = Detectors(test.design.fail, True)
        found.grow(1)
        found.add(slots, rows, enough)

    took = best(watch, runs) / n * 1e9
    yield Row(what="0 and 1 through a change detector of 60 bets", value=took, unit="ns", ratio=took / floor)


def looks(runs: int) -> Iterator[Row]:
    """Milliseconds a look and an interval, whatever n."""
    rate = design(Question(kind="rate", low=0.0, high=1.0, word="below", limit=0.02))
    numeric = design(Question(kind="numeric", low=0.0, high=1.0, word="below", limit=0.5))
    bits, edges = np.array([0.0, 1.0]), np.linspace(0.0, 1.0, 1_001)
    full = np.random.default_rng(2).multinomial(1_000_000, np.full(1_001, 1 / 1_001)) + 1
    for n in (10_000, 1_000_000_000):
        counts = np.array([n - n // 100, n // 100])
        took = best(lambda counts=counts: (rate.log_e_pass(counts, bits), rate.log_e_fail(counts, bits)), runs) * 1e3  # type: ignore[misc]
        yield Row(what=f"a look from counts, pass and fail, n = {n:,}", value=took, unit="ms", most=1.0)
        took = best(lambda counts=counts: _ends(rate, counts, bits), runs) * 1e3  # type: ignore[misc]
        yield Row(what=f"both ends of the interval of a rate, n = {n:,}", value=took, unit="ms", most=10.0)
    for times in (1, 1_000):
        counts = full * times
        n = int(counts.sum())
        took = best(lambda counts=counts: (numeric.log_e_pass(counts, edges), numeric.log_e_fail(counts, edges)), runs) * 1e3  # type: ignore[misc]
        yield Row(what=f"a look from a histogram of 1,000 bins, pass and fail, n = {n:,}", value=took, unit="ms", most=10.0)
        took = best(lambda counts=counts: _ends(numeric, counts, edges), runs) * 1e3  # type: ignore[misc]
        yield Row(what=f"both ends of its interval, n = {n:,}", value=took, unit="ms", most=10.0)


def _ends(made: object, counts: np.ndarray, values: np.ndarray) -> None:
    for process in (*made.pass_, *made.fail):  # type: ignore[attr-defined]
        process.bound(counts, values, level=0.05)


def table(rows: list[Row]) -> str:
    """For the page."""
    lines = ["| what | found | beside cumsum | goal | met |", "|---|---|---|---|---|"]
    for row in rows:
        goal = "" if row.most == inf else f"{row.most:g} x" if row.ratio is not None else f"{row.most:g} {row.unit}"
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(f"| {row.what} | {row.value:.3g} {row.unit} | {ratio} | {goal} | {row.met} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks of this page")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--n", type=int, default=50_000)
    args = parser.parse_args()
    rows = [*ingest(args.n, args.runs), *looks(args.runs)]
    shown = table(rows) + f"\nThe best of {args.runs} runs; {args.n:,} observations; {os.cpu_count()} processors.\n"
    print(shown)
    if args.write:
        write(args.write, "statistics", shown)


if __name__ == "__main__":
    main()
