"""Copies fed on purpose through router, lanes and joiner on the in-memory doubles: what a gate counts is each event once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

SECOND, HOUR = 1_000_000, 3_600_000_000
GATES = [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.3}]
N = 120


def verdict_of(crew: Any, flipped: Sequence[bool], times: Sequence[int]) -> dict[str, Any]:
    """Each event `times` times, its copies in later bursts, some of them after the joiner has been made anew; then the end of time."""
    for burst in range(max(times)):
        sent = [crew.event(f"e{k}", k * SECOND, old=30.0, new=12.0 if flips else 30.0)
                for k, flips in enumerate(flipped) if times[k] > burst]
        crew.send("events", sent)
        crew.settle()
        crew._made.pop("joiner:0", None)
    crew.send("events", [crew.mark(20 * HOUR)])
    crew.settle()
    return crew.verdict()


def test_copies_move_no_number_of_a_gate(crew: Callable[..., Any]):
    """Copies of what did not flip, which alone would carry the gate over its level: counted as duplicates, and nothing else changes."""
    rng = np.random.default_rng(3)
    flipped = (rng.random(N) < 0.3).tolist()
    once = verdict_of(crew(shards=1, gates=GATES), flipped, [1] * N)
    times = [1 if flips else 4 for flips in flipped]
    many = verdict_of(crew(shards=1, gates=GATES), flipped, times)
    assert many["gates"] == once["gates"] and many["counts"]["paired"] == once["counts"]["paired"] == N
    assert many["counts"]["duplicates"] == sum(times) - N > 200
    (row,) = (row for row in many["gates"] if row["segment"] is None)
    assert row["n_units"] == row["n_events"] == N and abs(row["estimate"] - sum(flipped) / N) < 1e-9
    assert row["status"] == "undecided"


def test_each_copy_counted_would_have_passed(crew: Callable[..., Any]):
    """The contrast: the same records as events of their own prove what is not so."""
    rng = np.random.default_rng(3)
    flipped = (rng.random(N) < 0.3).tolist()
    apart = [flips for flips in flipped for _ in range(1 if flips else 4)]
    (row,) = (row for row in verdict_of(crew(shards=1, gates=GATES), apart, [1] * len(apart))["gates"] if row["segment"] is None)
    assert row["status"] == "pass" and row["n_units"] == len(apart)
