"""Does a server answer within a bound? Asked in a thread of its own, because drivers wait longer than a health check may."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness.core.errors import ShadowError


class _Attempt:
    def __init__(self, call: Callable[[], object]) -> None:
        self.done, self.answered = threading.Event(), False
        self._call = call
        threading.Thread(target=self._run, daemon=True, name="probe").start()

    def _run(self) -> None:
        try:
            self._call()
            self.answered = True
        except ShadowError:
            self.answered = False
        finally:
            self.done.set()


class Probe:
    """One server. At most one attempt is under way, whoever asks and however long it hangs."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call, self._lock = call, threading.Lock()
        self._attempt: _Attempt | None = None

    def answers(self, within_s: float) -> bool:
        """Whether it answers within this time, or has just answered somebody who asked at the same moment."""
        with self._lock:
            if self._attempt is None or self._attempt.done.is_set():
                self._attempt = _Attempt(self._call)
            attempt = self._attempt
        return attempt.done.wait(within_s) and attempt.answered
