"""Which plain ids the joiner keeps: none, those of events whose decisions differ, or all; also when it dies at any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.table import RowLayout

SECOND, HOUR = 1_000_000, 3_600_000_000
OLD, NEW = (20.0, 12.0, 30.0, 17.0, 25.0, 16.0), (21.0, 19.0, 12.0, 16.0, "timeout", 40.0)
RUN = 60  # so many that they go through a shard as columns, not one by one
DIFFER = {"e1", "e2", "e5"} | {f"run{n}" for n in range(RUN) if n % 6 in (1, 2, 5)}
"""18 is between old and new; e4 has no answer of the challenger, so no decision that could differ."""


def play(crew: Any) -> dict[str, tuple[int, int]]:
    """Six events, a copy, another source's event of one id; then a long run of plain ones. id -> (shard, ordinal) of what is kept."""
    few = [crew.event(f"e{n}", n * SECOND, old=old, new=new) for n, (old, new) in enumerate(zip(OLD, NEW, strict=True))]
    few += [few[1], crew.event("e2", 9 * SECOND, source="/other", old=20.0, new=20.0)]
    run = [crew.event(f"run{n}", HOUR + n * SECOND, old=OLD[n % 6], new=NEW[n % 6]) for n in range(RUN)]
    for burst in (few, run):
        crew.send("events", burst)
        crew.clock.move_to(crew.clock.now() + SECOND)
        crew.settle()
    crew.send("events", [crew.mark(20 * HOUR)])
    crew.settle()
    return {one.id: (shard, one.ordinal) for shard, ids in enumerate(crew.plain_ids) for one in ids.kept.values()}


def resolved(crew: Any) -> int:
    return sum(log.snapshot().head.resolved for log in crew.logs)


def test_without_the_word_no_id_is_kept_anywhere(crew: Callable[..., Any]):
    """The default: also what waits for answers has none."""
    one = crew()
    one.silent = {"lane:challenger"}
    assert play(one) == {}
    assert {opened.event.id for log in one.logs for opened in log.load()[1].values()} == {""}


def test_of_disagreements_those_are_kept_whose_decisions_differ(crew: Callable[..., Any]):
    """What a reviewer looks up; an event that one model did not answer is no disagreement."""
    kept = play(crew(keep={"ids": "disagreements"}))
    assert set(kept) == DIFFER


def test_of_all_every_row_has_its_id(crew: Callable[..., Any]):
    """Also a missing one, and each of two sources that use the same id."""
    one = crew(keep={"ids": "all"})
    play(one)
    assert sum(len(ids.kept) for ids in one.plain_ids) == resolved(one) == 7 + RUN
    layout = RowLayout(one.rollout)
    for ids, log in zip(one.plain_ids, one.logs, strict=True):
        keys = layout.records(log.rows(0, log.snapshot().head.resolved))["key"].tolist()
        assert {n: bytes(key) for n, key in enumerate(keys)} == {kept.ordinal: key for key, kept in ids.kept.items()}


@pytest.mark.parametrize("words", ["disagreements", "all"])
def test_an_event_that_waits_takes_its_id_along_and_none_is_held_afterwards(words: str, crew: Callable[..., Any]):
    """A joiner that takes the shard over has read no frame of it; and what was written is not kept in memory for ever."""
    one = crew(keep={"ids": words})
    one.silent = {"lane:challenger"}
    assert play(one) == {}
    one._made.clear()  # every role dies
    one.silent = set()
    one.settle()
    assert {kept.id for ids in one.plain_ids for kept in ids.kept.values()} >= DIFFER
    assert all(one._made[f"joiner:{n}"]._ids._held == {} for n in range(len(one.logs)))


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("words", ["disagreements", "all"])
def test_the_same_ids_are_kept_wherever_the_joiner_dies(words: str, after: bool, crew: Callable[..., Any], crash_once: Any):
    """Ids are written before the rows: a crash in between leaves one that is written once more, never one that is lost."""
    wanted = play(crew(keep={"ids": words}))
    at = 0
    while True:
        at += 1
        nemesis = crash_once(at, after=after)
        assert play(crew(keep={"ids": words}, role="joiner", nemesis=nemesis)) == wanted, f"after a crash at call {at}"
        if not nemesis.crashed:
            break
    assert at > 15
