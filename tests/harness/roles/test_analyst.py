"""The analyst on the in-memory doubles: one order, restarts, late labels, looks."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from harness.core.errors import HeadMoved, StoreUnavailable
from harness.testing.doubles import MemoryLedger

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000


def traffic(crew: Any, hours: int) -> tuple[list[bytes], list[bytes]]:
    """Thirty events an hour, two thirds with a label an hour later."""
    rng = random.Random(5)
    events, labels = [], []
    for n in range(30 * hours):
        at, age = n * 120 * SECOND, rng.uniform(12, 30)
        events.append(crew.event(f"e{n}", at, old=age + rng.gauss(0, 4), new=age + rng.gauss(0, 2), subject=f"u{n % 50}"))
        if n % 3:
            labels.append(crew.label(f"e{n}", at + HOUR, age))
    return events, labels


def finished(crew: Any, events: list[bytes], labels: list[bytes], *, bursts: int = 1, between: Callable[[], None] = lambda: None) -> Any:
    """Sends everything in so many bursts, then the mark; returns the verdict."""
    crew.clock.move_to(START + 100 * HOUR)
    for burst in range(bursts):
        crew.send("events", events[burst * len(events) // bursts : (burst + 1) * len(events) // bursts])
        crew.send("outcomes", labels[burst * len(labels) // bursts : (burst + 1) * len(labels) // bursts])
        crew.settle()
        between()
    crew.send("events", [crew.mark(40 * HOUR)])
    crew.settle()
    return crew.verdict()


@pytest.fixture
def plain(crew: Callable[..., Any]) -> Any:
    """What one undisturbed run on one shard says."""
    one = crew(shards=1)
    return finished(one, *traffic(one, 8))


def same(found: Any, wanted: Any) -> None:
    """Equal but for the watermark, which names the shards."""
    assert {**found, "watermark": {}} == {**wanted, "watermark": {}}


@pytest.mark.parametrize("shards", [2, 5])
def test_the_number_of_shards_changes_no_number(shards: int, crew: Callable[..., Any], plain: Any):
    """Each event, unit and label has one place in the order (arrival, event), however they are spread."""
    one = crew(shards=shards)
    same(finished(one, *traffic(one, 8)), plain)


def test_an_analyst_that_is_made_anew_says_the_same(crew: Callable[..., Any], plain: Any):
    """From the statistics it saved and the rows after them, at many moments."""
    one = crew(shards=2)

    def restart() -> None:
        made = one._made.pop("analyst")
        made.close()

    same(finished(one, *traffic(one, 8), bursts=7, between=restart), plain)


def test_an_analyst_without_its_statistics_folds_everything_again(crew: Callable[..., Any], plain: Any):
    """Lost or unreadable statistics cost time, never a number."""
    one = crew(shards=2)
    same(finished(one, *traffic(one, 8), bursts=3), plain)
    one.ledger = type(one.ledger)()
    one._made.pop("analyst")
    one.settle()
    same(one.verdict(), plain)


def test_a_label_after_maturity_counts_as_if_it_had_come_in_time(crew: Callable[..., Any], plain: Any):
    """The labelled statistics are folded anew: the verdict is a function of pairs and labels, not of when they were looked at."""
    one = crew(shards=2)
    events, labels = traffic(one, 8)
    finished(one, events, labels[::2])
    assert one.verdict()["outcomes"]["joined"] == len(labels[::2])
    one.send("outcomes", labels[1::2])
    one.settle()
    same(one.verdict(), plain)


def test_a_label_revised_after_maturity_counts_as_if_it_had_come_in_time(crew: Callable[..., Any]):
    """A revision that moves a person over the line moves the harm's denominator, also when its look is long past."""
    early, late = crew(shards=1), crew(shards=1)
    for one in (early, late):
        one.clock.move_to(START + 100 * HOUR)
        one.send("events", [one.event(f"e{n}", n * SECOND) for n in range(4)])
        one.send("outcomes", [one.label(f"e{n}", HOUR, 30.0) for n in range(4)])
    revisions = [early.label(f"e{n}", HOUR + SECOND, 15.0) for n in range(3)]
    early.send("outcomes", revisions)
    early.settle()
    for one in (early, late):
        one.send("events", [one.mark(40 * HOUR)])
        one.settle()
    assert minors(late.verdict()) == 0
    late.send("outcomes", revisions)
    late.settle()
    assert minors(late.verdict()) == minors(early.verdict()) == 3
    same(late.verdict(), early.verdict())


def minors(verdict: Any) -> int:
    """The denominator of the harm's whole row."""
    found: int = next(row["n_events"] for row in verdict["gates"] if row["name"] == "minors" and row["segment"] is None)
    return found


def test_a_look_waits_until_every_shard_has_passed_it(crew: Callable[..., Any]):
    """Whatever finished first is not a random sample: one slow event holds the prefix."""
    one = crew(shards=2)
    one.silent = {"lane:challenger"}
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [one.event(f"e{n}", n * HOUR) for n in range(6)])
    one.settle()
    assert one.verdict()["as_of"] in (None, "2026-01-04T23:00:00Z")
    one.silent = set()
    one.settle()
    assert one.verdict()["as_of"] == "2026-01-05T05:00:00Z"


def test_looks_are_read_on_the_grid_of_record_time(crew: Callable[..., Any]):
    """Between two looks no gate moves, however often somebody asks."""
    one = crew(shards=1)
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [one.event("a", 10 * SECOND), one.event("b", 20 * SECOND)])
    one.settle()
    assert [row["n_events"] for row in one.verdict()["gates"] if row["name"] == "answers"] == [0]
    one.send("events", [one.event("c", HOUR + SECOND)])
    one.settle()
    verdict = one.verdict()
    assert [row["n_events"] for row in verdict["gates"] if row["name"] == "answers"] == [2]
    assert verdict["as_of"] == "2026-01-05T01:00:00Z"


def test_labelled_gates_wait_until_labels_have_matured(crew: Callable[..., Any]):
    """Quick labels are not a random sample of all labels: none counts before its event is `matures` old."""
    one = crew(shards=1)
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [one.event("e", SECOND)])
    one.send("outcomes", [one.label("e", 2 * SECOND, 15.0)])
    one.send("events", [one.mark(2 * HOUR)])
    one.settle()
    assert minors(one.verdict()) == 0
    one.send("events", [one.mark(3 * HOUR + SECOND)])
    one.settle()
    assert minors(one.verdict()) == 1


def test_two_analysts_never_both_save(crew: Callable[..., Any], plain: Any):
    """The slower one is refused; the verdict stays the same."""
    one = crew(shards=1)
    zombie = one.make("analyst")
    same(finished(one, *traffic(one, 8)), plain)
    one._made["analyst"].close()
    with pytest.raises(HeadMoved):
        zombie.close()


def test_an_analyst_that_is_made_anew_needs_no_row_that_was_folded(crew: Callable[..., Any], plain: Any):
    """Pairs expire while a rollout goes on for longer than they are kept: a restart must not end it."""
    one = crew(shards=2)
    same(finished(one, *traffic(one, 8)), plain)
    one._made.pop("analyst").close()
    for log in one.logs:
        log.expire(log.snapshot().head.resolved // 2)
    one.send("events", [one.event("new", 41 * HOUR), one.mark(45 * HOUR)])
    one.settle()
    verdict = one.verdict()
    n_events, before = ([row["n_events"] for row in found["gates"] if row["name"] == "answers"] for found in (verdict, plain))
    assert (n_events, verdict["as_of"]) == ([before[0] + 1], "2026-01-06T21:00:00Z")


def test_a_late_label_among_rows_of_which_some_have_expired_holds_and_says_so(crew: Callable[..., Any]):
    """The labelled statistics cannot be folded anew: what was folded stays, and a verdict without the label never promotes."""
    one = crew(shards=1)
    events, labels = traffic(one, 8)
    before = finished(one, events, labels[:-1])
    one.logs[0].expire(10)
    one.send("outcomes", labels[-1:])
    one.settle()
    verdict = one.verdict()
    assert verdict["gates"] == before["gates"]
    assert verdict["watermark"]["labels_behind"] == 1
    assert "1 late labels" in verdict["reasons"][0]
    assert verdict["verdict"] != "promote"


def test_a_clock_that_is_set_back_hides_no_verdict(crew: Callable[..., Any]):
    """Else the last one would stand, and look fresh, until the clock is where it was before."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.verdict()
    clock = one.clock
    clock._now = START - HOUR
    one.step("analyst")
    assert one.ledger.published().looked == START - HOUR


def test_a_verdict_is_as_old_as_what_was_read_for_it(crew: Callable[..., Any]):
    """A worker that is stopped between reading and writing must not pass old evidence for new."""
    one = crew(shards=1)
    analyst = one.make("analyst")
    load = one.intake.load

    def slow(source: str) -> Any:
        one.clock.move_to(START + HOUR)
        return load(source)

    one.intake.load = slow
    analyst.publish()
    assert one.ledger.published().looked == START


def test_a_fresh_fold_after_pairs_have_expired_holds_and_says_why(crew: Callable[..., Any]):
    """Statistics that are lost when the first pairs are gone cannot be had again: a verdict on the rest must not pass for one on all,
    and an analyst that tried for ever would leave people with one that is only old."""
    one = crew(shards=1)
    one.clock.move_to(START + 100 * HOUR)
    one.send("events", [*(one.event(f"e{n}", n * HOUR // 4) for n in range(20)), one.mark(40 * HOUR)])
    one.settle()
    one.ledger, one.silent = MemoryLedger(), {"analyst"}
    one.logs[0].expire(6)
    analyst = one.make("analyst")
    for _ in range(3):
        one.clock.move_to(one.clock.now() + 2 * SECOND)
        analyst.step()
    found = analyst.publish()
    assert found["verdict"] == "hold"
    assert any("expired before they were folded" in reason for reason in found["reasons"])
    assert found["flips"]["adult"]["pairs"] > 0


def test_a_fold_that_the_store_cut_off_is_not_saved_when_its_analyst_is_closed(crew: Callable[..., Any]):
    """The store is away for one call and back when the analyst is laid down: what it has taken and not folded would be lost for good."""

    def played(fails_at: int) -> tuple[Any, int]:
        one, n_reads = crew(shards=2), 0
        one.silent.add("analyst")
        finished(one, *traffic(one, 6))
        analyst = one.make("analyst")

        def failing(rows: Callable[[int, int], bytes]) -> Callable[[int, int], bytes]:
            def read(start: int, stop: int) -> bytes:
                nonlocal n_reads
                n_reads += 1
                if n_reads == fails_at:
                    raise StoreUnavailable("away")
                return rows(start, stop)

            return read

        for log in one.logs:
            log.rows = failing(log.rows)
        try:
            analyst.step()
        except StoreUnavailable:
            analyst.close()
            analyst = one.make("analyst")
            analyst.step()
        return analyst.publish(), n_reads

    undisturbed, n = played(0)
    assert n > 4 and undisturbed["stage_pairs"] > 100
    for at in range(1, n + 1):
        assert played(at)[0] == undisturbed, f"away at read {at}"
