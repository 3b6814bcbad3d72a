"""The bus on Redis Streams, 6.2 or later: one server, not a Redis Cluster.

Partition 0 of a topic is the stream named like the topic, partition p > 0 is `topic:p`, so any producer can write
`XADD age.events '*' value '{...}'`. A record is the bytes of the field `value`, empty without one. Its position is its stream ID as
one integer, `milliseconds << 20 | sequence`; its time is those milliseconds.

Records may be trimmed by `trim` and, on topics of others, by their owners. After a trim of our own a reader knows exactly whether it
missed any. After one of others it knows only that the record at its position is gone: unless that was by us, it takes the next ones
for missed too. A reader that starts BEFORE_ALL takes the first record there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.adapters.redis.connection import MOST_BLOCK_S, address_of, connect, script, translated
from harness.core.errors import BusUnavailable, Overrun, UsageError
from harness.ports.bus import BEFORE_ALL, Partition, Record

_SEQUENCE_BITS = 20
_TOPICS, _TRIMMED, _COMMITS = "shadow:topics", "shadow:trimmed", "shadow:commits:"
_APPEND_BYTES, _APPEND_RECORDS = 8 << 20, 4_096  # of one script; a longer list is sent in several


def stream_of(partition: Partition) -> str:
    """The key of a partition's stream."""
    return partition.topic if partition.number == 0 else f"{partition.topic}:{partition.number}"


def position_of(stream_id: bytes) -> int:
    """A stream ID as a position. Raises UsageError for a sequence of 2**20 or more, which Redis itself does not give out."""
    milliseconds, _, sequence = stream_id.partition(b"-")
    if int(sequence) >> _SEQUENCE_BITS:
        raise UsageError(f"stream ID {stream_id.decode()}: the sequence must be below {1 << _SEQUENCE_BITS}; let Redis choose IDs (*)")
    return int(milliseconds) << _SEQUENCE_BITS | int(sequence)


def id_of(position: int) -> str:
    """A position as a stream ID; BEFORE_ALL is 0-0."""
    position = max(position, 0)
    return f"{position >> _SEQUENCE_BITS}-{position & ((1 << _SEQUENCE_BITS) - 1)}"


def _value(fields: Sequence[bytes]) -> bytes:
    """The field `value` of a stream entry, as Redis lists its fields; empty without one."""
    return next((value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == b"value"), b"")


class RedisReader:
    """`ports.bus.Reader` on Redis Streams, with a connection of its own."""

    def __init__(self, url: str, after: Mapping[Partition, int]) -> None:
        self._where = address_of(url)
        self._client: Any = connect(url)
        self._script = self._client.register_script(script("read.lua"))
        self._after = dict(after)
        self._streams = {stream_of(partition).encode(): partition for partition in after}

    def read(self, *, limit: int, wait_s: float) -> Sequence[Record]:
        """Up to `limit` further records, those of one partition in order; waits at most `wait_s` (5 s, and 0.1 s more)."""
        with translated(self._where, BusUnavailable):
            records = self._read_now(limit)
            if not records and wait_s > 0 and self._streams:
                block_ms = max(1, int(min(wait_s, MOST_BLOCK_S) * 1_000))  # BLOCK 0 would wait without end
                if self._client.xread(self._ids(), count=1, block=block_ms):
                    records = self._read_now(limit)
        for record in records:
            self._after[record.partition] = record.position
        return records

    def _ids(self) -> dict[bytes, str]:
        return {stream: id_of(self._after[partition]) for stream, partition in self._streams.items()}

    def _read_now(self, limit: int) -> list[Record]:
        """What is there, at most `limit`, the streams taking turns."""
        records: list[Record] = []
        after = self._ids()
        while after and len(records) < limit:
            streams = list(after)[: limit - len(records)]
            count = (limit - len(records)) // len(streams)
            for stream, new in self._entries({stream: after.pop(stream) for stream in streams}, count):
                records += new
                self._streams[stream] = self._streams.pop(stream)  # to the back of the queue
                if len(new) == count:
                    after[stream] = id_of(new[-1].position)
        return records

    def _entries(self, after: Mapping[bytes, str], count: int) -> list[tuple[bytes, list[Record]]]:
        """Up to `count` records of each stream, read at one moment with what a gap before them is known by."""
        found: list[tuple[bytes, bytes, int, list[Any]]] = self._script([*after, _TRIMMED], [count, *after.values()])
        entries = []
        for stream, note, is_here, new in found:
            records = self._records(self._streams[stream], new)
            self._check(stream, position_of(after[stream].encode()), records[0].position, note, bool(is_here))
            entries.append((stream, records))
        return entries

    @staticmethod
    def _check(stream: bytes, after: int, first: int, note: bytes, is_here: bool) -> None:
        """Raises Overrun if records between our position and the first one read are gone, or may be."""
        trimmed = position_of(note) if note else BEFORE_ALL
        if after > 0 and (after < trimmed < first or (not is_here and after > trimmed)):
            raise Overrun(f"{stream.decode()}: records after {id_of(after)} were trimmed before they were read; the next is {id_of(first)}")

    @staticmethod
    def _records(partition: Partition, entries: Sequence[tuple[bytes, list[bytes]]]) -> list[Record]:
        return [Record(partition, position_of(entry), int(entry.partition(b"-")[0]) * 1_000, _value(fields)) for entry, fields in entries]

    def seek(self, partition: Partition, after: int) -> None:
        """Reads on after this position (BEFORE_ALL: from the first record)."""
        self._after[partition] = after
        self._streams[stream_of(partition).encode()] = partition

    def close(self) -> None:
        """Lets go of the connection."""
        self._client.close()


class RedisBus:
    """`ports.bus.Bus` on Redis Streams. Thread-safe; its readers are not.

    Besides the streams it keeps three hashes, as long as the topics: `shadow:topics` (topic -> partitions), `shadow:trimmed`
    (stream -> ID of the last record that `trim` dropped) and `shadow:commits:<group>` (stream -> position).
    """

    def __init__(self, url: str) -> None:
        self._url, self._where = url, address_of(url)
        self._client: Any = connect(url)
        self._append, self._trim, self._ends = map(self._client.register_script, map(script, ("append.lua", "trim.lua", "ends.lua")))

    def ensure(self, topic: str, partitions: int | None = None, *, keep_s: float = 0.0) -> int:
        """Creates the topic if it is not there and returns how many partitions it has. Records stay until they are trimmed."""
        if partitions is not None and partitions < 1:
            raise UsageError(f"topic {topic}: {partitions} partitions, must be 1 or more")
        with translated(self._where, BusUnavailable), self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(_TOPICS, topic, str(partitions or 1))
            pipe.hget(_TOPICS, topic)
            found = int(pipe.execute()[1])
        if partitions not in (None, found):
            raise UsageError(f"topic {topic}: has {found} partitions, not {partitions}; partitions are fixed when a topic is created")
        return found

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        """Appends in order, in scripts of at most 8 MiB that are done whole or not at all."""
        batch: list[bytes] = []
        size = 0
        with translated(self._where, BusUnavailable):
            for value in values:
                if batch and (size + len(value) > _APPEND_BYTES or len(batch) == _APPEND_RECORDS):
                    self._append([stream_of(partition)], batch)
                    batch, size = [], 0
                batch.append(value)
                size += len(value)
            if batch:
                self._append([stream_of(partition)], batch)

    def reader(self, after: Mapping[Partition, int]) -> RedisReader:
        """A reader of these partitions, each after its position."""
        return RedisReader(self._url, after)

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The position of the last record of each, also when it was trimmed; BEFORE_ALL when it never had one."""
        with translated(self._where, BusUnavailable):
            found: list[bytes] = self._ends([stream_of(partition) for partition in partitions]) if partitions else []
        positions = (position_of(last) if last else 0 for last in found)
        return {partition: position or BEFORE_ALL for partition, position in zip(partitions, positions, strict=True)}

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Notes that `group` needs nothing at or before these positions."""
        if positions:
            with translated(self._where, BusUnavailable):
                self._client.hset(_COMMITS + group, mapping={stream_of(partition): str(n) for partition, n in positions.items()})

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """What `group` committed, BEFORE_ALL where nothing."""
        if not partitions:
            return {}
        with translated(self._where, BusUnavailable):
            found = self._client.hmget(_COMMITS + group, [stream_of(partition) for partition in partitions])
        return {partition: BEFORE_ALL if note is None else int(note) for partition, note in zip(partitions, found, strict=True)}

    def trim(self, partition: Partition, upto: int) -> None:
        """Drops the records at or before this position."""
        if upto > BEFORE_ALL:
            with translated(self._where, BusUnavailable):
                self._trim([stream_of(partition), _TRIMMED], [id_of(upto), id_of(upto + 1)])

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
