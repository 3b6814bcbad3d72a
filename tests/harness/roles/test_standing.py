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
    follower, starts = Follower(journal, seconds=lambda: 0.0), []
    read = journal.read
    monkeypatch.setattr(journal, "read", lambda start=0: starts.append(start) or read(start))
    assert follower.now().standing is Standing.RUNNING
    journal.append(record("paused"), after=read()[-1].hash)
    assert follower.now().standing is Standing.PAUSED
    assert follower.now() == Follower(journal).now()
    assert starts == [0, 1, 2, 0]


def test_a_store_that_was_put_back_to_an_older_state_is_damage_for_whoever_has_seen_the_newer_one():
    """From a backup from before the rollback the challenger would serve again. It stays damage until somebody looks, or begins anew."""
    journal, now = chain_of(record("registered"), record("rolled_back")), [0.0]
    follower = Follower(journal, seconds=lambda: now[0])
    assert follower.now().standing is Standing.ROLLED_BACK
    lost = journal._links.pop()
    for now[0] in (1.0, 1.1, 2.5):
        with pytest.raises(RecordError, match="record 1 is gone: the store was put back to an older state; the chain is damaged"):
            follower.now()
    journal.append(record("paused"), after=journal.read()[-1].hash)
    with pytest.raises(RecordError, match="record 1 is gone"):
        follower.now()
    journal._links[-1] = lost
    assert follower.now().standing is Standing.ROLLED_BACK


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
