"""A rollout that runs: `shadow up` as a process, its producers, and what can be seen of it from outside.

What is looked at is read with plain redis-py, so that a wrong reader of ours cannot hide a wrong writer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

START_S, FINISH_S = 240.0, 300.0  # they bound failures only: a machine that is busy with others takes its time
TICK_S = 0.05
ROLES = ("router", "lane:incumbent", "lane:challenger", "joiner", "analyst", "controller")
COUNTED = (
    "verdict",
    "reasons",
    "counts",
    "lanes",
    "versions",
    "outcomes",
    "gates",
    "flips",
    "config_sha256",
    "code_version",
    "as_of",
    "expires",
)


def until(condition: Callable[[], bool], timeout_s: float, why: Callable[[], object]) -> None:
    """Polls until the condition holds; fails with `why()` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s: {why()}")
        time.sleep(TICK_S)


def state_of(pid: int) -> str:
    """The letter of a process's state; Z, that of remains, when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def alive(pid: int) -> bool:
    """Whether there is such a process, and not only its remains."""
    return state_of(pid) != "Z"


def children(pid: int) -> list[int]:
    """The processes that a process started; none where the system does not say."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, path.read_text().split())
    return found


class Up:
    """`shadow up CONFIG` on one data folder; `url` None is the embedded Redis."""

    def __init__(
        self, stream: Any, data: Path, *, url: str | None = None, options: Sequence[object] = (), spawn: Any = None,
        roles: Sequence[str] = ROLES,
    ) -> None:  # fmt: skip
        self.stream, self.data, self.url, self.name = stream, data, url, "proof"
        self.roles = set(roles)
        self._spawn = {"stdin": subprocess.DEVNULL, **(spawn or {})}
        self._options = [*options, "--data", data, *(["--store", url] if url else [])]
        self.process: subprocess.Popen[str] | None = None
        self._clients: dict[str, redis.Redis] = {}
        data.mkdir(parents=True, exist_ok=True)

    # ---------------------------------------------------------------------------------------------------------------- its life
    def start(self) -> Up:
        """Starts it, and returns when every role has a process and the server answers."""
        (self.data / "roles.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "harness", "up", str(self.stream.config), "--listen", "", *map(str, self._options)]
        with (self.data / "out").open("a") as out, (self.data / "err").open("a") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, text=True, **self._spawn)
        until(lambda: self.ended or set(self.pids()) >= self.roles, START_S, self.words)
        if self.ended:
            raise AssertionError(f"up ended with {self.process.returncode}: {self.words()}")
        return self

    @property
    def ended(self) -> bool:
        """Whether the command has ended."""
        return self.process is None or self.process.poll() is not None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code once it and all its roles have ended."""
        assert self.process is not None
        pids = self.pids()
        self.process.send_signal(number)
        code = self.process.wait(FINISH_S)
        until(lambda: not any(map(alive, pids.values())), FINISH_S, lambda: f"roles outlive their supervisor: {pids}")
        return code

    def close(self) -> None:
        """Whatever is left of it, at once if the store is not its own: a stop in order takes a second, and is what `stop` is for."""
        if not self.ended and self.process is not None:
            if self.url is None:
                with suppress(subprocess.TimeoutExpired):
                    self.stop()
            self.process.send_signal(signal.SIGSTOP)  # it starts nothing any more, and all that it has started can be found
            until(lambda: state_of(self.process.pid) in "TZ", FINISH_S, self.words)
            pids = {*self.pids().values(), *children(self.process.pid)}
            self.process.kill()
            self.process.wait()
            for pid in filter(alive, pids):
                for kill in (os.killpg, os.kill):
                    with suppress(ProcessLookupError):
                        kill(pid, signal.SIGKILL)
            until(lambda: not any(map(alive, pids)), FINISH_S, lambda: f"roles outlive SIGKILL: {self.pids()}")
        for client in self._clients.values():
            client.close()

    def pids(self) -> Mapping[str, int]:
        """roles.json."""
        try:
            found: dict[str, int] = json.loads((self.data / "roles.json").read_text())
            return found
        except FileNotFoundError:
            return {}

    def pid_of(self, role: str) -> int:
        """The process id of a role, once it has one: between an end and a restart it has none."""
        found: dict[str, int] = {}
        until(lambda: bool(found.update(self.pids()) or role in found), START_S, self.words)
        return found[role]

    def kill(self, role: str) -> int:
        """SIGKILL to one role's process; returns its process id. Waits until there is one."""
        while True:
            pid = self.pid_of(role)
            with suppress(ProcessLookupError):  # it ended since
                os.kill(pid, signal.SIGKILL)
                return pid

    def words(self) -> str:
        """What it and its roles said last, for a failing test."""
        logs = [self.data / "err", *sorted((self.data / "log").glob("*.log"))]
        return "\n".join(f"{path.name}: " + "\n  ".join(path.read_text().splitlines()[-6:]) for path in logs if path.exists())

    # -------------------------------------------------------------------------------------------------------------- its server
    def address(self) -> str:
        """Where bus and store are."""
        return self.url or "unix://" + json.loads((self.data / "redis.json").read_text())["socket"]

    def client(self) -> redis.Redis:
        """A connection of a producer, or of somebody who looks."""
        address = self.address()
        if address not in self._clients:
            self._clients[address] = redis.Redis.from_url(address)
        return self._clients[address]

    def send(self, records: Iterable[tuple[str, bytes]], *, per_second: float | None = None) -> int:
        """XADDs records as any producer would, at most so many a second; returns how many were acknowledged."""
        n, began = 0, time.monotonic()
        for n, (topic, record) in enumerate(records, start=1):
            self.client().xadd(topic, {"value": record})
            if per_second is not None and n % 10 == 0:
                time.sleep(max(0.0, began + n / per_second - time.monotonic()))
        return n

    def finish(self, mark: tuple[str, bytes]) -> dict[str, Any]:
        """Says that no more comes, waits for the verdict that has seen all, and returns it."""
        self.send([mark])
        return self.settled()

    # --------------------------------------------------------------------------------------------------------- what it has found
    def verdict(self) -> dict[str, Any] | None:
        """The verdict last written."""
        with suppress(redis.ConnectionError, FileNotFoundError):
            text = self.client().hget(f"shadow:{{{self.name}}}:verdict", "verdict")
            return None if text is None else json.loads(text)
        return None

    def settled(self) -> dict[str, Any]:
        """The verdict, once it has seen every event and outcome of the stream and the last look."""
        last = "2026-01-14T00:00:00Z"  # the last look before streams.END

        def is_settled() -> bool:
            found = self.verdict()
            if found is None:
                return False
            counts, outcomes = found["counts"], found["outcomes"]
            all_read = counts["read"] == self.stream.n_events and sum(outcomes.values()) == self.stream.n_outcomes
            nothing_waits = counts["in_flight"] == outcomes["waiting"] == found["watermark"]["labels_behind"] == 0
            return all_read and nothing_waits and found["as_of"] == last

        until(is_settled, FINISH_S, lambda: f"{self._short()}\n{self.words()}")
        found = self.verdict()
        assert found is not None
        return found

    def _short(self) -> object:
        found = self.verdict()
        return None if found is None else [found[name] for name in ("counts", "outcomes", "as_of")]


def comparable(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict without what may differ between a replay and a live run: the watermark."""
    return {name: verdict[name] for name in COUNTED}
