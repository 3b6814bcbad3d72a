"""Seeded fault schedules on real processes and servers; `make faults N=200` runs many more of them."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import schedules
from clocks import Clocks
from proxy import Proxy

SEEDS = (2, 113, 182, 183, 223, 261, 327)


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    """The schedules; this folder is no package."""
    spec = importlib.util.spec_from_file_location("system_faults", Path(__file__).with_name("faults.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny_stream(streams: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """300 events with everything wrong that we could think of."""
    return streams.build(tmp_path_factory.mktemp("tiny"), seed=7, n_events=300)


@pytest.fixture(scope="module")
def undisturbed(faults: ModuleType, tiny_stream: Any, streams: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a replay says of it."""
    found: dict[str, Any] = faults.replayed(tiny_stream, streams.stated(streams.END), tmp_path_factory.mktemp("replayed"))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_schedule_of_faults_changes_no_number(
    seed: int, faults: ModuleType, tiny_stream: Any, undisturbed: Any, streams: ModuleType, processes: ModuleType, tmp_path: Path,
    request: pytest.FixtureRequest,
):  # fmt: skip
    """Roles killed, stopped and woken, added and removed; servers killed and full; connections cut; clocks set; copies sent: the verdict is
    that of an undisturbed replay, and what was sent, routed, joined and written agrees. A failure names its seed and how to repeat it."""
    faults.run(
        schedules.Schedule.draw(seed), stream=tiny_stream, undisturbed=undisturbed, streams=streams, processes=processes,
        folder=tmp_path, kafka=lambda: request.getfixturevalue("kafka_broker"),
    )  # fmt: skip


def test_the_schedules_here_have_every_kind_of_fault_and_server():
    """A sample that left one out would show nothing of it."""
    drawn = [schedules.Schedule.draw(seed) for seed in SEEDS]
    kinds = {fault.kind for schedule in drawn for fault in schedule.faults}
    assert kinds == {fault.kind for schedule in schedules.seeds(1, 300) for fault in schedule.faults}
    assert {schedule.bus for schedule in drawn} == {"redis", "embedded", "kafka"}
    assert max(schedule.shards for schedule in drawn) > 1 and any(schedule.second for schedule in drawn)
    assert {schedule.overtakes for schedule in drawn if any(fault.kind == "clock" for fault in schedule.faults)} == {False, True}


def test_a_seed_draws_the_same_schedule_again():
    """Or a failure could not be repeated."""
    assert list(schedules.seeds(1, 50)) == list(schedules.seeds(1, 50))
    assert len(set(map(str, schedules.seeds(1, 50)))) == 50


def test_a_lost_and_a_doubled_event_would_be_found(faults: ModuleType, undisturbed: Any):
    """The comparison that every schedule ends with can fail: each count that is off by one is seen."""
    for name in ("read", "duplicates", "mirrored", "paired", "invalid"):
        for off in (-1, 1):
            found = {**undisturbed, "counts": {**undisturbed["counts"], name: undisturbed["counts"][name] + off}}
            with pytest.raises(AssertionError, match="counts"):
                faults.assert_same(found, undisturbed, n_copies=0)


# --------------------------------------------------------------------------------------------------------- the clocks, the proxy
def test_the_clock_of_a_role_is_set_and_right_again(tmp_path: Path):
    """A clock that nobody can set would make every schedule with one pass; that of another role and steady time go on as ever."""
    clocks = Clocks(tmp_path)
    code = (
        "import sys, time; from harness.ports.clock import SystemClock\n"
        "for _ in sys.stdin: print(SystemClock().now() // 1_000_000, SystemClock().steady() // 1_000_000, flush=True)"
    )
    command = [sys.executable, "-c", code, "role", "lane:challenger"]
    with subprocess.Popen(command, env=clocks.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        ahead = []
        for roles, ahead_s in (((), 0), (("lane:challenger",), 7_200), (("router",), 7_200), (("lane:challenger",), -7_200),
                               (("lane:challenger",), 0)):  # fmt: skip
            clocks.set(roles, ahead_s)
            before = time.time()
            process.stdin.write("\n")
            process.stdin.flush()
            now, steady = map(int, process.stdout.readline().split())
            assert int(before) <= now - round((now - before) / 7_200) * 7_200 <= time.time()
            assert steady <= time.monotonic()
            ahead.append(round((now - before) / 7_200))
        process.stdin.close()
    assert ahead == [0, 1, 1, -1, 0]


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says everything again."""

    def serve(connection: socket.socket) -> None:
        with connection:
            while piece := connection.recv(1 << 16):
                connection.sendall(piece)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def said(port: int, piece: bytes) -> bytes:
    """What comes back until the connection ends or as much came as was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        connection.sendall(piece)
        found = b""
        while len(found) < len(piece) and (more := connection.recv(1 << 16)):
            found += more
        return found


@pytest.mark.parametrize("fate", ["drop", "halve", "delay"])
def test_the_proxy_does_what_it_is_told_and_behaves_again(fate: str, echo: int):
    """A proxy that let everything pass would make every schedule with one pass too."""
    proxy = Proxy(echo)
    assert said(proxy.port, b"x" * 100) == b"x" * 100
    proxy.misbehave(fate, chance=1.0)
    assert (len(said(proxy.port, b"x" * 100)) == 100) == (fate == "delay")
    assert proxy.harmed > 0
    proxy.behave()
    assert [said(proxy.port, b"x" * 100) for _ in range(20)] == [b"x" * 100] * 20
    proxy.close()
    with pytest.raises(OSError):
        said(proxy.port, b"x")
