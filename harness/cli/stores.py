"""Which bus and store a command works on: addresses that were given, or a private Redis in the data folder."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from harness.adapters.redis.server import EmbeddedRedis
from harness.core.errors import UsageError
from harness.wiring import Wiring, reopen

DATA = Path("shadow-data")
PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Addresses of bus and store; private: they are the embedded Redis of a data folder.

    revive: starts the private server again if it has ended, and says whether it had. Raises UsageError when it cannot be had again.
    """

    bus: str
    store: str
    private: bool
    revive: Callable[[], bool] = lambda: False


@contextmanager
def place(*, bus: str | None, store: str | None, data: Path, create: bool) -> Iterator[Place]:
    """The addresses a command works on. One of the two serves as both; without any, the private Redis of `data` is started, or joined.

    Raises UsageError when there is no such data folder and `create` is false, and when it is true and another one has created there.
    """
    if bus or store:
        yield Place(bus=bus or store or "", store=store or bus or "", private=False)
        return
    if not create and not data.is_dir():
        raise UsageError(f"{data}: no such data folder; name it with --data, or a running store with --store")
    with _alone(data) if create else nullcontext():
        yield from _private(data)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Only one `shadow up` at a time has a data folder. Raises UsageError while another one does; one that is leaving gets a moment."""
    data.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE_S
    with (data / "up.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"{data}: another `shadow up` runs in this folder, with roles of its own; stop it, or name another --data folder"
                    ) from None
                time.sleep(0.1)
        yield


def _private(data: Path) -> Iterator[Place]:
    servers = [EmbeddedRedis.start(data, durable=True)]
    url = servers[0].url

    def revive() -> bool:
        found = EmbeddedRedis.start(data, durable=True)
        if not found.adopted:
            servers.append(found)
        if found.url != url:  # roles know the old one
            raise UsageError(f"{data}: the private redis-server has ended; start again: nothing that it acknowledged is lost")
        return not found.adopted

    try:
        yield Place(bus=url, store=url, private=True, revive=revive)
    finally:
        if not servers[-1].adopted:
            servers[-1].stop()


def wire(name: str | None, where: Place) -> Wiring:
    """A rollout that was created before, by name, or the only one there is."""
    return reopen(name, where.bus, where.store)
