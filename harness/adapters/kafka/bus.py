"""The bus on Apache Kafka, 2.4 or later, through kafka-python.

A position is an offset; a record's time is the broker's timestamp (when it took the record, on topics that we create). Partitions are
always explicit, no consumer group is ever joined; what `commit` notes is committed for a group, for displays of lag.
Topics that we create for a rollout keep records for a week (`?retention_h=`), and Kafka alone removes them: `trim` does nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer

from harness.adapters.kafka.address import parse
from harness.adapters.kafka.admin import Admin
from harness.adapters.kafka.client import LARGEST_RECORD, REQUEST_MS, made, translated
from harness.adapters.kafka.reader import KafkaReader
from harness.core.errors import ShadowError, UsageError
from harness.ports.bus import Partition

BATCH_BYTES = 768 << 10  # of one batch; a topic with Kafka's own limits takes batches of 1 MiB
RECORD_BYTES = 64  # at most, around a value
DELIVERY_MS = 2 * REQUEST_MS  # after so long a batch that was not acknowledged has failed
LINGER_MS = 5_000  # never waited for: each batch is flushed. It keeps the sender from taking a batch that is still being filled.

PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "linger_ms": LINGER_MS,
    "batch_size": BATCH_BYTES + 4_096,
    "max_request_size": LARGEST_RECORD,
    "delivery_timeout_ms": DELIVERY_MS,
    "max_block_ms": REQUEST_MS,
    "allow_auto_create_topics": False,
    "metrics_enabled": False,
}


def batches(values: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The values in runs that fit into one batch each; a larger value is a run of its own."""
    start, size = 0, 0
    for n, value in enumerate(values):
        length = len(value) + RECORD_BYTES
        if n > start and size + length > BATCH_BYTES:
            yield values[start:n]
            start, size = n, 0
        size += length
    if start < len(values):
        yield values[start:]


class KafkaBus:
    """`ports.bus.Bus` on Kafka. Thread-safe; its readers are not."""

    def __init__(self, url: str) -> None:
        self._address = parse(url)
        self._admin = Admin(self._address)
        self._producer: Any = None
        self._lock = threading.Lock()

    def ensure(self, topic: str, partitions: int | None = None, *, keep_s: float = 0.0) -> int:
        """Creates the topic if it is not there and returns how many partitions it has.

        Raises UsageError also when the cluster forbids creating it, and when a topic of ours would lose records.
        """
        if partitions is not None and partitions < 1:
            raise UsageError(f"topic {topic}: {partitions} partitions, must be 1 or more")
        return self._admin.ensure(topic, partitions, keep_s)

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        """Appends in order, batch after batch: the next one leaves when the one before is on all in-sync replicas. So a failure can cost
        the batch it hit and those behind it, never one in the middle.
        """
        with translated(self._address), self._lock:
            for batch in batches(values):
                try:
                    self._deliver(partition, batch)
                except Exception:
                    self._forget_producer()  # with what it believes of sequence numbers; the next append starts a new one
                    raise

    def _deliver(self, partition: Partition, batch: Sequence[bytes]) -> None:
        """Sends one batch and returns when it is acknowledged."""
        if self._producer is None:
            self._producer = self._make_producer()
        sent = [self._producer.send(partition.topic, value=value, partition=partition.number) for value in batch]
        self._producer.flush()
        for each in sent:
            each.get(timeout=0)

    def _make_producer(self) -> Any:
        return made(KafkaProducer, self._address, **PRODUCER)

    def _forget_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):  # it failed already; this one is not what the caller has to hear of
                producer.close(timeout=0)

    def reader(self, after: Mapping[Partition, int]) -> KafkaReader:
        """A reader of these partitions, each after its position."""
        return KafkaReader(self._address, after)

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The position of the last record of each, also when it is gone; BEFORE_ALL when it never had one."""
        return self._admin.ends(partitions)

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Notes that `group` needs nothing at or before these positions, as Kafka's own tools show it."""
        self._admin.commit(group, positions)

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """What `group` committed, BEFORE_ALL where nothing."""
        return self._admin.committed(group, partitions)

    def trim(self, partition: Partition, upto: int) -> None:
        """Nothing: topics have their retention."""

    def close(self) -> None:
        """Lets go of all connections."""
        with self._lock:
            self._forget_producer()
        with suppress(ShadowError):
            self._admin.close()
