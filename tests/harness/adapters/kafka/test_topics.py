"""Topics: what they are created with, which ones are refused, and what fits into them."""

from __future__ import annotations

import time

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from patience import tried

from harness.adapters.kafka.bus import BATCH_BYTES, RECORD_BYTES, KafkaBus, batches
from harness.core.errors import UsageError
from harness.ports.bus import BEFORE_ALL, Partition
from harness.wiring import open_bus

WAIT_S = 60.0  # a record ends it at once
HOUR_MS = 3_600_000


@pytest.fixture
def bus(kafka_url):
    bus = KafkaBus(kafka_url)
    yield bus
    bus.close()


@pytest.fixture
def admin(kafka_url):
    with KafkaAdminClient(bootstrap_servers=kafka_url.removeprefix("kafka://")) as client:
        yield client


@pytest.fixture
def topic():
    return f"t{time.time_ns()}"


def settings_of(admin, topic):
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")["topic"][topic]
    return {name: config["value"] for name, config in found.items()}


def test_a_url_with_its_scheme_opens_the_bus(kafka_url, topic):
    """`--bus kafka://...` is all that changes between a laptop and a fleet."""
    assert open_bus(kafka_url).ensure(topic) == 1


def test_topics_of_a_rollout_keep_records_a_week_and_take_large_ones(bus, admin, topic):
    """Who was down over a long weekend must find what came meanwhile, and one event may be larger than a frame."""
    bus.ensure(topic, 3)
    found = settings_of(admin, topic)
    assert (found["cleanup.policy"], found["retention.ms"], found["retention.bytes"]) == ("delete", str(7 * 24 * HOUR_MS), "-1")
    assert (found["message.timestamp.type"], found["max.message.bytes"]) == ("LogAppendTime", str(16 << 20))
    large = b"x" * (10 << 20)
    bus.append(Partition(topic, 1), [b"before", large, b"after"])
    reader = bus.reader({Partition(topic, 1): BEFORE_ALL})
    found = []
    while len(found) < 3 and (new := reader.read(limit=10, wait_s=WAIT_S)):
        found += [record.value for record in new]
    assert found == [b"before", large, b"after"]


def test_retention_and_replication_are_for_the_address_to_say(kafka_url, admin, topic):
    """A team may not keep payloads on a bus for a week; and what needs two of three brokers must say so in the topic."""
    bus = KafkaBus(f"{kafka_url}?retention_h=24")
    bus.ensure(topic, 1)
    assert settings_of(admin, topic)["retention.ms"] == str(24 * HOUR_MS)
    with pytest.raises(UsageError, match="replication"):
        KafkaBus(f"{kafka_url}?replication=9").ensure(topic + "x", 1)


def test_a_source_topic_that_is_missing_is_created_with_one_partition_and_the_cluster_s_retention(bus, admin, topic):
    """Whose events they are says how long they are kept; a first rollout must still start before its first event."""
    assert bus.ensure(topic) == 1
    modified = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])["topic"][topic]
    assert "retention.ms" not in modified


def test_another_number_of_partitions_is_refused_with_both_numbers(bus, admin, topic):
    """Shards are fixed for good: a rollout on fewer or more would look for events in places where none are."""
    admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
    assert bus.ensure(topic) == 3
    with pytest.raises(UsageError, match="has 3 partitions, not 4"):
        bus.ensure(topic, 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"cleanup.policy": "compact"}, "cleanup.policy=delete"), ({"retention.ms": "60000"}, "retention.ms to 3600000")],
)
def test_a_topic_of_ours_that_would_lose_records_is_refused(settings, words, bus, admin, topic):
    """Made by hand from another one's template, it would take frames for an hour and then drop what a lane has not read."""
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1, "configs": settings}})
    with pytest.raises(UsageError, match=words):
        bus.ensure(topic, 1)
    assert bus.ensure(topic) == 1  # somebody's source is theirs to keep as they like


def test_a_record_that_its_topic_does_not_take_is_named_and_costs_no_other(bus, admin, topic):
    """Trying again would never end; and what stands before it in the list is appended, what stands behind is not."""
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    partition = Partition(topic, 0)
    with pytest.raises(UsageError, match=r"max\.message\.bytes"):
        bus.append(partition, [b"before", b"x" * (2 << 20), b"behind"])
    bus.append(partition, [b"next"])
    reader = bus.reader({partition: BEFORE_ALL})
    assert [record.value for record in reader.read(limit=10, wait_s=WAIT_S)] == [b"before", b"next"]


def test_a_name_that_kafka_takes_for_no_topic_is_refused(bus):
    """A rollout's name becomes part of a topic's; a space in it must not look like a broker that is away."""
    with pytest.raises(UsageError, match="no topic of this name"):
        bus.ensure("a topic", 1)


def test_a_record_without_a_value_is_an_empty_one(bus, topic, kafka_url):
    """Tombstones of compacted sources are invalid events, counted as such; they must not stop the router."""
    bus.ensure(topic)
    producer = KafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://"))
    producer.send(topic, key=b"k", value=None).get(timeout=WAIT_S)
    producer.close()
    reader = bus.reader({Partition(topic, 0): BEFORE_ALL})
    assert [record.value for record in reader.read(limit=10, wait_s=WAIT_S)] == [b""]


def test_a_reader_that_is_told_not_to_wait_still_finds_what_is_there(bus, topic):
    """The joiner takes an empty read for the end of a log, and names lanes as silent by it."""
    partition = Partition(topic, 0)
    bus.ensure(topic, 1)
    bus.append(partition, [str(n).encode() for n in range(5_000)])
    for start in (BEFORE_ALL, 17, 4_998):
        reader, found = bus.reader({partition: start}), []
        while new := reader.read(limit=700, wait_s=0.0):
            found += [record.position for record in new]
        assert found == list(range(start + 1, 5_000))
        reader.close()


def test_a_reader_that_waits_does_not_work(bus, topic):
    """Every idle role has readers; a busy loop in one would take a core from the models."""
    bus.ensure(topic, 1)
    reader = bus.reader({Partition(topic, 0): BEFORE_ALL})
    reader.read(limit=1, wait_s=0.1)


    def busy() -> float:
        began, worked = time.monotonic(), time.process_time()
        while time.monotonic() - began < 2.0:
            assert list(reader.read(limit=1, wait_s=0.2)) == []
        return (time.process_time() - worked) / (time.monotonic() - began)

    assert tried(busy, lambda share: share < 0.15) < 0.15


# ---------------------------------------------------------------------------------------------------------------------- batches
def test_batches_hold_every_value_in_order_and_none_too_much():
    """One batch is acknowledged or not as a whole, so that a failure never costs a value between two others."""
    values = [bytes(length) for length in (0, 10, BATCH_BYTES, 1, BATCH_BYTES // 2, BATCH_BYTES // 2, 5 * BATCH_BYTES, 3)]
    found = list(batches(values))
    assert [value for batch in found for value in batch] == values
    for batch in found:
        assert len(batch) == 1 or sum(len(value) + RECORD_BYTES for value in batch) <= BATCH_BYTES
    assert [len(batch) for batch in found] == [2, 1, 2, 1, 1, 1]
    assert list(batches([])) == []


def test_a_batch_leaves_as_one_request(bus, topic, monkeypatch):
    """The promise that only a suffix may be missing rests on it: kafka-python must never cut what we took for one batch."""
    bus.ensure(topic, 1)
    bus.append(Partition(topic, 0), [b"first"])
    accumulator, sent = bus._producer._accumulator, []
    drain = accumulator.drain
    monkeypatch.setattr(accumulator, "drain", lambda *a, **k: sent.append(drain(*a, **k)) or sent[-1])
    values = [b"x" * (n % 900) for n in range(6_000)]
    bus.append(Partition(topic, 0), values)
    drained = [batch.record_count for per_node in sent for batches_ in per_node.values() for batch in batches_]
    assert drained == [len(batch) for batch in batches(values)] and len(drained) > 2


def test_a_topic_that_keeps_records_for_less_than_the_pairing_window_is_named_with_what_it_needs(bus, topic, capsys):
    """A lane that is late by less than the window would find its events gone: of our own topics an error, of a source a warning."""
    bus.ensure(topic, 1)
    week_h = 7 * 24
    with pytest.raises(UsageError, match=rf"topic {topic}: keeps records for 168 h only.* it needs 240 h: set retention.ms to 864000000"):
        bus.ensure(topic, 1, keep_s=240 * 3_600)
    assert bus.ensure(topic, 1, keep_s=week_h * 3_600) == 1
    assert bus.ensure(topic, keep_s=240 * 3_600) == 1
    said = "".join(capsys.readouterr())
    assert "topic.short_retention" in said and topic in said and "168" in said and "240" in said
    assert bus.ensure(topic, keep_s=3_600) == 1
    assert "short_retention" not in "".join(capsys.readouterr())
