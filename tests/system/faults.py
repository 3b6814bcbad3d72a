"""Seeded fault schedules: a rollout on real processes and servers, and what befalls it while events come.

`schedules.Schedule` says what happens; `run` lets it happen and compares what came of it with an undisturbed replay and with counters that
do not know each other.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import redis
from clocks import Clocks
from kafka_broker import Broker
from producers import BrokerProducer, RedisProducer, RedisServer, await_redis
from proxy import Proxy
from schedules import ROLES, SENDING_S, Fault, Schedule

from harness.wiring import reopen

SETTLE_S = 300.0
TINY = 100_000  # bytes: less than any Redis uses
REPEATED = 25  # records


# ------------------------------------------------------------------------------------------------------------------- a rollout
class Rollout:
    """A schedule's rollout: its servers, its workers, its producer."""

    def __init__(self, schedule: Schedule, stream: Any, folder: Path, processes: ModuleType, kafka: Callable[[], Broker]) -> None:
        self.schedule, self.stream, self._folder, self._processes = schedule, stream, folder, processes
        self.broker = kafka() if schedule.bus == "kafka" else None
        self.server = None if schedule.bus == "embedded" else RedisServer(folder / "redis")
        self.proxy = Proxy(self.server.port, seed=schedule.seed) if self.server and schedule.proxied else None
        self._bus = ["--bus", f"kafka://{self.broker.address}"] if self.broker else []
        self._shards = ["--shards", schedule.shards]
        self._clocks = Clocks(folder / "clocks") if any(fault.kind == "clock" for fault in schedule.faults) else None
        self._client = redis.Redis.from_url(self.server.url) if self.server else None
        self.first = self._up("first", self._store(), ROLES)
        self.first.url = self.server.url if self.server else None  # who looks is not behind the proxy
        self.more: dict[str, list[Any]] = {}
        self.left: list[Any] = []
        self._stopped: set[int] = set()
        self.n_sent = 0
        self.repeats: list[tuple[str, bytes]] = []
        self.producer: RedisProducer | BrokerProducer = (
            BrokerProducer(self.broker.address) if self.broker else RedisProducer(self.first_client)
        )

    def _store(self) -> str | None:
        if self.server is None:
            return None
        return f"redis://127.0.0.1:{self.proxy.port}/0" if self.proxy else self.server.url

    def _up(self, name: str, url: str | None, roles: Sequence[str]) -> Any:
        options = [*self._bus, *self._shards, "--roles", ",".join(roles)]
        awaited = roles if roles == ROLES else ()  # an added one may find its store full or away, and leave
        spawn = {"env": self._clocks.environment()} if roles == ROLES and self._clocks else None  # those of added ones go right
        return self._processes.Up(self.stream, self._folder / name, url=url, options=options, roles=awaited, spawn=spawn)

    def first_client(self) -> redis.Redis:
        """A connection to the store that no proxy disturbs."""
        found: redis.Redis = self._client or self.first.client()
        return found

    def start(self) -> None:
        """The first workers and the second ones; returns when all are at work, so that faults befall work and not its beginning."""
        self.first.start()
        for role in self.schedule.second:
            self.add(role)
        wanted = {role: 1 + (role in self.schedule.second) for role in ROLES}
        self._processes.until(lambda: all(self.n_workers(role) >= n for role, n in wanted.items()), SETTLE_S, self.first.words)

    def n_workers(self, role: str) -> int:
        """Workers of a role that hold their leases, as the store knows them."""
        found: int = self.first_client().zcard(f"shadow:{{proof}}:workers:{role}")
        return found

    # ----------------------------------------------------------------------------------------------------------------- its faults
    def add(self, role: str) -> None:
        """One more worker of a role, by an `up` of its own on its own data folder. Returns at once."""
        url = self._store() or self.first.address()
        added = self._up(f"{role.replace(':', '-')}-{time.monotonic_ns()}", url, (role,))
        added.start()
        self.more.setdefault(role, []).append(added)

    def remove(self, role: str) -> None:
        """SIGTERM to a worker that was added."""
        if self.more.get(role):
            leaving = self.more[role].pop()
            leaving.process.send_signal(signal.SIGTERM)
            self.left.append(leaving)

    def worker_of(self, fault: Fault) -> int | None:
        """The process id that a fault is about; None while there is none."""
        second = self.more.get(fault.target, []) if fault.worker else []
        found: int | None = (second[-1] if second else self.first).pids().get(fault.target)
        return found

    def strike(self, fault: Fault) -> Callable[[], None] | None:
        """Lets a fault happen; returns what ends it."""
        kind, _, detail = fault.kind.partition(".")
        match kind:
            case "kill" | "stop":
                return self._signal(fault, signal.SIGKILL if kind == "kill" else signal.SIGSTOP)
            case "add":
                self.add(fault.target)
            case "remove":
                self.remove(fault.target)
            case "repeat":
                self._repeat()
            case "clock":
                clocks, roles = self._clocks, (fault.target,) if fault.target else ROLES
                assert clocks is not None
                clocks.set(roles, fault.ahead_s)
                return lambda: clocks.set(roles, 0.0)
            case "proxy":
                assert self.proxy is not None
                self.proxy.misbehave(detail)
                return self.proxy.behave
            case "redis" if detail == "full":
                self._give_room(TINY)
                return lambda: self._give_room(0)
            case "redis":
                self._kill_redis(fault.lasts_s)
            case "kafka":
                assert self.broker is not None
                self.broker.kill()
                time.sleep(fault.lasts_s)
                self.broker.start()
                self.broker.wait()
        return None

    def _give_room(self, n_bytes: int) -> None:
        self.first_client().config_set("maxmemory", n_bytes)

    def _signal(self, fault: Fault, number: int) -> Callable[[], None] | None:
        pid = self.worker_of(fault)
        if pid is None:
            return None
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if number == signal.SIGKILL:
            return None
        self._stopped.add(pid)
        return lambda: self._continue(pid)

    def _continue(self, pid: int) -> None:
        self._stopped.discard(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _kill_redis(self, away_s: float) -> None:
        """kill -9 once all that was acknowledged is with the operating system: Redis may hold it back for a moment behind an fsync."""
        client = self.first_client()
        self._processes.until(lambda: client.info("persistence")["aof_buffer_length"] == 0, SETTLE_S, self.first.words)
        full = client.config_get("maxmemory")["maxmemory"]
        if self.server is not None:
            self.server.kill()
            time.sleep(away_s)
            self.server.start()
        else:
            pid = client.info("server")["process_id"]
            os.kill(pid, signal.SIGKILL)
            self._processes.until(lambda: not self._processes.alive(pid), SETTLE_S, self.first.words)
            await_redis(client)  # `up` starts it again
        client.config_set("maxmemory", full)

    def _repeat(self) -> None:
        """The producer sends again what it had sent: copies, to be counted as such."""
        before = [record for record in self.stream.records[: self.n_sent] if is_event(record)]
        again = random.Random(self.schedule.seed).sample(before, min(REPEATED, len(before)))
        self.repeats += again[: self.producer.send(again)]

    def send(self, upto: int) -> None:
        """Sends the stream's records up to this place, as far as the server takes them."""
        self.n_sent += self.producer.send(self.stream.records[self.n_sent : upto])

    # -------------------------------------------------------------------------------------------------------------- its end
    def close(self) -> None:
        """Whatever of it is left."""
        if self.proxy is not None:
            self.proxy.close()
        for each in (self.first, *self.left, *(up for ups in self.more.values() for up in ups)):
            for pid in each.pids().values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not each.ended:
                each.process.kill()
                each.process.wait()
            each.close()
        with suppress(Exception):
            self.producer.close()
        if self.server is not None:
            self.server.kill()


def is_event(record: tuple[str, bytes]) -> bool:
    """Whether a record of the stream can be read as an event, so that sending it again makes a duplicate."""
    topic, line = record
    if topic != "proof.events" or b"NaN" in line:
        return False
    try:
        found = json.loads(line)
    except ValueError:
        return False
    texts = ("id", "source", "specversion", "subject", "recordedtime", "time")
    whole = isinstance(found, dict) and all(isinstance(found.get(name), str) and found[name] for name in texts)
    return whole and found["time"] != "yesterday"


# -------------------------------------------------------------------------------------------------------------------------- run
def happen(rollout: Rollout) -> None:
    """Sends the stream over `SENDING_S` while the faults of the schedule begin and end."""
    due = [(fault.at_s, n, fault) for n, fault in enumerate(rollout.schedule.faults)]
    ends: list[tuple[float, Callable[[], None]]] = []
    n_records, began = len(rollout.stream.records), time.monotonic()
    while due or ends or rollout.n_sent < n_records:
        now = time.monotonic() - began
        rollout.send(min(n_records, int(n_records * now / SENDING_S)))
        while due and due[0][0] <= now:
            fault = due.pop(0)[2]
            end = rollout.strike(fault)
            if end is not None:
                ends.append((now + fault.lasts_s, end))
        for each in [each for each in ends if each[0] <= now]:
            ends.remove(each)
            each[1]()
        time.sleep(0.02)


def assert_same(verdict: Mapping[str, Any], undisturbed: Mapping[str, Any], *, n_copies: int) -> None:
    """The verdict is that of the undisturbed replay, but for the copies that were sent and the watermark."""
    expected = {**undisturbed, "counts": _with_copies(undisturbed["counts"], n_copies)}
    differs = {name: (verdict[name], expected[name]) for name in expected if name != "watermark" and verdict[name] != expected[name]}
    assert not differs, f"found, and expected: {differs}"


def assert_none_lost(verdict: Mapping[str, Any], undisturbed: Mapping[str, Any], *, n_copies: int) -> None:
    """Every event has its one place, though some that were in flight when a clock was set may be charged to the lanes."""
    expected = {**undisturbed, "counts": _with_copies(undisturbed["counts"], n_copies)}
    assert verdict["counts"]["paired"] <= expected["counts"]["paired"]

    def kept(found: Mapping[str, Any]) -> list[Any]:
        charged = ("paired", "missing", "missing_events")
        return [{name: n for name, n in found["counts"].items() if name not in charged}, found["outcomes"], found["as_of"]]

    assert kept(verdict) == kept(expected), "and the identity, asserted with the other counters, holds the rest together"


def _with_copies(counts: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Counts after so many events were sent again."""
    return {**counts, "read": counts["read"] + n, "duplicates": counts["duplicates"] + n}


def check(rollout: Rollout, verdict: Mapping[str, Any], undisturbed: Mapping[str, Any]) -> None:
    """The verdict is right, and counters that do not know each other agree."""
    agrees = assert_none_lost if rollout.schedule.overtakes else assert_same
    agrees(verdict, undisturbed, n_copies=len(rollout.repeats))
    store = rollout.server.url if rollout.server else rollout.first.address()
    bus = f"kafka://{rollout.broker.address}" if rollout.broker else store
    status = reopen("proof", bus, store).watched().status()
    n_sent = rollout.stream.n_events
    assert (n_sent, status.routed, status.read) == (n_sent, n_sent, n_sent), "sent, routed, joined"
    assert (list(status.identity), status.in_flight, status.idle) == ([], 0, True), status
    n_rows = sum(int(rollout.first_client().hget(f"shadow:{{proof:{n}}}:head", "resolved") or 0) for n in range(rollout.schedule.shards))
    assert n_rows == verdict["counts"]["mirrored"] - verdict["counts"]["invalid"], "a row for each event that could be read"
    assert not rollout.first.ended, "a role said that it is used wrongly"


def run(
    schedule: Schedule, *, stream: Any, undisturbed: Mapping[str, Any], streams: ModuleType, processes: ModuleType, folder: Path,
    kafka: Callable[[], Broker],
) -> float:  # fmt: skip
    """Lets a schedule happen, and returns how many seconds that took. Raises AssertionError with the seed and what was wrong."""
    began = time.monotonic()
    rollout = Rollout(schedule, stream, folder, processes, kafka)
    try:
        rollout.start()
        happen(rollout)
        rollout.producer.send([streams.watermark("proof.events")])
        rollout.first.stream = rollout.stream = replace(stream, records=(*stream.records, *rollout.repeats))
        check(rollout, rollout.first.settled(), undisturbed)
    except Exception as error:
        words = "\n".join(up.words() for ups in ([rollout.first], *rollout.more.values(), rollout.left) for up in ups)
        raise AssertionError(f"{schedule}\nagain: make faults N=1 SEED={schedule.seed}\n{error}\n{words}") from error
    finally:
        rollout.close()
    return time.monotonic() - began


def replayed(stream: Any, until: str, folder: Path) -> dict[str, Any]:
    """What an undisturbed replay says of a stream."""
    command = [sys.executable, "-m", "harness", "replay", str(stream.config), "--events", str(stream.events), "--outcomes"]
    done = subprocess.run(
        [*command, str(stream.outcomes), "--until", until, "--out", str(folder), "--json"], capture_output=True, check=False
    )
    assert done.returncode in (0, 3, 4), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
