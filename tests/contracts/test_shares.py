"""Shares of work: the double and Redis keep one contract."""

from __future__ import annotations

import pytest

from harness.adapters.redis.shares import RedisShares
from harness.testing.contracts.shares import SharesContract
from harness.testing.doubles import MemoryShares


class TestMemoryShares(SharesContract):
    @pytest.fixture
    def shares(self):
        return MemoryShares()


@pytest.mark.usefixtures("redis_db")
class TestRedisShares(SharesContract):
    @pytest.fixture
    def shares(self, redis_url):
        return RedisShares(redis_url, "sample")
