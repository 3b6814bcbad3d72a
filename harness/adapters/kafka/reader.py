"""Reads partitions of Kafka forward from given offsets. No consumer group: who reads what is for the caller to say, and positions are kept
beside their effects.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, errors
from kafka.structs import TopicPartition

from harness.adapters.kafka.address import Address
from harness.adapters.kafka.client import REQUEST_MS, made, translated
from harness.core.errors import BusUnavailable, Overrun
from harness.ports.bus import BEFORE_ALL, Partition, Record

FETCH_WAIT_MS = 250  # how long a broker holds a fetch when there is nothing; a record ends it at once
FETCH_BYTES = 2 << 20  # of one partition in one answer
AHEAD_BYTES = 2 * FETCH_BYTES  # of one partition, read and not yet taken
BACKLOG_S = 2.0  # the longest a read waits for records that are known to be there
LOOK_S = 5.0  # a reader that finds nothing looks so often whether the cluster is there at all

CONSUMER: dict[str, Any] = {
    "enable_auto_commit": False,
    "auto_offset_reset": "none",  # its own `latest` would skip records without a word
    "isolation_level": "read_committed",  # what a producer took back was never an event
    "allow_auto_create_topics": False,
    "max_poll_records": 1_000_000,
    "fetch_max_wait_ms": FETCH_WAIT_MS,
    "max_partition_fetch_bytes": FETCH_BYTES,
    "fetch_max_bytes": 4 * FETCH_BYTES,
    "metrics_enabled": False,
}


def python_consumer(address: Address) -> Any:
    """kafka-python's consumer. Another one needs its methods assign, seek, pause, resume, poll, beginning_offsets, end_offsets, close."""
    return made(KafkaConsumer, address, **CONSUMER)


class KafkaReader:
    """`ports.bus.Reader` on Kafka, with a consumer of its own. The first read connects, and places each partition between its first
    record and its end; a position that lies outside has lost records and is an Overrun until it is sought elsewhere.
    """

    def __init__(self, address: Address, after: Mapping[Partition, int], consumer: Callable[[Address], Any] | None = None) -> None:
        self._address = address
        self._make = consumer or python_consumer
        self._consumer: Any = None
        self._partition_of = {TopicPartition(each.topic, each.number): each for each in after}
        self._after = {key: after[each] for key, each in self._partition_of.items()}
        self._unplaced = set(self._after)  # sought, not yet compared with the log
        self._from_start: set[TopicPartition] = set()  # sought to the first record, none read yet
        self._known_end: dict[TopicPartition, int] = {}  # the offset after the last record, when it was looked at last
        self._ahead: dict[TopicPartition, deque[Record]] = {key: deque() for key in self._after}
        self._ahead_bytes = dict.fromkeys(self._after, 0)
        self._paused: set[TopicPartition] = set()
        self._looked = 0.0

    # ----------------------------------------------------------------------------------------------------------------- reading
    def read(self, *, limit: int, wait_s: float) -> Sequence[Record]:
        """Up to `limit` further records, those of one partition in order; waits at most `wait_s` for the first.

        Records that were there when the reader was placed are waited for a moment longer (BACKLOG_S): a read that finds nothing means
        that nothing is there, not that the first answer is under way.
        """
        with translated(self._address):
            if not self._after:
                time.sleep(max(0.0, wait_s))
                return []
            if self._unplaced:
                self._place()
            if not all(self._ahead.values()):  # else none can starve
                self._fetch(wait_s)
            records = self._take(limit)
            if not records and time.monotonic() - self._looked > LOOK_S:
                self._look()
            return records

    def _fetch(self, wait_s: float) -> None:
        """Moves what has arrived into `_ahead`; waits only when nothing is there."""
        if any(self._ahead.values()):
            wait_s = 0.0
        elif any(self._after[key] + 1 < end for key, end in self._known_end.items()):
            wait_s = max(wait_s, BACKLOG_S)
        try:
            found = self._consumer.poll(timeout_ms=int(wait_s * 1_000))
        except errors.OffsetOutOfRangeError as error:
            self._out_of_range(error)
            return
        if not found and not any(self._ahead.values()):  # before the end stands no record, but the mark of a transaction
            self._known_end.clear()
        for key, records in found.items():
            partition, queue = self._partition_of[key], self._ahead[key]
            for record in records:
                value = record.value or b""
                queue.append(Record(partition, record.offset, record.timestamp * 1_000, value))
                self._ahead_bytes[key] += len(value)
            self._from_start.discard(key)
            if self._ahead_bytes[key] > AHEAD_BYTES:
                self._consumer.pause(key)
                self._paused.add(key)

    def _take(self, limit: int) -> list[Record]:
        """At most `limit` of what is read ahead, the partitions taking turns."""
        records: list[Record] = []
        waiting = [key for key, queue in self._ahead.items() if queue]
        while waiting and len(records) < limit:
            share = max(1, (limit - len(records)) // len(waiting))
            for key in waiting[: limit - len(records)]:
                self._take_from(key, min(share, limit - len(records)), records)
            waiting = [key for key in waiting if self._ahead[key]]
        return records

    def _take_from(self, key: TopicPartition, n: int, records: list[Record]) -> None:
        queue = self._ahead[key]
        taken = [queue.popleft() for _ in range(min(n, len(queue)))]
        records += taken
        self._after[key] = taken[-1].position
        self._ahead_bytes[key] -= sum(len(record.value) for record in taken)
        self._ahead[key] = self._ahead.pop(key)  # to the back of the queue
        if key in self._paused and self._ahead_bytes[key] <= AHEAD_BYTES // 2:
            self._consumer.resume(key)
            self._paused.discard(key)

    # ----------------------------------------------------------------------------------------------------------------- placing
    def _place(self) -> None:
        """Compares each sought position with what the log holds, and has the consumer go on there."""
        if self._consumer is None:
            self._consumer = self._make(self._address)
            self._consumer.assign(list(self._after))
            self._consumer.pause(*self._after)  # until placed: without a position a consumer raises
            self._paused = set(self._after)
        unplaced = list(self._unplaced)
        first = self._consumer.beginning_offsets(unplaced, timeout_ms=REQUEST_MS)
        end = self._consumer.end_offsets(unplaced, timeout_ms=REQUEST_MS)
        self._looked = time.monotonic()
        for key in unplaced:
            start = first[key] if self._after[key] == BEFORE_ALL else self._after[key] + 1
            if not first[key] <= start <= end[key]:
                there = f"the log now holds {first[key]} to {end[key] - 1}"
                raise Overrun(f"{key.topic}/{key.partition}: records after {self._after[key]} are gone; {there}")
            self._consumer.seek(key, start)
            self._unplaced.discard(key)
            self._known_end[key] = end[key]
            if self._after[key] == BEFORE_ALL:
                self._from_start.add(key)
                self._after[key] = start - 1
        self._consumer.resume(*unplaced)
        self._paused.difference_update(unplaced)

    def _out_of_range(self, error: errors.OffsetOutOfRangeError) -> None:
        """A log lost records that were not read yet: an Overrun, unless the reader only wanted the first one there is."""
        for key in error.args[0]:
            if key not in self._from_start:
                self._unplaced.add(key)  # each read says so until it is sought elsewhere
                raise Overrun(f"{key.topic}/{key.partition}: records after {self._after[key]} were removed before they were read")
            self.seek(self._partition_of[key], BEFORE_ALL)

    def _look(self) -> None:
        """Raises BusUnavailable when the cluster is away: a consumer alone goes on trying for ever and says nothing."""
        try:
            self._consumer.end_offsets(list(self._after), timeout_ms=REQUEST_MS)
        except errors.KafkaTimeoutError:
            topics = ", ".join(sorted({key.topic for key in self._after}))
            raise BusUnavailable(f"{self._address.where}: no answer for {topics} in {REQUEST_MS // 1_000} s; is the topic there?") from None
        self._looked = time.monotonic()

    def seek(self, partition: Partition, after: int) -> None:
        """Reads on after this position (BEFORE_ALL: from the first record)."""
        key = TopicPartition(partition.topic, partition.number)
        if key not in self._after:
            raise ValueError(f"{partition} is not one of this reader's")
        self._after[key] = after
        self._ahead[key].clear()
        self._ahead_bytes[key] = 0
        self._from_start.discard(key)
        self._unplaced.add(key)
        if self._consumer is not None:
            self._consumer.pause(key)
            self._paused.add(key)

    def close(self) -> None:
        """Lets go of the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with translated(self._address):
                consumer.close(autocommit=False)
