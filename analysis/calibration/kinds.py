"""Every kind of gate at its limit: how often it passes, and how often it fails, though neither is true.

One simulated stream serves all gates: `simulate.Known` tells the true value of each metric, and the limit is put exactly on it, so that
the null of the pass and that of the fail both hold, by nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log

import numpy as np

from analysis.calibration.measure import ALPHA, Measured, Size, share
from analysis.calibration.runs import log_e_of_runs
from analysis.gates import prepare
from analysis.simulate import SHORT_US, Known, known
from analysis.types import Gate, Metric, Word

WORLD = Known()
MANY = Known(events_a_unit=3)
DRAWN = Known(least=0.25)
N_UNITS, N_LOOKS, CHUNK = 3_000, 30, 25
COMPARED: tuple[Word, ...] = ("worse_by_at_most", "better_by_more_than", "within")
HARM = Metric(kind="harm", policy="p", truth=False, decisions=("true",))
WRONG = Metric(kind="loss", loss="zero_one", policy="p")
FAR = Metric(kind="loss", loss="absolute_error", output="x", truth_name="x", bound=4.0)
COST = Metric(kind="cost", costs=(("p", False, ("true",), 3.0), ("p", True, ("false",), 1.0)), bound=3.0)
FLIP = Metric(kind="flip", policy="p")
SILENT = Metric(kind="missing")
SQUARED = replace(FAR, loss="squared_error", bound=16.0)
RECALL = Metric(kind="recall", policy="p")
PRECISION = Metric(kind="precision", policy="p")
ERRORS = Metric(kind="errors")
SLOW = Metric(kind="latency", quantile=0.9)
ACTION = Metric(kind="action", policy="p", decisions=("true",))
APART = Metric(kind="disagreement", output="x", tolerance=1.0)
EXCESS = Metric(kind="excess_disagreement", policy="p", share=0.25)
DIFFERENCE = Metric(kind="difference", output="x", bound=4.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A gate whose limit is the truth of its world."""

    name: str
    gate: Gate
    world: Known


def cases() -> list[Case]:
    """Every kind with every word that it takes, units counted in each way, the closed form, and weighted labels."""
    found = [_case("harm", HARM, word) for word in ("below", "above", *COMPARED)]
    found += [_case("loss, wrong decisions", WRONG, word) for word in ("below", *COMPARED)]
    found += [_case("loss, absolute error", FAR, word) for word in ("below", "above", *COMPARED)]
    found += [_case("loss, squared error", SQUARED, "worse_by_at_most")]
    found += [_case("precision", PRECISION, word) for word in ("below", "above")]
    found += [_case("recall", RECALL, word) for word in ("below", "above", *COMPARED)]
    found += [_case("cost", COST, word) for word in ("below", *COMPARED)]
    found += [_case("flip", FLIP, word) for word in ("below", "above")]
    found += [_case("flip, from true", replace(FLIP, from_="true"), "below")]
    for name, metric in (("missing", SILENT), ("errors", ERRORS), ("action", ACTION)):
        found += [_case(name, metric, word) for word in ("below", *COMPARED)]
    found += [_case("latency p90", SLOW, "below"), _case("disagreement", APART, "below")]
    found += [_case("excess_disagreement, a quarter asked", EXCESS, "below")]
    found += [_case("difference", DIFFERENCE, word) for word in ("below", "above", "within")]
    found += [_case("flip, closed form", FLIP, word, method="beta-binomial") for word in ("below", "above")]
    for unit in ("first", "ever", "mean"):
        found += [_of_units("flip", FLIP, "below", unit), _of_units("harm", HARM, "below", unit)]
    found += [_of_units("harm", HARM, "worse_by_at_most", "mean"), _of_units("loss, absolute error", FAR, "worse_by_at_most", "mean")]
    drawn: tuple[tuple[str, Metric, Word], ...] = (
        ("harm", HARM, "below"), ("precision", PRECISION, "above"), ("loss, wrong decisions", WRONG, "below"),
        ("loss, absolute error", FAR, "worse_by_at_most"))
    found += [_case(f"{name}, weighted", replace(metric, least=0.25, bound=metric.bound or 1.0), word, world=DRAWN)
              for name, metric, word in drawn]
    return found


def _case(name: str, metric: Metric, word: Word, *, world: Known = WORLD, method: str = "mixture") -> Case:
    """The gate at its limit: lanes are exchanged where the sign of the difference asks for it."""
    of_pairs = metric.kind in ("flip", "disagreement", "excess_disagreement", "difference")
    compared = word in COMPARED and not of_pairs
    truth = world.value(metric, compared=compared)
    if (word == "worse_by_at_most" and truth > 0.0) or (word == "better_by_more_than" and truth < 0.0):
        world = world.swapped
        truth = world.value(metric, compared=True)
    limit = abs(truth) if word in COMPARED else truth
    gate = Gate(name="at its limit", metric=metric, word=word, limit=limit, method=method)  # type: ignore[arg-type]
    return Case(f"{name} `{word}`", gate, world)


def _of_units(name: str, metric: Metric, word: Word, unit: str) -> Case:
    """Three events of a unit within its window; `ever` from how many of them are in the denominator."""
    case = _case(name, metric, word, world=MANY)
    limit = case.gate.limit
    if unit == "ever":
        inside = (1.0 - case.world.missing[0]) * (1.0 - case.world.missing[1])
        inside *= 1.0 if metric.kind == "flip" else 1.0 - case.world.positive
        limit = 1.0 - ((1.0 - inside * limit) ** 3 - (1.0 - inside) ** 3) / (1.0 - (1.0 - inside) ** 3)
    gate = replace(case.gate, limit=limit, unit=unit, unit_window_us=None if unit == "first" else SHORT_US)  # type: ignore[arg-type]
    return Case(f"{case.name}, three events a unit, unit `{unit}`", gate, case.world)


def kinds(rng: np.random.Generator, size: Size) -> Iterator[tuple[Measured, Measured]]:
    """(false passes, false fails) of each case, at 30 looks in 3,000 units."""
    runs = max(size.runs // 20, 25)
    every = [(case, prepare(case.gate)) for case in cases()]
    passed, failed = np.zeros(len(every), np.int64), np.zeros(len(every), np.int64)
    for world in dict.fromkeys(case.world for case, _ in every):
        for start in range(0, runs, CHUNK):
            n_runs = min(CHUNK, runs - start)
            table = known(rng, n_runs * N_UNITS, world)
            run = (table["unit_id"] // N_UNITS).astype(np.int64)
            order = np.argsort(run, kind="stable")
            table, run = table.take(order), run[order]
            since = table["arrived"] - run * (N_UNITS * 1_000_000)  # every run begins at the same time
            table = replace(table, columns={**table.columns, "arrived": since})
            looks = np.linspace(since.min(), since.max() + SHORT_US, N_LOOKS + 1)[1:].astype(np.int64)
            for k, (case, test) in enumerate(every):
                if case.world == world:
                    for_pass, for_fail = log_e_of_runs(test, table, run, looks)
                    passed[k] += (for_pass >= -log(ALPHA)).any(axis=1).sum()
                    failed[k] += (for_fail >= -log(ALPHA)).any(axis=1).sum()
    for (case, _), n_passed, n_failed in zip(every, passed.tolist(), failed.tolist(), strict=True):
        yield share(case.name, n_passed, runs), share(case.name, n_failed, runs)
