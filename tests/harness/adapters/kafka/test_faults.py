"""What becomes of appends and reads when Kafka goes away and comes back, and when a log loses what was not read yet."""

from __future__ import annotations

import threading
import time
from itertools import groupby

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition
from patience import until

from harness.adapters.kafka.bus import KafkaBus
from harness.core.errors import BusUnavailable, Overrun
from harness.ports.bus import BEFORE_ALL, Partition
from harness.wiring import open_bus

WAIT_S = 60.0  # a record ends it at once
FINISH_S = 240.0


@pytest.fixture(params=["kafka", "confluent+kafka"])
def bus(request, kafka_broker):
    if request.param.startswith("confluent"):
        pytest.importorskip("confluent_kafka")
    bus = open_bus(f"{request.param}://{kafka_broker.address}")
    yield bus
    bus.close()


@pytest.fixture
def admin(kafka_broker):
    with KafkaAdminClient(bootstrap_servers=kafka_broker.address) as client:
        yield client


@pytest.fixture
def partition(bus):
    topic = f"t{time.time_ns()}"
    at_last(lambda: bus.ensure(topic, 1))
    return Partition(topic, 0)


def read_all(reader, n):
    """Reads until `n` records came; reads again after BusUnavailable, as a role does."""
    found, deadline = [], time.monotonic() + FINISH_S
    while len(found) < n and time.monotonic() < deadline:
        try:
            new = reader.read(limit=1_000, wait_s=WAIT_S)
        except BusUnavailable:
            continue
        found += new
    return found


def at_last(do):
    """Does it, again after BusUnavailable, as a role does: a cluster takes a while to give up a broker that is gone, and a client that
    is made impatient gives up one that is only slow."""
    deadline = time.monotonic() + FINISH_S
    while True:
        try:
            return do()
        except BusUnavailable:
            if time.monotonic() > deadline:
                raise


def append_at_last(bus, partition, value):
    """Appends it, however long that takes."""
    at_last(lambda: bus.append(partition, [value]))


class Writer(threading.Thread):
    """Appends 0, 1, 2, ... one batch of ten after the other, each again until it is acknowledged; at half of them it waits until it
    may go on, so that what is to befall it comes in the middle."""

    def __init__(self, bus, partition, n):
        super().__init__()
        self._bus, self._partition, self._n = bus, partition, n
        self.acknowledged, self.failures = 0, 0
        self.may_go_on = threading.Event()

    def run(self):
        deadline = time.monotonic() + FINISH_S
        while self.acknowledged < self._n and time.monotonic() < deadline:
            if self.acknowledged >= self._n // 2:
                self.may_go_on.wait(FINISH_S)
            batch = [str(n).encode() for n in range(self.acknowledged, self.acknowledged + 10)]
            try:
                self._bus.append(self._partition, batch)
                self.acknowledged += 10
                time.sleep(0.005)
            except BusUnavailable:
                self.failures += 1


def assert_whole(values, n):
    """Every number is there, and they only ever go back to repeat the batch that was under way: a missing suffix, then again from there."""
    numbers = [int(value) for value in values]
    assert sorted(set(numbers)) == list(range(n))
    first_seen = list(dict.fromkeys(numbers))
    assert first_seen == sorted(first_seen)
    batches = [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    assert all(run[0] % 10 == 0 and run[-1] % 10 == 9 for run in batches)


def disturb(bus, partition, n, disturbance):
    """Appends and reads at once while something happens; returns the values read."""
    writer, found = Writer(bus, partition, n), []
    reader = bus.reader({partition: BEFORE_ALL})
    taking = threading.Thread(target=lambda: found.extend(read_all(reader, n)))
    writer.start()
    taking.start()
    while writer.acknowledged < n // 5 and writer.is_alive():
        time.sleep(0.005)
    before = writer.acknowledged
    writer.may_go_on.set()
    disturbance()
    writer.join(FINISH_S)
    taking.join(FINISH_S)
    reader.close()
    assert 0 < before < n, "the disturbance must come in the middle"
    assert writer.acknowledged == n
    return [record.value for record in found]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_that_restarts_loses_nothing_and_keeps_the_order(bus, partition, kafka_broker, how):
    """Brokers are restarted for every update, and some die: roles must wait for them and go on, whatever was under way."""

    def restart():
        getattr(kafka_broker, how)()
        kafka_broker.start()
        kafka_broker.wait()

    assert_whole(disturb(bus, partition, 2_000, restart), 2_000)


@pytest.mark.slow
def test_a_cluster_that_loses_a_broker_goes_on(kafka_cluster):
    """With three replicas and two in sync each acknowledged record is on a broker that still runs, whichever one dies."""
    bus, partition = KafkaBus(kafka_cluster.url), Partition("survives", 0)
    bus.ensure(partition.topic, 1)
    bus.commit("group", {partition: 0})
    with KafkaAdminClient(bootstrap_servers=kafka_cluster.brokers[0].address) as client:
        leader = client.describe_topics([partition.topic])[0]["partitions"][0]["leader_id"]
    values = disturb(bus, partition, 2_000, kafka_cluster.brokers[leader - 1].kill)
    assert_whole(values, 2_000)
    assert bus.ends([partition])[partition] == len(values) - 1
    bus.commit("group", {partition: 7})
    assert bus.committed("group", [partition]) == {partition: 7}
    bus.close()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_a_write_that_too_few_brokers_hold_is_not_acknowledged(kafka_cluster):
    """Durable on return: one broker alone could be the next to go, so that the router has to wait and send again."""
    bus, partition = KafkaBus(kafka_cluster.url), Partition("alone", 0)
    for broker in kafka_cluster.brokers:
        if broker.ended:
            broker.start()
            broker.wait()
    at_last(lambda: bus.ensure(partition.topic, 1))
    with KafkaAdminClient(bootstrap_servers=kafka_cluster.brokers[0].address) as client:
        leader = client.describe_topics([partition.topic])[0]["partitions"][0]["leader_id"]
    others = [broker for n, broker in enumerate(kafka_cluster.brokers, 1) if n != leader]
    others[0].kill()
    append_at_last(bus, partition, b"held by two")
    others[1].kill()
    with pytest.raises(BusUnavailable):
        bus.append(partition, [b"held by one"])
    bus.close()


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
def test_no_answer_from_kafka_is_unavailable_and_not_an_empty_log(bus, partition, kafka_broker):
    """A role that hears `nothing new` from a broker that is gone would call itself idle and ready."""
    append_at_last(bus, partition, b"a")
    reader = bus.reader({partition: BEFORE_ALL})
    assert {record.value for record in read_all(reader, 1)} == {b"a"}
    kafka_broker.stop()
    try:
        deadline = time.monotonic() + FINISH_S
        with pytest.raises(BusUnavailable, match="kafka://"):
            while time.monotonic() < deadline:
                reader.read(limit=10, wait_s=0.5)
        for ask in (lambda: bus.ends([partition]), lambda: bus.reader({partition: 0}).read(limit=1, wait_s=0.0)):
            with pytest.raises(BusUnavailable, match="kafka://"):
                ask()
        running = threading.active_count()
        for _ in range(3):
            with pytest.raises(BusUnavailable):
                bus.reader({partition: 0}).read(limit=1, wait_s=0.0)
        assert threading.active_count() <= running + 1, "who tries again for hours must not gather threads"
    finally:
        kafka_broker.start()
        kafka_broker.wait()
    append_at_last(bus, partition, b"b")
    until(lambda: b"b" in [record.value for record in read_all(reader, 1)])
    reader.close()


# ------------------------------------------------------------------------------------------------------------ records that are gone
def remove(admin, partition, before):
    """What retention does, at once."""
    admin.delete_records({TopicPartition(partition.topic, partition.number): before})


def test_records_removed_before_they_were_read_are_an_overrun(bus, partition, admin):
    """Silence would be a loss nobody counts: kafka-python alone would go on at the newest record."""
    bus.append(partition, [b"a", b"b", b"c", b"d"])
    reader = bus.reader({partition: 0})
    remove(admin, partition, 3)
    for _ in range(2):  # and it stays one until the reader is sent elsewhere
        with pytest.raises(Overrun, match=f"{partition.topic}/0"):
            reader.read(limit=10, wait_s=0.0)
    reader.seek(partition, BEFORE_ALL)
    assert [record.value for record in reader.read(limit=10, wait_s=WAIT_S)] == [b"d"]
    after_all = bus.reader({partition: 2})
    assert [record.value for record in after_all.read(limit=10, wait_s=WAIT_S)] == [b"d"]


def test_records_removed_while_a_reader_is_behind_are_an_overrun(bus, partition, admin):
    """Retention overtakes a role that was slow, also when it has been reading all the time."""
    bus.append(partition, [b"a"])
    reader = bus.reader({partition: BEFORE_ALL})
    assert len(reader.read(limit=10, wait_s=WAIT_S)) == 1
    bus.append(partition, [b"x" * 500_000] * 40)  # more than a reader reads ahead
    remove(admin, partition, 41)
    bus.append(partition, [b"z"])
    found = []
    with pytest.raises(Overrun, match=f"{partition.topic}/0"):
        while len(found) < 41 and (new := reader.read(limit=100, wait_s=WAIT_S)):  # what fetches under way have brought is still read
            found += [(record.position, record.value) for record in new]
    assert found == [(n + 1, b"x" * 500_000) for n in range(len(found))] and len(found) < 40


def test_a_topic_made_anew_is_an_overrun(bus, partition, admin):
    """Its offsets start over: going on at the old one would pass for an empty log until it has grown as long as the old one."""
    bus.append(partition, [b"a"] * 20)
    admin.delete_topics([partition.topic])
    until(lambda: partition.topic not in admin.list_topics())
    bus.ensure(partition.topic, 1)
    bus.append(partition, [b"b"])
    reader = bus.reader({partition: 19})
    with pytest.raises(Overrun, match="gone"):
        reader.read(limit=10, wait_s=0.0)
    reader.seek(partition, BEFORE_ALL)
    assert [record.value for record in reader.read(limit=10, wait_s=WAIT_S)] == [b"b"]


def test_a_log_that_starts_late_and_is_empty_ends_where_it_ended(bus, partition, admin):
    """An end of BEFORE_ALL would say that nothing ever came, and lag would be wrong by all that did."""
    bus.append(partition, [b"a", b"b", b"c"])
    remove(admin, partition, 3)
    assert bus.ends([partition]) == {partition: 2}
    reader = bus.reader({partition: BEFORE_ALL})
    assert list(reader.read(limit=10, wait_s=0.0)) == []
    bus.append(partition, [b"d"])
    assert [(record.position, record.value) for record in reader.read(limit=10, wait_s=WAIT_S)] == [(3, b"d")]


def test_what_a_transaction_took_back_is_never_read(bus, partition, kafka_broker):
    """A producer that aborts has not sent an event; and its markers must not be taken for records that are missing."""
    producer = KafkaProducer(bootstrap_servers=kafka_broker.address, transactional_id=f"{partition.topic}-producer")
    producer.init_transactions()
    commit, abort = producer.commit_transaction, producer.abort_transaction
    for value, end in ((b"kept", commit), (b"taken back", abort), (b"too", commit)):
        producer.begin_transaction()
        producer.send(partition.topic, value=value, partition=0)
        end()
    producer.close()
    reader = bus.reader({partition: BEFORE_ALL})
    assert [record.value for record in read_all(reader, 2)] == [b"kept", b"too"]
