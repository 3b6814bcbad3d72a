"""One role in this process: `shadow role NAME`. `shadow up` starts these, all at once and again after a death, so nothing is imported here
that only commands of people need: a role is at work a fifth sooner.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness import config
from harness.api import address
from harness.cli.logs import log_to_stderr
from harness.commands.health import Beat
from harness.commands.run import run
from harness.core.rollout import Rollout
from harness.ports.shares import REPLACES, Shares
from harness.wiring import Wiring, open_presence

API = "api"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def stop_signals() -> Callable[[], bool]:
    """Whether SIGINT or SIGTERM has come, from now on."""
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: came.append(number))
    return lambda: bool(came)


@app.command()
def role(
    name: str,
    config_file: Annotated[Path, typer.Option("--config")],
    bus: Annotated[str, typer.Option(envvar="SHADOW_BUS")],
    store: Annotated[str, typer.Option(envvar="SHADOW_STORE")],
    shards: Annotated[int, typer.Option()],
    listen: Annotated[str, typer.Option()] = address.DEFAULT,
    read_needs_token: Annotated[bool, typer.Option("--read-needs-token")] = False,
) -> None:
    """Run one role in this process. `shadow up` starts these."""
    rollouts, stopped = config.load_all(config_file), stop_signals()
    log_to_stderr()
    if name == API:
        from harness.api.server import serve
        from harness.api.service import Service

        service = Service(bus=bus, store=store, topic=rollouts[0].events.topic)
        serve(service, listen, rollout=rollouts[0].name, stopped=stopped, closed=read_needs_token)
        return
    gc.freeze()  # what is loaded by now stays; a role makes and drops many small tuples, and no cycles
    gc.set_threshold(50_000, 20, 100)
    mine = (rollout for rollout in rollouts if name in Wiring(rollout, bus, store, shards).role_names())
    _run(name, next(mine, rollouts[0]), bus=bus, store=store, shards=shards, stopped=stopped)


def _run(name: str, rollout: Rollout, *, bus: str, store: str, shards: int, stopped: Callable[[], bool]) -> None:
    wirings: list[Wiring] = []

    def wired() -> Wiring:
        if not wirings:
            wirings.append(Wiring(rollout, bus, store, shards))
        return wirings[0]

    host, before = socket.gethostname(), os.environ.get(REPLACES)
    beat = Beat(open_presence(store, rollout), name)
    run(
        lambda: wired().running(name), role=name, worker=f"{host}:{os.getpid()}", beat=beat, stopped=stopped,
        shares=lambda: without(wired().shares(), name, f"{host}:{before}" if before else None),
    )  # fmt: skip


def without(shares: Shares, role: str, ended: str | None) -> Shares:
    """The shares, without what a worker held that has ended: its supervisor says so, and its leases need not run out."""
    if ended is not None:
        shares.leave(role, ended)
    return shares
