"""What every bus keeps."""

from __future__ import annotations

import threading
import time

import pytest

from harness.core.errors import Overrun, UsageError
from harness.ports.bus import BEFORE_ALL, Bus, Partition, Reader, Record

WAIT_S = 60.0  # a record ends it at once


def drain(reader: Reader, n: int, *, limit: int = 1_000) -> list[Record]:
    """Reads until `n` records came, or none came for WAIT_S."""
    records: list[Record] = []
    heard = time.monotonic()
    while len(records) < n and time.monotonic() - heard < WAIT_S:  # an adapter may wait for less than it is told
        if new := reader.read(limit=limit, wait_s=WAIT_S):
            records += new
            heard = time.monotonic()
    return records


class BusContract:
    """Override `bus`: an empty one. `partitions` are three of a topic that the suite may fill; names are new in each test."""

    @pytest.fixture
    def bus(self) -> Bus:
        """An empty bus."""
        raise NotImplementedError

    @pytest.fixture
    def partitions(self, bus: Bus) -> list[Partition]:
        """Three partitions of a new topic."""
        topic = f"t{time.time_ns()}"
        bus.ensure(topic, 3)
        return [Partition(topic, number) for number in range(3)]

    def test_a_topic_keeps_the_number_of_partitions_it_was_created_with(self, bus: Bus, partitions: list[Partition]) -> None:
        """Shards are fixed for good: a second worker that asks for others must hear of it, not split the keys anew."""
        topic = partitions[0].topic
        assert (bus.ensure(topic), bus.ensure(topic, 3), bus.ensure(topic + "x")) == (3, 3, 1)
        with pytest.raises(UsageError, match="3"):
            bus.ensure(topic, 4)

    def test_records_come_back_in_order_with_their_bytes(self, bus: Bus, partitions: list[Partition]) -> None:
        """Payloads pass untouched, also empty and binary ones; positions rise and are known to the clock."""
        values = [b"", b"\x00\xff", "\u00e9".encode(), b"x" * 600_000, b"last"]
        bus.append(partitions[0], values[:2])
        bus.append(partitions[0], values[2:])
        records = drain(bus.reader({partitions[0]: BEFORE_ALL}), 5)
        assert [record.value for record in records] == values
        positions = [record.position for record in records]
        assert positions == sorted(set(positions)) and positions[0] > BEFORE_ALL
        assert all(abs(record.time - time.time_ns() // 1_000) < 60_000_000 for record in records)

    def test_a_long_append_keeps_its_order(self, bus: Bus, partitions: list[Partition]) -> None:
        """Adapters may cut a list into several requests; the order is that of the list all the same."""
        values = [str(n).encode() for n in range(10_000)]
        bus.append(partitions[1], values)
        assert [record.value for record in drain(bus.reader({partitions[1]: BEFORE_ALL}), 10_000)] == values

    def test_appending_nothing_appends_nothing(self, bus: Bus, partitions: list[Partition]) -> None:
        """A router with nothing to say to a shard must not wake it with an empty record."""
        bus.append(partitions[0], [])
        assert bus.ends(partitions[:1]) == {partitions[0]: BEFORE_ALL}

    def test_readers_are_independent_and_reading_removes_nothing(self, bus: Bus, partitions: list[Partition]) -> None:
        """Every lane and the joiner read the same mirror, each at its own pace."""
        bus.append(partitions[0], [b"a", b"b"])
        first, second = bus.reader({partitions[0]: BEFORE_ALL}), bus.reader({partitions[0]: BEFORE_ALL})
        assert [record.value for record in drain(first, 2)] == [b"a", b"b"]
        assert [record.value for record in drain(second, 2)] == [b"a", b"b"]

    def test_a_reader_goes_on_after_the_position_it_is_given(self, bus: Bus, partitions: list[Partition]) -> None:
        """Positions live in the store beside their effects: a restart must neither skip nor repeat."""
        bus.append(partitions[0], [b"a", b"b", b"c"])
        records = drain(bus.reader({partitions[0]: BEFORE_ALL}), 3)
        assert [r.value for r in drain(bus.reader({partitions[0]: records[0].position}), 2)] == [b"b", b"c"]
        assert list(bus.reader({partitions[0]: records[2].position}).read(limit=10, wait_s=0.05)) == []

    def test_a_reader_takes_at_most_its_limit_and_forgets_nothing_beyond_it(self, bus: Bus, partitions: list[Partition]) -> None:
        """The limit bounds a step's work over all partitions; what did not fit comes next."""
        for n, partition in enumerate(partitions):
            bus.append(partition, [f"{n}{i}".encode() for i in range(20)])
        reader, found = bus.reader(dict.fromkeys(partitions, BEFORE_ALL)), list[Record]()
        while len(found) < 60 and (new := reader.read(limit=7, wait_s=WAIT_S)):
            assert len(new) <= 7
            found += new
        for n, partition in enumerate(partitions):
            assert [r.value for r in found if r.partition == partition] == [f"{n}{i}".encode() for i in range(20)]

    def test_a_full_partition_does_not_starve_another(self, bus: Bus, partitions: list[Partition]) -> None:
        """A source with a backlog must not keep the others' record time from moving."""
        bus.append(partitions[0], [b"x"] * 50)
        reader = bus.reader(dict.fromkeys(partitions, BEFORE_ALL))
        first = reader.read(limit=1, wait_s=WAIT_S)
        bus.append(partitions[2], [b"y"])
        assert [record.value for record in first] == [b"x"]
        assert b"y" in [record.value for _ in range(20) for record in reader.read(limit=1, wait_s=WAIT_S)]

    def test_seeking_back_reads_again(self, bus: Bus, partitions: list[Partition]) -> None:
        """A joiner whose write was refused loads its head and reads both logs from there."""
        bus.append(partitions[0], [b"a", b"b"])
        reader = bus.reader({partitions[0]: BEFORE_ALL})
        records = drain(reader, 2)
        reader.seek(partitions[0], records[0].position)
        assert [record.value for record in drain(reader, 1)] == [b"b"]
        reader.seek(partitions[0], BEFORE_ALL)
        assert [record.value for record in drain(reader, 2)] == [b"a", b"b"]

    def test_a_reader_waits_for_the_first_record_and_no_longer(self, bus: Bus, partitions: list[Partition]) -> None:
        """Waiting is what makes an idle role cheap; a record must end it at once, and its end must come without one."""
        reader = bus.reader(dict.fromkeys(partitions, BEFORE_ALL))
        started = time.monotonic()
        assert list(reader.read(limit=10, wait_s=0.0)) == [] and list(reader.read(limit=10, wait_s=0.05)) == []
        later = threading.Timer(0.1, lambda: bus.append(partitions[1], [b"now"]))
        later.start()
        records = drain(reader, 1)
        later.join()
        assert [record.value for record in records] == [b"now"]
        assert time.monotonic() - started < WAIT_S

    def test_ends_are_the_last_positions_whatever_was_trimmed(self, bus: Bus, partitions: list[Partition]) -> None:
        """Lag is the end less the position: a trimmed log is not an empty one."""
        bus.append(partitions[0], [b"a", b"b"])
        last = drain(bus.reader({partitions[0]: BEFORE_ALL}), 2)[-1].position
        assert bus.ends(partitions[:2]) == {partitions[0]: last, partitions[1]: BEFORE_ALL}
        bus.trim(partitions[0], last)
        assert bus.ends(partitions[:1]) == {partitions[0]: last}

    def test_commits_are_kept_by_group_and_partition(self, bus: Bus, partitions: list[Partition]) -> None:
        """The slowest reader decides what may be trimmed, so that groups must not see each other's notes."""
        bus.append(partitions[0], [b"a"])
        position = bus.ends(partitions[:1])[partitions[0]]
        bus.commit("one", {partitions[0]: position})
        assert bus.committed("one", partitions) == {partitions[0]: position, partitions[1]: BEFORE_ALL, partitions[2]: BEFORE_ALL}
        assert bus.committed("two", partitions[:1]) == {partitions[0]: BEFORE_ALL}

    def test_trimming_behind_a_reader_does_not_disturb_it(self, bus: Bus, partitions: list[Partition]) -> None:
        """What everybody has read may go; the next records come as if nothing had happened."""
        bus.append(partitions[0], [b"a", b"b", b"c"])
        reader = bus.reader({partitions[0]: BEFORE_ALL})
        records = drain(reader, 3)
        bus.trim(partitions[0], records[2].position)
        assert list(reader.read(limit=10, wait_s=0.0)) == []
        bus.append(partitions[0], [b"d"])
        assert [record.value for record in drain(reader, 1)] == [b"d"]
        assert [record.value for record in drain(bus.reader({partitions[0]: records[2].position}), 1)] == [b"d"]


class TrimmingBusContract(BusContract):
    """For a bus whose `trim` takes effect at once."""

    def test_records_trimmed_before_they_were_read_are_an_overrun(self, bus: Bus, partitions: list[Partition]) -> None:
        """Silence would be a loss nobody counts; a reader from the start takes the first record there is."""
        bus.append(partitions[0], [b"a", b"b", b"c", b"d"])
        positions = [record.position for record in drain(bus.reader({partitions[0]: BEFORE_ALL}), 4)]
        bus.trim(partitions[0], positions[2])
        with pytest.raises(Overrun):
            bus.reader({partitions[0]: positions[0]}).read(limit=10, wait_s=0.0)
        assert [record.value for record in drain(bus.reader({partitions[0]: positions[2]}), 1)] == [b"d"]
        assert [record.value for record in drain(bus.reader({partitions[0]: BEFORE_ALL}), 1)] == [b"d"]
