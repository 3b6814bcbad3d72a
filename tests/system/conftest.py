"""Streams, their expected numbers, and the command `shadow` as people run it: a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TIMEOUT_S = 300.0


def _load(name: str) -> ModuleType:
    """A module of this folder, which is no package."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name.removeprefix('system_')}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def streams() -> ModuleType:
    """The generator of streams."""
    return _load("system_streams")


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow second version."""
    return _load("system_reference")


@pytest.fixture(scope="session")
def processes() -> ModuleType:
    """Rollouts that run."""
    return _load("system_processes")


@pytest.fixture(scope="session")
def production() -> ModuleType:
    """Production weeks."""
    return _load("system_production")


@pytest.fixture(scope="session")
def stream(streams: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """3,000 events with everything wrong that we could think of."""
    return streams.build(tmp_path_factory.mktemp("stream"), seed=20260105, n_events=3_000)


@pytest.fixture(scope="session")
def small_stream(streams: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same in small, for tests that run it often."""
    return streams.build(tmp_path_factory.mktemp("small"), seed=7, n_events=900)


@pytest.fixture(scope="session")
def expected(reference: ModuleType, stream: Any) -> Any:
    """What must come of `stream`."""
    return reference.expect(stream.folder)


def shadow_process(*args: object, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `shadow ARGS` to its end."""
    command = [sys.executable, "-m", "harness", *map(str, args)]
    options = {"stdin": subprocess.DEVNULL, "timeout": TIMEOUT_S, "env": {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}, **options}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, **options)


@pytest.fixture(scope="session")
def shadow() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run to its end."""
    return shadow_process


def replayed(streams: ModuleType, stream: Any, folder: Path) -> dict[str, Any]:
    """The verdict of a replay up to the time at which live producers say that no more will come."""
    done = shadow_process(
        "replay", stream.config, "--events", stream.events, "--outcomes", stream.outcomes, "--until", streams.stated(streams.END),
        "--out", folder, "--json",
    )  # fmt: skip
    assert done.returncode in (0, 3, 4), done.stderr
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


@pytest.fixture(scope="session")
def replay_verdict(streams: ModuleType, stream: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a replay says of `stream`."""
    return replayed(streams, stream, tmp_path_factory.mktemp("replayed"))


@pytest.fixture(scope="session")
def small_verdict(streams: ModuleType, small_stream: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a replay says of `small_stream`."""
    return replayed(streams, small_stream, tmp_path_factory.mktemp("replayed"))


@pytest.fixture
def up(processes: ModuleType, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes rollouts that run, each in a data folder of its own unless told, and stops what a failed test leaves."""
    made: list[Any] = []

    def make(stream: Any, *, data: Path = tmp_path / "data", **more: Any) -> Any:
        made.append(processes.Up(stream, data, **more))
        return made[-1]

    yield make
    for each in made:
        each.close()
