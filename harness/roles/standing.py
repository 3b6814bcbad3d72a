"""Follows the journal of a rollout: where it stands now. Each call reads only the records that are new; once a second also the last one
that it knows, so that a store which was put back to an older state is noticed by whoever has seen the newer one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.core.errors import RecordError
from harness.core.records import digest, parse
from harness.core.stages import State, folded
from harness.ports.journal import ROOT, Journal, Link

CHECK_EVERY_S = 1.0


class Follower:
    """One reader's view of a journal. seconds: a clock that only runs forward."""

    def __init__(self, journal: Journal, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._journal, self._seconds = journal, seconds
        self._state = State()
        self._checked = seconds()

    def now(self) -> State:
        """The state after every record there is. Raises RecordError when the chain is damaged; StoreUnavailable."""
        before, at = self._state, self._seconds()  # several threads may ask: each folds from what it has read behind
        again = before.n_records > 0 and at - self._checked >= CHECK_EVERY_S
        links = self._journal.read(before.n_records - again)
        if again:
            if not links or links[0].hash != before.head:
                raise RecordError(f"record {before.n_records - 1} is gone: the store was put back to an older state; the chain is damaged")
            self._checked, links = at, links[1:]
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
