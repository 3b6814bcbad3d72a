"""Servers of a benchmark's own: Kafka as the tests start it (KRaft, from its Maven artifacts), and a private Redis."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from harness.adapters.redis.server import find_redis_server

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))


@contextmanager
def private_redis() -> Iterator[str]:
    """The URL of a Redis without persistence, which ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [find_redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL) as process:
        try:
            _await(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _await(port: int) -> None:
    for _ in range(200):
        try:
            redis.Redis(port=port).ping()
            return
        except redis.ConnectionError:
            time.sleep(0.05)
    raise SystemExit("the private redis-server does not answer")


@contextmanager
def private_kafka() -> Iterator[str]:
    """The URL of one broker, which ends with the block. Needs Java 17 and, the first time, Maven."""
    from kafka_broker import Cluster  # type: ignore[import-not-found,unused-ignore]

    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder), 1, heap="512m") as cluster:
        yield cluster.url
