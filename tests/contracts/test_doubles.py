"""The in-memory doubles keep the contracts that they stand in for."""

from __future__ import annotations

import pytest

from harness.testing import doubles
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
from harness.testing.tokens import MemoryTokens


class TestMemoryBus(TrimmingBusContract):
    @pytest.fixture
    def bus(self):
        return doubles.MemoryBus()


class TestMemoryPairLog(PairLogContract):
    @pytest.fixture
    def pair_log(self, layout):
        return doubles.MemoryPairLog(layout)

    @pytest.fixture
    def again(self, pair_log):
        return pair_log


class TestMemoryIntake(IntakeContract):
    @pytest.fixture
    def intake(self):
        return doubles.MemoryIntake()


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self):
        return doubles.MemoryLedger()


class TestMemoryJournal(JournalContract):
    @pytest.fixture
    def journal(self):
        return doubles.MemoryJournal()


class TestMemoryDirectory(DirectoryContract):
    @pytest.fixture
    def directory(self):
        return doubles.MemoryDirectory()


class TestMemoryPresence(PresenceContract):
    @pytest.fixture
    def presence(self):
        return doubles.MemoryPresence()


class TestMemoryObservationLog(ObservationLogContract):
    @pytest.fixture
    def observations(self):
        return doubles.MemoryObservationLog()


class TestMemoryTokens(TokensContract):
    @pytest.fixture
    def tokens(self):
        return MemoryTokens()
