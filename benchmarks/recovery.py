"""How long the pipeline takes to recover when a role is killed: from `kill -9` until all that was sent up to then is paired, and a
verdict that includes it is published. The supervisor starts the role again; events go on coming.

    python benchmarks/recovery.py --bus kafka://127.0.0.1:9092 --store redis://127.0.0.1:6379/0 [--rate 200]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from freshness import now_stamped, started
from measure import Processes, children, events
from pipeline import ready

from harness.core.reading import microseconds
from harness.ports.bus import Partition
from harness.wiring import Wiring, open_bus

SETTLE_S = 5.0
MOST_S = 60.0


class _Source:
    """Events at a steady rate, from a thread, until stopped."""

    def __init__(self, bus_url: str, topic: str, rate: int) -> None:
        self._bus, self._topic, self._size = open_bus(bus_url), Partition(topic, 0), max(1, rate // 20)
        self.n = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self._bus.append(self._topic, now_stamped(list(events(self._size, first=self.n))))
            self.n += self._size

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def _pid_of(up: int, role: str) -> int | None:
    """The process of a role, among those that `shadow up` started."""
    for pid in children(up):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"role" in words and words[words.index(b"role") + 1] == role.encode():
            return pid
    return None


def _recovered_s(wiring: Wiring, source: _Source, up: int, role: str) -> float:
    pid = _pid_of(up, role)
    if pid is None:
        raise SystemExit(f"recovery: {role} does not run")
    log, ledger, n = wiring.pair_log(0), wiring.ledger, source.n
    killed = time.time()
    os.kill(pid, signal.SIGKILL)
    while time.time() - killed < MOST_S:
        published = ledger.published()
        as_of = (published and microseconds(json.loads(published.verdict)["as_of"])) or 0
        if as_of >= killed * 1e6 and log.snapshot().head.counts.paired >= n:
            return time.time() - killed
        time.sleep(0.02)
    raise SystemExit(f"recovery: {role} did not come back within {MOST_S:.0f} s")


def run(bus_url: str, store_url: str, rate: int) -> dict[str, float]:
    """Role -> seconds."""
    wiring, path = started(bus_url, store_url, "1s")
    command = [sys.executable, "-m", "harness", "up", str(path), "--bus", bus_url, "--store", store_url, "--data", str(path.parent)]
    roles = [role for role in wiring.role_names() if role != "api"]
    found: dict[str, float] = {}
    with Processes({"up": [*command, "--roles", ",".join(roles)]}) as processes:
        processes.wait(lambda: ready(wiring), 180.0, "recovery: not ready")
        source = _Source(bus_url, wiring.rollout.events.topic, rate)
        for role in roles:
            time.sleep(SETTLE_S)
            found[role] = round(_recovered_s(wiring, source, processes.started["up"].pid, role), 2)
        source.stop()
    return found


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--bus")
    parser.add_argument("--rate", type=int, default=200)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(run(args.bus or args.store, args.store, args.rate)) + "\n")


if __name__ == "__main__":
    main()
