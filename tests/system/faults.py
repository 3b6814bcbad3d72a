"""Seeded fault schedules: a rollout on real processes and servers, and what befalls it while events come.

`Schedule.draw(seed)` says what happens, `run` does it and compares what came of it with an undisturbed replay and with counters that do
not know each other. The same seed draws the same schedule; the moments of a machine are its own.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import redis
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError
from kafka_broker import Broker, free_ports
from proxy import FATES, Proxy

from harness.adapters.redis.server import find_redis_server
from harness.wiring import reopen

ROLES = ("router", "lane:incumbent", "lane:challenger", "joiner", "analyst")
TOPICS = ("proof.events", "proof.outcomes", "proof.mirror", "proof.predictions")
SENDING_S = 2.5
SETTLE_S = 90.0
ROLE_FAULTS = ("kill", "stop", "add", "repeat")
STORE_FAULTS = ("redis.kill", "redis.full")
TINY = 100_000  # bytes: less than any Redis uses
REPEATED = 25  # records


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. target: a role, where it is about one; worker: its first or its second; at_s: when, from the first
    record on; lasts_s: how long, where it has a length."""

    kind: str
    at_s: float
    target: str = ""
    worker: int = 0
    lasts_s: float = 0.0

    def __str__(self) -> str:
        who = f" {self.target}{'#2' if self.worker else ''}" if self.target else ""
        return f"{self.at_s:.1f}s {self.kind}{who}" + (f" for {self.lasts_s:.1f}s" if self.lasts_s else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A rollout and its faults. bus: redis, embedded or kafka; second: roles that have two workers from the start."""

    seed: int
    bus: str
    shards: int
    second: tuple[str, ...]
    proxied: bool
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        more = f", two workers of {' '.join(self.second)}" if self.second else ""
        return f"seed {self.seed}: {self.bus}, {self.shards} shards{more}: {'; '.join(map(str, self.faults))}"

    @classmethod
    def draw(cls, seed: int) -> Schedule:
        """What a seed stands for."""
        rng = random.Random(f"schedule {seed}")
        bus = rng.choices(("redis", "embedded", "kafka"), (5, 2, 3))[0]
        second = tuple(sorted(rng.sample(ROLES, rng.choice((0, 1, 1, 2)))))
        kinds = [*ROLE_FAULTS, "kill", "stop", *STORE_FAULTS]
        kinds += [f"proxy.{fate}" for fate in FATES] if bus != "embedded" else []
        kinds += ["kafka.kill"] * 2 if bus == "kafka" else []
        kinds += ["remove"] if second else []
        faults = sorted((_drawn(rng, kinds, second) for _ in range(rng.randint(2, 5))), key=lambda fault: fault.at_s)
        return cls(
            seed=seed, bus=bus, shards=rng.randint(1, 4), second=second, faults=tuple(faults),
            proxied=any(fault.kind.startswith("proxy.") for fault in faults),
        )  # fmt: skip


def _drawn(rng: random.Random, kinds: Sequence[str], second: Sequence[str]) -> Fault:
    kind, at_s = rng.choice(kinds), rng.uniform(0.1, SENDING_S)
    match kind:
        case "kill" | "stop":
            role = rng.choice(ROLES)
            worker = int(role in second and rng.random() < 0.5)
            return Fault(kind=kind, at_s=at_s, target=role, worker=worker, lasts_s=rng.uniform(0.5, 4.0) if kind == "stop" else 0.0)
        case "add" | "remove":
            return Fault(kind=kind, at_s=at_s, target=rng.choice(ROLES if kind == "add" else second), worker=1)
        case "redis.full":
            return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.3, 1.2))
        case "redis.kill" | "kafka.kill":
            return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.05, 0.8))
        case "repeat":
            return Fault(kind=kind, at_s=at_s)
    return Fault(kind=kind, at_s=at_s, lasts_s=rng.uniform(0.5, 2.0))


# ---------------------------------------------------------------------------------------------------------------------- servers
class RedisServer:
    """A redis-server with an append-only file, to be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self.port = folder, free_ports(1)[0]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers, its data loaded."""
        command = [find_redis_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--appendonly", "yes", "--appendfsync", "everysec"], stdout=log, stderr=log)
        await_redis(redis.Redis(port=self.port))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def await_redis(client: redis.Redis) -> None:
    """Returns when the server answers."""
    deadline = time.monotonic() + 20.0
    while True:
        try:
            client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# --------------------------------------------------------------------------------------------------------------------- producers
class RedisProducer:
    """XADDs records; each is acknowledged, or known not to have been taken."""

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        self._client = client

    def send(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Returns how many of them, from the first on, were acknowledged: fewer than all while the server has no memory."""
        for n, (topic, record) in enumerate(records):
            try:
                self._client().xadd(topic, {"value": record})
            except redis.OutOfMemoryError:
                return n
        return len(records)

    def close(self) -> None:
        """Nothing to let go of."""


class BrokerProducer:
    """Produces to Kafka, each batch acknowledged before `send` returns."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._producer = KafkaProducer(bootstrap_servers=address, acks="all")

    def send(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Returns how many were acknowledged: all."""
        for sent in [self._producer.send(topic, value=record) for topic, record in records]:
            sent.get(timeout=60)
        return len(records)

    def close(self) -> None:
        """Deletes the topics, for the next rollout of this name."""
        self._producer.close()
        with KafkaAdminClient(bootstrap_servers=self._address) as admin:
            for topic in TOPICS:
                with suppress(UnknownTopicOrPartitionError):
                    admin.delete_topics([topic])


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
        self.first = self._up("first", self._store(), ROLES)
        self.more: dict[str, list[Any]] = {}
        self.left: list[Any] = []
        self._stopped: set[int] = set()
        self.repeats: list[tuple[str, bytes]] = []
        self.producer: RedisProducer | BrokerProducer = (
            BrokerProducer(self.broker.address) if self.broker else RedisProducer(self.first_client)
        )

    def _store(self) -> str | None:
        if self.server is None:
            return None
        return f"redis://127.0.0.1:{self.proxy.port}/0" if self.proxy else self.server.url

    def _up(self, name: str, url: str | None, roles: Sequence[str]) -> Any:
        options = [*self._bus, *self._shards, *(["--roles", ",".join(roles)] if roles != ROLES else [])]
        return self._processes.Up(self.stream, self._folder / name, url=url, options=options, roles=roles)

    def first_client(self) -> redis.Redis:
        """A connection to the store that no proxy disturbs."""
        if self.server is None:
            client: redis.Redis = self.first.client()
            return client
        if not hasattr(self, "_client"):
            self._client = redis.Redis.from_url(self.server.url)
        return self._client

    def start(self) -> None:
        """The first workers, and the second ones."""
        self.first.start()
        for role in self.schedule.second:
            self.add(role)

    # ----------------------------------------------------------------------------------------------------------------- its faults
    def add(self, role: str) -> None:
        """One more worker of a role, by an `up` of its own on its own data folder. Returns at once."""
        url = self._store() or self.first.address()
        added = self._up(f"{role.replace(':', '-')}-{time.monotonic_ns()}", url, (role,))
        added.launch()
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
            case "proxy":
                assert self.proxy is not None
                self.proxy.misbehave(detail)
                return self.proxy.behave
            case "redis" if detail == "full":
                self.first_client().config_set("maxmemory", TINY)
                return lambda: bool(self.first_client().config_set("maxmemory", 0)) or None  # type: ignore[return-value]
            case "redis":
                self._kill_redis(fault.lasts_s)
            case "kafka":
                assert self.broker is not None
                self.broker.kill()
                time.sleep(fault.lasts_s)
                self.broker.start()
                self.broker.wait()
        return None

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
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
            await_redis(client)  # `up` starts it again
        client.config_set("maxmemory", full)

    def _repeat(self) -> None:
        """The producer sends again what it had sent: copies, to be counted as such."""
        again = [record for record in self.stream.records if is_event(record)][:REPEATED]
        sent = self.producer.send(again)
        self.repeats += again[:sent]

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
