"""The Kafka bus keeps the contract, on a real broker."""

from __future__ import annotations

import pytest

from harness.adapters.kafka.bus import KafkaBus
from harness.ports.bus import BEFORE_ALL
from harness.testing.contracts import BusContract


class KafkaContract(BusContract):
    """What both clients keep."""

    def test_a_full_partition_does_not_starve_another(self, bus, partitions):
        """The same promise over a backlog that takes longer to read than a fetch: records that were fetched already are handed out without
        asking the broker again, so that here a number of reads is no measure.
        """
        backlog = 20_000
        bus.append(partitions[0], [b"x"] * backlog)
        reader = bus.reader(dict.fromkeys(partitions, BEFORE_ALL))
        assert [record.value for record in reader.read(limit=1, wait_s=60.0)] == [b"x"]
        bus.append(partitions[2], [b"y"])
        reads = 1
        while b"y" not in [record.value for record in reader.read(limit=1, wait_s=60.0)]:
            reads += 1
        assert reads < backlog // 2
        reader.close()


class TestKafkaBus(KafkaContract):
    @pytest.fixture
    def bus(self, kafka_url):
        bus = KafkaBus(kafka_url)
        yield bus
        bus.close()


class TestConfluentBus(KafkaContract):
    @pytest.fixture
    def bus(self, kafka_url):
        confluent = pytest.importorskip("harness.adapters.kafka.confluent", exc_type=ImportError)
        bus = confluent.ConfluentBus(f"confluent+{kafka_url}")
        yield bus
        bus.close()
