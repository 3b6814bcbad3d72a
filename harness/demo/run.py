"""A demo, from nothing to a verdict: real models, traffic of a fortnight, every role a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.types import PairTable
from harness import config
from harness.adapters.redis.server import EmbeddedRedis
from harness.commands import decide
from harness.commands.replay import whole_table
from harness.commands.status import status
from harness.core.errors import ShadowError, UsageError
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.demo import age_models, traffic
from harness.demo.prepare import CONFIG, MODELS, STREAM, Case, end_of, prepare
from harness.demo.traffic import Built
from harness.supervisor import Supervisor
from harness.wiring import Wiring, create

PER_SECOND = 1_500.0
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a demo found. folder: where everything it made lies, with `rollout.yaml` to look at."""

    rollout: Rollout
    verdict: dict[str, Any]
    table: PairTable
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How a demo tells what it does: a line, and events paired and labels joined so far of how many."""

    line: Callable[[str], None]
    moved: Callable[[int, int, int, int], None]


def show(case: Case, challenger: str, folder: Path, steps: Steps) -> Shown:
    """Runs a demo's rollout with one of its challengers and returns its verdict. What an earlier run left in `folder` is replaced.

    Raises UsageError for a missing extra, or when a role cannot run.
    """
    for made in (MODELS, STREAM, "data"):
        shutil.rmtree(folder / made, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    steps.line(case.first)
    built = prepare(case, folder, challenger)
    who = f"{built.n_events:,} {case.traffic.format(people=f'{built.n_people:,}')} over {traffic.DAYS} days"
    steps.line(f"traffic: {who}, {built.n_outcomes:,} late labels")
    config_file = folder / CONFIG
    rollout = config.load(config_file)
    os.environ[age_models.FOLDER] = str((folder / MODELS).resolve())
    server = EmbeddedRedis.start(folder / "data", durable=True)
    try:
        wiring = create(rollout, server.url, server.url)
        roles = tuple(role for role in wiring.role_names() if role != "controller")  # it shows one stage's verdict, and moves on from none
        steps.line(f"private Redis {server.url.removeprefix('unix://')}; a process each: source, {', '.join(roles)}")
        commands = wiring.commands(config_file, roles)
        supervisor = Supervisor(commands, folder=folder / "data", on_event=lambda *_: None, environment=wiring.environment)
        supervisor.start()
        try:
            verdict = _watch(supervisor, wiring, folder, built, steps)
        finally:
            supervisor.stop()
        table = whole_table(rollout, [wiring.pair_log(shard) for shard in range(wiring.shards)])
    finally:
        server.stop()
    return Shown(rollout=rollout, verdict=verdict, table=table, folder=folder)


def _watch(supervisor: Supervisor, wiring: Wiring, folder: Path, built: Built, steps: Steps) -> dict[str, Any]:
    """Starts the source and keeps the roles running until the last look is read."""
    until = end_of(wiring.rollout)
    command = [sys.executable, "-m", "harness.demo.source", "--bus", wiring.bus_url, "--folder", str(folder)]
    command += ["--per-second", str(PER_SECOND)]
    logs = [wiring.pair_log(shard) for shard in range(wiring.shards)]
    deadline = time.monotonic() + TIMEOUT_S
    source = subprocess.Popen(command)
    try:
        while time.monotonic() < deadline:
            pause = time.monotonic() + 0.25
            supervisor.run(lambda pause=pause: time.monotonic() > pause)  # type: ignore[misc]
            found = status(wiring.topology, bus=wiring.bus, intake=wiring.intake, pair_logs=logs)
            steps.moved(found.counts.paired, built.n_events, found.counts.joined, built.n_outcomes)
            if source.poll() not in (None, 0):
                raise UsageError("the demo's source has ended with an error, see above")
            if source.poll() == 0 and found.idle and (verdict := _last(wiring, until)) is not None:
                return verdict
        raise UsageError(f"no verdict after {TIMEOUT_S:g} s: see the logs in the data folder")
    finally:
        source.kill()
        source.wait()


def _last(wiring: Wiring, until: int) -> dict[str, Any] | None:
    """The verdict of the last look before `until`, once it is there and speaks of everything that came."""
    try:
        published = wiring.ledger.published()
    except ShadowError:
        return None
    if published is None:
        return None
    found = decide.parsed(published)
    grid = int(wiring.rollout.looks_s * 1e6)
    as_of = microseconds(found["as_of"])
    fresh = found["counts"]["in_flight"] == found["outcomes"]["waiting"] == found["watermark"]["labels_behind"] == 0
    return found if fresh and as_of is not None and as_of >= until // grid * grid - grid else None
