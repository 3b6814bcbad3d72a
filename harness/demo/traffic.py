"""What the streams of all demos share: when they happen, what a day looks like, and how records are written so that runs repeat."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SEED = 20260302
START = datetime(2026, 3, 2, tzinfo=UTC)
DAYS = 14
EVENTS, OUTCOMES = "events.jsonl.gz", "outcomes.jsonl.gz"
HOUR, DAY = 3_600.0, 86_400.0

_HOUR_WEIGHTS = np.array([3, 2, 1, 1, 1, 2, 4, 6, 6, 5, 5, 6, 7, 6, 6, 7, 9, 10, 11, 12, 12, 11, 9, 6], dtype=float)


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """The two files of a stream, and what is in them."""

    events: Path
    outcomes: Path
    n_events: int
    n_people: int
    n_outcomes: int


def happenings(rng: np.random.Generator, n: int) -> Array:
    """n moments inside the fortnight, seconds since START, in no order: every day alike, with a rhythm of day and night."""
    hour = rng.choice(24, size=n, p=_HOUR_WEIGHTS / _HOUR_WEIGHTS.sum())
    moments: Array = rng.integers(0, DAYS, n) * DAY + hour * HOUR + rng.random(n) * HOUR
    return moments


def delays(rng: np.random.Generator, n: int) -> Array:
    """Seconds from happening to arriving: below one for the most part, half an hour and more for 2 in 100."""
    late: Array = np.exp(rng.normal(np.log(0.6), 0.7, n)) + np.where(rng.random(n) < 0.02, rng.exponential(1_800.0, n), 0.0)
    return late


def time_words(seconds: float) -> str:
    """A moment since START as CloudEvents write it, with milliseconds."""
    moment = START + timedelta(milliseconds=round(float(seconds) * 1_000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """One record a line, gzip without name and time: equal records give equal bytes. Returns how many."""
    lines = [json.dumps(record, separators=(",", ":")).encode() for record in records]
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines), compresslevel=6, mtime=0))
    return len(lines)
