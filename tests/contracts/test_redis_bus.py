"""What the Redis bus does beyond the contract: records and trims of others, servers that are away, addresses that are wrong."""

from __future__ import annotations

import subprocess

import pytest
from patience import until
from ports import free_port

from harness.adapters.redis.bus import RedisBus, id_of, position_of
from harness.adapters.redis.connection import MOST_BLOCK_S, connect, translated
from harness.adapters.redis.directory import RedisDirectory
from harness.core.errors import BusUnavailable, Overrun, StoreFull, StoreUnavailable, UsageError
from harness.ports.bus import BEFORE_ALL, Partition

FIRST, SECOND_ONE = Partition("age.events", 0), Partition("age.events", 1)


@pytest.fixture
def bus(redis_db, redis_url):
    return RedisBus(redis_url)


def read(reader, n=100):
    return [record.value for record in reader.read(limit=n, wait_s=0.0)]


def test_anybody_can_write_an_event_with_one_command(bus, redis_db):
    """A producer needs no client of ours: XADD to the topic's own name, partition p > 0 behind a colon."""
    redis_db.xadd("age.events", {"value": b'{"id": "a"}', "other": "x"})
    redis_db.xadd("age.events", {"payload": "no value"})
    redis_db.xadd("age.events:1", {"value": "b"})
    assert bus.ensure("age.events", 2) == 2
    reader = bus.reader({FIRST: BEFORE_ALL, SECOND_ONE: BEFORE_ALL})
    assert sorted(read(reader)) == [b"", b"b", b'{"id": "a"}']


def test_positions_are_stream_ids_in_one_integer(bus, redis_db):
    """They sort like the IDs and can be turned back; the milliseconds are the record's time."""
    redis_db.xadd("age.events", {"value": "x"}, id="1700000000123-7")
    (record,) = bus.reader({FIRST: BEFORE_ALL}).read(limit=1, wait_s=0.0)
    assert (record.position, record.time) == ((1_700_000_000_123 << 20) + 7, 1_700_000_000_123_000)
    assert id_of(record.position) == "1700000000123-7" and id_of(BEFORE_ALL) == "0-0"
    assert position_of(b"1-1048575") < position_of(b"2-0")
    with pytest.raises(UsageError):
        position_of(b"1-1048576")


def test_a_trim_by_others_that_may_have_taken_unread_records_is_an_overrun(bus, redis_db):
    """MAXLEN on a topic of others is normal; that it was shorter than our lag must not stay unseen."""
    ids = [redis_db.xadd("age.events", {"value": str(n)}) for n in range(10)]
    reader = bus.reader({FIRST: BEFORE_ALL})
    assert read(reader, 5) == [b"0", b"1", b"2", b"3", b"4"]
    redis_db.xtrim("age.events", maxlen=6, approximate=False)  # up to 3: nothing unread is gone
    assert read(reader, 1) == [b"5"]
    redis_db.xtrim("age.events", maxlen=2, approximate=False)
    with pytest.raises(Overrun):
        read(reader)
    reader.seek(FIRST, BEFORE_ALL)
    assert read(reader) == [b"8", b"9"]
    redis_db.xtrim("age.events", maxlen=0, approximate=False)
    assert read(reader) == [] and bus.ends([FIRST]) == {FIRST: position_of(ids[-1])}
    redis_db.delete("age.events")
    redis_db.xadd("age.events", {"value": "anew"})
    with pytest.raises(Overrun):
        read(reader)


def test_our_own_trim_is_told_from_one_by_others(bus, redis_db):
    """Behind our own trim nothing is guessed: a reader just before the first record left has missed nothing."""
    bus.append(FIRST, [b"a", b"b", b"c"])
    a, b, _ = [record.position for record in bus.reader({FIRST: BEFORE_ALL}).read(limit=3, wait_s=0.0)]
    bus.trim(FIRST, b - 1)
    assert read(bus.reader({FIRST: a})) == [b"b", b"c"]
    bus.trim(FIRST, b)
    bus.trim(FIRST, b)
    assert read(bus.reader({FIRST: b})) == [b"c"]
    with pytest.raises(Overrun):
        read(bus.reader({FIRST: a}))


def test_a_bus_without_memory_refuses_records_whole_and_can_be_read_and_trimmed(bus, redis_db):
    """A router waits and sends again; the joiner must go on reading and trimming, or there would never be room again."""
    bus.append(FIRST, [b"a", b"b", b"c"])
    reader = bus.reader({FIRST: BEFORE_ALL})
    redis_db.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreFull):
            bus.append(FIRST, [b"d", b"e"])
        records = reader.read(limit=2, wait_s=0.0)
        bus.trim(FIRST, records[1].position)
        assert (read(reader), redis_db.xlen("age.events")) == ([b"c"], 1)
        with pytest.raises(Overrun):
            read(bus.reader({FIRST: records[0].position}))
    finally:
        redis_db.config_set("maxmemory", "0")
    bus.append(FIRST, [b"d", b"e"])
    assert read(reader) == [b"d", b"e"]


def test_a_reader_that_waits_does_not_outwait_its_socket(redis_url):
    """The longest block inside Redis is shorter than the socket's timeout, or every idle read would be an error."""
    assert connect(redis_url).connection_pool.connection_kwargs["socket_timeout"] > MOST_BLOCK_S


def test_a_server_that_is_away_is_unavailable_and_comes_back(tmp_path):
    """A restart of Redis is waited for; readers and appends go on with the connection they find."""
    port = free_port()
    url = f"redis://:hunter2@127.0.0.1:{port}/0"
    bus = RedisBus(url)
    reader = bus.reader({FIRST: BEFORE_ALL})
    for call in (lambda: bus.append(FIRST, [b"x"]), lambda: read(reader), lambda: bus.ends([FIRST])):
        with pytest.raises(BusUnavailable) as caught:
            call()
        assert caught.value.retriable and "hunter2" not in str(caught.value) and str(port) in str(caught.value)
    with pytest.raises(StoreUnavailable):
        RedisDirectory(url).all()
    for _ in range(2):
        with _server(tmp_path, port):
            until(lambda: appended(bus, b"x"))
            reader.seek(FIRST, BEFORE_ALL)
            assert read(reader) == [b"x"]


def appended(bus, value):
    """Whether the bus took it."""
    try:
        bus.append(FIRST, [value])
    except BusUnavailable:
        return False
    return True


class _server:
    """A Redis on a port, with a password, for the length of a block."""

    def __init__(self, folder, port):
        self.settings = ["--port", str(port), "--dir", str(folder), "--save", "", "--requirepass", "hunter2", "--bind", "127.0.0.1"]

    def __enter__(self):
        from harness.adapters.redis.server import find_redis_server

        self.process = subprocess.Popen([find_redis_server(), *self.settings], stdout=subprocess.DEVNULL)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


@pytest.mark.parametrize(
    "url", ["kafka://host:1", "redis://host:port", "redis://host:70000", "redis://[::1", "unix://", "localhost:6379", ""]
)
def test_an_address_that_cannot_be_used_says_what_one_looks_like(url):
    """A typing error must not be retried for ever."""
    with pytest.raises(UsageError, match="redis://host:port/db"):
        connect(url)


def test_a_wrong_password_is_wrong_use_and_never_shown(redis_url, redis_db):
    """It stands in the address; messages go to logs and tickets."""
    url = redis_url.replace("redis://", "redis://somebody:hunter2@")
    with pytest.raises(UsageError) as caught:
        RedisBus(url).ensure("t")
    assert "hunter2" not in str(caught.value) and "password" in str(caught.value)
    with pytest.raises(UsageError) as caught:
        connect("redis://user:hunter2@host:port")
    assert "hunter2" not in str(caught.value)


def test_a_refusal_repeats_no_argument(redis_url, redis_db):
    """Redis puts the arguments of a command it does not know into its error."""
    with pytest.raises(UsageError) as caught, translated("here"):
        redis_db.execute_command("NO_SUCH_COMMAND", "alice@example.org")
    assert "alice" not in str(caught.value) and caught.value.__suppress_context__


def test_a_topic_has_one_partition_or_more(bus):
    """Zero partitions would swallow every record."""
    with pytest.raises(UsageError):
        bus.ensure("none", 0)
