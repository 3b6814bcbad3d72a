"""Waiting for what must become true: poll, and give up late, because the bound is met by failures only and machines stall."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
LONG_S = 180.0
TICK_S = 0.02
TRIES = 8


def until(condition: Callable[[], Found], why: Callable[[], object] = lambda: "it never was so", *, timeout_s: float = LONG_S) -> Found:
    """Polls until the condition is true and returns what it gave; fails with `why()` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s: {why()}")
        time.sleep(TICK_S)
    return found


def tried(attempt: Callable[[], Found], good: Callable[[Found], object]) -> Found:
    """What the first good attempt gave, else the last one. For what a stall of the machine can spoil and a right program does at the next
    attempt: a wrong one is wrong each time, and the test's own assertions say so."""
    for _ in range(TRIES):
        found = attempt()
        if good(found):
            break
    return found
