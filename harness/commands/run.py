"""Runs a role: step after step, until it is told to stop. What a server's absence does to it is decided here, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from harness.core.errors import HeadMoved, StoreFull, Unavailable

IDLE_S = 0.05
WAIT_S = 0.2
LONGEST_PAUSE_S = 5.0
QUIET_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A role that was made. steps: one for each of its parts. busy: whether it holds work that others will still finish. drains: whether
    it goes on, once told to stop, until nothing more comes; drain_s: at most so long."""

    steps: Sequence[Callable[[float], int]]
    close: Callable[[], None]
    busy: Callable[[], bool] = lambda: False
    drains: bool = False
    drain_s: float = 8.0


def run(make: Callable[[], Running], *, role: str, stopped: Callable[[], bool]) -> None:
    """Steps until `stopped`, then drains. When bus or store are away the role is closed and made anew, from what is stored, after a
    growing pause. HeadMoved is raised on: another worker owns this role's state, and this one has to leave.
    """
    log = structlog.get_logger().bind(role=role)
    pause = 0.1
    while not stopped():
        running: Running | None = None
        try:
            running = make()
            log.info("role.started")
            _step_until(running, stopped)
            if running.drains:
                _drain(running)
            running.close()
            log.info("role.stopped")
        except (Unavailable, StoreFull) as error:
            log.warning("role.waits", error=str(error), retry_in_s=pause)
            if running is not None:
                _close_quietly(running)
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)
        except HeadMoved as error:
            log.error("role.overtaken", error=str(error))
            raise


def _step_until(running: Running, stopped: Callable[[], bool]) -> None:
    idle = False
    while not stopped():
        idle = _step(running, idle) == 0


def _step(running: Running, idle: bool) -> int:
    """One step of each part; waits a moment when the pass before found nothing."""
    began = time.monotonic()
    n = sum(step(WAIT_S / len(running.steps) if idle else 0.0) for step in running.steps)
    if n == 0:
        time.sleep(max(0.0, IDLE_S - (time.monotonic() - began)))
    return n


def _drain(running: Running) -> None:
    """Goes on until nothing has come for a while and nothing is held, so that a stop leaves no event in flight."""
    deadline = time.monotonic() + running.drain_s
    quiet_since = time.monotonic()
    while time.monotonic() < deadline and (running.busy() or time.monotonic() - quiet_since < QUIET_S):
        if _step(running, idle=True):
            quiet_since = time.monotonic()


def _close_quietly(running: Running) -> None:
    """Lets go of what may already be gone."""
    with suppress(Unavailable, StoreFull, HeadMoved):
        running.close()
