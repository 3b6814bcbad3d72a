"""A circuit breaker: it spares a model server that does not answer, and the lane the wait for it.

Closed, every call goes out. After `FAILURES` failures in a row it opens: calls are refused for a pause (the caller tallies each as an
`error`). Once the pause is over one call at a time is let through as a probe: an answer closes the breaker, a failure doubles the
pause, from `FIRST_PAUSE_S` to `LONGEST_PAUSE_S`. Each change is a log line. Results of calls from before a change count for nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NewType

import structlog

FAILURES = 5  # in a row
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

Ticket = NewType("Ticket", int)


class Breaker:
    """One server's breaker, shared by all threads that call it."""

    def __init__(self, lane: str, *, now: Callable[[], float] = time.monotonic) -> None:
        """`lane` stands in the log lines; `now` is a clock in seconds that never goes back."""
        self._log, self._now = structlog.get_logger().bind(lane=lane), now
        self._lock = threading.Lock()
        self._period = 0  # rises with each change of state and each probe: a ticket of an older one is stale
        self._failures = 0
        self._pause_s = 0.0  # 0 while closed
        self._probe_at = 0.0
        self._probing = False

    def admit(self) -> Ticket | None:
        """A ticket for one call, to be given back with `report` whatever happens; None if the call must not be made."""
        with self._lock:
            if self._pause_s:
                if self._probing or self._now() < self._probe_at:
                    return None
                self._probing = True
                self._period += 1
            return Ticket(self._period)

    def report(self, ticket: Ticket, failure: str | None) -> None:
        """What became of an admitted call: None if the server answered, else what failed, in a word for the log."""
        with self._lock:
            if ticket != self._period:
                return
            if failure is None:
                self._answered()
            else:
                self._failed(failure)

    def _answered(self) -> None:
        self._failures = 0
        if self._pause_s:
            self._pause_s, self._probing = 0.0, False
            self._period += 1
            self._log.info("breaker.closed")

    def _failed(self, failure: str) -> None:
        self._failures += 1
        if self._pause_s == 0.0 and self._failures < FAILURES:
            return
        self._pause_s = min(self._pause_s * 2 or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        self._probe_at = self._now() + self._pause_s
        self._probing = False
        self._period += 1
        self._log.warning("breaker.opened", failure=failure, failures=self._failures, pause_s=self._pause_s)
