"""Plain ids: the double and Redis keep one contract, and in Redis each has a time to live."""

from __future__ import annotations

import pytest

from harness.adapters.redis.plainids import RedisPlainIds
from harness.testing.contracts.plainids import TEN, PlainIdsContract
from harness.testing.plainids import MemoryPlainIds


class TestMemoryPlainIds(PlainIdsContract):
    @pytest.fixture
    def plain_ids(self):
        return MemoryPlainIds()

    @pytest.fixture
    def again(self, plain_ids):
        return plain_ids


@pytest.mark.usefixtures("redis_db")
class TestRedisPlainIds(PlainIdsContract):
    @pytest.fixture
    def plain_ids(self, redis_url):
        return RedisPlainIds(redis_url, "sample", 0, keep_s=60.0)

    @pytest.fixture
    def again(self, redis_url):
        return RedisPlainIds(redis_url, "sample", 0, keep_s=60.0)


def test_every_id_has_the_life_of_the_rows_and_its_shard_alone(redis_db, redis_url):
    """They go by themselves, and are beside the rows of their shard on one node of a cluster."""
    RedisPlainIds(redis_url, "sample", 3, keep_s=60.0).keep(TEN)
    keys = redis_db.keys("*")
    assert sorted(keys) == [b"shadow:{sample:3}:plain:%d" % chunk for chunk in range(4)]
    assert all(0 < redis_db.pttl(key) <= 60_000 for key in keys)
    assert RedisPlainIds(redis_url, "sample", 0, keep_s=60.0).between(0, 1_000) == {}
