"""Contract suites: a class a port. Subclass one, give it the fixture it names, and run it with pytest."""

from __future__ import annotations

from harness.testing.contracts.bus import BusContract, TrimmingBusContract
from harness.testing.contracts.pairlog import PairLogContract
from harness.testing.contracts.presence import PresenceContract
from harness.testing.contracts.records import DirectoryContract, IntakeContract, JournalContract, LedgerContract, ObservationLogContract
from harness.testing.contracts.seats import SeatsContract
from harness.testing.contracts.tokens import TokensContract

__all__ = [
    "BusContract",
    "DirectoryContract",
    "IntakeContract",
    "JournalContract",
    "LedgerContract",
    "ObservationLogContract",
    "PairLogContract",
    "PresenceContract",
    "SeatsContract",
    "TokensContract",
    "TrimmingBusContract",
]
