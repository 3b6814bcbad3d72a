"""The same bus on librdkafka (extra `confluent`): several times the records a second for a core. Use it where the source topic has more
events than kafka-python can read; addresses begin with `confluent+kafka://`.

Topics, ends and commits go through kafka-python as before. Here are only a producer and a consumer with those of kafka-python's methods
that `KafkaBus` and `KafkaReader` use, so that batches, positions and their errors are the same in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import confluent_kafka as rd
from kafka import errors
from kafka.structs import TopicPartition

from harness.adapters.kafka.address import Address
from harness.adapters.kafka.bus import BATCH_BYTES, KafkaBus
from harness.adapters.kafka.client import LARGEST_RECORD, REQUEST_MS
from harness.adapters.kafka.reader import AHEAD_BYTES, FETCH_BYTES, FETCH_WAIT_MS, KafkaReader
from harness.ports.bus import Partition

PREFIX = "confluent+"
LINGER_MS = 5_000  # never waited for: each batch is flushed
MOST_RECORDS = 100_000  # of one batch; 64 bytes at least are counted for each, so that 768 KiB hold fewer
_QUEUED = 10_000  # records taken from librdkafka at once


class Taken(NamedTuple):
    """A record as KafkaReader reads it."""

    offset: int
    timestamp: int
    value: bytes | None


def common(address: Address) -> dict[str, Any]:
    """What both kinds of client are made with. librdkafka's own log is off: it would repeat addresses and errors on stderr."""
    made: dict[str, Any] = {
        "bootstrap.servers": ",".join(address.servers),
        "client.id": "shadow-harness",
        "security.protocol": address.protocol,
        "allow.auto.create.topics": False,
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 0,
        "error_cb": lambda _: None,
    }
    if address.mechanism:
        made |= {"sasl.mechanisms": address.mechanism, "sasl.username": address.user, "sasl.password": address.password}
    names = {"ca_file": "ssl.ca.location", "cert_file": "ssl.certificate.location", "key_file": "ssl.key.location"}
    made |= {names[name]: path for name, path in address.files.items()}
    if "cert_file" in address.files and "key_file" not in address.files:
        made["ssl.key.location"] = address.files["cert_file"]
    if address.key_password:
        made["ssl.key.password"] = address.key_password
    return made


def python_error(error: rd.KafkaError) -> errors.KafkaError:
    """librdkafka's error as the one of kafka-python that means the same; its own, below 0, are those of a cluster that is away."""
    code = error.code()
    if code in (rd.KafkaError._AUTHENTICATION, rd.KafkaError.SASL_AUTHENTICATION_FAILED):
        return errors.SaslAuthenticationFailedError()
    if code == rd.KafkaError._MSG_TIMED_OUT or code < 0:
        return errors.KafkaTimeoutError(error.name())
    found: errors.KafkaError = errors.for_code(code)()
    return found


class Sent:
    """What became of one record: kafka-python's future, as far as KafkaBus asks it."""

    def __init__(self) -> None:
        self.error: errors.KafkaError | None = errors.KafkaTimeoutError("not acknowledged")

    def done(self, error: Any, _: object) -> None:
        """Called by librdkafka once."""
        self.error = python_error(error) if error is not None else None

    def get(self, timeout: float) -> None:
        """Raises what went wrong."""
        if self.error is not None:
            raise self.error


class LibrdkafkaProducer:
    """librdkafka's producer with the methods of kafka-python's."""

    def __init__(self, address: Address) -> None:
        self._producer = rd.Producer(
            {
                **common(address),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": LINGER_MS,
                "batch.size": BATCH_BYTES * 2,
                "batch.num.messages": MOST_RECORDS,
                "message.max.bytes": LARGEST_RECORD,
                "queue.buffering.max.messages": MOST_RECORDS,
                "request.timeout.ms": REQUEST_MS,
                "delivery.timeout.ms": 2 * REQUEST_MS,
            }
        )

    def send(self, topic: str, *, value: bytes, partition: int) -> Sent:
        """Takes one record; `flush` sends it."""
        sent = Sent()
        try:
            self._producer.produce(topic, value=value, partition=partition, on_delivery=sent.done)
        except rd.KafkaException as error:
            raise python_error(error.args[0]) from None
        return sent

    def flush(self) -> None:
        """Returns when all that was taken is acknowledged or has failed."""
        self._producer.flush((2 * REQUEST_MS + LINGER_MS) / 1_000)

    def close(self, timeout: float) -> None:
        """Drops what is under way."""
        self._producer.purge()
        self._producer.flush(timeout)


def _partition(key: TopicPartition, offset: int = rd.OFFSET_INVALID) -> rd.TopicPartition:
    return rd.TopicPartition(key.topic, key.partition, offset)


class LibrdkafkaConsumer:
    """librdkafka's consumer with the methods of kafka-python's. Partitions have no position until `seek`; then they are assigned anew
    together, which drops what librdkafka has read ahead, so that a seek is rare or cheap.
    """

    def __init__(self, address: Address) -> None:
        self._consumer = rd.Consumer(
            {
                **common(address),
                "group.id": "shadow-harness-reader",  # librdkafka wants one; nothing is committed for it, and nobody joins it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.error.backoff.ms": 100,
                "max.partition.fetch.bytes": FETCH_BYTES,
                "queued.max.messages.kbytes": AHEAD_BYTES // 1024,
            }
        )
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._moved = False  # whether positions were sought since the last poll
        self._failure: errors.KafkaError | None = None

    def _watermarks(self, key: TopicPartition) -> tuple[int, int]:
        """The first offset of a partition, and the one after its last."""
        try:
            found = self._consumer.get_watermark_offsets(_partition(key), timeout=REQUEST_MS / 1_000, cached=False)
        except rd.KafkaException as error:
            raise python_error(error.args[0]) from None
        if found is None:
            raise errors.KafkaTimeoutError(f"no answer for {key.topic}")
        return found[0], found[1]

    def beginning_offsets(self, keys: Sequence[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        """The offset of the first record of each."""
        return {key: self._watermarks(key)[0] for key in keys}

    def end_offsets(self, keys: Sequence[TopicPartition], timeout_ms: int) -> dict[TopicPartition, int]:
        """The offset after the last record of each."""
        return {key: self._watermarks(key)[1] for key in keys}

    def assign(self, keys: Sequence[TopicPartition]) -> None:
        """Nothing yet: a partition is assigned when it has a position."""

    def seek(self, key: TopicPartition, offset: int) -> None:
        """Reads on from this offset."""
        self._next[key] = offset
        self._moved, self._failure = True, None

    def pause(self, *keys: TopicPartition) -> None:
        """Reads no further for now."""
        self._paused.update(keys)
        if not self._moved:
            self._consumer.pause([_partition(key) for key in keys if key in self._next])

    def resume(self, *keys: TopicPartition) -> None:
        """Reads on."""
        self._paused.difference_update(keys)
        if not self._moved:
            self._consumer.resume([_partition(key) for key in keys if key in self._next])

    def poll(self, timeout_ms: int) -> Mapping[TopicPartition, list[Taken]]:
        """What has arrived; waits at most so long for the first record. Raises OffsetOutOfRangeError naming the partition."""
        if self._moved:
            self._consumer.assign([_partition(key, offset) for key, offset in self._next.items()])
            self._consumer.pause([_partition(key) for key in self._next if key in self._paused])
            self._consumer.resume([_partition(key) for key in self._next if key not in self._paused])  # a pause outlives an assignment
            self._moved = False
        self._raise_kept()
        messages = self._consumer.consume(_QUEUED, timeout=0)
        if not messages and timeout_ms > 0:
            first = self._consumer.poll(timeout_ms / 1_000)
            messages = [first, *self._consumer.consume(_QUEUED, timeout=0)] if first is not None else []
        found = self._taken(messages)
        if not found:
            self._raise_kept()
        return found

    def _raise_kept(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _taken(self, messages: Sequence[Any]) -> dict[TopicPartition, list[Taken]]:
        """Records by partition; an error between them is kept for the next poll, when they have been handed out."""
        found: dict[TopicPartition, list[Taken]] = {}
        for message in messages:
            key = TopicPartition(message.topic(), message.partition())
            if message.error() is None:
                found.setdefault(key, []).append(Taken(message.offset(), message.timestamp()[1], message.value()))
                self._next[key] = message.offset() + 1
            else:
                self._failure = self._failure or self._meaning(key, message.error())
        return found

    def _meaning(self, key: TopicPartition, error: rd.KafkaError) -> errors.KafkaError | None:
        """What must be raised; None for what mends itself, and for rights on the group that nobody joins."""
        if error.code() in (rd.KafkaError._AUTO_OFFSET_RESET, rd.KafkaError.OFFSET_OUT_OF_RANGE):
            return errors.OffsetOutOfRangeError({key: self._next.get(key, 0)})
        ours = python_error(error)
        return None if ours.retriable or isinstance(ours, errors.GroupAuthorizationFailedError) else ours

    def close(self, autocommit: bool) -> None:
        """Lets go of the connection."""
        self._consumer.close()


class ConfluentBus(KafkaBus):
    """`ports.bus.Bus` on Kafka through librdkafka."""

    def __init__(self, url: str) -> None:
        super().__init__(url.removeprefix(PREFIX))

    def _make_producer(self) -> Any:
        return LibrdkafkaProducer(self._address)

    def reader(self, after: Mapping[Partition, int]) -> KafkaReader:
        """A reader of these partitions, each after its position."""
        return KafkaReader(self._address, after, consumer=LibrdkafkaConsumer)
