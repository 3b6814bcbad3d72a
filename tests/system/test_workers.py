"""Workers of a role added, removed, killed and stopped while the rollout runs: parts move, and no number does."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from producers import RedisServer
from proxy import Proxy

from harness.adapters.redis.connection import script

PER_SECOND = 300.0
PARTS = {"router": 2, "lane:challenger": 4, "joiner": 4}  # events and outcomes; the rest have a part a shard


@pytest.fixture
def by_url(redis_url: str, redis_db: redis.Redis) -> str:
    """The address of the session's Redis, emptied."""
    return redis_url


@pytest.fixture
def running(up: Any, small_stream: Any, by_url: str) -> Any:
    """A rollout of four shards, one worker a role."""
    return up(small_stream, url=by_url, options=["--shards", 4]).start()


@pytest.fixture
def added(up: Any, small_stream: Any, by_url: str, tmp_path: Path) -> Callable[..., Any]:
    """One more worker of each of these roles, as somebody on another machine starts it."""

    def start(*roles: str, url: str = by_url) -> Any:
        options = ["--shards", 4, "--roles", ",".join(roles)]
        return up(small_stream, url=url, data=tmp_path / "-".join(roles), options=options, roles=roles).start()

    return start


def holds(running: Any, role: str) -> Mapping[str, int]:
    """Living worker -> how many parts it holds, read with plain commands."""
    client: redis.Redis = running.client()
    living = {name.decode(): 0 for name in client.zrange(f"shadow:{{proof}}:workers:{role}", 0, -1)}
    for owner in client.hgetall(f"shadow:{{proof}}:share:{role}").values():
        living[owner.decode()] = living.get(owner.decode(), 0) + 1
    return living


def worker_of(running: Any, role: str) -> str:
    """How the worker of a role is named there."""
    return f"{os.uname().nodename}:{running.pid_of(role)}"


def await_parts(running: Any, processes: ModuleType, role: str, *parts: int) -> None:
    """Until the workers hold so many parts each, fewest first."""
    processes.until(lambda: sorted(holds(running, role).values()) == list(parts), processes.START_S, lambda: holds(running, role))


def test_workers_come_and_go_and_share_what_there_is(
    running: Any, added: Callable[..., Any], small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any]
):
    """A second router, lane and joiner take half of the parts each while events flow, and give them back when they leave."""
    third = len(small_stream.records) // 3
    running.send(small_stream.records[:third], per_second=PER_SECOND)
    second = added(*PARTS)
    running.send(small_stream.records[third : third + 100], per_second=PER_SECOND)
    for role, n in PARTS.items():
        await_parts(running, processes, role, n // 2, n // 2)
    running.send(small_stream.records[third + 100 : 2 * third], per_second=PER_SECOND)
    assert second.stop() == 0
    for role, n in PARTS.items():
        await_parts(running, processes, role, n)
    running.send(small_stream.records[2 * third :])
    assert processes.comparable(running.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)


def test_an_analyst_that_stands_by_takes_over_from_one_that_was_killed(
    running: Any, added: Callable[..., Any], small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any]
):
    """One folds, the other waits; after kill -9 of the first, as of a machine that is gone, the other goes on from what is stored."""
    second = added("analyst")
    await_parts(running, processes, "analyst", 0, 1)
    half = len(small_stream.records) // 2
    running.send(small_stream.records[:half])
    folds, waits = (running, second) if holds(running, "analyst").get(worker_of(running, "analyst")) else (second, running)
    stands_by = worker_of(waits, "analyst")
    folds.process.send_signal(signal.SIGSTOP)  # else its supervisor's next analyst might take the lease first
    try:
        folds.kill("analyst")
        processes.until(lambda: holds(running, "analyst").get(stands_by) == 1, processes.START_S, running.words)
    finally:
        folds.process.send_signal(signal.SIGCONT)
    running.send(small_stream.records[half:])
    assert processes.comparable(running.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)
    await_parts(running, processes, "analyst", 0, 1)  # and the one that was killed stands by, or has it if the other one stalled


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that a proxy of this machine can stand before."""
    found = RedisServer(tmp_path / "redis")
    yield found
    found.kill()


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    """The way to it of workers that are to hang."""
    found = Proxy(server.port)
    yield found
    found.close()


def writes(role: str) -> Callable[[bytes], bool]:
    """What tells the write of a role, by which all that it has done counts, from everything else that is sent to the store."""
    sha = hashlib.sha1(script({"joiner": "apply.lua", "router": "swap.lua"}[role]).encode()).hexdigest().encode()
    return lambda piece: sha in piece and b":src:records" not in piece  # which is how far the controller told the records


@pytest.mark.parametrize("role", ["joiner", "router"])
def test_a_zombie_is_refused_and_has_changed_nothing(
    role: str, up: Any, added: Callable[..., Any], server: RedisServer, proxy: Proxy, small_stream: Any, streams: ModuleType,
    processes: ModuleType, small_verdict: dict[str, Any],
):  # fmt: skip
    """Stopped for longer than its lease when its write is under way and has not arrived, it is written behind another's back: the head is
    not the one that it loaded, so the write is refused whole, and it starts again from what is stored."""
    running = up(small_stream, url=server.url.replace(str(server.port), str(proxy.port)), options=["--shards", 4]).start()
    running.url = server.url  # who looks is not behind the proxy
    added(role, url=server.url)
    await_parts(running, processes, role, PARTS[role] // 2, PARTS[role] // 2)
    zombie, half = running.pid_of(role), len(small_stream.records) // 2
    proxy.hold(writes(role))
    running.send(small_stream.records[:half])
    processes.until(proxy.held.is_set, processes.START_S, running.words)
    os.kill(zombie, signal.SIGSTOP)
    try:
        await_parts(running, processes, role, PARTS[role])
        processes.until(lambda: taken(running) == half, processes.FINISH_S, running.words)
        proxy.release()
        processes.until(proxy.answered.is_set, processes.START_S, running.words)
    finally:
        os.kill(zombie, signal.SIGCONT)
    log = running.data / "log" / f"{role}.log"
    processes.until(lambda: "reason=HeadMoved" in log.read_text(), processes.START_S, log.read_text)
    running.send(small_stream.records[half:])
    assert processes.comparable(running.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)
    assert running.pid_of(role) == zombie, "nobody killed it: it noticed by itself"


def taken(running: Any) -> int:
    """Records that the joiners have folded: events and outcomes, as the verdict last said."""
    found = running.verdict()
    return found["counts"]["read"] + sum(found["outcomes"].values()) if found else 0
