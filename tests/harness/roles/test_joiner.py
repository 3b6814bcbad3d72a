"""The joiner on the in-memory doubles: silent lanes, zombies, answers that come late, twice or for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.core.errors import HeadMoved
from harness.core.events import Answer, AnswerFrame
from harness.roles.joiner import MOST_HOLDS, Joiner

SECOND, HOUR = 1_000_000, 3_600_000_000
START = 1_767_571_200_000_000


@pytest.fixture
def one(crew: Callable[..., Any]) -> Any:
    """A rollout of one shard whose challenger does not run."""
    found = crew(shards=1)
    found.silent = {"lane:challenger"}
    return found


def beat(crew: Any, at: int) -> None:
    """Time passes, the router tells, and everybody works."""
    crew.clock.move_to(START + at)
    crew.settle()
    crew.step("router")
    crew.settle()


def test_a_silent_lane_is_named_after_the_pairing_window_and_not_before(one: Any):
    """Its answers are `no_answer` once bus time has passed the window; until then the events are in flight."""
    one.send("events", [one.event(f"e{n}", n) for n in range(3)])
    beat(one, 0)
    beat(one, 30 * SECOND)
    assert one.verdict()["counts"]["in_flight"] == 3
    beat(one, 34 * SECOND)
    verdict = one.verdict()
    assert verdict["counts"]["missing"] == {"challenger": {"no_answer": 3}}
    assert verdict["counts"]["in_flight"] == 0
    assert verdict["lanes"]["challenger"] == {"answered": 0, "no_answer": 3}


def test_that_a_lane_was_silent_stands_in_the_log(one: Any):
    """No counting decision reads a clock: who folds the same records again, whenever, finds the same."""
    one.send("events", [one.event("e", 0)])
    beat(one, 0)
    beat(one, 31 * SECOND)
    log = [one.codec.decode_answers(record.value) for record in one.bus.after(one.topology.predictions(0), -1, 100)]
    said = [(frame.lane, answer.status) for frame in log for answer in frame.answers]
    assert said.count(("challenger", "no_answer")) >= 1
    assert ("incumbent", "no_answer") not in said


def test_an_answer_after_no_answer_is_late_and_changes_no_pair(one: Any):
    """The lane comes back: log order decides, and the verdict does not depend on when it was looked at."""
    one.send("events", [one.event("e", 0)])
    beat(one, 0)
    beat(one, 31 * SECOND)
    before = one.verdict()["counts"]
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    frame = AnswerFrame(lane="challenger", mirror=0, answers=(Answer(key=key, status="answered", outputs=(20.0,)),))
    one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(frame)])
    one.settle()
    verdict = one.verdict()
    assert verdict["counts"] == before
    assert verdict["lanes"]["challenger"] == {"answered": 0, "late": 1, "no_answer": 1}


def test_the_first_answer_wins_and_a_second_one_changes_nothing(crew: Callable[..., Any]):
    """A lane that died before its commit asks its model again, and the model may say something else."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0, new=30.0)])
    one.settle()
    before = one.verdict(), one.rows()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    for status, outputs in (("answered", (12.0,)), ("error", ())):
        again = AnswerFrame(lane="challenger", mirror=0, answers=(Answer(key=key, status=status, outputs=outputs),))
        one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(again)])
    one.settle()
    assert (one.verdict(), one.rows()) == before


def test_the_first_answer_wins_while_another_lane_is_still_awaited(one: Any):
    """The same for an event in flight: what was said first is in the pair, and each lane is tallied once."""
    one.send("events", [one.event("e", 0, new=30.0)])
    one.settle()
    key = next(entry.key for frame in one.frames() for entry in frame.entries)
    for age in (99.0, 55.0):
        again = AnswerFrame(lane="incumbent", mirror=0, answers=(Answer(key=key, status="answered", outputs=(age,)),))
        one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(again)])
    one.settle()
    assert one.verdict()["lanes"]["incumbent"] == {"answered": 1}
    one.silent = set()
    one.settle()
    assert one.verdict()["counts"]["paired"] == 1
    assert [20.0] in one.rows() and [99.0] not in one.rows()


def test_an_answer_for_an_event_that_never_was_counts_nowhere_in_the_accounts(crew: Callable[..., Any]):
    """It is noted beside them; counts and lanes stay what they were."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    before = one.verdict()
    frame = AnswerFrame(lane="challenger", mirror=0, answers=(Answer(key=b"x" * 14, status="answered", outputs=(12.0,)),))
    one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(frame)])
    one.settle()
    assert one.verdict() == before
    assert one.logs[0].snapshot().head.counts.unknown == 1


def test_an_answer_that_is_read_before_its_event_waits_for_it(crew: Callable[..., Any]):
    """Two logs have no common order: the mirror is read up to the position that an answer names."""
    one = crew(shards=1)
    one.send("events", [one.event(f"e{n}", n) for n in range(300 * 40)])
    for name in ("router", "lane:incumbent", "lane:challenger"):
        while one.step(name):
            pass
    one.settle()  # the joiner starts behind all of it
    counts = one.verdict()["counts"]
    assert (counts["paired"], counts["read"]) == (12_000, 12_000)
    assert one.logs[0].snapshot().head.counts.unknown == 0


class Slow:
    """A reader that finds nothing for a while, as behind a broker that has just come back."""

    def __init__(self, reader: Any, n_reads: int) -> None:
        self._reader, self._n_left = reader, n_reads

    def read(self, *, limit: int, wait_s: float) -> Any:
        """Nothing, at first."""
        self._n_left -= 1
        return [] if self._n_left >= 0 else self._reader.read(limit=limit, wait_s=wait_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


@pytest.mark.parametrize("n_reads", [1, 2, 3, 5])
def test_a_mirror_that_is_slow_to_read_costs_no_answer(n_reads: int, crew: Callable[..., Any]):
    """An answer that is read long before its event is not thrown away as one on nothing: it is read again once the event is there."""
    one = crew(shards=1)
    joiner = one.make("joiner:0")
    joiner._mirror_reader = Slow(joiner._mirror_reader, n_reads)
    one.silent = {"joiner:0"}
    one.send("events", [one.event(f"e{n}", n) for n in range(5)])
    one.settle()
    for _ in range(n_reads + 3):
        joiner.step()
    head = one.logs[0].snapshot().head
    assert (head.counts.unknown, head.counts.paired, one.logs[0].snapshot().in_flight) == (0, 5, 0)


def test_an_answer_on_a_frame_that_never_was_holds_nobody_up(crew: Callable[..., Any]):
    """Anybody can write to a topic: a position beyond the end of the mirror is not waited for."""
    one = crew(shards=1)
    stray = AnswerFrame(lane="challenger", mirror=1 << 40, answers=(Answer(key=b"k" * 14, status="timeout"),))
    one.bus.append(one.topology.predictions(0), [one.codec.encode_answers(stray)])
    one.send("events", [one.event("e", 0)])
    one.settle()
    head = one.logs[0].snapshot().head
    assert (head.counts.unknown, head.counts.paired) == (1, 1)


def test_a_zombie_is_refused_and_has_changed_nothing(crew: Callable[..., Any]):
    """A joiner that was paused while another one took over writes nothing: its head is not the stored one."""
    one = crew(shards=1)
    zombie = one.make("joiner:0")
    one.send("events", [one.event(f"e{n}", n) for n in range(5)])
    one.settle()
    before = one.verdict(), one.rows()
    with pytest.raises(HeadMoved):
        zombie.step()
    assert zombie.step() == 0, "it has loaded what stands there now, and has nothing to add"
    assert (one.verdict(), one.rows()) == before


def test_a_label_that_comes_before_its_event_waits_and_joins(crew: Callable[..., Any]):
    """Topics have no common order either."""
    one = crew(shards=1)
    one.send("outcomes", [one.label("e", 0, 17.0)])
    one.settle()
    assert one.verdict()["outcomes"]["waiting"] == 1
    one.send("events", [one.event("e", SECOND)])
    one.settle()
    assert one.verdict()["outcomes"] == {"joined": 1, "waiting": 0, "orphaned": 0, "revised": 0, "invalid": 0}


def test_a_label_whose_event_never_comes_is_orphaned_when_labels_mature(crew: Callable[..., Any]):
    """Not before: the event may still come. And not never: waiting must not grow for ever."""
    one = crew(shards=1)
    one.clock.move_to(START + 5 * HOUR)
    one.send("outcomes", [one.label("nobody", 0, 17.0)])
    one.send("events", [one.event("e", 2 * HOUR)])
    one.settle()
    assert one.verdict()["outcomes"]["waiting"] == 1
    one.send("events", [one.event("f", 2 * HOUR + SECOND)])
    one.settle()
    assert one.verdict()["outcomes"] == {"joined": 0, "waiting": 0, "orphaned": 1, "revised": 0, "invalid": 0}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_last_label_by_time_counts_in_whatever_order_they_come(order: tuple[int, int], crew: Callable[..., Any]):
    """An appeal's finding replaces the reviewer's, also when it is delivered first."""
    one = crew(shards=1)
    one.send("events", [one.event("e", 0)])
    one.settle()
    one.send("outcomes", [one.label("e", at * SECOND, 10.0 + at) for at in order])
    one.settle()
    assert one.verdict()["outcomes"]["revised"] == 1
    assert [12.0] in one.rows()


def patient(crew: Any) -> Joiner:
    """A joiner that waits for the lanes that run beside it."""
    return Joiner(
        crew.rollout, crew.topology, 0, bus=crew.bus, pair_log=crew.logs[0], codec=crew.codec, clock=crew.clock, patience_s=0.001
    )  # fmt: skip


def test_answers_wait_for_those_of_other_lanes_so_that_nothing_is_stored_as_open(crew: Callable[..., Any]):
    """An event that is stored as open and removed again costs ten times one that is paired at once."""
    one = crew(shards=1)
    one.silent = {"joiner:0"}
    one.send("events", [one.event(f"e{n}", n) for n in range(20)])
    one.step("router")
    one.step("lane:incumbent")
    joiner = patient(one)
    assert joiner.step() > 0
    assert one.logs[0].snapshot().head.ordinal == 0
    one.step("lane:challenger")
    joiner.step()
    assert (one.logs[0].snapshot().head.counts.paired, one.logs[0].snapshot().in_flight) == (20, 0)


def test_answers_wait_no_longer_than_there_is_more_to_read(crew: Callable[..., Any]):
    """What is known is folded when nothing more comes: in flight is what nobody has answered, not what nobody has looked at."""
    one = crew(shards=1)
    one.silent = {"joiner:0", "lane:challenger"}
    one.send("events", [one.event(f"e{n}", n) for n in range(20)])
    one.settle()
    joiner = patient(one)
    while joiner.step():
        pass
    assert (one.logs[0].snapshot().head.counts.mirrored, one.logs[0].snapshot().in_flight) == (20, 20)
    assert one.logs[0].snapshot().head.counts.lanes == {"incumbent": {"answered": 20}}


def test_a_lane_that_is_far_behind_holds_nobody_up(crew: Callable[..., Any]):
    """Answers are held for a few reads only, also while others keep coming."""
    one = crew(shards=1)
    one.silent = {"joiner:0", "lane:challenger"}
    joiner, steps = patient(one), 0
    while one.logs[0].snapshot().head.ordinal == 0:
        one.send("events", [one.event(f"e{steps}", steps)])
        one.settle()
        joiner.step()
        steps += 1
        assert steps <= 2 * MOST_HOLDS
    assert steps > 1
    assert one.logs[0].snapshot().in_flight > 0
