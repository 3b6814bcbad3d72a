"""A lane on the in-memory bus: what becomes of replies, when it is too late to ask, and what it asks again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.columns import AnswerRun

SECOND = 1_000_000
START = 1_767_571_200_000_000


def tallies(crew: Any) -> dict[str, int]:
    """The challenger's, without zeros."""
    found: dict[str, int] = crew.verdict()["lanes"]["challenger"]
    return {status: n for status, n in found.items() if n}


@pytest.mark.parametrize("said", [float("nan"), float("inf"), -1, 120.5, True, [20], {"age": 20}, 10**400])
def test_an_answer_that_is_no_output_is_a_bad_output(said: object, crew: Callable[..., Any]):
    """Whatever a model says, only a finite number inside the range becomes an age."""
    one = crew(shards=1)
    one.models["challenger"].call = lambda calls, timeout_s: [reply(said) for _ in calls]
    one.send("events", [one.event("e", 0)])
    one.settle()
    assert tallies(one) == {"bad_output": 1}


def reply(said: object) -> Any:
    """A reply that was answered."""
    from harness.ports.model import Reply

    return Reply(status="answered", answer={"age": said})


@pytest.mark.parametrize("status", ["timeout", "error", "bad_output", "no_answer"])
def test_what_is_no_answer_keeps_its_reason(status: str, crew: Callable[..., Any]):
    """Gates read the reasons: a model that is slow is another problem than one that is wrong."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0, new=status), one.event("f", 1)])
    one.settle()
    assert tallies(one) == {status: 1, "answered": 1}


def test_a_frame_older_than_the_pairing_window_is_shed_without_a_call(crew: Callable[..., Any]):
    """A lane that is behind must catch up, not answer what nobody waits for."""
    one = crew(shards=1)
    one.silent = {"lane:challenger", "joiner:0"}
    one.send("events", [one.event("old", 0)])
    one.settle()
    one.clock.move_to(START + 31 * SECOND)
    one.send("events", [one.event("new", SECOND)])
    one.settle()
    one.silent = set()
    one.settle()
    assert one.models["challenger"].calls == ["new"]
    assert tallies(one) == {"shed": 1, "answered": 1}


def test_a_lane_that_died_before_its_commit_asks_again_with_the_same_id(crew: Callable[..., Any], crash_once: Any):
    """The event's id goes along as idempotency key; the pair has one answer all the same."""
    asked = []
    for at in range(1, 12):
        one = crew(shards=1, role="lane", nemesis=crash_once(at))
        one.send("events", [one.event("e", 0)])
        one.settle()
        assert one.verdict()["counts"]["paired"] == 1
        asked.append(one.models["challenger"].calls + one.models["incumbent"].calls)
    assert {tuple(set(calls)) for calls in asked} == {("e",)}
    assert {len(calls) for calls in asked} == {2, 3}, "some moments make it ask again"


def test_the_replica_is_asked_about_its_share_of_events_and_nobody_waits_for_the_rest(crew: Callable[..., Any]):
    """The noise floor costs a share of the calls; which events is decided by their hash, the same in every role."""
    models = {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}}
    one = crew(shards=2, models={**models, "replica": {"of": "incumbent", "percent": 30}})
    one.send("events", [one.event(f"e{n}", n) for n in range(500)])
    one.silent = {"lane:replica"}
    one.settle()
    counts = one.verdict()["counts"]
    in_flight = counts["in_flight"]
    assert 100 < in_flight < 200
    assert counts["paired"] + in_flight == 500
    one.models["replica"] = one.models["incumbent"]
    replica = one.make("lane:replica")
    while replica.step():
        pass
    one.settle()
    verdict = one.verdict()
    assert verdict["lanes"]["replica"] == {"answered": in_flight}
    assert verdict["counts"]["paired"] == 500


def test_why_an_output_is_bad_is_said_once_a_cause_and_never_with_its_value(crew: Callable[..., Any], capsys: Any):
    """A count of bad outputs does not tell a wrong pointer from a model that says years in words."""
    one = crew(shards=1)
    said = [131, 1e9, [5.5], None, "timeout", {"secret": 1}, 20.0, 20.0, 140]
    one.send("events", [one.event(f"e{n}", n, new=value) for n, value in enumerate(said)])
    one.settle()
    lines = [line for line in "".join(capsys.readouterr()).splitlines() if "answer.bad_output" in line]
    assert one.verdict()["lanes"]["challenger"] == {"answered": 2, "bad_output": 6, "timeout": 1}
    causes = ["got another number", "got a list of 1", "got null", "got an object"]
    assert len(lines) == len(causes)
    for line, cause in zip(lines, causes, strict=True):
        assert cause in line and "age at /age: expected a number from 0 to 120" in line and "challenger" in line
    assert not any(word in line for line in lines for word in ("131", "140", "secret", "5.5"))


def test_a_frame_of_many_events_is_answered_as_each_event_by_itself(crew: Callable[..., Any]):
    """Many answers travel as columns; a bad one and a missing one among them stay what they are, and cost the others nothing."""
    one = crew(shards=1)
    said: list[object] = [float(n) for n in range(40)]
    said[7], said[9], said[11] = "timeout", 500.0, 30
    one.send("events", [one.event(f"e{n}", n, new=each) for n, each in enumerate(said)])
    one.settle()
    (found,) = [frame for frame in one.answers() if frame.lane == "challenger"]
    assert isinstance(found.answers, AnswerRun)
    keys = [entry.key for frame in one.frames() for entry in frame.entries]
    assert [answer.key for answer in found.answers] == keys
    statuses = ["answered"] * 40
    statuses[7], statuses[9] = "timeout", "bad_output"
    assert [answer.status for answer in found.answers] == statuses
    assert [answer.outputs for answer in found.answers] == [() if n in (7, 9) else (30.0,) if n == 11 else (float(n),) for n in range(40)]
    assert tallies(one) == {"answered": 38, "timeout": 1, "bad_output": 1}
