"""Tells an anchor the head of the chain, beside the controller's work: it may be slow or away, and never holds up a rollout."""

from __future__ import annotations

import threading

import structlog

from harness.core.errors import Unavailable
from harness.ports.anchor import Anchor
from harness.ports.clock import Clock

RETRY = 30_000_000  # microseconds until an anchor that failed is tried again


class Anchoring:
    """The head of one rollout's chain at its anchor. One call at a time runs in a thread of its own; the newest head covers all before."""

    def __init__(self, rollout: str, anchor: Anchor, clock: Clock) -> None:
        self._rollout, self._anchor, self._clock = rollout, anchor, clock
        self._told, self._failed_at = "", -RETRY
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger().bind(rollout=rollout)

    def tell(self, record: int, head: str) -> None:
        """Returns at once; call it again at every step: what failed, or came while a call was under way, is told then."""
        if head == self._told or (self._thread is not None and self._thread.is_alive()):
            return
        if 0 <= self._clock.now() - self._failed_at < RETRY:
            return
        self._thread = threading.Thread(target=self._put, args=(record, head), name="anchor", daemon=True)
        self._thread.start()

    def _put(self, record: int, head: str) -> None:
        try:
            self._anchor.put(self._rollout, record, head)
        except Unavailable as error:
            self._failed_at = self._clock.now()
            self._log.warning("anchor.failed", record=record, reason=str(error))
        else:
            self._told = head
            self._log.info("anchor.told", record=record, head=head)

    def settle(self, timeout_s: float) -> bool:
        """Waits for the call under way, at most so long; whether the last head told has been noted."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return bool(self._told) and not (self._thread is not None and self._thread.is_alive())
