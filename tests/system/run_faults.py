"""Many fault schedules, one after another or a few at a time: `make faults N=200 SEED=1`.

Prints a line for each, and of each that failed its seed, what was wrong and the command that repeats it. Exit code 1 if one did.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support"))
PR_SET_CHILD_SUBREAPER = 36
QUIET_LOOKS = 3


def load(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"system_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Bench:
    """What all schedules share: a stream, its verdict, and a Kafka a thread."""

    def __init__(self, folder: Path) -> None:
        self.streams, self.processes, self.faults = load("streams"), load("processes"), load("faults")
        self._folder, self._mine, self.clusters = folder, threading.local(), []
        self.stream = self.streams.build(folder / "stream", seed=7, n_events=300)
        self.undisturbed = self.faults.replayed(self.stream, self.streams.stated(self.streams.END), folder / "replayed")

    def kafka(self) -> Any:
        """The broker of this thread: schedules kill it."""
        from kafka_broker import Cluster

        if not hasattr(self._mine, "broker"):
            cluster = Cluster(self._folder / f"kafka-{threading.get_ident()}", 1, heap="384m")
            cluster.__enter__()
            self.clusters.append(cluster)
            self._mine.broker = cluster.brokers[0]
        return self._mine.broker

    def run(self, schedule: Any) -> float:
        """One schedule, in a folder that is removed when it went well."""
        folder = self._folder / str(schedule.seed)
        took: float = self.faults.run(
            schedule, stream=self.stream, undisturbed=self.undisturbed, streams=self.streams, processes=self.processes,
            folder=folder, kafka=self.kafka,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)
        return took


def say(line: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                found += [child, *descendants(child)]
    return found


def leave_nothing_behind(folder: Path) -> None:
    """On SIGTERM: ends every process of the running schedules, whoever started it, and then this one. Threads cannot be stopped, and
    would start more."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent stays ours

    def end(*_: object) -> None:
        quiet = 0
        while quiet < QUIET_LOOKS:
            left = descendants(os.getpid())
            quiet = 0 if left else quiet + 1
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)


def main() -> int:
    """Runs the schedules; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="how many schedules (default: 20)")
    parser.add_argument("--seed", type=int, help="the first seed (default: from the clock)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default: 2)")
    options = parser.parse_args()
    first = int(time.time()) if options.seed is None else options.seed
    failed: list[int] = []
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    leave_nothing_behind(folder)
    bench = Bench(folder)
    from schedules import seeds

    try:
        with ThreadPoolExecutor(options.jobs) as pool:
            running = {pool.submit(bench.run, schedule): schedule for schedule in seeds(first, options.n)}
            for n, done in enumerate(as_completed(running), start=1):
                schedule, error = running[done], done.exception()
                how = f"{done.result():.1f} s" if error is None else "FAILED"
                say(f"{n}/{options.n} {how}: {schedule}")
                if error is not None:
                    failed.append(schedule.seed)
                    say(f"{type(error).__name__}: {error}")
    finally:
        for cluster in bench.clusters:
            cluster.__exit__()
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"{options.n - len(failed)} of {options.n} schedules ended as undisturbed" + (f"; FAILED: seeds {failed}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
