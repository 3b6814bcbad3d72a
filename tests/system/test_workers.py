"""Workers of a role added, removed, killed and stopped while the rollout runs: parts move, and no number does."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis

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

    def start(*roles: str) -> Any:
        options = ["--shards", 4, "--roles", ",".join(roles)]
        return up(small_stream, url=by_url, data=tmp_path / "-".join(roles), options=options, roles=roles).start()

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
    return f"{os.uname().nodename}:{running.pids()[role]}"


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
    folds, waits = (running, second) if holds(running, "analyst")[worker_of(running, "analyst")] else (second, running)
    stands_by = worker_of(waits, "analyst")
    folds.process.send_signal(signal.SIGSTOP)  # else its supervisor's next analyst might take the lease first
    try:
        folds.kill("analyst")
        processes.until(lambda: holds(running, "analyst").get(stands_by) == 1, processes.START_S, running.words)
    finally:
        folds.process.send_signal(signal.SIGCONT)
    running.send(small_stream.records[half:])
    assert processes.comparable(running.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)
    assert holds(running, "analyst")[stands_by] == 1


@pytest.mark.parametrize("role", ["joiner", "router"])
def test_a_zombie_is_refused_and_has_changed_nothing(
    role: str, running: Any, added: Callable[..., Any], small_stream: Any, streams: ModuleType, processes: ModuleType,
    small_verdict: dict[str, Any],
):  # fmt: skip
    """Stopped for longer than its lease while it takes records, it wakes up behind another's back and writes what it knows: the head is
    not the one that it loaded, so the write is refused whole, and it starts again from what is stored."""
    step = len(small_stream.records) // 8
    zombie, second = running.pids()[role], added(role)
    log = running.data / "log" / f"{role}.log"
    for first in range(0, 7 * step, step):  # it may be stopped where it looks at its lease first; then it is stopped again, elsewhere
        await_parts(running, processes, role, *([PARTS[role] // 2] * 2))
        records = small_stream.records[first : first + step]
        running.send(records[: step // 2], per_second=4 * PER_SECOND)
        time.sleep(0.04 * (first // step))  # busy at first, then more and more likely waiting for records
        os.kill(zombie, signal.SIGSTOP)
        try:
            running.send(records[step // 2 :])
            await_parts(running, processes, role, PARTS[role])
            processes.until(lambda: taken(running) == first + step, processes.START_S, second.words)  # noqa: B023
        finally:
            os.kill(zombie, signal.SIGCONT)
        if was_refused(log):
            break
    running.send(small_stream.records[first + step :])
    assert processes.comparable(running.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)
    assert was_refused(log), log.read_text()
    assert running.pids()[role] == zombie, "nobody killed it: it noticed by itself"


def taken(running: Any) -> int:
    """Records that the joiners have folded: events and outcomes, as the verdict last said."""
    found = running.verdict()
    return found["counts"]["read"] + sum(found["outcomes"].values()) if found else 0


def was_refused(log: Path) -> bool:
    """Whether the role says, within a moment, that another worker wrote first."""
    deadline = time.monotonic() + 1.0
    while "reason=HeadMoved" not in log.read_text():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
