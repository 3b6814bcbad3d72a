"""What every pair log keeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from harness.core.accounting import Counts
from harness.core.errors import HeadMoved, Overrun
from harness.core.held import Known, Open
from harness.core.pairing import Effects, Head
from harness.core.table import Dictionary, RowLayout
from harness.ports.pairlog import PairLog
from harness.testing import samples


def head(version: int, **changes: object) -> Head:
    """A head with something in every field."""
    counts = Counts(mirrored=version, missing={"challenger": {"timeout": 1}}, lanes={"incumbent": {"answered": version, "late": 1}})
    values = {"seen": {"events/0": 1 << 61}, "upto": {"events/0": 5}, "watermark": 4, "bus_time": 9, "mirror": 1 << 61, "counts": counts}
    return replace(Head(version=version), **{**values, **changes})  # type: ignore[arg-type]  # the fields of Head by name


def opened(ordinal: int, **changes: object) -> Open:
    """An open event without its payload."""
    event = samples.event(ordinal, f"e{ordinal}", payload=b"")
    return replace(Open(ordinal=ordinal, event=event, mirror=7, sent=9), **changes)  # type: ignore[arg-type]


class PairLogContract:
    """Override `pair_log`: an empty one whose rows are those of `layout`, and `again`: the same shard, opened anew."""

    @pytest.fixture
    def layout(self) -> RowLayout:
        """The rows of the sample rollout."""
        return RowLayout(samples.rollout())

    @pytest.fixture
    def pair_log(self, layout: RowLayout) -> PairLog:
        """An empty pair log."""
        raise NotImplementedError

    @pytest.fixture
    def again(self, pair_log: PairLog, layout: RowLayout) -> PairLog:
        """What another process sees of it."""
        raise NotImplementedError

    def _rows(self, layout: RowLayout, start: int, stop: int) -> bytes:
        answers = {lane: samples.answer("x", age=30.0) for lane in ("incumbent", "challenger")}
        return b"".join(layout.pack(samples.event(n, f"e{n}"), answers, None, Dictionary()) for n in range(start, stop))

    def test_a_shard_starts_from_nothing(self, pair_log: PairLog) -> None:
        """Before the first fold everything is empty, and nothing is an error."""
        assert pair_log.load() == (Head(), {}, []) or pair_log.load() == (Head(), {}, ())
        assert (pair_log.snapshot().head, pair_log.snapshot().in_flight) == (Head(), 0)
        assert (dict(pair_log.find([b"0123456789"])), list(pair_log.due(1 << 60, 5)), pair_log.rows(0, 0)) == ({}, [], b"")

    def test_what_was_applied_is_loaded_by_whoever_comes_next(self, pair_log: PairLog, again: PairLog) -> None:
        """A joiner that takes a shard over goes on as the one before would have."""
        waits = opened(0, answers={"incumbent": samples.answer("e0"), "replica": samples.answer("e0", status="timeout")})
        done = opened(1, outcome=samples.outcome(3, "e1"))
        effects = Effects(head=head(1, ordinal=2), open={0: waits}, settled={1: done}, words=("SE", "other"))
        pair_log.apply(effects, after=Head())
        found, opens, words = again.load()
        assert (found, dict(opens), list(words)) == (head(1, ordinal=2), {0: waits, 1: done}, ["SE", "other"])
        assert list(again.words()) == ["SE", "other"]

    def test_in_flight_counts_the_open_and_not_the_settled(self, pair_log: PairLog) -> None:
        """An event that waits only for those before it is paired or missing already; the identity would count it twice."""
        pair_log.apply(Effects(head=head(1), open={n: opened(n) for n in range(4)}), after=Head())
        pair_log.apply(Effects(head=head(2), settled={2: opened(2), 3: opened(3)}), after=head(1))
        assert (pair_log.snapshot().in_flight, sorted(pair_log.load()[1])) == (2, [0, 1, 2, 3])
        pair_log.apply(Effects(head=head(3), gone=(0, 2)), after=head(2))
        assert (pair_log.snapshot().in_flight, sorted(pair_log.load()[1])) == (1, [1, 3])
        assert pair_log.snapshot().head == head(3)

    def test_effects_after_another_head_change_nothing(self, pair_log: PairLog, again: PairLog, layout: RowLayout) -> None:
        """The compare-and-set is what makes counting exact, whoever thinks he owns the shard."""
        pair_log.apply(Effects(head=head(1)), after=Head())
        early = {b"0123456789": (samples.outcome(1, "e1"),)}
        late = Effects(
            head=head(2, resolved=1), open={0: opened(0)}, settled={1: opened(1)}, ids={b"0123456789": ((b"here", 0),)},
            rows=self._rows(layout, 0, 1), early=early, words=("SE",),
        )  # fmt: skip
        for old in (Head(), head(1, bus_time=10), head(2)):  # unborn, the same version after a store rolled back, a future one
            with pytest.raises(HeadMoved):
                again.apply(late, after=old)
        assert (pair_log.load()[0], dict(pair_log.load()[1]), list(pair_log.words())) == (head(1), {}, [])
        assert (dict(pair_log.find([b"0123456789"])), list(pair_log.due(1 << 60, 5))) == ({}, [])
        again.load()
        again.apply(late, after=head(1))
        assert pair_log.snapshot().head == head(2, resolved=1)

    def test_rows_are_read_back_whatever_the_runs_they_were_written_in(self, pair_log: PairLog, again: PairLog, layout: RowLayout) -> None:
        """Runs start and end anywhere; readers ask for any part below the resolved ordinal."""
        bounds = [0, 1, 255, 256, 257, 700, 1_024]
        before = Head()
        for n, (start, stop) in enumerate(pairwise(bounds), 1):
            pair_log.apply(Effects(head=head(n, ordinal=stop, resolved=stop), rows=self._rows(layout, start, stop)), after=before)
            before = head(n, ordinal=stop, resolved=stop)
        for start, stop in ((0, 1_024), (0, 1), (254, 258), (256, 512), (700, 701), (1_023, 1_024), (300, 300)):
            assert again.rows(start, stop) == self._rows(layout, start, stop)
        with pytest.raises(Overrun):
            again.rows(1_000, 1_025)

    def test_what_is_known_of_an_id_comes_with_its_rows_once_written(self, pair_log: PairLog, layout: RowLayout) -> None:
        """The fold tells a duplicate from a new event, and finds the row that a late label belongs to."""
        ids = [samples.key(f"e{n}")[:10] for n in range(4)]
        refs = {ids[0]: ((b"here", 0), (b"else", 2)), ids[1]: ((b"here", 1),)}
        waiting = (samples.outcome(5, "e2"), samples.outcome(6, "e2", age=None))
        rows = self._rows(layout, 0, 1)
        pair_log.apply(Effects(head=head(1, ordinal=3, resolved=1), ids=refs, rows=rows, early={ids[2]: waiting}), after=Head())
        assert dict(pair_log.find(ids)) == {
            ids[0]: Known(events=refs[ids[0]], rows={0: rows}),
            ids[1]: Known(events=refs[ids[1]]),
            ids[2]: Known(early=waiting),
        }
        assert dict(pair_log.find([ids[3]])) == {} == dict(pair_log.find([]))

    def test_a_label_replaces_the_label_of_its_row_alone(self, pair_log: PairLog, layout: RowLayout) -> None:
        """Facts and answers are history; only what is learnt later may change."""
        rows, width = self._rows(layout, 0, 300), layout.width
        pair_log.apply(Effects(head=head(1, ordinal=300, resolved=300), rows=rows), after=Head())
        label = layout.pack_label(samples.outcome(400, "e299"))
        pair_log.apply(Effects(head=head(2, ordinal=300, resolved=300), labels={299: label, 5: label}), after=pair_log.load()[0])
        found = pair_log.rows(0, 300)
        assert found[299 * width :] == rows[299 * width :][: layout.label_at] + label
        label_now = layout.label_of(found[5 * width : 6 * width])
        assert label_now is not None and label_now[2:] == samples.outcome(400, "e299")[2:]
        assert (found[: 5 * width], found[6 * width : 299 * width]) == (rows[: 5 * width], rows[6 * width : 299 * width])

    def test_early_outcomes_fall_due_by_the_time_of_the_first(self, pair_log: PairLog) -> None:
        """Oldest first and only what is older than asked for, so that nothing waits for ever and nothing goes too soon."""
        ids = [samples.key(f"e{n}")[:10] for n in range(3)]
        early = {ids[n]: (samples.outcome(90 - n, f"e{n}"), samples.outcome(30 - n * 10, f"e{n}")) for n in range(3)}
        pair_log.apply(Effects(head=head(1), early=early), after=Head())
        at = samples.outcome(20, "e1").time
        assert (list(pair_log.due(at, 9)), list(pair_log.due(at + 1, 9)), list(pair_log.due(1 << 60, 2))) == (
            [ids[2]], [ids[2], ids[1]], [ids[2], ids[1]],
        )  # fmt: skip
        pair_log.apply(Effects(head=head(2), early={ids[2]: (), ids[1]: (samples.outcome(90, "e1"),)}), after=head(1))
        assert list(pair_log.due(1 << 60, 9)) == [ids[0], ids[1]]
        assert dict(pair_log.find([ids[2]])) == {}

    def test_words_are_only_ever_added(self, pair_log: PairLog, again: PairLog) -> None:
        """A code in a row must mean the same word for as long as the row lives."""
        pair_log.apply(Effects(head=head(1), words=("SE", "")), after=Head())
        pair_log.apply(Effects(head=head(2), words=("\u00e5", "SE ")), after=head(1))
        pair_log.apply(Effects(head=head(3)), after=head(2))
        assert list(again.words()) == ["SE", "", "\u00e5", "SE "]

    def test_of_a_forgotten_unit_only_the_times_of_its_rows_are_left(self, pair_log: PairLog, again: PairLog, layout: RowLayout) -> None:
        """In a full chunk and in one that grows; the rows of others, the order and the counts stay as they are."""
        rows, width, before = self._rows(layout, 0, 300), layout.width, Head()
        ids = {n: samples.key(f"e{n}")[:10] for n in (5, 280)}
        refs = {ids[5]: ((b"here", 5),), ids[280]: ((b"here", 280), (b"else", 7))}
        labels = {n: layout.pack_label(samples.outcome(400, f"e{n}")) for n in (5, 6, 280)}
        pair_log.apply(Effects(head=head(1, ordinal=300, resolved=300), rows=rows, ids=refs), after=before)
        pair_log.apply(Effects(head=head(2, ordinal=300, resolved=300), labels=labels), after=head(1, ordinal=300, resolved=300))
        assert [again.forget(samples.event(n, f"e{n}").unit) for n in (5, 280, 280)] == [1, 1, 0]
        found = pair_log.rows(0, 300)
        for n in (5, 280):
            record = layout.records(found[n * width : (n + 1) * width])[0]
            assert (int(record["arrived"]), int(record["unit"]), bytes(record["key"])) == (samples.event(n, "x").arrived, 0, bytes(14))
            left = layout.forgotten(layout.records(rows[n * width : (n + 1) * width])).tobytes()
            assert record.tobytes()[: layout.label_at] == left[: layout.label_at]
            assert layout.label_of(found[n * width : (n + 1) * width]) is None
        kept = [n for n in range(300) if n not in (5, 6, 280)]
        assert b"".join(found[n * width : (n + 1) * width] for n in kept) == b"".join(rows[n * width : (n + 1) * width] for n in kept)
        label_now = layout.label_of(found[6 * width : 7 * width])
        assert label_now is not None and label_now[2:] == samples.outcome(400, "e6")[2:]
        assert {id: known.events for id, known in pair_log.find(list(ids.values())).items()} == {ids[280]: ((b"else", 7),)}
        assert pair_log.snapshot().head == head(4, ordinal=300, resolved=300, counts=head(2).counts)

    def test_a_joiner_finds_that_somebody_was_forgotten(self, pair_log: PairLog, again: PairLog, layout: RowLayout) -> None:
        """Else it would write back what it has read before."""
        pair_log.apply(Effects(head=head(1, ordinal=3, resolved=3), rows=self._rows(layout, 0, 3)), after=Head())
        assert again.forget(samples.event(1, "e1").unit) == 1
        with pytest.raises(HeadMoved):
            pair_log.apply(Effects(head=head(2, ordinal=3, resolved=3)), after=head(1, ordinal=3, resolved=3))
        loaded, _, _ = pair_log.load()
        pair_log.apply(Effects(head=replace(loaded, version=3, ordinal=5, resolved=5), rows=self._rows(layout, 3, 5)), after=loaded)
        records = layout.records(pair_log.rows(0, 5))
        assert [int(unit) != 0 for unit in records["unit"]] == [True, False, True, True, True]
