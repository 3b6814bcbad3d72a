"""The router on the in-memory bus: stamps, frames, samples, heartbeats."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from harness.core.errors import HeadMoved, TooLarge
from harness.core.events import Event, Invalid
from harness.roles.router import Router

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000


def entries(crew: Any) -> list[Any]:
    """What stands in the mirror, shard after shard."""
    return [entry for shard in range(crew.topology.shards) for frame in crew.frames(shard) for entry in frame.entries]


def test_arrival_rises_strictly_along_a_source_whatever_the_clocks_of_producers_said(crew: Callable[..., Any]):
    """The order of arrival is that of the source; two events never share a moment, so every fold has one order."""
    one = crew(shards=1)
    rng = random.Random(1)
    one.clock.move_to(START + 10 * HOUR)
    one.send("events", [one.event(f"e{n}", rng.randrange(HOUR)) for n in range(200)])
    one.settle()
    arrived = [entry.arrived for entry in entries(one)]
    assert len(arrived) == 200
    assert all(a < b for a, b in pairwise(arrived))
    assert [entry.id for entry in entries(one)] == [f"e{n}" for n in range(200)]


def test_an_event_that_states_a_time_to_come_arrives_when_the_bus_took_it(crew: Callable[..., Any]):
    """A producer with a wrong clock must not push record time, and with it every label's maturity, into the future."""
    one = crew(shards=1)
    one.send("events", [one.event("future", 1000 * HOUR), one.event("past", -HOUR), one.event("next", -HOUR)])
    one.settle()
    assert [entry.arrived - START for entry in entries(one)] == [0, 1, 2]


@pytest.mark.parametrize("changes", [{"recordedtime": "2026-01-04T00:00:00Z"}, {"time": "2026-01-04T00:00:00Z"}])
def test_the_recorded_time_comes_before_the_time(changes: dict[str, str], crew: Callable[..., Any]):
    """Arrival is the extension `recordedtime`, else `time`."""
    one = crew(shards=1)
    one.send("events", [one.event("e", -5 * SECOND, **changes)])
    one.settle()
    assert entries(one)[0].arrived == START - 24 * HOUR


def test_an_event_without_any_time_arrives_when_the_bus_took_it(crew: Callable[..., Any]):
    """`time` is optional in CloudEvents."""
    one = crew(shards=1)
    record = json.loads(one.event("e", 0))
    del record["time"]
    one.send("events", [json.dumps(record).encode()])
    one.settle()
    assert entries(one)[0].arrived == START


def test_an_unreadable_record_keeps_its_place_and_nothing_of_its_content(crew: Callable[..., Any]):
    """It is known by its position; its bytes stay behind."""
    one = crew(shards=1)
    one.send("events", [b'{"secret": "x', one.event("e", 0), b'{"id": "secret"}'])
    one.settle()
    bad, good, also = entries(one)
    assert isinstance(bad, Invalid) and isinstance(good, Event) and isinstance(also, Invalid)
    assert bad.position < good.position < also.position
    assert "secret" not in bad.reason + also.reason


def test_a_frame_holds_at_most_256_entries(crew: Callable[..., Any]):
    """A frame is what a joiner takes or refuses at once."""
    one = crew(shards=1)
    one.send("events", [one.event(f"e{n}", n) for n in range(600)])
    one.settle()
    assert [len(frame.entries) for frame in one.frames() if frame.entries] == [256, 256, 88]


def test_a_frame_holds_at_most_512_kib_of_payload(crew: Callable[..., Any]):
    """Large events make short frames; one that is larger than a frame has one of its own."""
    one = crew(shards=1)
    sizes = [200_000, 200_000, 200_000, 700_000, 10]
    events = [one.event(f"e{n}", n, data={"text": "x" * size}) for n, size in enumerate(sizes)]
    one.send("events", events)
    one.settle()
    assert [len(frame.entries) for frame in one.frames() if frame.entries] == [2, 1, 1, 1]
    assert [entry.payload for entry in entries(one)] == events


def test_the_last_frame_of_a_run_says_how_far_the_source_has_come(crew: Callable[..., Any]):
    """`upto` is what lets a shard resolve: nothing of this source comes later at or before it, and no frame may promise too much."""
    one = crew(shards=3)
    one.clock.move_to(START + 5000 * SECOND)
    one.send("events", [one.event(f"e{n}", n * SECOND) for n in range(1_000)])
    one.settle()
    last = max(entry.arrived for entry in entries(one))
    for shard in range(3):
        frames = [frame for frame in one.frames(shard) if frame.source == "events/0"]
        assert frames[-1].upto == last
        for at, frame in enumerate(frames):
            later = [entry.arrived for after in frames[at + 1 :] for entry in after.entries]
            assert all(arrived > frame.upto for arrived in later)


def test_an_event_goes_to_the_shard_of_its_outcomes(crew: Callable[..., Any]):
    """Outcomes know the event's id only, so the id alone decides, whatever the source and whatever partition it came from."""
    one = crew(shards=4)
    one.send("events", [one.event(f"e{n}", n, source=f"/s{n % 3}") for n in range(100)])
    one.send("outcomes", [one.label(f"e{n}", n, 20.0) for n in range(100)])
    one.settle()
    used = 0
    for shard in range(4):
        its = [entry for frame in one.frames(shard) for entry in frame.entries]
        events = {entry.key[:10] for entry in its if isinstance(entry, Event)}
        assert events == {entry.key for entry in its if not isinstance(entry, Event)}
        used += bool(events)
    assert used == 4
    assert one.verdict()["outcomes"]["joined"] == 100


def test_a_sample_takes_whole_units_and_counts_the_rest(crew: Callable[..., Any]):
    """Unsampled events are read and counted, go nowhere, and a larger percent keeps everyone whom a smaller one took."""
    taken = {}
    for percent in (20, 50):
        one = crew(shards=1, sample={"percent": percent})
        one.send("events", [one.event(f"e{n}", n, subject=f"unit {n % 100}") for n in range(400)])
        one.settle()
        ids = {entry.id for entry in entries(one)}
        by_unit = [sum(f"e{n}" in ids for n in range(unit, 400, 100)) for unit in range(100)]
        assert set(by_unit) == {0, 4}
        counts = one.verdict()["counts"]
        assert (counts["read"], counts["unsampled"], counts["mirrored"]) == (400, 400 - len(ids), len(ids))
        taken[percent] = ids
    assert 0 < len(taken[20]) < len(taken[50]) < 400
    assert taken[20] < taken[50]


def test_an_idle_router_tells_every_shard_the_time(crew: Callable[..., Any]):
    """Heartbeats move bus time, by which silence is known, also where no event ever comes."""
    one = crew(shards=2)
    one.settle()
    before = [len(one.frames(shard)) for shard in range(2)]
    one.clock.move_to(START + SECOND)
    one.step("router")
    for shard in range(2):
        new = one.frames(shard)[before[shard] :]
        assert {frame.source for frame in new} == {"events/0", "outcomes/0"}
        assert all(frame.sent == START + SECOND and not frame.entries for frame in new)
    one.step("router")
    assert len(one.frames(0)) == before[0] + 2, "one a half second is enough"


def test_behind_a_silent_source_time_runs_on_only_after_a_grace(crew: Callable[..., Any]):
    """A source that pauses for a moment must not mature labels early; one that is silent must not hold the others up for ever."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    one.clock.move_to(START + 4 * SECOND)
    one.step("router")
    assert one.frames()[-1].upto == START or one.frames()[-2].upto == START
    one.clock.move_to(START + 60 * SECOND)
    one.step("router")
    assert max(frame.upto for frame in one.frames()) == START + 55 * SECOND


def test_two_routers_never_both_move_a_source(crew: Callable[..., Any]):
    """The zombie's frames are known redeliveries, and its compare-and-set is refused."""
    one = crew(shards=1)
    zombie = one.make("router")
    one.send("events", [one.event(f"e{n}", n) for n in range(5)])
    one.settle()
    with pytest.raises(HeadMoved):
        zombie.step()
    counts = one.verdict()["counts"]
    assert (counts["read"], counts["paired"], counts["duplicates"]) == (5, 5, 0)


def test_a_zombie_router_announces_no_time_that_was_not_stored(crew: Callable[..., Any]):
    """A shard that heard a time may close the looks before it; so the time is stored first, and who is refused has announced nothing."""
    one = crew(shards=1)
    zombie = one.make("router")
    one.send("events", [one.event("e", 0)])
    one.settle()
    zombie.hold(("events/0", "outcomes/0"))
    one.clock.move_to(START + 10 * SECOND)
    one.step("router")
    stored = one.intake.load("events/0").arrived
    one.clock.move_to(START + 60 * SECOND)
    with pytest.raises(HeadMoved):
        zombie.step()
    assert one.intake.load("events/0").arrived == stored
    assert max(frame.upto for frame in one.frames()) == stored == START + 5 * SECOND


def test_records_that_were_trimmed_before_they_were_read_hold_the_verdict(crew: Callable[..., Any]):
    """Lost input is counted as an overrun and can never promote; what is still there is read."""
    one = crew(shards=1)
    one.send("events", [one.event("first", 0)])
    one.settle()
    one.send("events", [one.event(f"e{n}", n + 1) for n in range(4)])
    partition = one.topology.sources["events/0"]
    one.bus.trim(partition, 2)
    one.settle()
    verdict = one.verdict()
    assert verdict["counts"]["read"] == 3
    assert verdict["verdict"] == "hold"
    assert "overrun" in verdict["reasons"][0]


class Narrow:
    """The mirror of a cluster that takes no record above a size."""

    def __init__(self, bus: Any, most: int) -> None:
        self._bus, self._most = bus, most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def append(self, partition: Any, values: Any) -> None:
        for value in values:  # those before a refused one are there, as on a real bus
            if len(value) > self._most:
                raise TooLarge("a record is larger than its topic takes")
            self._bus.append(partition, [value])


@pytest.mark.parametrize("most", [2_000, 20_000])
def test_an_event_that_the_mirror_does_not_take_is_invalid_and_stops_nobody(most: int, crew: Callable[..., Any]):
    """One producer with a huge payload must not stop the rollout, nor be lost without a count; its neighbours in the frame are paired."""
    one = crew(shards=1)
    router = Router(one.rollout, one.topology, bus=Narrow(one.bus, most), intake=one.intake, codec=one.codec, clock=one.clock)
    records = [one.event(f"e{n}", n * SECOND) for n in range(40)]
    records[7] = one.event("huge", 7 * SECOND, padding="x" * 30_000)
    one.send("events", records)
    while router.step():
        pass
    one.settle()
    found = one.verdict()["counts"]
    assert (found["read"], found["invalid"], found["paired"], found["duplicates"]) == (40, 1, 39, 0)
    assert one.intake.load("events/0").position == one.bus.ends([one.topology.sources["events/0"]])[one.topology.sources["events/0"]]
