"""Runs a role: step after step, until it is told to stop. What a server's absence does to it is decided here, once."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from harness.commands.health import Beat
from harness.core.errors import HeadMoved, StoreFull, Unavailable
from harness.ports.shares import Shares

IDLE_S = 0.05
WAIT_S = 0.2
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
HEALTHY_S = 10.0
QUIET_S = 0.5
DRAIN_S = 8.0
LEASE_S = 2.0
RENEW_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A role that was made. parts: what its workers share; `hold` says which of them are this worker's. busy: whether it holds work that
    others will still finish. drains: whether it goes on, once told to stop, until nothing more comes."""

    parts: tuple[str, ...]
    hold: Callable[[tuple[str, ...]], None]
    step: Callable[[float], int]
    close: Callable[[], None]
    busy: Callable[[], bool] = lambda: False
    drains: bool = False


def run(
    make: Callable[[], Running], *, role: str, worker: str, shares: Callable[[], Shares], beat: Beat, stopped: Callable[[], bool]
) -> None:
    """Steps until `stopped`, then drains. When bus or store are away, or another worker was faster, the role is closed and made anew
    from what is stored, after a pause that grows until it has run for a while. beat: is told of each.
    """
    log = structlog.get_logger().bind(role=role)
    pause = FIRST_PAUSE_S
    while not stopped():
        running: Running | None = None
        began = time.monotonic()
        try:
            running = make()
            log.info("role.started", worker=worker)
            _Worker(running, role, worker, shares(), beat).run(stopped)
            running.close()
            beat.stopped()
            log.info("role.stopped", worker=worker)
        except (Unavailable, StoreFull, HeadMoved) as error:
            if time.monotonic() - began >= HEALTHY_S:
                pause = FIRST_PAUSE_S
            log.warning("role.waits", reason=type(error).__name__, error=str(error), retry_in_s=pause)
            if not isinstance(error, HeadMoved):
                beat.waits(str(error))
            if running is not None:
                with suppress(Unavailable, StoreFull, HeadMoved):
                    running.close()
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)


class _Worker:
    """One worker of a role: its leases, and its steps."""

    def __init__(self, running: Running, role: str, worker: str, shares: Shares, beat: Beat) -> None:
        self._running, self._role, self._worker, self._shares, self._beat = running, role, worker, shares, beat
        self._held: tuple[str, ...] = ()
        self._renew_at = 0.0
        self._log = structlog.get_logger().bind(role=role)

    def run(self, stopped: Callable[[], bool]) -> None:
        idle = False
        while not stopped():
            idle = self._step(idle) == 0
        if self._running.drains:
            self._drain()
        self._shares.leave(self._role, self._worker)

    def _step(self, idle: bool) -> int:
        """Renews the leases when it is time, then one step; waits a moment when the step before found nothing."""
        began = time.monotonic()
        if began >= self._renew_at:
            self._renew(began)
        n = self._running.step(WAIT_S if idle else 0.0) if self._held else 0
        self._beat.steps()
        if n == 0:
            time.sleep(max(0.0, IDLE_S - (time.monotonic() - began)))
        return n

    def _renew(self, now: float) -> None:
        held = self._shares.take(self._role, self._worker, self._running.parts, ttl_s=LEASE_S)
        if held != self._held:
            self._log.info("role.holds", before=",".join(self._held), now=",".join(held))
            self._running.hold(held)
            self._held = held
        self._renew_at = now + RENEW_S

    def _drain(self) -> None:
        """Goes on until nothing has come for a while and nothing is held, so that a stop leaves no event in flight."""
        deadline = time.monotonic() + DRAIN_S
        quiet_since = time.monotonic()
        while time.monotonic() < deadline and (self._running.busy() or time.monotonic() - quiet_since < QUIET_S):
            if self._step(idle=True):
                quiet_since = time.monotonic()
