"""Rollouts on Kafka as bus and Redis as store, as processes: the same numbers as a replay, also when Kafka restarts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError

pytestmark = pytest.mark.slow
TOPICS = ("proof.events", "proof.outcomes", "proof.mirror", "proof.predictions")


@pytest.fixture
def address(kafka_broker: Any) -> Iterator[str]:
    """host:port of a Kafka without topics of ours."""
    yield kafka_broker.address
    with KafkaAdminClient(bootstrap_servers=kafka_broker.address) as client:
        for topic in TOPICS:
            with suppress(UnknownTopicOrPartitionError):
                client.delete_topics([topic])


@pytest.fixture
def store(redis_url: str, redis_db: Any) -> str:
    """An empty store."""
    return redis_url


def send(address: str, records: Iterable[tuple[str, bytes]]) -> None:
    """As any producer would; returns when Kafka has all."""
    producer = KafkaProducer(bootstrap_servers=address)
    sent = [producer.send(topic, value=record) for topic, record in records]
    producer.flush()
    for each in sent:
        each.get()
    producer.close()


@pytest.mark.parametrize("shards", [1, 4])
def test_a_live_rollout_on_kafka_says_what_a_replay_says(
    shards: int, address: str, store: str, up: Any, stream: Any, streams: ModuleType, processes: ModuleType, replay_verdict: dict[str, Any]
):
    """The bus, its partitions and its clock change no number: neither a count nor a digit of an estimate."""
    running = up(stream, url=store, options=["--bus", f"kafka://{address}", "--shards", shards]).start()
    send(address, [*stream.records, streams.watermark("proof.events")])
    verdict = running.settled()
    assert processes.comparable(verdict) == processes.comparable(replay_verdict)
    assert len(verdict["watermark"]["shards"]) == shards
    assert running.stop() == 0


def test_a_kafka_that_restarts_under_a_rollout_costs_no_event(
    address: str, store: str, up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any],
    kafka_broker: Any,
):  # fmt: skip
    """Roles wait for the broker and go on; what they were not sure of they send again, and no event counts twice for it."""
    running = up(small_stream, url=store, options=["--bus", f"kafka://{address}", "--shards", 2]).start()
    half = len(small_stream.records) // 2
    send(address, small_stream.records[:half])
    processes.until(lambda: (running.verdict() or {"counts": {"read": 0}})["counts"]["read"] > 0, processes.START_S, running.words)
    kafka_broker.kill()
    kafka_broker.start()
    kafka_broker.wait()
    send(address, [*small_stream.records[half:], streams.watermark("proof.events")])
    assert processes.comparable(running.settled()) == processes.comparable(small_verdict)
    assert running.stop() == 0
