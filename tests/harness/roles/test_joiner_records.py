"""Records that must stop no shard, and labels that must not be lost: what a joiner does with what anybody may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.events import Answer, AnswerFrame, Event, Frame, Outcome
from harness.roles.joiner import Joiner

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000


def said(one: Any, lane: str, answer: Answer) -> None:
    """An answer of this lane, in the log."""
    one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(AnswerFrame(lane=lane, mirror=0, answers=(answer,)))])


@pytest.mark.parametrize("outputs", [("a word",), ((1.0, 2.0),)])
def test_an_answer_of_another_type_is_a_bad_output_and_stops_no_shard(outputs: tuple[Any, ...], crew: Callable[..., Any]):
    """Anybody can write to a topic, and a joiner that cannot pack a row would die at it for ever."""
    one = crew(shards=1)
    one.silent = {"lane:challenger"}
    one.send("events", [one.event("e", 0)])
    one.settle()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    said(one, "challenger", Answer(key=key, status="answered", outputs=outputs))
    one.settle()
    assert one.verdict()["counts"]["missing"] == {"challenger": {"bad_output": 1}}


@pytest.mark.parametrize("value", [(1e300,), (1.0, 2.0)])
def test_scores_that_fit_no_row_are_a_bad_output(value: tuple[Any, ...], crew: Callable[..., Any]):
    """A score is kept in four bytes; one beyond them is no score."""
    outputs = {"s": {"type": "scores", "labels": ["x"], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}}
    gates = [{"name": "answers", "metric": {"missing": "challenger"}, "below": 0.9}]
    one = crew(shards=1, outputs=outputs, policies={"p": {"output": "s", "of": "x", "at_least": 0.5}}, harms={}, gates=gates)
    one.silent = {"lane:challenger"}
    one.send("events", [one.event("e", 0, old=[0.5])])
    one.settle()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    said(one, "challenger", Answer(key=key, status="answered", outputs=(value,)))
    one.settle()
    assert one.verdict()["counts"]["missing"] == {"challenger": {"bad_output": 1}}


@pytest.mark.parametrize("status", ["answered", "timeout"])
def test_a_latency_that_fits_no_row_is_an_endless_one(status: str, crew: Callable[..., Any]):
    """A recorded model may say anything of its latency; too large is slow, and no reason to die."""
    one = crew(shards=1)
    one.silent = {"lane:challenger"}
    one.send("events", [one.event("e", 0)])
    one.settle()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    said(one, "challenger", Answer(key=key, status=status, outputs=(20.0,) if status == "answered" else (), latency_ms=1e300))
    one.settle()
    assert one.verdict()["lanes"]["challenger"] == {"answered": int(status == "answered"), **({} if status == "answered" else {status: 1})}
    assert max(row[0] for row in one.rows() if row and isinstance(row[0], float)) > 1e38


def test_a_label_with_a_time_before_1970_is_joined_and_kept(crew: Callable[..., Any]):
    """Go writes year 1 for a time that nobody set: the label must not be lost, nor be counted twice, whenever it comes."""
    rows = []
    for before in (True, False):
        one = crew(shards=1)
        sent = [lambda one=one: one.send("events", [one.event("e", 0)]), lambda one=one: one.send("outcomes", [zero(one)])]
        for send in sent[::-1] if before else sent:
            send()
            one.settle()
        one.send("outcomes", [one.label("e", HOUR, 17.0)] if before else [])
        one.settle()
        outcomes = one.verdict()["outcomes"]
        assert (outcomes["joined"], outcomes["revised"]) == (1, int(before))
        rows.append(one.rows())
    assert [12.0] in rows[1] and [17.0] in rows[0]


def zero(one: Any) -> bytes:
    """A label whose time is Go's zero."""
    record: bytes = one.label("e", 0, 12.0)
    return record.replace(b"2026-01-05T00:00:00Z", b"0001-01-01T00:00:00Z")


def test_no_label_is_given_up_before_every_partition_of_the_events_has_spoken(crew: Callable[..., Any]):
    """When a rollout starts on topics with a past, one partition is read before another: its labels wait for it."""
    one = crew(shards=1, partitions=2)
    one.clock.move_to(START + 100 * HOUR)
    router = one._made["router"] = one.make("router")
    router.hold(("events/0", "outcomes/0"))
    one.send("events/0", [one.event("a", 50 * HOUR)])
    one.send("outcomes", [one.label("b", HOUR, 17.0)])
    one.settle()
    one.send("events/0", [one.event("c", 51 * HOUR)])
    one.settle()
    one.send("events/1", [one.event("b", 0)])
    router.hold(("events/0", "events/1", "outcomes/0"))
    one.settle()
    outcomes = one.verdict()["outcomes"]
    assert (outcomes["joined"], outcomes["orphaned"]) == (1, 0)


def test_what_is_trimmed_was_done_with_a_while_ago(crew: Callable[..., Any]):
    """A store that comes back after a power cut may have lost its last second: what it needs again must still be in the logs."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    before = one.logs[0]._head
    one.clock.move_to(START + 10 * SECOND)
    one.send("events", [one.event("f", 9 * SECOND)])
    one.settle()
    assert before.mirror < one.logs[0].snapshot().head.mirror
    assert one.bus.after(one.topology.mirror(0), before.mirror, 1), "no Overrun: still there"
    one.clock.move_to(START + 20 * SECOND)
    one.settle()
    assert one.bus._first[one.topology.mirror(0)] > 0, "and later it goes"


def test_no_long_text_of_a_segment_is_kept(crew: Callable[..., Any]):
    """A field that holds a text by mistake must not carry content into the store, nor fill it."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0, data={"old": 20.0, "new": 20.0, "region": "x" * 257}), one.event("f", 1)])
    one.settle()
    assert list(one.logs[0].words()) == ["other", "SE"]


@pytest.mark.parametrize("changes", [
    {"config": "f" * 16}, {"segments": ("SE", "female")}, {"segments": ()}, {"decisions": ("block",)}, {"arrived": 1 << 62},
])  # fmt: skip
def test_a_frame_of_another_config_is_left_out_counted_and_said(changes: dict[str, Any], crew: Callable[..., Any], capsys: Any):
    """Folded as what it is not it would change numbers without a word, or stop the shard at every start; it does neither, and holds."""
    one = crew(shards=1)
    event = Event(position=1, key=bytes(14), unit=7, id="x", arrived=START, segments=("SE",), decisions=(), payload=one.event("x", 0))
    written = {key: value for key, value in changes.items() if key != "config"}
    config = changes.get("config", one.rollout.version)
    frame = Frame(config=config, source="events/0", sent=START, upto=START, entries=(event._replace(**written),))
    one.bus.append(one.topology.mirror(0), [one.codec.encode_frame(frame)])
    one.send("events", [one.event("e", 0)])
    one.settle()
    found = one.verdict()
    assert (found["counts"]["paired"], found["counts"]["mirrored"]) == (1, 1)
    assert any("overrun" in reason for reason in found["reasons"])
    said_so = capsys.readouterr()
    assert "mirror.foreign" in said_so.out + said_so.err


def test_no_lane_asks_its_model_about_events_of_another_config(crew: Callable[..., Any]):
    """They are somebody else's events, and what is read of them would be noise."""
    one = crew(shards=1)
    event = Event(position=1, key=bytes(14), unit=7, id="x", arrived=START, segments=("SE",), decisions=(), payload=one.event("x", 0))
    frame = Frame(config="f" * 16, source="events/0", sent=START, upto=START, entries=(event,))
    one.bus.append(one.topology.mirror(0), [one.codec.encode_frame(frame)])
    one.settle()
    assert [model.calls for model in one.models.values()] == [[], []]


@pytest.mark.parametrize("truths", [(), (1.0, 2.0)])
def test_an_outcome_of_another_shape_stops_no_shard(truths: tuple[float, ...], crew: Callable[..., Any]):
    """A label that fits no row would be an error each time the joiner comes back to it."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    label = Outcome(position=1, key=key[:10], time=START, number=0, truths=truths)
    frame = Frame(config=one.rollout.version, source="outcomes/0", sent=START, upto=0, entries=(label,))
    one.bus.append(one.topology.mirror(0), [one.codec.encode_frame(frame)])
    one.send("outcomes", [one.label("e", HOUR, 17.0)])
    one.settle()
    assert one.verdict()["outcomes"]["joined"] == 1


def test_of_labels_whose_events_never_come_a_shard_keeps_so_many_and_no_more(crew: Callable[..., Any]):
    """An outcomes topic that others use too must not fill the store, also before the first event tells the time: the oldest go."""
    one = crew(shards=1)
    one.silent = {"joiner:0"}
    one.send("outcomes", [one.label(f"never {n}", n * SECOND, 17.0) for n in range(600)])
    one.settle()
    joiner = Joiner(
        one.rollout, one.topology, 0, bus=one.bus, pair_log=one.logs[0], codec=one.codec, clock=one.clock, most_waiting=100
    )  # fmt: skip
    while joiner.step():
        pass
    outcomes = one.verdict()["outcomes"]
    assert outcomes["waiting"] <= 100 and outcomes["waiting"] + outcomes["orphaned"] == 600
    waiting = one.logs[0].due(1 << 62, 600)
    assert len(waiting) == outcomes["waiting"]
    one.send("events", [one.event("never 599", 0)])
    one.silent = set()
    one.settle()
    assert one.verdict()["outcomes"]["joined"] == 1
