"""The Redis adapters keep the contracts, on a real server."""

from __future__ import annotations

import pytest

from harness.adapters.redis.bus import RedisBus
from harness.adapters.redis.directory import RedisDirectory
from harness.adapters.redis.intake import RedisIntake
from harness.adapters.redis.journal import RedisJournal
from harness.adapters.redis.ledger import RedisLedger
from harness.adapters.redis.observations import RedisObservationLog
from harness.adapters.redis.pairlog import RedisPairLog
from harness.adapters.redis.presence import RedisPresence
from harness.adapters.redis.tokens import RedisTokens
from harness.core.observations import Observation
from harness.ports.observations import Observed
from harness.testing.contracts import (
    DirectoryContract,
    IntakeContract,
    JournalContract,
    LedgerContract,
    ObservationLogContract,
    PairLogContract,
    PresenceContract,
    TokensContract,
    TrimmingBusContract,
)

pytestmark = pytest.mark.usefixtures("redis_db")


class TestRedisBus(TrimmingBusContract):
    @pytest.fixture
    def bus(self, redis_url):
        return RedisBus(redis_url)


class TestRedisPairLog(PairLogContract):
    @pytest.fixture
    def pair_log(self, redis_url, layout):
        return RedisPairLog(redis_url, "sample", 3, layout=layout, keep_s=3_600.0)

    @pytest.fixture
    def again(self, redis_url, layout):
        return RedisPairLog(redis_url, "sample", 3, layout=layout, keep_s=3_600.0)


class TestRedisIntake(IntakeContract):
    @pytest.fixture
    def intake(self, redis_url):
        return RedisIntake(redis_url, "sample", keep_s=3_600.0)


class TestRedisLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, redis_url):
        return RedisLedger(redis_url, "sample", keep_s=3_600.0)


class TestRedisJournal(JournalContract):
    @pytest.fixture
    def journal(self, redis_url):
        return RedisJournal(redis_url, "sample", keep_s=3_600.0)


class TestRedisDirectory(DirectoryContract):
    @pytest.fixture
    def directory(self, redis_url):
        return RedisDirectory(redis_url)


class TestRedisPresence(PresenceContract):
    @pytest.fixture
    def presence(self, redis_url):
        return RedisPresence(redis_url, "sample")


class TestRedisObservationLog(ObservationLogContract):
    @pytest.fixture
    def observations(self, redis_url):
        return RedisObservationLog(redis_url, "sample", keep_s=3_600.0)

    def test_sources_of_a_store_that_lists_none_are_found_by_their_keys(self, observations, redis_db):
        """An older release kept no list; nobody's exposures are left out of what is sealed or forgotten."""
        seen = Observed(position=0, arrived=5)
        observations.append("exposures/1", [Observation(b"k" * 14, 7, 5, 1.0, 1.0)], seen, after=Observed())
        assert redis_db.delete("shadow:{sample}:obs:sources") == 1
        assert observations.sources() == ["exposures/1"]


class TestRedisTokens(TokensContract):
    @pytest.fixture
    def tokens(self, redis_url):
        return RedisTokens(redis_url)
