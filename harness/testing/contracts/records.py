"""What every intake, ledger, journal and directory keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256

import pytest

from harness.core.errors import HeadMoved
from harness.core.observations import Observation
from harness.ports.directory import Directory
from harness.ports.intake import Intake, Taken
from harness.ports.journal import ROOT, Journal
from harness.ports.ledger import Folded, Ledger, Published
from harness.ports.observations import ObservationLog, Observed


class IntakeContract:
    """Override `intake`: an empty one."""

    @pytest.fixture
    def intake(self) -> Intake:
        """An empty intake."""
        raise NotImplementedError

    def test_a_source_starts_from_nothing_and_goes_on_from_what_was_saved(self, intake: Intake) -> None:
        """Position and counts are one value: a restart can never see one without the other."""
        taken = Taken(position=1 << 60, arrived=1_700_000_000_000_000, read=7, unsampled=2, overrun=1)
        assert intake.load("events/0") == Taken()
        intake.save("events/0", taken, after=Taken())
        assert (intake.load("events/0"), intake.load("events/1")) == (taken, Taken())

    def test_a_second_router_is_refused(self, intake: Intake) -> None:
        """A worker that was thought dead must not take a source back: its counts would be counted twice."""
        first = Taken(position=5, read=6)
        intake.save("events/0", first, after=Taken())
        for old in (Taken(), Taken(position=5, read=5)):
            with pytest.raises(HeadMoved):
                intake.save("events/0", Taken(position=9, read=10), after=old)
        assert intake.load("events/0") == first
        intake.save("events/0", Taken(position=9, read=10), after=first)
        assert intake.load("events/0").position == 9


class ObservationLogContract:
    """Override `observations`: an empty one."""

    @pytest.fixture
    def observations(self) -> ObservationLog:
        """An empty log of observations."""
        raise NotImplementedError

    def test_rows_and_position_are_one_and_come_back_in_order(self, observations: ObservationLog) -> None:
        """A restart reads on where the rows end; who read before reads only what is new."""
        rows = [Observation(bytes([n]) * 14, (1 << 64) - 1 - n, 1_700_000_000_000_000 + n, n / 3.0, math.nan) for n in range(5)]
        first, second = Observed(position=7, arrived=3, read=4, invalid=1, overrun=2), Observed(position=9, read=6)
        assert (observations.load("exposures/0"), len(observations.rows("exposures/0", 0)[0])) == (Observed(), 0)
        observations.append("exposures/0", rows[:3], first, after=Observed())
        got, cursor = observations.rows("exposures/0", 0)
        observations.append("exposures/0", rows[3:], second, after=first)
        later, end = observations.rows("exposures/0", cursor)
        assert [tuple(row)[:3] for row in (*got.tolist(), *later.tolist())] == [row[1:4] for row in rows]
        assert math.isnan(later["of"][0])
        assert (observations.load("exposures/0"), len(observations.rows("exposures/0", end)[0])) == (second, 0)
        assert len(observations.rows("appeals/0", 0)[0]) == 0

    def test_a_second_copy_adds_no_row(self, observations: ObservationLog) -> None:
        """A producer that sends a record again, in the same batch or a later one, counts nobody's appeal twice."""
        one, two = (Observation(bytes([n]) * 14, n, n, 1.0, 1.0) for n in (1, 2))
        observations.append("appeals/0", [one, one], Observed(position=1), after=Observed())
        observations.append("appeals/0", [one, two], Observed(position=3), after=Observed(position=1))
        assert observations.rows("appeals/0", 0)[0]["unit"].tolist() == [1, 2]

    def test_a_second_worker_is_refused_whole(self, observations: ObservationLog) -> None:
        """A worker that was thought dead adds no row and forgets no key."""
        one, two = (Observation(bytes([n]) * 14, n, n, 1.0, 1.0) for n in (1, 2))
        observations.append("appeals/0", [one], Observed(position=1), after=Observed())
        with pytest.raises(HeadMoved):
            observations.append("appeals/0", [two], Observed(position=5), after=Observed())
        observations.append("appeals/0", [two], Observed(position=2), after=Observed(position=1))
        assert observations.rows("appeals/0", 0)[0]["unit"].tolist() == [1, 2]

    def test_of_a_forgotten_unit_no_row_of_any_source_is_left(self, observations: ObservationLog) -> None:
        """Readers that have read some go on where they were, and the rows of others stay."""
        rows = [Observation(bytes([n]) * 14, n % 2, n, 1.0, 1.0) for n in range(4)]
        observations.append("exposures/0", rows[:2], Observed(position=1), after=Observed())
        observations.append("appeals/1", rows[:3], Observed(position=2), after=Observed())
        _, cursor = observations.rows("exposures/0", 0)
        observations.append("exposures/0", rows[2:], Observed(position=3), after=Observed(position=1))
        assert observations.sources() == ["appeals/1", "exposures/0"]
        assert (observations.forget(1), observations.forget(1)) == (3, 0)
        assert observations.rows("exposures/0", 0)[0]["arrived"].tolist() == [0, 2]
        assert observations.rows("exposures/0", cursor)[0]["arrived"].tolist() == [2]
        assert observations.rows("appeals/1", 0)[0]["arrived"].tolist() == [0, 2]
        assert observations.load("exposures/0") == Observed(position=3)


class LedgerContract:
    """Override `ledger`: an empty one."""

    @pytest.fixture
    def ledger(self) -> Ledger:
        """An empty ledger."""
        raise NotImplementedError

    def test_statistics_are_replaced_whole_and_only_from_the_version_that_was_read(self, ledger: Ledger) -> None:
        """Two analysts that fold the same pairs must not add them twice."""
        state = Folded(version=1, state=bytes(range(256)) * 4_096)
        assert ledger.load() == Folded()
        ledger.save(state, after=Folded())
        with pytest.raises(HeadMoved):
            ledger.save(Folded(version=1, state=b"other"), after=Folded())
        assert ledger.load() == state
        ledger.save(Folded(version=2), after=state)
        assert ledger.load() == Folded(version=2)

    def test_the_verdict_last_published_is_the_one_that_is_read(self, ledger: Ledger) -> None:
        """People and machines read the verdict without touching the statistics, and see when the analyst last looked."""
        assert ledger.published() is None
        first = Published(verdict=b'{"verdict": "hold"}', looked=1)
        second = Published(verdict=b'{"verdict": "promote"}', looked=1_700_000_000_000_000, version=2)
        ledger.publish(first, after=None)
        ledger.publish(second, after=first)
        assert ledger.published() == second
        assert ledger.load() == Folded()


    def test_a_verdict_behind_another_one_is_refused(self, ledger: Ledger) -> None:
        """An analyst that was paused while another took over would hand out what it knew then."""
        first, second = (Published(verdict=b"{}", looked=n, version=n) for n in (1, 2))
        ledger.publish(first, after=None)
        ledger.publish(second, after=first)
        for after in (None, first):
            with pytest.raises(HeadMoved):
                ledger.publish(Published(verdict=b"old", looked=3, version=2), after=after)
        assert ledger.published() == second


class JournalContract:
    """Override `journal`: an empty one."""

    @pytest.fixture
    def journal(self) -> Journal:
        """An empty journal."""
        raise NotImplementedError

    def test_records_are_chained_by_hashes_that_anybody_can_recompute(self, journal: Journal) -> None:
        """An auditor trusts no server: the chain is SHA-256 over the hash before and the body, from 64 zeros on."""
        assert list(journal.read()) == []
        bodies = [b'{"move": 1}', b"", b"\x00\xff" * 70_000]
        last = ROOT
        for body in bodies:
            link = journal.append(body, after=last)
            assert (link.previous, link.hash) == (last, sha256(last.encode() + body).hexdigest())
            last = link.hash
        assert [link.body for link in journal.read()] == bodies
        assert [link.previous for link in journal.read()] == [ROOT, *(link.hash for link in journal.read())][:-1]
        assert [[link.body for link in journal.read(start)] for start in (1, 3, 9)] == [bodies[1:], [], []]

    def test_two_controllers_can_never_both_act(self, journal: Journal) -> None:
        """The one that comes second reads the chain again and sees that the move was made."""
        first = journal.append(b"one", after=ROOT)
        for after in (ROOT, "f" * 64):
            with pytest.raises(HeadMoved):
                journal.append(b"two", after=after)
        assert list(journal.read()) == [first]


class DirectoryContract:
    """Override `directory`: an empty one."""

    @pytest.fixture
    def directory(self) -> Directory:
        """An empty directory."""
        raise NotImplementedError

    @pytest.fixture
    def entries(self) -> Callable[[int], bytes]:
        """Different entries."""
        return lambda n: b'{"shards": %d}' % n

    def test_a_rollout_is_registered_once(self, directory: Directory, entries: Callable[[int], bytes]) -> None:
        """Shards are fixed when a rollout is created: whoever comes second is told what stands, and changes nothing."""
        assert directory.all() == {}
        assert directory.register("b", entries(1)) == entries(1)
        assert directory.register("a", entries(2)) == entries(2)
        assert directory.register("b", entries(3)) == entries(1)
        assert dict(directory.all()) == {"a": entries(2), "b": entries(1)}
        directory.replace("b", entries(4))
        assert dict(directory.all()) == {"a": entries(2), "b": entries(4)}
