"""A Python function as a model, in a child process that can be killed: it may hang, crash or lie, and costs its own answers only.

The function takes the list of the events' data and returns a list of as many answers (JSON values; NumPy's become such).
`function.version`, a text, is the model's version. Its module is looked for beside the config, then where the command runs.
What it prints goes to stderr. Importing it is no part of an answer's latency or timeout.
"""

from __future__ import annotations

import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.adapters.models import worker as worker_script
from harness.core.errors import UsageError
from harness.ports.model import Call, Reply

START_TIMEOUT_S = 120.0  # loading weights is slow
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between a child's death and the next start; doubles while nothing is answered
_TARGET = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
_SLICE_S = 0.1  # how often a silent child is looked at: a grandchild may hold its pipes open


class _Hung(Exception):
    """No reply in time."""


class _Died(Exception):
    """The child ended, or wrote what is no reply."""


class _Child:
    """One process and its two pipes. Any exception leaves it unusable: kill it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process, self._in, self._out = process, process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._buffer = bytearray()
        self._number = 0

    def _await(self, fd: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(fd, event)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise _Hung
            ended = self._process.poll() is not None
            if poll.poll(min(left_s, _SLICE_S) * 1000):
                return
            if ended:
                raise _Died

    def _write(self, frame: bytes, deadline: float) -> None:
        view = memoryview(frame)
        while view:
            self._await(self._in, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._in, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Died from error

    def _fill(self, size: int, deadline: float) -> None:
        while len(self._buffer) < size:
            self._await(self._out, select.POLLIN, deadline)
            with suppress(BlockingIOError):
                read = os.read(self._out, 1 << 20)
                if not read:
                    raise _Died
                self._buffer += read

    def read(self, deadline: float) -> dict[str, Any]:
        """The reply to the last request. Raises _Hung, or _Died if anything else comes."""
        header = worker_script.HEADER
        self._fill(header.size, deadline)
        number, size = header.unpack(self._buffer[: header.size])
        if number != self._number or size > worker_script.LARGEST_FRAME:
            raise _Died
        self._fill(header.size + size, deadline)
        if len(self._buffer) > header.size + size:
            raise _Died
        try:
            reply = json.loads(self._buffer[header.size :])
        except (ValueError, RecursionError) as error:
            raise _Died from error
        self._buffer.clear()
        if not isinstance(reply, dict) or not all(isinstance(reply.get(name, []), list) for name in ("answers", "bad")):
            raise _Died
        return reply

    def ask(self, body: bytes, deadline: float) -> dict[str, Any]:
        """The reply to a list of data, encoded. Raises _Hung, _Died."""
        self._number += 1
        self._write(worker_script.HEADER.pack(self._number, len(body)) + body, deadline)
        return self.read(deadline)

    def exit_text(self) -> str:
        """How it ended, in words, once killed."""
        code = self._process.returncode
        return f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    def kill(self, *, grace_s: float = 0.0) -> None:
        """End it and what it started; it has `grace_s` to do so by itself."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(OSError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(grace_s)
        with suppress(ProcessLookupError, PermissionError):  # the group is gone, or (macOS) holds the dead only
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What became of one request: answers, raised, count, hung or died."""

    kind: str
    answers: Sequence[Any] = ()
    bad: frozenset[str] = frozenset()
    latency_ms: float | None = None


class _Worker:
    """A child that is replaced when it is gone, after a pause that grows until one answers again."""

    def __init__(self, spawn: Callable[[], subprocess.Popen[bytes]], start_timeout_s: float) -> None:
        self._spawn, self._start_timeout_s = spawn, start_timeout_s
        self._child: _Child | None = None
        self._deaths = 0
        self._not_before = 0.0
        self.version: str | None = None

    def start(self) -> None:
        """Load the function. Raises UsageError with the reason if that fails."""
        if self._child is not None:
            return
        try:
            child = _Child(self._spawn())
        except OSError as error:
            raise UsageError(f"its process cannot be started: {error.strerror}") from error
        try:
            reply = child.read(time.monotonic() + self._start_timeout_s)
        except _Hung:
            child.kill()
            raise UsageError(f"it was not loaded after {self._start_timeout_s:g} s") from None
        except _Died:
            child.kill(grace_s=1.0)
            raise UsageError(f"its process ended while it was loaded ({child.exit_text()})") from None
        if reply.get("kind") != "ready":
            child.kill()
            raise UsageError(str(reply.get("message")))
        self._child, self.version = child, reply.get("version")

    def _died(self) -> None:
        self.close()
        self._deaths += 1
        self._not_before = time.monotonic() + min(FIRST_PAUSE_S * 2 ** min(self._deaths - 1, 30), LONGEST_PAUSE_S)

    def _restarted(self, timeout_s: float) -> _Child | None:
        if self._child is None:
            pause_s = self._not_before - time.monotonic()
            time.sleep(max(0.0, min(pause_s, timeout_s)))
            if pause_s > timeout_s:
                return None
            try:
                self.start()
            except UsageError:
                self._died()
        return self._child

    def ask(self, data: Sequence[bytes], timeout_s: float) -> _Result:
        """One call of the function with these encoded data."""
        child = self._restarted(timeout_s)
        if child is None:
            return _Result(kind="died")
        body = b"[" + b",".join(data) + b"]"
        started = time.monotonic()
        try:
            reply = child.ask(body, started + timeout_s)
        except _Hung:
            self.close()
            return _Result(kind="hung", latency_ms=(time.monotonic() - started) * 1000)
        except _Died:
            latency_ms = (time.monotonic() - started) * 1000
            self._died()
            return _Result(kind="died", latency_ms=latency_ms)
        latency_ms = (time.monotonic() - started) * 1000
        self._deaths = 0
        kind, answers = reply.get("kind"), reply.get("answers", [])
        if kind == "answers" and len(answers) == len(data):
            return _Result(kind="answers", answers=answers, bad=frozenset(map(str, reply.get("bad", []))), latency_ms=latency_ms)
        return _Result(kind="raised" if kind == "raised" else "count", latency_ms=latency_ms)

    def close(self) -> None:
        """Kill the child."""
        if self._child is not None:
            self._child.kill()
            self._child = None


_STATUS = {"raised": "error", "died": "error", "count": "bad_output", "hung": "timeout"}


def _encoded(data: object) -> bytes | None:
    """An event's data as JSON; None if it is nested too deep for that."""
    try:
        return json.dumps(data, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError):
        return None


class PythonModel:
    """A batch function in child processes. `call` may be used by as many threads as there are `processes`."""

    def __init__(
        self, target: str, folder: Path, *, processes: int = 1, start_timeout_s: float = START_TIMEOUT_S, argument: str = "", uri: str = "",
        memory: int | None = None,
    ) -> None:  # fmt: skip
        """`target` is package.module:function. Raises UsageError if it is not of that form; nothing is started yet.

        With an `argument` the function is called with it once, in the child, and returns the batch function. `uri` is how messages
        name the model, `python:target` without it. memory: most bytes of one process, on Linux; a call that needs more is an `error`,
        and the next one has a new process.
        """
        if not _TARGET.fullmatch(target):
            raise UsageError(f"python:{target}: expected python:package.module:function")
        self._target, self._argument, self._folder, self._memory = target, argument, folder, memory or 0
        self._uri = uri or f"python:{target}"
        # A child dies with the thread that started it (Linux), and threads of a lane come and go: one thread starts them all.
        self._spawner = ThreadPoolExecutor(1, thread_name_prefix="python-model")
        self._workers = [_Worker(self._spawn, start_timeout_s) for _ in range(processes)]
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for each in self._workers:
            self._idle.put(each)

    def _spawn(self) -> subprocess.Popen[bytes]:
        paths = list(dict.fromkeys((str(self._folder.resolve()), os.getcwd())))
        told = [self._target, self._argument, str(os.getpid()), str(self._memory)]
        command = [sys.executable, "-P", worker_script.__file__, *told, *paths]
        return self._spawner.submit(
            lambda: subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, bufsize=0)
        ).result()

    def start(self) -> PythonModel:
        """Load the function in a first process; more are started when they are needed. Raises UsageError with the reason."""
        worker = self._idle.get()
        try:
            worker.start()
        except UsageError as error:
            raise UsageError(f"{self._uri}: {error}") from None
        finally:
            self._idle.put(worker)
        return self

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """One reply a call. When the function raises on several events they are tried one by one, within one more `timeout_s`.

        After a crash it waits a pause, at most `timeout_s`, and as long as the function takes to be loaded again.
        """
        data = [_encoded(call.data) for call in calls]
        sound = [each for each in data if each is not None]
        if not sound:
            return [Reply(status="error")] * len(calls)
        try:
            worker = self._idle.get(timeout=timeout_s)
        except queue.Empty:
            return [Reply(status="timeout")] * len(calls)
        try:
            replies = iter(self._replies(worker, sound, timeout_s))
        finally:
            self._idle.put(worker)
        return [Reply(status="error") if each is None else next(replies) for each in data]

    def _replies(self, worker: _Worker, data: Sequence[bytes], timeout_s: float) -> list[Reply]:
        result = worker.ask(data, timeout_s)
        if result.kind == "raised" and len(data) > 1:
            return self._one_by_one(worker, data, timeout_s)
        if result.kind == "answers":
            return [
                Reply(status="bad_output" if str(place) in result.bad else "answered", answer=answer, latency_ms=result.latency_ms,
                      version=worker.version)
                for place, answer in enumerate(result.answers)
            ]  # fmt: skip
        return [Reply(status=_STATUS[result.kind], latency_ms=result.latency_ms, version=worker.version)] * len(data)

    def _one_by_one(self, worker: _Worker, data: Sequence[bytes], timeout_s: float) -> list[Reply]:
        deadline = time.monotonic() + timeout_s
        replies: list[Reply] = []
        for each in data:
            left_s = deadline - time.monotonic()
            replies += self._replies(worker, [each], left_s) if left_s > 0 else [Reply(status="timeout")]
        return replies

    def close(self) -> None:
        """Kill the children."""
        for each in self._workers:
            each.close()
        self._spawner.shutdown()
