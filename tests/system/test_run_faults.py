"""`make faults` itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest


def descendants(processes: ModuleType, pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    return [each for child in processes.children(pid) for each in (child, *descendants(processes, child))]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_schedules_that_are_stopped_leave_no_process_behind(processes: ModuleType, tmp_path: Path):
    """Somebody who stops a long run must not have to look for a dozen roles and servers."""
    command = [sys.executable, str(Path(__file__).parent / "run_faults.py"), "-n", "1", "--seed", "1"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})
    try:
        seen: set[int] = set()
        processes.until(lambda: bool(seen.update(descendants(processes, running.pid)) or len(seen) >= 2), processes.START_S, lambda: seen)
        running.send_signal(signal.SIGTERM)
        assert running.wait(processes.FINISH_S) == 128 + signal.SIGTERM
    finally:
        running.kill()
        running.wait()
    assert not [pid for pid in seen if processes.alive(pid)]
    assert not list(tmp_path.glob("faults-*"))
