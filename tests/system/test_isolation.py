"""A challenger that hangs, crashes, crawls, flaps, eats memory or lies: router, incumbent lane and joiner keep their pace and their size.

One rollout on real processes; a file beside the config tells the challenger how to behave. Its bad phases stand between good ones, and
are compared with the good ones beside them, because a machine has moods of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
from patience import TRIES
from producers import BrokerProducer

from harness.wiring import reopen

N_EVENTS = 3_000  # a phase
LEAST_PACE = 0.5  # of the slower good phase beside it
MOST_GROWTH_KB = 48_000  # events that wait for the challenger are held, without their payload, by the joiner
Send = Callable[[Sequence[tuple[str, bytes]]], object]
in_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of processes in /proc")
KEEP_PACE = ("router", "lane:incumbent", "joiner")
MODEL = '''"""A challenger that behaves as the file `mode` beside it says."""

import os
import time
from pathlib import Path

MODE = Path(__file__).with_name("mode")
eaten = []
calls = 0


def score(batch):
    global calls
    calls += 1
    mode = MODE.read_text()
    with Path(__file__).with_name("called").open("a") as called:
        called.write(mode + " ")
    if mode == "hangs":
        time.sleep(600)
    if mode == "crashes":
        os._exit(9)
    if mode == "crawls":
        time.sleep(0.1)  # a hundred times what a call of it takes
    if mode == "flaps" and calls % 2:
        raise RuntimeError("every other time")
    if mode == "eats memory":
        while True:
            eaten.append(b"x" * (64 << 20))
    if mode == "lies":
        return [[{"age": float("nan")}] * len(batch), [{"age": "thirty"}] * len(batch), [{"age": 1.0}]][calls % 3]
    return [{"age": 30.0}] * len(batch)
'''
ENDS_IN = {  # what becomes of its answers, besides those that are good
    "hangs": ("timeout",), "crashes": ("error", "timeout"), "crawls": ("answered", "timeout"), "flaps": ("error", "timeout"),
    "eats memory": ("error", "timeout"), "lies": ("bad_output", "timeout"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """How long the others took for a phase's events, what they weighed then, what became of the challenger's answers."""

    mode: str
    took_s: float
    kilobytes: dict[str, int]
    tally: dict[str, int]


class Trial:
    """A rollout whose challenger behaves as it is told."""

    def __init__(self, running: Any, bus: str, store: str, send: Send, streams: ModuleType, processes: ModuleType) -> None:
        self._running, self._to_bus, self._streams, self._processes = running, send, streams, processes
        self._watched = reopen("proof", bus, store).watched()
        self.n_sent = 0
        self.good = self.phase("behaves")

    def status(self) -> Any:
        """Counts, as stored."""
        return self._watched.status()

    def _behave(self, mode: str) -> None:
        beside = self._running.stream.folder / "mode.new"
        beside.write_text(mode)
        beside.replace(beside.with_name("mode"))

    def _send(self) -> None:
        self._to_bus([("proof.events", event(self._streams, n)) for n in range(self.n_sent, self.n_sent + N_EVENTS)])
        self.n_sent += N_EVENTS

    def _has_passed(self) -> bool:
        """Whether router, incumbent lane and joiner are through with all that was sent."""
        found = self.status()
        return min(found.routed, found.counts.mirrored, found.counts.lanes.get("incumbent", {}).get("answered", 0)) == self.n_sent

    def phase(self, mode: str) -> Phase:
        """Sends a phase's events and waits for the others; then the challenger behaves, and ends what it has left."""
        before = dict(self.status().counts.lanes.get("challenger", {}))
        self._behave(mode)
        began = time.monotonic()
        self._send()
        self._processes.until(self._has_passed, self._processes.FINISH_S, self._running.words)
        took_s = time.monotonic() - began
        self._await_call(mode)
        kilobytes = {role: resident_kb(self._running.pid_of(role)) for role in (*KEEP_PACE, "lane:challenger")}
        self._behave("behaves")
        self._processes.until(lambda: self.status().in_flight == 0, self._processes.FINISH_S, self._running.words)
        after = self.status().counts.lanes["challenger"]
        tally = {name: n - before.get(name, 0) for name, n in after.items() if n > before.get(name, 0)}
        return Phase(mode=mode, took_s=took_s, kilobytes=kilobytes, tally=tally)

    def _await_call(self, mode: str) -> None:
        """Until the challenger has been called in this mode: a phase that was over before it began would show nothing."""
        called: Path = self._running.stream.folder / "called"
        least = 3 if mode in ("flaps", "lies") else 1  # each of its ways
        self._processes.until(
            lambda: called.exists() and called.read_text().count(f"{mode} ") >= least, self._processes.FINISH_S, self._running.words
        )


def event(streams: ModuleType, n: int) -> bytes:
    """An event of some size, with the incumbent's answer."""
    data = {"old": {"age": 30.0}, "region": "SE", "text": "x" * 300}
    when = streams.stated(streams.START)
    return json.dumps(
        {"specversion": "1.0", "id": f"e{n}", "source": "/t", "type": "t", "subject": f"u{n}", "time": when, "data": data}
    ).encode()


def resident_kb(pid: int) -> int:
    """VmRSS of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextmanager
def running_trial(
    store: str, streams: ModuleType, processes: ModuleType, production: ModuleType, folder: Path, kafka: str | None = None
) -> Iterator[Trial]:
    """The rollout, warm: everything has been loaded, and good phases are over."""
    with redis.Redis.from_url(store) as client:
        client.flushdb()
        models = {
            "incumbent": {"uri": "recorded:event:/old"},
            "challenger": {"uri": "python:model:score", "timeout": "1s", "batch": 64, "memory": "512MiB"},
        }
        stream = streams.build(folder / "stream", seed=1, n_events=1, models=models)
        (stream.folder / "model.py").write_text(MODEL)
        (stream.folder / "mode").write_text("behaves")
        with ExitStack() as stack:
            producer = None if kafka is None else BrokerProducer(kafka)
            if producer is not None:
                stack.callback(producer.close)
            options = [] if kafka is None else ["--bus", f"kafka://{kafka}"]
            running = processes.Up(stream, folder / "data", url=store, options=options)
            stack.callback(running.close)
            running.start()
            bus, send = (store, production.to_redis(client)) if producer is None else (f"kafka://{kafka}", producer.send)
            found = Trial(running, bus, store, send, streams, processes)
            found.good = found.phase("behaves")
            yield found
            assert running.stop() == 0
        client.flushdb()


@pytest.fixture(scope="module")
def trial(
    redis_url: str, streams: ModuleType, processes: ModuleType, production: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    """On Redis."""
    store = redis_url.rpartition("/")[0] + "/13"
    with running_trial(store, streams, processes, production, tmp_path_factory.mktemp("isolation")) as found:
        yield found


@pytest.fixture
def kafka_trial(
    redis_url: str, kafka_broker: Any, streams: ModuleType, processes: ModuleType, production: ModuleType, tmp_path: Path
) -> Iterator[Trial]:
    """On Kafka, its store in Redis."""
    store = redis_url.rpartition("/")[0] + "/12"
    with running_trial(store, streams, processes, production, tmp_path, kafka_broker.address) as found:
        yield found


def suffers(trial: Trial, mode: str) -> None:
    """A bad phase between two good ones: what the challenger does costs its own answers only, and every event is accounted for."""
    for _ in range(TRIES):  # what the machine does besides slows a phase now and then, what a challenger does would slow each
        good, bad = trial.good, trial.phase(mode)
        after = trial.good = trial.phase("behaves")
        if bad.took_s <= max(good.took_s, after.took_s) / LEAST_PACE:
            break
    assert bad.took_s <= max(good.took_s, after.took_s) / LEAST_PACE, (good, bad, after)
    assert any(bad.tally.get(name) for name in ENDS_IN[mode]) and set(bad.tally) <= {"answered", *ENDS_IN[mode]}, bad
    assert sum(bad.tally.values()) == N_EVENTS
    assert min(phase.tally["answered"] for phase in (good, after)) > 0.9 * N_EVENTS, "it is called again as soon as it behaves"
    for role, kilobytes in bad.kilobytes.items():
        assert kilobytes - good.kilobytes[role] < MOST_GROWTH_KB, role
    found = trial.status()
    assert (found.read, found.routed, found.in_flight, list(found.identity)) == (trial.n_sent, trial.n_sent, 0, [])
    assert found.counts.lanes["incumbent"] == {"answered": trial.n_sent}
    assert sum(found.counts.lanes["challenger"].values()) == trial.n_sent


@in_proc
@pytest.mark.parametrize("mode", list(ENDS_IN))
def test_a_bad_challenger_costs_nobody_else_pace_or_memory(mode: str, trial: Trial):
    """Its own answers end in their tally, every event is accounted for, and who does not wait for it does not notice."""
    suffers(trial, mode)


@in_proc
@pytest.mark.slow
def test_a_hung_challenger_costs_nobody_else_pace_or_memory_on_kafka(kafka_trial: Trial):
    """There the mirror is one log for both lanes: the one that hangs falls behind in it, and holds nobody up."""
    suffers(kafka_trial, "hangs")
