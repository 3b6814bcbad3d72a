"""Seeded streams with known truth, for tests, planning and people who want to see a method fail before they trust it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.types import PairTable

HOUR_US = 3_600_000_000


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
