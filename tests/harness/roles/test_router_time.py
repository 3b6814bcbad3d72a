"""Record time as the router tells it: sources that are silent or empty, workers that stood by, clocks that are wrong or are set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.errors import HeadMoved
from harness.ports.bus import Record
from harness.ports.clock import ManualClock
from harness.roles.router import Router

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000


def busy(one: Any, hours: float) -> None:
    """An event every four seconds on the first partition: it is never silent."""
    began = one.clock.now()
    for n in range(int(hours * 900)):
        one.clock.move_to(began + n * 4 * SECOND)
        one.send("events/0", [one.event(f"busy {began} {n}", one.clock.now() - START)])
        one.settle()


@pytest.mark.parametrize("first", [[], ["an event"]], ids=["that never had an event", "that is idle"])
def test_beside_a_busy_partition_one_does_not_hold_the_verdict_for_ever(first: list[str], crew: Callable[..., Any]):
    """The watermark is the smallest over all partitions of the events topic: a silent one must run on, whatever the others do."""
    one = crew(shards=1, partitions=2)
    one.send("events/1", [one.event(id, 0) for id in first])
    busy(one, 1.02)
    verdict = one.verdict()
    assert verdict["as_of"] == "2026-01-05T01:00:00Z"
    assert [row["n_events"] for row in verdict["gates"] if row["name"] == "answers"] == [901 + len(first)]


def test_an_empty_partition_that_another_worker_reads_does_not_hold_the_verdict(crew: Callable[..., Any]):
    """The worker that has only the empty one finds the time of the others in the store."""
    one = crew(shards=1, partitions=2)
    other = one.make("router")
    one.step("router")
    one._made["router"].hold(("events/0", "outcomes/0"))
    other.hold(("events/1",))
    for n in range(0, 3700, 20):
        one.clock.move_to(START + n * SECOND)
        one.send("events/0", [one.event(f"e{n}", n * SECOND)])
        one.settle()
        other.step()
    assert one.verdict()["as_of"] == "2026-01-05T01:00:00Z"


def test_a_partition_that_comes_late_keeps_every_event_in_the_fold(crew: Callable[..., Any]):
    """Time had run on without it: its events arrive after all that was told, so no look that was read already is missing them."""
    one = crew(shards=2, partitions=2)
    busy(one, 1.02)
    one.send("events/1", [one.event(f"late {n}", n * SECOND) for n in range(10)])
    one.settle()
    busy(one, 1.02)
    verdict = one.verdict()
    assert verdict["as_of"] == "2026-01-05T02:00:00Z"
    assert verdict["counts"]["paired"] == 2 * 918 + 10
    after_the_look = 2 * 918 - 918 - (2 * 3600 - 917 * 4) // 4 - 1
    assert [row["n_events"] for row in verdict["gates"] if row["name"] == "answers"] == [2 * 918 - after_the_look + 10]


def test_a_router_that_always_finds_something_still_beats_for_the_others(crew: Callable[..., Any]):
    """Without an empty read the silent sources would never be told of, and until each has spoken there is no watermark."""
    one = crew(shards=1, partitions=2)
    router = one.make("router")
    for n in range(20):
        one.clock.move_to(START + n * SECOND)
        one.send("events/0", [one.event(f"e{n}", n * SECOND)])
        assert router.step() == 1
    assert {frame.source for frame in one.frames()} == {"events/0", "events/1", "outcomes/0"}
    assert max(frame.upto for frame in one.frames() if frame.source == "events/1") > START


def test_the_time_for_which_a_worker_stood_by_is_not_silence_of_a_source(crew: Callable[..., Any]):
    """A worker that takes a source over after hours must not push its record time, and every label's maturity, hours ahead."""
    one = crew(shards=1)
    standby = one.make("router")
    standby.hold(())
    one.send("events", [one.event("e", 0)])
    one.settle()
    one.clock.move_to(START + 10 * HOUR)
    one.send("events", [one.event("f", 10 * HOUR)])
    one.settle()
    standby.hold(("events/0", "outcomes/0"))
    one.clock.move_to(START + 10 * HOUR + SECOND)
    standby.step()
    assert one.intake.load("events/0").arrived == START + 10 * HOUR


def test_in_a_replay_no_time_runs_on(crew: Callable[..., Any]):
    """Its clock jumps by hours, and the file alone says when things were: while labels are read, no event is missing."""
    one = crew(shards=1)
    router = Router(one.rollout, one.topology, bus=one.bus, intake=one.intake, codec=one.codec, clock=one.clock, trust_stated=True)
    one.send("events", [one.event("e", 0)])
    router.step()
    one.clock.move_to(START + 10 * HOUR)
    one.send("outcomes", [one.label("e", 0, 17.0)])
    assert [router.step(), router.step()] == [1, 0]
    assert one.intake.load("events/0").arrived == START


class AdjustableClock(ManualClock):
    """A clock that somebody sets, while steady time goes on."""

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self._steady = now

    def set(self, now: int, *, passed: int = SECOND) -> None:
        """To any time; `passed` is how long that took."""
        self._now = now
        self._steady += passed

    def steady(self) -> int:
        """What has passed."""
        return self._steady


def test_a_clock_that_is_set_back_stops_no_heartbeat(crew: Callable[..., Any]):
    """Else nobody would know of silent lanes until the clock is where it was before."""
    one = crew(shards=1)
    one.clock = AdjustableClock(START + HOUR)
    router = one.make("router")
    router.step()
    before = len(one.frames())
    one.clock.set(START)
    router.step()
    one.clock.set(START + SECOND)
    router.step()
    assert len(one.frames()) >= before + 4


@pytest.mark.parametrize("hours", [-10, 10])
def test_a_clock_that_is_set_ahead_or_back_is_no_silence_of_a_source(crew: Callable[..., Any], hours: int):
    """Else the record time of every source would run ahead by the jump, looks would close, and what comes would come too late for them."""
    one = crew(shards=1)
    one.clock = AdjustableClock(START + 20 * HOUR)
    router = one.make("router")
    one.send("events", [one.event("e", 0)])
    router.step()
    one.clock.set(START + (20 + hours) * HOUR)
    assert router.step() == 0
    assert one.intake.load("events/0").arrived == START
    one.clock.set(START + 20 * HOUR, passed=65 * SECOND)
    router.step()
    assert one.intake.load("events/0").arrived > START, "that it is silent for a minute is silence all the same"


def test_a_record_that_claims_to_come_from_the_future_arrives_now(crew: Callable[..., Any]):
    """On a Kafka topic of others a record's time is its producer's claim: one wrong clock must not push record time ahead."""
    one = crew(shards=1)
    one.send("events", [one.event("wrong", 1000 * HOUR), one.event("right", 0)])
    log = one.bus._logs[one.topology.sources["events/0"]]
    log[0] = Record(log[0].partition, log[0].position, START + 1000 * HOUR, log[0].value)
    one.settle()
    assert [entry.arrived - START for frame in one.frames() for entry in frame.entries] == [0, 1]


def test_a_record_without_a_time_arrives_now(crew: Callable[..., Any]):
    """Kafka says -1 for records of very old producers."""
    one = crew(shards=1)
    one.send("events", [one.event("old", 0)])
    log = one.bus._logs[one.topology.sources["events/0"]]
    log[0] = Record(log[0].partition, log[0].position, -1_000, log[0].value)
    one.settle()
    assert [entry.arrived for frame in one.frames() for entry in frame.entries] == [START]


def test_what_a_refused_router_has_sent_arrives_after_all_that_was_told(crew: Callable[..., Any]):
    """Its stamps are older than the time that its rival told meanwhile: taken as they are, closed looks would miss these events."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    slow = one.make("router")
    one.clock.move_to(START + 60 * SECOND)
    one.settle()
    told = one.logs[0].snapshot().head.watermark
    assert told == START + 55 * SECOND
    one.send("events", [one.event("f", 20 * SECOND)])
    with pytest.raises(HeadMoved):
        slow.step()
    one.settle()
    head = one.logs[0].snapshot().head
    arrived = one.rows()[2]
    assert head.counts.paired == 2 and arrived[0] == START and arrived[1] > told
