"""The seat of a family: the double and Redis keep one contract."""

from __future__ import annotations

import pytest

from harness.adapters.redis.seats import RedisSeats
from harness.ports.seats import Seat
from harness.testing.contracts.seats import FAST, SeatsContract
from harness.testing.seats import MemorySeats


class TestMemorySeats(SeatsContract):
    @pytest.fixture
    def seats(self):
        return MemorySeats()


@pytest.mark.usefixtures("redis_db")
class TestRedisSeats(SeatsContract):
    @pytest.fixture
    def seats(self, redis_url):
        return RedisSeats(redis_url, "sample", keep_s=100.0)

    def test_it_expires_with_the_chains_of_its_challengers(self, seats, redis_db):
        """Nobody cleans up behind a family that was switched off."""
        seats.save(FAST, after=Seat())
        assert [key.decode() for key in redis_db.keys("*")] == ["shadow:{sample}:seat"]
        assert 90_000 < redis_db.pttl("shadow:{sample}:seat") <= 100_000
