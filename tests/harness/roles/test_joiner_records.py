"""Records that must stop no shard, and labels that must not be lost: what a joiner does with what anybody may have written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.events import Answer, AnswerFrame

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
