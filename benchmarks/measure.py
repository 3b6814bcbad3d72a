"""What every benchmark shares: processes that are started, stopped at the gate, timed, and whose processor time is counted.

The rule: everything is up and idle, the first process is stopped, the source is filled, the clock starts, the first process goes on,
and the clock stops when the last pair is in the store. Processor seconds are those of our processes (and their children) between the
two, read from /proc; the broker's and the store's are not ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.ports.bus import Bus, Partition

TICK = os.sysconf("SC_CLK_TCK")
CHUNK = 4_096
SLOWEST = 500  # pairs a second: a slower run has failed
START = datetime(2026, 3, 2, tzinfo=UTC)
SEGMENTS = ("SE", "DE", "ES", "FR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: `n` pairs in `wall_s` seconds, with `cpu_s` processor seconds of each of our processes."""

    name: str
    n: int
    wall_s: float
    cpu_s: Mapping[str, float]

    @property
    def per_second(self) -> float:
        """Pairs a second."""
        return self.n / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor microseconds a pair."""
        return sum(self.cpu_s.values()) / self.n * 1e6

    @property
    def parts(self) -> str:
        """Processor microseconds a pair, by process."""
        return ", ".join(f"{name} {cpu_s / self.n * 1e6:.1f}" for name, cpu_s in self.cpu_s.items())


def stamp(k: int) -> str:
    """The time of event k: they come 40 ms apart."""
    return (START + timedelta(milliseconds=40 * k)).isoformat().replace("+00:00", "Z")


def events(n: int, *, first: int = 0) -> Iterator[bytes]:
    """Events of about 420 bytes, with both models' answers in them: the models are trivial, the pipeline is what is measured."""
    for k in range(first, first + n):
        age = 8 + k * 7919 % 70
        data = {
            "region": SEGMENTS[k % 4], "old": {"age": age + 0.25}, "new": {"age": age + (k % 5) / 4},
            "features": [round(age * 0.37 + i, 3) for i in range(16)], "note": "x" * 24,
        }  # fmt: skip
        yield json.dumps(
            {"specversion": "1.0", "id": f"e-{k:09d}", "source": "/bench", "type": "score.requested", "subject": f"u-{k // 2:08d}",
             "time": stamp(k), "data": data},
            separators=(",", ":"),
        ).encode()  # fmt: skip


def fill(bus: Bus, topic: str, body: Sequence[bytes]) -> None:
    """Puts events on the one partition of a topic."""
    for start in range(0, len(body), CHUNK):
        bus.append(Partition(topic, 0), body[start : start + CHUNK])


def processor_s(pid: int) -> float:
    """Processor seconds of a process and of its children, living and waited for; 0 when it is gone."""
    total = 0.0
    for each in [pid, *children(pid)]:
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICK
    return total


def children(pid: int) -> list[int]:
    """The processes that a process started, and theirs."""
    try:
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in direct for each in (child, *children(child))]


class Processes:
    """Processes by name, ended when the block is left; what they say on stderr is kept, for when one ends by itself."""

    def __init__(self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str] | None = None) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        told = {**os.environ, **(environment or {}), "PYTHONPATH": path}
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in commands.items():
            with self._log(name).open("wb") as log:
                self.started[name] = subprocess.Popen(command, stdout=log, stderr=log, env=told)

    def _log(self, name: str) -> Path:
        return self._folder / name.replace(":", "-")

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started.values():
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.started.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._folder)

    def signal(self, names: Sequence[str], number: signal.Signals) -> None:
        """Sends a signal to some."""
        for name in names:
            self.started[name].send_signal(number)

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of each so far."""
        return {name: processor_s(process.pid) for name, process in self.started.items()}

    def wait(self, condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Returns when the condition holds. Ends the benchmark when it does not come, or when a process has ended."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for name, process in self.started.items():
                if process.poll() is not None:
                    raise SystemExit(f"{otherwise}: {name} ended:\n{self._log(name).read_text()[-2_000:]}")
            if time.monotonic() > deadline:
                raise SystemExit(otherwise)
            time.sleep(0.02)


def measure(
    name: str, n: int, commands: Mapping[str, Sequence[str]], *, ready: Callable[[], bool], fill: Callable[[], None],
    done: Callable[[], int], hold: Sequence[str] = (), environment: Mapping[str, str] | None = None,
) -> Measured:  # fmt: skip
    """One run by the rule above. hold: those that read the source, by default the first. `done` tells how many pairs are in."""
    hold = hold or list(commands)[:1]
    with Processes(commands, environment) as processes:
        processes.wait(ready, 180.0, f"{name}: not ready")
        processes.signal(hold, signal.SIGSTOP)
        fill()
        before, began = processes.cpu_s(), time.monotonic()
        processes.signal(hold, signal.SIGCONT)
        processes.wait(lambda: done() >= n, max(300.0, n / SLOWEST), f"{name}: not done")
        wall_s, after = time.monotonic() - began, processes.cpu_s()
        return Measured(name=name, n=n, wall_s=wall_s, cpu_s={each: after[each] - before[each] for each in commands})


def table(rows: Sequence[Measured], base: Measured) -> str:
    """The runs as lines, each as a ratio to the base of the same call: above 1 is faster, or needs less processor."""
    lines = [f"{'run':28} {'pairs/s':>10} {'x base':>8} {'cpu us/pair':>12} {'x base':>8}  of which"]
    for row in rows:
        speed, cpu = row.per_second / base.per_second, base.cpu_us / row.cpu_us
        lines.append(f"{row.name:28} {row.per_second:10,.0f} {speed:8.2f} {row.cpu_us:12.1f} {cpu:8.2f}  {row.parts}")
    return "\n".join(lines)


def save(rows: Sequence[Measured], path: Path) -> None:
    """The runs as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def python(script: Path, *args: str) -> list[str]:
    """The command that runs a script of ours."""
    return [sys.executable, str(script), *args]
