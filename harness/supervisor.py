"""One child process a role, started again when it dies. What `shadow up` runs; roles know nothing of it.

A role is restarted after a pause that grows from 0.1 s to 5 s and falls back once it has lived for 10 s. Exit code 2 is wrong use or
a wrong config: no restart can help, so everything is stopped and the role's last words are reported. `roles.json` names each
role's process. Output goes to `log/<role>.log` in the folder. On Linux the roles end (SIGTERM) when the supervisor is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from harness.core.errors import UsageError
from harness.ports.shares import REPLACES

ROLES_FILE = "roles.json"
WRONG_USE = 2  # exit code
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
HEALTHY_S = 10.0
TICK_S = 0.05
LAST_LINES = 20
LARGEST_LOG = 10_000_000  # bytes: a larger one is put aside when its role is started again
_PR_SET_PDEATHSIG = 1
_SIGNALS = {number.value: number.name for number in signal.Signals}  # those with a name

OnEvent = Callable[[str, Mapping[str, object]], None]


def _with_parent() -> Callable[[], None] | None:
    """What a child runs first, on Linux: SIGTERM when the thread that started it dies."""
    if os.uname().sysname != "Linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def _signal_group(pid: int, number: int) -> None:
    """To the process and all that it started, as far as there still are any."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


class _Role:
    """One role: its command, and its process while there is one."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name, self._command, self.log = name, list(command), log
        self._environment = environment
        self._ended: int | None = None  # the process that the next one replaces
        self.process: subprocess.Popen[bytes] | None = None
        self.due = 0.0
        self.started = 0.0
        self._log_from = 0
        self._pause_s = FIRST_PAUSE_S

    def start(self) -> None:
        """Raises UsageError if there is no such command."""
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        environment = self._environment if self._ended is None else {**self._environment, REPLACES: str(self._ended)}
        with self.log.open("ab") as log:
            self._log_from = log.tell()
            try:
                self.process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    process_group=0,  # Ctrl-C reaches the supervisor only, which stops all in order
                    preexec_fn=_with_parent(),  # noqa: PLW1509 - it only calls prctl, which takes no lock
                )
            except OSError as error:
                raise UsageError(f"{self.name}: {self._command[0]} cannot be started: {error.strerror}") from error
        self.started = time.monotonic()

    def reap(self) -> int | None:
        """Its exit code (negative: the signal) if it has ended since the last look; what it had started is killed."""
        code = None if self.process is None else self.process.poll()
        if code is not None and self.process is not None:
            _signal_group(self.process.pid, signal.SIGKILL)
            self._ended, self.process = self.process.pid, None
        return code

    def schedule(self) -> float:
        """Set when it is due again; returns the pause until then, in seconds."""
        now = time.monotonic()
        if now - self.started >= HEALTHY_S:
            self._pause_s = FIRST_PAUSE_S
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, LONGEST_PAUSE_S)
        self.due = now + pause_s
        return pause_s

    def last_words(self) -> str:
        """The last lines of its output since it was last started."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_from, self.log.stat().st_size - 100_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-LAST_LINES:])


class Supervisor:
    """Roles as processes. Use it from one thread that lasts; `start`, then `run` or `step`, then `stop`."""

    def __init__(
        self, specs: Mapping[str, Sequence[str]], *, folder: Path, on_event: OnEvent, environment: Mapping[str, str] | None = None
    ) -> None:
        """specs: role -> its command. on_event is told of role.started, role.ended, role.killed, role.stopped with their fields.
        environment: what the roles are told besides what this process knows; unlike a command, nobody else can read it."""
        self._folder, self._on_event = folder, on_event
        told = {**os.environ, **(environment or {})}
        self._roles = [_Role(name, command, folder / "log" / f"{name.replace('/', '_')}.log", told) for name, command in specs.items()]

    def pids(self) -> Mapping[str, int]:
        """Role -> process id, of those that run."""
        return {role.name: role.process.pid for role in self._roles if role.process is not None}

    def start(self) -> None:
        """Start every role. Raises UsageError, with nothing left running, if a command cannot be started."""
        (self._folder / "log").mkdir(parents=True, exist_ok=True)
        for role in self._roles:
            self._start(role)
        self._write()

    def run(self, until: Callable[[], bool]) -> None:
        """Keep the roles running until `until()` is true, which is asked some twenty times a second. Raises as `step` does."""
        while not until():
            self.step()
            time.sleep(TICK_S)

    def step(self) -> None:
        """Look once: 1 see who ended, 2 write who is left, 3 start who is due, 4 write who runs.

        Raises UsageError, with everything stopped, when a role ended with exit code 2.
        """
        ended = [(role, code) for role in self._roles if (code := role.reap()) is not None]
        if ended:
            self._write()
        for role, code in ended:
            self._follow(role, code)
        due = [role for role in self._roles if role.process is None and role.due <= time.monotonic()]
        for role in due:
            self._start(role)
        if due:
            self._write()

    def _follow(self, role: _Role, code: int) -> None:
        """A role ended: wrong use stops all, anything else is started again later."""
        lived_s = round(time.monotonic() - role.started, 3)
        how = {"signal": _SIGNALS.get(-code, str(-code))} if code < 0 else {"exit_code": code}
        if code != WRONG_USE:
            self._on_event("role.ended", {"role": role.name, **how, "lived_s": lived_s, "restart_in_s": role.schedule()})
            return
        self._on_event("role.ended", {"role": role.name, **how, "lived_s": lived_s, "restart_in_s": None})
        words = role.last_words()
        self.stop()
        raise UsageError(f"{role.name} cannot run (exit code {code}), all roles were stopped; it said:\n{words}")

    def _start(self, role: _Role) -> None:
        try:
            role.start()
        except UsageError:
            self.stop()
            raise
        if role.process is not None:
            self._on_event("role.started", {"role": role.name, "pid": role.process.pid})

    def stop(self, timeout_s: float = 10.0) -> None:
        """SIGTERM to every role and what it started; SIGKILL to what is left after `timeout_s`. Returns when all have ended."""
        running = [role for role in self._roles if role.process is not None]
        for role in running:
            if role.process is not None:
                _signal_group(role.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        for role in running:
            self._await_end(role, deadline)
        self._write()

    def _await_end(self, role: _Role, deadline: float) -> None:
        if role.process is None:
            return
        try:
            code = role.process.wait(max(0.0, deadline - time.monotonic()))
            self._on_event("role.stopped", {"role": role.name, "exit_code": code})
        except subprocess.TimeoutExpired:
            self._on_event("role.killed", {"role": role.name, "pid": role.process.pid})
        _signal_group(role.process.pid, signal.SIGKILL)
        role.process.wait()
        role.process = None

    def _write(self) -> None:
        """roles.json, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f"{ROLES_FILE}.new"
        beside.write_text(json.dumps(self.pids()))
        beside.replace(self._folder / ROLES_FILE)
