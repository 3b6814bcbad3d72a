"""Follows the journal of a rollout: where it stands now. Each call reads only the records that are new."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import RecordError
from harness.core.records import digest, parse
from harness.core.stages import State, folded
from harness.ports.journal import ROOT, Journal, Link


class Follower:
    """One reader's view of a journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._state = State()

    def now(self) -> State:
        """The state after every record there is. Raises RecordError when the chain is damaged; StoreUnavailable."""
        before = self._state  # several threads may ask: each folds from what it has read behind
        links = self._journal.read(before.n_records)
        _check(links, before)
        try:
            self._state = folded([(parse(link.body), link.hash) for link in links], before)
        except (KeyError, TypeError, AttributeError) as error:
            what = f"a record from number {before.n_records} on lacks what its kind needs ({error})"
            raise RecordError(f"{what}; the chain is damaged") from None
        return self._state


def _check(links: Sequence[Link], before: State) -> None:
    """Whether each follows the one before, and has the hash of what it says. Raises RecordError."""
    previous = before.head or ROOT
    for n, link in enumerate(links, start=before.n_records):
        if link.previous != previous:
            raise RecordError(f"record {n} does not follow the one before; the chain is damaged")
        if link.hash != digest(previous, link.body):
            raise RecordError(f"record {n} is not what its hash says; the chain is damaged")
        previous = link.hash
