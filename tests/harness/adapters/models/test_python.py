"""Python functions as models, in real child processes that hang, crash, lie and print."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from patience import LONG_S, tried, until

from harness.adapters.models import open_model
from harness.adapters.models.python import PythonModel
from harness.core.errors import UsageError
from harness.core.rollout import Model
from harness.ports.model import Call, Reply

LIMIT = 256 << 20  # bytes; NumPy's threads reserve some of it without using it
SHARED = 64 << 20  # what a process holds of files: libraries
SHORT_OF_S = 300.0  # what hangs hangs for 600 s
SOURCE = '''
import ctypes, os, signal, subprocess, sys, threading, time
import numpy as np

eaten = []

def double(batch):
    return [2 * x for x in batch]

double.version = "v7"

def echo(batch):
    return batch

def obey(batch):
    """Does what the first text says; else answers each item with itself."""
    for x in batch:
        if x == "hang": time.sleep(600)
        if x == "spin": exec("while True: pass")
        if x == "exit": os._exit(3)
        if x == "sys.exit": sys.exit(0)
        if x == "segfault": ctypes.string_at(0)
        if x == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if x == "memory": raise MemoryError
        if x == "raise": raise ValueError("secret payload")
        if x == "recurse": obey([x])
        if x == "none": return None
        if x == "few": return batch[:-1]
        if x == "many": return batch + batch
        if x == "text": return "x" * len(batch)
        if x == "tuple": return tuple(batch)
        if x == "print":
            print("noise " * 1000, flush=True); os.write(1, b"raw noise"); sys.stdout.write("more"); input_left = sys.stdin.read()
            assert input_left == ""
        if x == "eat":
            while True: eaten.append(b"x" * (1 << 20))
        if x == "garbage":
            for fd in range(3, 64):
                try: os.write(fd, b"garbage " * 100)
                except OSError: pass
        if x == "child": subprocess.Popen(["sleep", "600"]); os._exit(0)
        if x == "pid": return [os.getpid()] * len(batch)
        if x == "oom": return [open("/proc/self/oom_score_adj").read().strip()] * len(batch)
    return batch

class Odd:
    def tolist(self): raise RuntimeError("no")

def shapes(batch):
    made = {"f32": np.float32(0.5), "i64": np.int64(3), "bool": np.bool_(True), "array": np.arange(3.0),
            "nan": float("nan"), "inf": np.float64("inf"),
            "set": {1}, "bytes": b"x", "object": object(), "odd": Odd(), "keys": {(1, 2): 3}, "intkeys": {1: 2},
            "complex": 1j, "lone": "\\ud800"}
    loop = []; loop.append(loop)
    return [loop if x == "loop" else made[x] for x in batch]

def array(batch):
    return np.array(batch, dtype=np.float32)

def huge(batch):
    return ["x" * (80 << 20) if x == "huge" else x for x in batch]

def pid_file(batch):
    with open(batch[0], "w") as f: f.write(str(os.getpid()))
    while True: time.sleep(1)

class Namespace:
    @staticmethod
    def inner(batch): return ["inner"] * len(batch)

number = 7
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as beside a config, with modules that load and modules that do not."""
    folder = tmp_path_factory.mktemp("models")
    package = folder / "models_here"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "good.py").write_text(SOURCE)
    (package / "broken.py").write_text("raise RuntimeError('weights not found')")
    (package / "dying.py").write_text("import os; os._exit(9)")
    (package / "fat.py").write_text("weights = bytearray(1 << 28)\ndef echo(batch): return batch")
    (package / "slow.py").write_text("import time; time.sleep(0.7)\ndef echo(batch): return batch")
    (package / "endless.py").write_text("import time; time.sleep(600)")
    return folder


@pytest.fixture
def model(folder: Path) -> Iterator[PythonModel]:
    """The obedient function."""
    model = PythonModel("models_here.good:obey", folder)
    yield model
    model.close()


def calls(*data: Any) -> list[Call]:
    """One call for each of the data."""
    return [Call(event_id=str(n), event={"id": str(n), "data": each}) for n, each in enumerate(data)]


def statuses(model: PythonModel, *data: Any, timeout_s: float = LONG_S) -> list[str]:
    """What became of each."""
    return [reply.status for reply in model.call(calls(*data), timeout_s=timeout_s)]


def once(folder: Path, function: str, *data: Any, timeout_s: float = LONG_S) -> list[Reply]:
    """The replies of another function of the module, in a process of its own."""
    model = PythonModel(f"models_here.good:{function}", folder).start()
    try:
        return list(model.call(calls(*data), timeout_s=timeout_s))
    finally:
        model.close()


class Watched:
    """The most memory of a model's child from now until it ends, in bytes."""

    def __init__(self, model: PythonModel) -> None:
        child = model._workers[0]._child
        assert child is not None
        self._status, self._most = Path(f"/proc/{child._process.pid}/status"), 0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        with suppress(FileNotFoundError, ProcessLookupError):
            while found := re.search(r"VmHWM:\s+(\d+) kB", self._status.read_text()):
                self._most = int(found[1]) * 1024
                time.sleep(0.001)

    def stop(self) -> int:
        """What it was."""
        self._thread.join()
        return self._most


def gone(pid: int) -> bool:
    """Whether a process has ended (or is a zombie that somebody else will reap)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until_gone(pid: int) -> None:
    """Returns when it is."""
    until(lambda: gone(pid))


def test_a_batch_is_answered_in_order_with_version_and_latency(folder: Path) -> None:
    """The batch's duration is each item's latency: nobody's answer was there earlier."""
    replies = once(folder, "double", 1, 2.5, "ab")
    assert [(reply.status, reply.answer, reply.version) for reply in replies] == [("answered", answer, "v7") for answer in (2, 5.0, "abab")]
    assert len({reply.latency_ms for reply in replies}) == 1
    assert replies[0].latency_ms is not None and 0 < replies[0].latency_ms < LONG_S * 1000


def test_a_huge_batch_and_any_text_come_back_unchanged(folder: Path) -> None:
    """Both pipes fill many times over, and JSON carries what UTF-8 cannot."""
    data = ["é😀\u2028\x00", "\ud800", {"a": [None, True, {"": 1e-300}]}, *({"text": "x" * 1000, "n": n} for n in range(20_000))]
    assert [reply.answer for reply in once(folder, "echo", *data)] == data


@pytest.mark.parametrize("hang", ["hang", "spin"])
def test_a_hanging_function_is_killed_at_the_timeout_and_the_next_call_is_answered(model: PythonModel, hang: str) -> None:
    """Asleep or busy, it costs its own batch and no more time than the timeout."""
    (before,) = model.call(calls("pid"), timeout_s=LONG_S)
    started = time.monotonic()
    assert statuses(model, "a", hang, "b", timeout_s=0.3) == ["timeout"] * 3
    assert time.monotonic() - started < SHORT_OF_S
    wait_until_gone(before.answer)
    assert statuses(model, "a", "b") == ["answered"] * 2


@pytest.mark.parametrize("death", ["exit", "sys.exit", "segfault", "kill", "memory", "garbage"])
def test_a_dying_or_babbling_child_is_an_error_and_the_next_call_is_answered(model: PythonModel, death: str) -> None:
    """Whatever ends a process, native code included, stays inside it."""
    assert statuses(model, "a") == ["answered"]
    assert statuses(model, "a", death) == ["error"] * 2
    assert statuses(model, "a") == ["answered"]


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="no such thing on this system")
def test_a_machine_without_memory_ends_the_function_first(model: PythonModel) -> None:
    """When the kernel must kill somebody it takes the model, and none of the processes beside it: a death that costs a batch."""
    assert model.call(calls("oom"), timeout_s=LONG_S)[0].answer == "1000"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_function_that_eats_memory_costs_its_calls_and_the_lane_none(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A call that asks for more than `memory` is an error, in a process that never had more; the next one has a fresh process."""
    model = PythonModel("models_here.good:obey", folder, memory=LIMIT).start()
    try:
        assert statuses(model, "a") == ["answered"]
        largest: list[int] = []

        def eaten() -> int:
            watched = Watched(model)
            assert statuses(model, "a", "eat") == ["error"] * 2
            largest.append(watched.stop())
            assert statuses(model, "a") == ["answered"]
            return largest[-1]

        for _ in range(2):  # who watches may be too slow to see it grow, but never sees too much
            assert LIMIT / 4 < tried(eaten, lambda size: size > LIMIT / 4) < LIMIT + SHARED
    finally:
        model.close()
    assert all(size < LIMIT + SHARED for size in largest), largest
    assert capfd.readouterr().err.count("event=model.out_of_memory") == len(largest)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_function_that_does_not_fit_into_its_memory_says_so_at_the_start(folder: Path) -> None:
    """Weights larger than the limit are a mistake in the config, and no tally."""
    model = PythonModel("models_here.fat:echo", folder, memory=LIMIT)
    with pytest.raises(UsageError, match=r"no memory to load it within `memory` \(256 MiB\)"):
        model.start()
    model.close()


def test_a_child_that_leaves_its_own_child_behind_is_an_error_at_once(model: PythonModel) -> None:
    """The grandchild holds nothing of ours, and is killed with its group."""
    assert statuses(model, "a") == ["answered"]
    started = time.monotonic()
    assert statuses(model, "child") == ["error"]
    assert time.monotonic() - started < SHORT_OF_S


def test_one_event_that_makes_the_function_raise_costs_only_itself(model: PythonModel) -> None:
    """A poisonous event may not take its whole batch with it."""
    assert statuses(model, "a", "raise", "b", "recurse", "c") == ["answered", "error", "answered", "error", "answered"]


def test_trying_one_by_one_ends_with_the_timeout(model: PythonModel) -> None:
    """The batch raises, then one event alone hangs: a call still returns within about twice the timeout."""
    statuses(model, "warm")
    started = time.monotonic()
    found = tried(lambda: statuses(model, "a", "raise", "hang", "b", timeout_s=0.4), lambda found: found[:2] == ["answered", "error"])
    assert found == ["answered", "error", "timeout", "timeout"]
    assert time.monotonic() - started < SHORT_OF_S
    assert statuses(model, "b") == ["answered"]


def test_an_exceptions_text_is_not_logged(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It may hold an event's content; its kind and place are enough to find it."""
    model = PythonModel("models_here.good:obey", folder)
    assert statuses(model, "raise") + statuses(model, "raise") == ["error"] * 2
    model.close()
    logged = capfd.readouterr().err
    assert logged.count("error=ValueError") == 1
    assert "good.py:" in logged
    assert "secret" not in logged


@pytest.mark.parametrize("lie", ["none", "few", "many", "text"])
def test_an_answer_that_is_no_list_of_the_right_length_is_bad_for_all(model: PythonModel, lie: str) -> None:
    """There is no telling which answer belongs to which event."""
    assert statuses(model, "a", lie) == ["bad_output"] * 2
    assert statuses(model, "a", "tuple") == ["answered"] * 2


def test_numpy_values_become_plain_and_what_is_no_json_is_bad_alone(folder: Path) -> None:
    """NaN stays NaN: reading outputs calls it bad, in one place for all models."""
    good = ["f32", "i64", "bool", "array", "inf", "intkeys", "lone"]
    assert [reply.answer for reply in once(folder, "shapes", *good)] == [0.5, 3, True, [0.0, 1.0, 2.0], math.inf, {"1": 2}, "\ud800"]
    (nan,) = once(folder, "shapes", "nan")
    assert math.isnan(nan.answer)
    bad = ["set", "bytes", "object", "odd", "keys", "complex", "loop"]
    found = [reply.status for reply in once(folder, "shapes", *bad, "f32")]
    assert found == ["bad_output"] * len(bad) + ["answered"]


def test_an_array_for_the_whole_batch_is_a_list(folder: Path) -> None:
    """That is what predict() of most libraries returns."""
    assert [reply.answer for reply in once(folder, "array", 1, 2.5)] == [1.0, 2.5]


def test_an_answer_too_large_to_hand_over_is_bad_alone(folder: Path) -> None:
    """The lane's memory is not the model's to fill."""
    assert [reply.status for reply in once(folder, "huge", "a", "huge", "b")] == ["answered", "bad_output", "answered"]


def test_an_event_nested_too_deep_for_json_is_an_error_alone(model: PythonModel) -> None:
    """A hostile event stops neither the lane nor its batch."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert statuses(model, "a", deep, "b") == ["answered", "error", "answered"]
    assert statuses(model, deep) == ["error"]
    while deep:
        deep = deep.pop()


def test_prints_do_not_break_the_protocol(model: PythonModel, capfd: pytest.CaptureFixture[str]) -> None:
    """Libraries print progress bars to stdout; the protocol has pipes of its own, and stdin is empty."""
    assert statuses(model, "print", "a") == ["answered"] * 2
    assert statuses(model, "a") == ["answered"]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "noise noise" in captured.err


def test_no_calls_need_no_child(model: PythonModel) -> None:
    """An empty frame is a heartbeat."""
    assert list(model.call([], timeout_s=1)) == []


def test_loading_counts_neither_as_latency_nor_as_timeout(folder: Path) -> None:
    """Loading weights takes longer than any answer may; so does the first call after a crash."""


    def first() -> Reply:
        model = PythonModel("models_here.slow:echo", folder)
        (reply,) = model.call(calls("a"), timeout_s=0.3)
        model.close()
        return reply

    reply = tried(first, lambda reply: reply.status == "answered")
    assert reply.status == "answered"
    assert reply.latency_ms is not None and reply.latency_ms < 700  # what loading takes


@pytest.mark.parametrize(
    ("target", "reason"),
    [("models_here.broken:f", "RuntimeError: weights not found"), ("models_here.none:f", "No module named 'models_here.none'"),
     ("models_here.good:f", "has no attribute 'f'"), ("models_here.good:number", "expected a function"),
     ("models_here.dying:f", r"ended while it was loaded \(exit code 9\)")],
)  # fmt: skip
def test_a_function_that_cannot_be_loaded_is_named_with_the_reason(folder: Path, target: str, reason: str) -> None:
    """At the start, to the person who wrote the config: not as a lane that never answers."""
    with pytest.raises(UsageError, match=rf"^models\.challenger\.uri: python:{target}: .*{reason}"):
        open_model(Model(lane="challenger", uri=f"python:{target}"), folder=folder)


def test_loading_without_end_is_given_up(folder: Path) -> None:
    """No wait is without an end."""
    model = PythonModel("models_here.endless:f", folder, start_timeout_s=0.5)
    with pytest.raises(UsageError, match=r"not loaded after 0\.5 s"):
        model.start()
    model.close()


def test_a_static_method_is_a_function_too(folder: Path) -> None:
    """Names may have dots behind the colon."""
    assert [reply.answer for reply in once(folder, "Namespace.inner", 1, 2)] == ["inner", "inner"]


def test_a_function_that_always_dies_is_started_ever_more_rarely(model: PythonModel) -> None:
    """It must not eat the machine that production may share; calls meanwhile are errors, within their timeout."""
    statuses(model, "a")
    started = time.monotonic()
    for _ in range(4):  # pauses of 0.1, 0.2 and 0.4 s lie between
        assert statuses(model, "exit") == ["error"]
    assert time.monotonic() - started > 0.7

    def meanwhile() -> tuple[list[str], bool]:
        assert statuses(model, "exit") == ["error"]
        began = time.monotonic()
        return statuses(model, "a", timeout_s=0.05), time.monotonic() - began < 0.5

    assert tried(meanwhile, lambda found: found == (["error"], True)) == (["error"], True)
    assert statuses(model, "a") == ["answered"]


def test_threads_share_the_processes_and_each_gets_its_own_answers(folder: Path) -> None:
    """A lane calls from as many threads as its concurrency; children outlive the threads that asked for them."""
    model = open_model(Model(lane="challenger", uri="python:models_here.good:double", concurrency=2), folder=folder)
    for _ in range(2):
        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(lambda n: [reply.answer for reply in model.call(calls(n, n + 1), timeout_s=LONG_S)], range(50)))
        assert found == [[2 * n, 2 * n + 2] for n in range(50)]
    model.close()


def test_close_ends_the_child(model: PythonModel) -> None:
    """Nothing stays behind a lane that stops."""
    (reply,) = model.call(calls("pid"), timeout_s=LONG_S)
    assert not gone(reply.answer)
    model.close()
    wait_until_gone(reply.answer)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child looks for its parent once a second")
def test_a_hanging_child_ends_when_its_parent_is_killed(folder: Path, tmp_path: Path) -> None:
    """kill -9 of a lane leaves no process that goes on computing."""
    file = tmp_path / "pid"
    code = (
        "from pathlib import Path; from harness.adapters.models.python import PythonModel; from harness.ports.model import Call\n"
        f"model = PythonModel('models_here.good:pid_file', Path({str(folder)!r}))\n"
        f"model.call([Call(event_id='1', event={{'data': {str(file)!r}}})], timeout_s=600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: file.exists() and file.read_text())
    child = int(file.read_text())
    assert not gone(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    wait_until_gone(child)
