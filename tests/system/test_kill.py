"""SIGKILL for every part, at seeded moments, while events flow: the counts and the verdict are those of an undisturbed replay."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
import yaml

Shadow = Callable[..., subprocess.CompletedProcess[str]]
ROLES = ("router", "lane:incumbent", "lane:challenger", "joiner", "analyst", "controller")
PER_SECOND = 400.0


@pytest.fixture
def by_url(redis_url: str, redis_db: redis.Redis) -> str:
    """The address of the session's Redis, emptied."""
    return redis_url


def assert_adds_up(running: Any, shadow: Shadow, place: list[object]) -> None:
    """Independent counters agree: what producers sent, what the router took, what the joiner classified."""
    done = shadow("status", "proof", *place, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["routed"] == found["counts"]["read"] == running.stream.n_events
    assert (found["identity"], found["counts"]["in_flight"]) == ([], 0)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_is_killed_loses_and_doubles_nothing(
    role: str,
    up: Any,
    small_stream: Any,
    streams: ModuleType,
    processes: ModuleType,
    small_verdict: dict[str, Any],
    by_url: str,
    shadow: Shadow,
):
    """kill -9 in the middle, at a moment drawn for each role, then once more while it works through what piled up."""
    rng = random.Random(f"kill {role}")
    running = up(small_stream, url=by_url, options=["--shards", 2]).start()
    moment = rng.randrange(50, len(small_stream.records) - 50)
    running.send(small_stream.records[:moment], per_second=PER_SECOND)
    first = running.kill(role)
    running.send(small_stream.records[moment:])
    processes.until(lambda: running.pids().get(role, first) != first, processes.START_S, running.words)
    second = running.kill(role)
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(small_verdict)
    processes.until(lambda: running.pids().get(role, second) not in (first, second), processes.START_S, running.words)
    assert_adds_up(running, shadow, ["--store", by_url])


@contextmanager
def random_kills(running: Any, seed: int, every_s: float) -> Iterator[list[str]]:
    """Kills a role drawn at random every so often, until the end of the block; yields the names of those killed so far."""
    rng, ended, killed = random.Random(seed), threading.Event(), []

    def kill() -> None:
        while not ended.wait(every_s * rng.uniform(0.6, 1.4)):
            role = rng.choice(ROLES)
            if role in (pids := running.pids()):
                try:
                    os.kill(pids[role], signal.SIGKILL)
                except ProcessLookupError:  # it died since roles.json was written
                    continue
                killed.append(role)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_roles_that_are_killed_all_the_time_lose_and_double_nothing(
    up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any], shadow: Shadow
):
    """A role drawn at random dies about every half second for as long as events come, on the embedded Redis."""
    running = up(small_stream, options=["--shards", 2]).start()
    half, per_second = len(small_stream.records) // 2, len(small_stream.records) / 8.0
    with random_kills(running, seed=11, every_s=0.5) as killed:
        running.send(small_stream.records[:half], per_second=per_second)
        processes.until(lambda: len(killed) >= 8 and len(set(killed)) >= 3, processes.FINISH_S, lambda: killed)  # however slow restarts are
        running.send(small_stream.records[half:], per_second=per_second)
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(small_verdict)
    assert_adds_up(running, shadow, ["--data", running.data])


def test_a_supervisor_that_is_killed_and_started_at_once_loses_and_doubles_nothing(
    up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any], by_url: str, shadow: Shadow
):
    """The roles of the dead one still drain when the new ones come: the compare-and-sets refuse one of each, and no `up` ends of it."""
    running = up(small_stream, url=by_url, options=["--shards", 2]).start()
    half = len(small_stream.records) // 2
    running.send(small_stream.records[:half], per_second=PER_SECOND)
    running.process.kill()
    running.process.wait()
    running.start()
    running.send(small_stream.records[half:])
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(small_verdict)
    assert not running.ended
    assert_adds_up(running, shadow, ["--store", by_url])


def test_an_embedded_server_that_is_killed_loses_nothing_that_was_acknowledged(
    up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any], shadow: Shadow
):
    """kill -9 of the private redis-server: `up` starts it again from its append-only file, and the roles go on where they were."""
    running = up(small_stream).start()
    half = len(small_stream.records) // 2
    running.send(small_stream.records[:half], per_second=PER_SECOND)
    # What is acknowledged may wait for a moment behind an fsync: that, and no more, a killed server loses.
    processes.until(lambda: running.client().info("persistence")["aof_buffer_length"] == 0, processes.START_S, running.words)
    server = server_of(running)
    os.kill(server, signal.SIGKILL)
    processes.until(lambda: running.ended or server_of(running) not in (None, server), processes.FINISH_S, running.words)
    assert not running.ended, running.words()
    processes.until(lambda: "was started again" in (running.data / "err").read_text(), processes.START_S, running.words)
    running.send(small_stream.records[half:])
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(small_verdict)
    assert_adds_up(running, shadow, ["--data", running.data])


def server_of(running: Any) -> int | None:
    """The process id of the embedded server that answers, None while none does."""
    try:
        pid = json.loads((running.data / "redis.json").read_text())["pid"]
        running.client().ping()
    except (OSError, ValueError, redis.RedisError):
        return None
    return pid


# ----------------------------------------------------------------------------------------------------------------- a live model
MODEL = '''"""A challenger that does what each event says."""

import os
import time


def score(batch):
    (data,) = batch
    match data["behave"]:
        case "hang":
            time.sleep(600)
        case "die":
            os._exit(9)
        case "raise":
            raise ValueError(data["note"])
        case "more":
            return [{"age": 30.0}, {"age": 31.0}]
        case "none":
            return None
        case "nan":
            return [{"age": float("nan")}]
        case "text":
            return [{"age": "thirty"}]
        case "word":
            return ["thirty"]
    return [{"age": 30.0}]


score.version = "live-1"
'''
TALLY = {
    "good": "answered", "hang": "timeout", "die": "error", "raise": "error", "more": "bad_output", "none": "bad_output",
    "nan": "bad_output",
    "text": "bad_output", "word": "bad_output",
}  # fmt: skip


def test_a_model_that_hangs_dies_and_lies_costs_its_own_answers_only(
    up: Any, streams: ModuleType, processes: ModuleType, by_url: str, shadow: Shadow, tmp_path: Path
):
    """Each way of failing ends in its tally, the events around it are answered, and what the model says of an event stays out of logs."""
    live = {"uri": "python:model:score", "timeout": "8s", "batch": 1}  # longer than a machine stalls
    models = {"incumbent": {"uri": "recorded:event:/old"}, "challenger": live}
    stream = streams.build(tmp_path / "stream", seed=1, n_events=1, models=models)
    (stream.folder / "model.py").write_text(MODEL)
    rng = random.Random(13)
    behaviours = ["hang", *["die"] * 3, *sorted(set(TALLY) - {"hang", "die", "good"}), *["good"] * 100]
    rng.shuffle(behaviours)
    behaviours.append("good")
    running = up(stream, url=by_url).start()
    running.send(("proof.events", event(streams, n, behave)) for n, behave in enumerate(behaviours))
    processes.until(lambda: paired(running) == behaviours.count("good"), processes.FINISH_S, running.words)
    processes.until(lambda: running.verdict()["counts"]["in_flight"] == 0, processes.FINISH_S, running.words)
    verdict = running.verdict()
    tally: dict[str, int] = {}
    for behave in behaviours:
        tally[TALLY[behave]] = tally.get(TALLY[behave], 0) + 1
    assert verdict["lanes"] == {"incumbent": {"answered": len(behaviours)}, "challenger": tally}
    assert verdict["versions"]["challenger"] == ["live-1"]
    assert verdict["counts"]["missing"] == {"challenger": {status: n for status, n in tally.items() if status != "answered"}}
    assert running.stop() == 0
    assert all(streams.MARKER not in path.read_text() for path in (running.data / "log").glob("*.log"))


def event(streams: ModuleType, n: int, behave: str) -> bytes:
    """One event that says what the challenger does."""
    when = streams.stated(streams.START)
    data = {"old": {"age": 30.0}, "behave": behave, "note": f"{streams.MARKER}-payload"}
    return json.dumps(
        {"specversion": "1.0", "id": f"e{n}", "source": "/t", "type": "t", "time": when, "subject": f"u{n}", "data": data}
    ).encode()


def paired(running: Any) -> int:
    """Pairs, as the verdict last said."""
    found = running.verdict()
    return found["counts"]["paired"] if found else 0


def test_a_lane_that_nobody_runs_is_named_and_holds_nothing_up(
    up: Any, streams: ModuleType, processes: ModuleType, by_url: str, tmp_path: Path
):
    """Without its process a lane is silent: after the pairing window its answers are `no_answer`, through the log."""
    stream = streams.build(
        tmp_path / "stream", seed=2, n_events=1, models={**streams.CONFIG["models"], "incumbent": {"uri": "recorded:event:/old"}}
    )
    config = yaml.safe_load(stream.config.read_text())
    stream.config.write_text(yaml.safe_dump({**config, "pairing": {"window": "15s"}}))
    roles = ("router", "lane:incumbent", "joiner", "analyst")
    running = up(stream, url=by_url, options=["--roles", ",".join(roles)], roles=roles).start()
    running.send(("proof.events", event(streams, n, "good")) for n in range(40))
    processes.until(lambda: running.client().hlen("shadow:{proof:0}:open") == 40, processes.FINISH_S, running.words)
    stored = [key for key in running.client().scan_iter("shadow:*") if running.client().type(key) != b"stream"]
    assert b"shadow:{proof:0}:open" in stored
    assert not any(f"{streams.MARKER}-payload".encode() in running.client().dump(key) for key in stored), "payloads stay on the bus"
    processes.until(lambda: missing(running) == 40, processes.FINISH_S, running.words)
    verdict = running.verdict()
    assert verdict["lanes"]["challenger"] == {"answered": 0, "no_answer": 40}
    assert verdict["counts"]["in_flight"] == 0
    assert verdict["verdict"] != "promote"


def missing(running: Any) -> int:
    """Events charged to a lane, as the verdict last said."""
    found = running.verdict()
    return sum(n for by in found["counts"]["missing"].values() for n in by.values()) if found else 0
