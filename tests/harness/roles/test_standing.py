"""Where a rollout stands, read from its chain: only what is new, and nothing from a chain that does not hold together."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import RecordError
from harness.core.records import Author, body, digest
from harness.core.stages import Standing
from harness.ports.journal import ROOT, Link
from harness.roles.standing import Follower
from harness.testing.doubles import MemoryJournal


def record(kind: str, **more: Any) -> bytes:
    return body(kind, rollout="r", at=0, by=Author(name="ada", via="test"), reason="because", **more)


def chain_of(*bodies: bytes) -> MemoryJournal:
    found = MemoryJournal()
    for each in bodies:
        found.append(each, after=found.read()[-1].hash if found.read() else ROOT)
    return found


def test_each_call_reads_what_is_new(monkeypatch: pytest.MonkeyPatch):
    """And gives what a fold of the whole chain gives."""
    journal = chain_of(record("registered"))
    follower, starts = Follower(journal), []
    read = journal.read
    monkeypatch.setattr(journal, "read", lambda start=0: starts.append(start) or read(start))
    assert follower.now().standing is Standing.RUNNING
    journal.append(record("paused"), after=read()[-1].hash)
    assert follower.now().standing is Standing.PAUSED
    assert follower.now() == Follower(journal).now()
    assert starts == [0, 1, 2, 0]


@pytest.mark.parametrize("damage", ["edited", "unlinked", "not JSON", "lacking", "out of order"])
def test_a_chain_that_does_not_hold_together_is_refused_however_it_was_damaged(damage: str):
    """At the start, and behind records that were read before."""
    bad = {
        "edited": lambda head: Link(hash=digest(head, record("paused")), previous=head, body=record("resumed")),
        "unlinked": lambda head: Link(hash=digest(ROOT, record("paused")), previous=ROOT, body=record("paused")),
        "not JSON": lambda head: Link(hash=digest(head, b"{"), previous=head, body=b"{"),
        "lacking": lambda head: Link(hash=digest(head, b'{"kind":"entered"}'), previous=head, body=b'{"kind":"entered"}'),
        "out of order": lambda head: Link(hash=digest(head, record("resumed")), previous=head, body=record("resumed")),
    }[damage]
    journal = chain_of(record("registered"))
    behind = Follower(journal)
    behind.now()
    journal._links.append(bad(journal.read()[-1].hash))
    for follower in (behind, Follower(journal)):
        with pytest.raises(RecordError, match="the chain is damaged"):
            follower.now()
