"""A wall clock that a test sets. Python imports this module at its start from a folder on PYTHONPATH.

In the process of a role, the file named like the role in the folder SHADOW_TEST_CLOCKS says how many seconds its wall clock is ahead
(behind: below 0), from moment to moment. The monotonic clock goes on as ever, which is what a machine does whose clock is set.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path


def set_by(path: Path) -> None:
    """From now on wall time is that of the machine and what this file says."""
    real_ns = time.time_ns

    def now_ns() -> int:
        ahead_s = 0.0
        with suppress(OSError, ValueError):
            ahead_s = float(path.read_text())
        return real_ns() + round(ahead_s * 1e9)

    time.time_ns, time.time = now_ns, lambda: now_ns() / 1e9


_words = sys.orig_argv
if "SHADOW_TEST_CLOCKS" in os.environ and "role" in _words[:-1]:
    set_by(Path(os.environ["SHADOW_TEST_CLOCKS"], _words[_words.index("role") + 1]))
