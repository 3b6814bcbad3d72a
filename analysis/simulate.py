"""Seeded streams with known truth, for tests, planning and people who want to see a method fail before they trust it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import Metric, PairTable

HOUR_US = 3_600_000_000
SHORT_US = 10_000_000
"""Within which all events of a unit of a `Known` stream come: so short that no unit speaks much later than its neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true of a simulated age stream.

    events_a_unit: mean number of events of a unit, >= 1. shift: years that the challenger adds to everybody. missing: chance that the
    challenger does not answer. labelled: chance that an event ever gets a label. missing, labelled in [0, 1].
    """

    events_a_unit: float = 2.0
    shift: float = 0.0
    missing: float = 0.0
    labelled: float = 0.8


def ages(rng: np.random.Generator, n_events: int, world: World | None = None) -> PairTable:
    """A pair table of two age estimators with the policy `over_18`, segments `gender` and `region`, one event each 20 seconds or so.

    Args:
        rng: The generator; the same one gives the same table.
        n_events: Rows, >= 0.
        world: What is true; None for the defaults.
    """
    world = world or World()
    n_units = max(int(n_events / world.events_a_unit), 1)
    unit = rng.integers(0, n_units, n_events)
    age_of_unit, kind = rng.uniform(8.0, 40.0, n_units).round(), rng.integers(0, 6, n_units)
    truth = age_of_unit[unit]
    said = {"incumbent": np.clip(truth + rng.normal(0.0, 4.0, n_events), 0.0, 120.0)}
    said["challenger"] = np.clip(truth + world.shift + rng.normal(0.0, 3.0, n_events), 0.0, 120.0)
    missing = rng.random(n_events) < world.missing
    known = rng.random(n_events) < world.labelled
    arrived = 1_700_000_000_000_000 + np.cumsum(rng.integers(1, 40_000_000, n_events)) if n_events else np.zeros(0, np.int64)
    columns = {
        "event_id": np.arange(n_events), "unit_id": (unit.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)), "arrived": arrived,
        "segment.gender": (kind[unit] % 2).astype(np.int32), "segment.region": (kind[unit] % 3).astype(np.int32),
        "truth.age": np.where(known, truth, np.nan), "over_18.truth": np.where(known, truth >= 18.0, -1).astype(np.int32),
        "label_time": np.where(known, arrived + 24 * HOUR_US, -1), "propensity": np.full(n_events, np.nan),
    }
    for lane, value in said.items():
        gone = missing if lane == "challenger" else np.zeros(n_events, bool)
        columns[f"age.{lane}"] = np.where(gone, np.nan, value)
        columns[f"over_18.{lane}"] = np.where(gone, -1, value >= 18.0).astype(np.int32)
        columns[f"missing.{lane}"] = np.where(gone, rng.integers(0, 3, n_events), -1).astype(np.int32)
        columns[f"latency_ms.{lane}"] = np.where(gone, np.nan, rng.lognormal(3.5, 0.4, n_events))
    words = {"segment.gender": ("female", "male"), "segment.region": ("SE", "ES", "PT"), "over_18": ("false", "true"),
             "missing": ("timeout", "error", "bad_output")}
    return PairTable(columns, words)


def hours(table: PairTable, *, beyond: int = 1) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Hourly looks in microseconds that cover a table, and `beyond` more; empty without rows."""
    if not len(table):
        return np.zeros(0, np.int64)
    first, last = int(table["arrived"][0]) // HOUR_US, int(table["arrived"][-1]) // HOUR_US
    return (np.arange(first, last + beyond + 1, dtype=np.int64) + 1) * HOUR_US


# --------------------------------------------------------------------------------- streams on which every metric is known
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Two classifiers, independent events; the value of every metric follows from these numbers, so that a limit can lie exactly on it.

    positive: share of events whose truth is true. wrong: for each class of the truth, false first, the chances that the incumbent, the
    challenger and both are wrong. missing: chance that the incumbent and that the challenger does not answer, every other time for an
    error. mean_ms: mean latency, exponential. copy: chance that the incumbent's own copy decides otherwise. asked: share of events that
    the copy is asked about. off: chances that the number of the incumbent and of the challenger is 0, 1, ..., 4 too large; the truth is
    always 10. events_a_unit: events of a unit, within `SHORT_US`. least: None where every event has a label; else an event on which the
    decisions agree gets one with this chance, any other always.
    """

    positive: float = 0.4
    wrong: tuple[tuple[float, float, float], tuple[float, float, float]] = ((0.10, 0.14, 0.06), (0.12, 0.20, 0.08))
    missing: tuple[float, float] = (0.02, 0.04)
    mean_ms: float = 100.0
    copy: float = 0.05
    asked: float = 0.25
    off: tuple[tuple[float, ...], tuple[float, ...]] = ((0.2, 0.2, 0.2, 0.2, 0.2), (0.1, 0.2, 0.2, 0.2, 0.3))
    events_a_unit: int = 1
    least: float | None = None

    @property
    def swapped(self) -> Known:
        """The same with the lanes exchanged: every difference has the other sign."""
        (a0, b0, both0), (a1, b1, both1) = self.wrong
        return Known(positive=self.positive, wrong=((b0, a0, both0), (b1, a1, both1)), missing=self.missing[::-1], mean_ms=self.mean_ms,
                     copy=self.copy, asked=self.asked, off=self.off[::-1], events_a_unit=self.events_a_unit, least=self.least)

    def cells(self) -> list[tuple[float, int, int, int]]:
        """(chance, truth, incumbent's decision, challenger's decision) of the eight cases."""
        found = []
        for truth, (old, new, both) in enumerate(self.wrong):
            of_class = self.positive if truth else 1.0 - self.positive
            for chance, a, b in ((1.0 - old - new + both, 0, 0), (old - both, 1, 0), (new - both, 0, 1), (both, 1, 1)):
                found.append((of_class * chance, truth, truth ^ a, truth ^ b))
        return found

    def latency_limit(self, quantile: float) -> float:
        """The limit in milliseconds at which 1 - quantile of the challenger's answers are slower or missing."""
        return -self.mean_ms * log((1.0 - quantile - self.missing[1]) / (1.0 - self.missing[1]))

    def value(self, metric: Metric, *, compared: bool) -> float:
        """The true value of a metric on single events: the challenger's own, or how much better it is than the incumbent."""
        if metric.kind == "latency":
            return self.latency_limit(float(metric.quantile or 0.0))
        if metric.kind in ("missing", "errors"):
            old, new = (chance / (1.0 if metric.kind == "missing" else 2.0) for chance in self.missing)
            return old - new if compared else new
        if metric.kind in ("difference", "disagreement") or (metric.kind == "loss" and metric.loss != "zero_one"):
            return self._of_numbers(metric, compared)
        if metric.kind in ("flip", "excess_disagreement"):
            flips = sum(chance for chance, _, a, b in self.cells() if a != b and metric.from_ in (None, ("false", "true")[a]))
            return flips - (self.copy if metric.kind == "excess_disagreement" else 0.0)
        found = [(chance, *self._loss(metric, truth, a, b)) for chance, truth, a, b in self.cells()]
        total = sum(chance for chance, counts, _, _ in found if counts)
        old, new = (sum(chance * case[k] for chance, *case in found if case[0]) / total for k in (1, 2))
        return (new - old if metric.kind == "recall" else old - new) if compared else new

    def _loss(self, metric: Metric, truth: int, a: int, b: int) -> tuple[bool, float, float]:
        """(whether the case is in the denominator, the incumbent's number, the challenger's)."""
        said = ("false", "true")
        if metric.kind == "harm":
            return truth == metric.truth, float(said[a] in metric.decisions), float(said[b] in metric.decisions)
        if metric.kind == "recall":
            return truth == 1, float(a), float(b)
        if metric.kind == "precision":
            return b == 1, 0.0, float(truth)
        if metric.kind == "action":
            return True, float(said[a] in metric.decisions), float(said[b] in metric.decisions)
        if metric.kind == "cost":
            old, new = (sum(weight for _, of, decisions, weight in metric.costs if of == truth and said[d] in decisions) for d in (a, b))
            return True, old, new
        return True, float(a != truth), float(b != truth)

    def _of_numbers(self, metric: Metric, compared: bool) -> float:
        total = 0.0
        for (i, old), (j, new) in product(enumerate(self.off[0]), enumerate(self.off[1])):
            losses = (i**2, j**2) if metric.loss == "squared_error" else (i, j)
            if metric.kind == "difference":
                total += old * new * (j - i)
            elif metric.kind == "disagreement":
                total += old * new * (abs(j - i) > (metric.tolerance or 0.0))
            else:
                total += old * new * (losses[0] - losses[1] if compared else losses[1])
        return total


def known(rng: np.random.Generator, n_units: int, world: Known) -> PairTable:
    """A pair table of such a stream: policy `p`, output `x` with its truth, a replica; one unit a second.

    Args:
        rng: The generator; the same one gives the same table.
        n_units: Units, each with `events_a_unit` events.
        world: What is true.
    """
    n, a_unit = n_units * world.events_a_unit, world.events_a_unit
    later = np.where(np.arange(n) % a_unit == 0, 0.0, rng.uniform(0.0, SHORT_US - 1, n)).astype(np.int64)
    arrived = 1_700_000_000_000_000 + np.repeat(np.arange(n_units, dtype=np.int64), a_unit) * 1_000_000 + later
    order = np.argsort(arrived, kind="stable")
    chances, truth, old, new = (np.array(column) for column in zip(*world.cells(), strict=True))
    case = rng.choice(len(chances), n, p=chances / chances.sum())
    truth, said = truth[case], {"incumbent": old[case], "challenger": new[case]}
    likely = np.where(said["incumbent"] == said["challenger"], world.least or 1.0, 1.0)
    labelled = rng.random(n) < likely
    columns: dict[str, NDArray[Any]] = {
        "event_id": np.arange(n), "unit_id": np.repeat(np.arange(n_units), a_unit)[order].astype(np.uint64), "arrived": arrived[order],
        "p.truth": np.where(labelled, truth, -1).astype(np.int32), "truth.x": np.where(labelled, 10.0, np.nan),
        "label_time": np.where(labelled, arrived[order] + HOUR_US, -1),
        "propensity": np.full(n, np.nan) if world.least is None else np.where(labelled, likely, np.nan),
    }
    for lane, chance, off in zip(said, world.missing, world.off, strict=True):
        why = np.where(rng.random(n) < chance, rng.integers(0, 2, n), -1).astype(np.int32)
        columns[f"missing.{lane}"] = why
        columns[f"p.{lane}"] = np.where(why < 0, said[lane], -1).astype(np.int32)
        columns[f"x.{lane}"] = np.where(why < 0, 10.0 + rng.choice(len(off), n, p=off), np.nan)
        columns[f"latency_ms.{lane}"] = np.where(why < 0, rng.exponential(world.mean_ms, n), np.nan)
    asked = (rng.random(n) < world.asked) & (columns["missing.incumbent"] < 0)
    columns["missing.replica"] = np.where(asked, -1, 2).astype(np.int32)
    columns["p.replica"] = np.where(asked, said["incumbent"] ^ (rng.random(n) < world.copy), -1).astype(np.int32)
    return PairTable(columns, {"p": ("false", "true"), "missing": ("timeout", "error", "not_asked")})


# ------------------------------------------------------------------------------------------------------------- hard streams
def flips(flipped: NDArray[Any], unit: NDArray[Any], arrived: NDArray[np.int64] | None = None) -> PairTable:
    """A pair table of one policy `p` alone: whether the challenger decides otherwise, shape (n,), and whose event it is; one a second."""
    n, zero = len(flipped), np.zeros(len(flipped), np.int32)
    columns: dict[str, NDArray[Any]] = {
        "event_id": np.arange(n), "unit_id": np.asarray(unit).astype(np.uint64),
        "arrived": np.arange(n, dtype=np.int64) * 1_000_000 if arrived is None else arrived, "p.incumbent": zero,
        "p.challenger": np.asarray(flipped).astype(np.int32), "missing.incumbent": zero - 1, "missing.challenger": zero - 1,
    }
    return PairTable(columns, {"p": ("false", "true"), "missing": ("timeout",)})


def persistent(rng: np.random.Generator, n_users: int, days: int) -> PairTable:
    """Users who come once a day, at their hour, each with a rate of flips of its own, Beta(0.1, 4.9), whose mean is 0.02."""
    rates, hour = rng.beta(0.1, 4.9, n_users), np.sort(rng.integers(0, 24 * HOUR_US, n_users))
    arrived = (np.arange(days, dtype=np.int64)[:, None] * 24 * HOUR_US + hour).ravel()
    return flips((rng.random((days, n_users)) < rates).ravel(), np.tile(np.arange(n_users), days), arrived)


def turns(one: float, other: float, length: int, n: int) -> NDArray[np.float64]:
    """Two means in turns of a length, shape (n,)."""
    return np.where(np.arange(n) // length % 2 == 0, one, other)


def waves(middle: float, height: float, period: int, n: int) -> NDArray[np.float64]:
    """Means that rise and fall around `middle`, shape (n,)."""
    return middle + height * np.sin(2.0 * np.pi * np.arange(n) / period)


@dataclass(frozen=True, slots=True)
class Late:
    """Loss differences of events 0, 1, ..., and when their labels come, counted in events; shape (n,) each.

    The three ways to fold them give, for each event, the time from which it counts.
    """

    values: NDArray[np.int64]
    known_at: NDArray[np.float64]

    def by_arrival(self) -> NDArray[np.float64]:
        """Each label as it comes: what is in hand is no prefix of anything. Wrong."""
        return self.known_at

    def in_prefix(self) -> NDArray[np.float64]:
        """Up to the first event whose label is still to come."""
        return np.maximum.accumulate(self.known_at)

    def own_watermarks(self, n_partitions: int) -> NDArray[np.float64]:
        """The same in each partition by itself; the events go to them in turn. Wrong: each stops just before what is bad."""
        by_partition = self.known_at.reshape(-1, n_partitions)
        return np.maximum.accumulate(by_partition, axis=0).ravel()


def late_labels(rng: np.random.Generator, n: int, *, mean: float, discordance: float, delay: float, slower: float) -> Late:
    """Differences in {-1, 0, 1}; labels come `delay` events late on average, `slower` times as late where only the challenger is wrong."""
    chances = [(discordance - mean) / 2.0, 1.0 - discordance, (discordance + mean) / 2.0]
    values = rng.choice(np.array([-1, 0, 1]), n, p=chances)
    return Late(values, np.arange(n) + rng.exponential(1.0, n) * np.where(values < 0, slower * delay, delay))
