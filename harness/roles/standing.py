"""Follows the journal of a rollout: where it stands now. Each call reads only the records that are new."""

from __future__ import annotations

from harness.core.errors import RecordError
from harness.core.records import parse
from harness.core.stages import State, folded
from harness.ports.journal import Journal


class Follower:
    """One reader's view of a journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._state = State()

    def now(self) -> State:
        """The state after every record there is. Raises RecordError when the chain is damaged; StoreUnavailable."""
        links = self._journal.read(self._state.n_records)
        if links and self._state.n_records and links[0].previous != self._state.head:
            raise RecordError(f"record {self._state.n_records} does not follow the one before; the chain is damaged")
        self._state = folded([(parse(link.body), link.hash) for link in links], self._state)
        return self._state
