"""Runs a role: step after step, until it is told to stop. What a server's absence does to it is decided here, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from harness.core.errors import HeadMoved, StoreFull, Unavailable

Steps = tuple[Sequence[Callable[[float], int]], Callable[[], None]]
IDLE_S = 0.05
WAIT_S = 0.2
LONGEST_PAUSE_S = 5.0


def run(make: Callable[[], Steps], *, role: str, stopped: Callable[[], bool]) -> None:
    """Steps until `stopped`. When bus or store are away the role is closed and made anew, from what is stored, after a growing pause.

    HeadMoved is raised on: another worker owns this role's state, and this one has to leave.
    """
    log = structlog.get_logger().bind(role=role)
    pause = 0.1
    while not stopped():
        close: Callable[[], None] = _nothing
        try:
            steps, close = make()
            log.info("role.started")
            pause = 0.1
            _step_until(steps, stopped)
            close()
            log.info("role.stopped")
        except (Unavailable, StoreFull) as error:
            log.warning("role.waits", error=str(error), retry_in_s=pause)
            _close_quietly(close)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        except HeadMoved as error:
            log.error("role.overtaken", error=str(error))
            raise


def _step_until(steps: Sequence[Callable[[float], int]], stopped: Callable[[], bool]) -> None:
    idle = False
    while not stopped():
        began = time.monotonic()
        n = sum(step(WAIT_S / len(steps) if idle else 0.0) for step in steps)
        idle = n == 0
        if idle:
            time.sleep(max(0.0, IDLE_S - (time.monotonic() - began)))


def _close_quietly(close: Callable[[], None]) -> None:
    """Lets go of what may already be gone."""
    try:
        close()
    except (Unavailable, StoreFull, HeadMoved):
        pass


def _nothing() -> None:
    """Closes what was never opened."""
