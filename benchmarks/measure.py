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
from pathlib import Path

from harness.ports.bus import Bus, Partition

TICK = os.sysconf("SC_CLK_TCK")
CHUNK = 4_096
SEGMENTS = ("SE", "DE", "ES", "FR")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: `n` pairs in `wall_s` seconds, with `cpu_s` processor seconds of our processes."""

    name: str
    n: int
    wall_s: float
    cpu_s: float

    @property
    def per_second(self) -> float:
        """Pairs a second."""
        return self.n / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Processor microseconds a pair."""
        return self.cpu_s / self.n * 1e6


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
             "time": f"2026-03-{2 + k // 2_000_000:02d}T{k // 80_000 % 24:02d}:{k // 1_400 % 60:02d}:{k // 24 % 60:02d}.{k % 24:02d}Z",
             "data": data},
            separators=(",", ":"),
        ).encode()  # fmt: skip


def fill(bus: Bus, topic: str, body: Sequence[bytes]) -> None:
    """Puts events on the one partition of a topic."""
    for start in range(0, len(body), CHUNK):
        bus.append(Partition(topic, 0), body[start : start + CHUNK])


def processor_s(pid: int) -> float:
    """Processor seconds of a process and of its children, living and waited for; 0 when it is gone."""
    total = 0.0
    for each in [pid, *_children(pid)]:
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / TICK
    return total


def _children(pid: int) -> list[int]:
    try:
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [each for child in direct for each in (child, *_children(child))]


class Processes:
    """Processes by name, ended when the block is left; what they say on stderr is kept, for when one ends by itself."""

    def __init__(self, commands: Mapping[str, Sequence[str]]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="bench-"))
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.started: dict[str, subprocess.Popen[bytes]] = {}
        for name, command in commands.items():
            with self._log(name).open("wb") as log:
                self.started[name] = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": path})

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

    def first(self) -> subprocess.Popen[bytes]:
        """The one that is held at the gate."""
        return next(iter(self.started.values()))

    def cpu_s(self) -> float:
        """Processor seconds of all of them so far."""
        return sum(processor_s(process.pid) for process in self.started.values())

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
    done: Callable[[], int], timeout_s: float = 300.0,
) -> Measured:  # fmt: skip
    """One run by the rule above; the first command is the one that is held at the gate. `done` tells how many pairs are in."""
    with Processes(commands) as processes:
        processes.wait(ready, 180.0, f"{name}: not ready")
        processes.first().send_signal(signal.SIGSTOP)
        fill()
        before, began = processes.cpu_s(), time.monotonic()
        processes.first().send_signal(signal.SIGCONT)
        processes.wait(lambda: done() >= n, timeout_s, f"{name}: not done")
        return Measured(name=name, n=n, wall_s=time.monotonic() - began, cpu_s=processes.cpu_s() - before)


def table(rows: Sequence[Measured], base: Measured) -> str:
    """The runs as lines, each as a ratio to the base of the same call."""
    lines = [f"{'run':28} {'pairs/s':>10} {'x base':>8} {'cpu us/pair':>12} {'x base':>8}"]
    lines += [
        f"{r.name:28} {r.per_second:10,.0f} {r.per_second / base.per_second:8.2f} {r.cpu_us:12.1f} {r.cpu_us / base.cpu_us:8.2f}" for r in rows
    ]
    return "\n".join(lines)


def save(rows: Sequence[Measured], path: Path) -> None:
    """The runs as JSON."""
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def python(script: Path, *args: str) -> list[str]:
    """The command that runs a script of ours."""
    return [sys.executable, str(script), *args]
