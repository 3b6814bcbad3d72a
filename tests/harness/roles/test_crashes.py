"""Every role stopped at each of its outside calls in turn, before the call and after it: the history is that of an undisturbed run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

SECOND, HOUR = 1_000_000, 3_600_000_000


def play(crew: Any) -> tuple[dict[str, Any], list[list[Any]]]:
    """A day in short: faults, duplicates, early, late, revised and lost labels, in two bursts; its verdict and its pairs."""
    for burst in range(2):
        base = burst * HOUR
        events = [
            crew.event(f"e{burst}-{n}", base + n * SECOND, old=20.0 + n, new=[30.0, "timeout", 12.0, "error"][n % 4]) for n in range(6)
        ]
        events += [events[0], b"garbage", crew.event(f"e{burst}-1", base + 9 * SECOND, source="/other"), crew.event("", base)]
        labels = [crew.label(f"e{burst}-{n}", base + n * SECOND, 17.0 + n) for n in (0, 1, 2)]
        labels += [crew.label(f"e{burst}-0", base + 99 * SECOND, 40.0), crew.label(f"nobody-{burst}", base, 18.0), b"{}"]
        labels += [crew.label(f"e{(burst + 1) % 2}-4", base, 16.0)]  # before its event, and for the last one long after
        crew.send("events", events)
        crew.send("outcomes", labels)
        crew.clock.move_to(crew.clock.now() + SECOND)
        crew.settle()
    crew.send("events", [crew.mark(20 * HOUR)])
    crew.settle()
    return crew.verdict(), crew.rows()


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("role", ["router", "lane", "joiner", "analyst"])
def test_nothing_is_lost_or_doubled_wherever_a_role_dies(role: str, after: bool, crew: Callable[..., Any], crash_once: Any):
    """Effects and positions go together, or nothing happened: so there is no bad moment to die at."""
    verdict, rows = play(crew())
    assert verdict["counts"]["paired"] > 5 and verdict["counts"]["duplicates"] == 2
    assert min(n for name, n in verdict["outcomes"].items() if name != "waiting") > 0
    at = 0
    while True:
        at += 1
        nemesis = crash_once(at, after=after)
        disturbed = crew(role=role, nemesis=nemesis)
        found = play(disturbed)
        assert found == (verdict, rows), f"after a crash at call {at}"
        if not nemesis.crashed:
            break
        assert disturbed.n_crashes == 1
    assert at > 15, "it must have died at more places than that"
