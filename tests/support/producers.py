"""What production has and a rollout needs: a Redis that can be killed and comes back, and producers that know what was acknowledged."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import redis
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError
from ports import free_port

from harness.adapters.redis.server import find_redis_server

TOPICS = ("proof.events", "proof.outcomes", "proof.mirror", "proof.predictions")
ANSWERS_S = 120.0


class RedisServer:
    """A redis-server with an append-only file, to be killed and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers, its data loaded."""
        command = [find_redis_server(), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "--appendonly", "yes", "--appendfsync", "everysec"], stdout=log, stderr=log)
        await_redis(redis.Redis(port=self.port))

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def await_redis(client: redis.Redis) -> None:
    """Returns when the server answers."""
    deadline = time.monotonic() + ANSWERS_S
    while True:
        try:
            client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


# --------------------------------------------------------------------------------------------------------------------- producers
class RedisProducer:
    """XADDs records; each is acknowledged, or known not to have been taken."""

    def __init__(self, client: Callable[[], redis.Redis]) -> None:
        self._client = client

    def send(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Returns how many of them, from the first on, were acknowledged: fewer than all while the server has no memory."""
        for n, (topic, record) in enumerate(records):
            try:
                self._client().xadd(topic, {"value": record})
            except redis.OutOfMemoryError:
                return n
        return len(records)

    def close(self) -> None:
        """Nothing to let go of."""


class BrokerProducer:
    """Produces to Kafka, each batch acknowledged before `send` returns."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._producer = KafkaProducer(bootstrap_servers=address, acks="all")

    def send(self, records: Sequence[tuple[str, bytes]]) -> int:
        """Returns how many were acknowledged: all."""
        for sent in [self._producer.send(topic, value=record) for topic, record in records]:
            sent.get(timeout=ANSWERS_S)
        return len(records)

    def close(self) -> None:
        """Deletes the topics, for the next rollout of this name."""
        self._producer.close()
        with KafkaAdminClient(bootstrap_servers=self._address) as admin:
            for topic in TOPICS:
                with suppress(UnknownTopicOrPartitionError):
                    admin.delete_topics([topic])
