"""The fold that pairs, counts and labels: what becomes of every entry, whatever the order, the repeats and the crashes."""

from __future__ import annotations

import pytest

from harness.core.events import AnswerFrame, Frame, Invalid, InvalidOutcome
from harness.core.pairing import NEVER
from harness.testing import samples
from harness.testing.samples import SECOND, START, answer, event, outcome, request
from harness.testing.shard import BOTH, Shard


@pytest.fixture
def shard():
    return Shard()


# ------------------------------------------------------------------------------------------------------------------ events
def test_an_event_is_a_pair_when_every_lane_has_answered(shard):
    """Not before: half a pair is in flight, and is counted from what is stored."""
    shard.read(event(1, "a"))
    shard.say("incumbent", answer("a", age=21.0))
    assert (shard.counts.mirrored, shard.counts.paired, shard.in_flight) == (1, 0, 1)
    shard.say("challenger", answer("a", age=17.0))
    assert (shard.counts.mirrored, shard.counts.paired, shard.in_flight) == (1, 1, 0)
    assert (shard.row(0)["age.incumbent"], shard.row(0)["age.challenger"]) == (21.0, 17.0)


def test_a_frame_sent_again_changes_nothing_and_a_second_copy_is_a_duplicate(shard):
    """The router repeats frames after a crash; a producer that sends an event twice is something else, and is counted."""
    shard.read(event(1, "a"))
    shard.read(event(1, "a"))
    assert (shard.counts.mirrored, shard.counts.duplicates) == (1, 0)
    shard.read(event(2, "a"))
    shard.pair("a")
    shard.read(event(3, "a"), event(4, "a"))
    assert (shard.counts.mirrored, shard.counts.duplicates, shard.counts.paired) == (1, 3, 1)


def test_the_same_id_of_another_source_is_another_event(shard):
    """CloudEvents identify an event by source and id; answers and rows must not be mixed up."""
    shard.read(event(1, "a"), event(2, "a", source="there"))
    shard.pair("a")
    assert (shard.counts.mirrored, shard.counts.duplicates, shard.counts.paired, shard.in_flight) == (2, 0, 1, 1)
    shard.say("challenger", answer("a", status="no_answer"))
    for lane in BOTH:
        shard.say(lane, answer("a", source="there", age=40.0))
    assert (shard.counts.paired, shard.counts.unknown) == (2, 0)
    assert (shard.row(0)["age.challenger"], shard.row(1)["age.challenger"]) == (20.0, 40.0)


def test_unreadable_entries_are_mirrored_and_invalid_once(shard):
    """They are known by their position alone, so that a frame sent again does not count them twice."""
    for _ in range(2):
        shard.read(Invalid(position=1, reason="no JSON"), InvalidOutcome(position=2, reason="no JSON"))
    assert (shard.counts.mirrored, shard.counts.invalid, shard.counts.invalid_outcomes) == (1, 1, 1)


# ----------------------------------------------------------------------------------------------------------------- answers
def test_the_first_answer_in_the_log_wins(shard):
    """A lane that died before its commit asks its model again; another answer then must not change what was counted."""
    shard.read(event(1, "a"))
    shard.say("challenger", answer("a", age=17.0), answer("a", age=50.0))
    shard.say("challenger", answer("a", status="error"))
    shard.say("incumbent", answer("a"))
    shard.say("challenger", answer("a", age=60.0))
    assert shard.counts.lanes == {"challenger": {"answered": 1}, "incumbent": {"answered": 1}}
    assert (shard.row(0)["age.challenger"], shard.counts.unknown) == (17.0, 0)


@pytest.mark.parametrize("resolved", [False, True])
def test_an_answer_after_no_answer_is_late_before_and_after_its_row_is_written(resolved):
    """When the row was written is chance, and must not change a count."""
    shard = Shard()
    shard.read(event(1, "a"))
    shard.say("challenger", answer("a", status="no_answer"))
    if resolved:
        shard.say("incumbent", answer("a"))
    shard.say("challenger", answer("a"))
    if not resolved:
        shard.say("incumbent", answer("a"))
    assert shard.counts.lanes["challenger"] == {"no_answer": 1, "late": 1}
    assert shard.counts.missing == {"challenger": {"no_answer": 1}}


def test_answers_that_nobody_asked_for_are_unknown_and_change_nothing(shard):
    """On an event that never was, or by a lane that was not asked, before and after the row is written."""
    shard.read(event(1, "a"), event(2, "b"))
    shard.say("replica", answer("a"))
    shard.pair("b")
    shard.say("replica", answer("b"))
    assert (shard.counts.paired, shard.counts.unknown) == (1, 2)
    shard.pair("a")
    shard.say("replica", answer("a"))
    shard.say("challenger", answer("never"))
    assert (shard.counts.paired, shard.counts.unknown, shard.counts.lanes.keys()) == (2, 4, set(BOTH))


@pytest.mark.parametrize(
    ("incumbent", "challenger", "charged"),
    [
        ("answered", "timeout", {"challenger": {"timeout": 1}}),
        ("error", "answered", {"incumbent": {"error": 1}}),
        ("bad_output", "timeout", {"incumbent": {"bad_output": 1}}),
        ("shed", "shed", {"incumbent": {"shed": 1}}),
    ],
)
def test_a_missing_event_is_charged_once_to_the_incumbent_first(shard, incumbent, challenger, charged):
    """Each event has exactly one class; without the incumbent's answer the challenger's could not be compared anyway."""
    shard.read(event(1, "a"))
    shard.say("challenger", answer("a", status=challenger))
    shard.say("incumbent", answer("a", status=incumbent))
    assert (shard.counts.missing, shard.counts.paired, shard.in_flight) == (charged, 0, 0)
    assert shard.counts.lanes == {"incumbent": {incumbent: 1}, "challenger": {challenger: 1}}


def test_the_replica_is_waited_for_and_never_charged():
    """It measures noise: its silence must not make the challenger, or the pair, look worse."""
    shard = Shard(replica_percent=100.0)
    shard.read(event(1, "a"))
    shard.pair("a")
    assert (shard.counts.paired, shard.in_flight) == (0, 1)
    shard.say("replica", answer("a", status="timeout"))
    assert (shard.counts.paired, shard.counts.missing, shard.counts.lanes["replica"]) == (1, {}, {"timeout": 1})


def test_rows_are_written_in_the_order_of_events_and_the_settled_wait(shard):
    """One order: what was slow is not what was answered last; an event behind an open one is settled but not resolved."""
    shard.read(event(1, "slow"), event(2, "fast"))
    shard.pair("fast")
    assert (shard.counts.paired, shard.head.resolved, shard.in_flight) == (1, 0, 1)
    shard.crash()
    shard.pair("slow")
    assert (shard.counts.paired, shard.head.resolved, shard.in_flight, shard.fold.n_open) == (2, 2, 0, 0)
    assert [shard.row(n)["key"].tobytes() for n in range(2)] == [samples.key("slow"), samples.key("fast")]


def test_silent_lanes_are_named_when_bus_time_has_passed_the_window(shard):
    """A timeout is a record that the joiner asks for; bus time, not a clock, says when, and heartbeats move it."""
    shard.read(event(1, "a"), event(2, "b"), sent=START)
    shard.read(event(3, "c"), sent=START + 20 * SECOND)
    shard.say("incumbent", answer("a"), answer("b"))
    window = 30 * SECOND
    shard.read(sent=START + window)
    assert shard.fold.overdue(window) == []
    shard.read(sent=START + window + 1)
    assert shard.fold.overdue(window) == [(1, "challenger", (samples.key("a"), samples.key("b")))]
    shard.crash()
    assert shard.fold.overdue(window) == [(1, "challenger", (samples.key("a"), samples.key("b")))]


def test_an_event_that_comes_after_a_routers_clock_was_ahead_is_open_for_the_whole_window(shard):
    """Bus time does not go back: by the clock that was set right again each event would be overdue as it comes, for as long as the jump."""
    window = 30 * SECOND
    shard.read(sent=START + 10_000 * SECOND)
    shard.read(event(1, "a"), sent=START)
    shard.crash()
    assert shard.fold.overdue(window) == []
    shard.read(sent=START + 10_000 * SECOND + window + 1)
    assert len(shard.fold.overdue(window)) == 2


def test_model_versions_are_counted_by_answer_frames(shard):
    """A model that changes under a rollout changes the question; the analyst must see it."""
    shard.read(event(1, "a"))
    shard.say("challenger", answer("a"), version="v1")
    shard.say("challenger", version="v2")
    assert shard.counts.versions == {"challenger": {"v1": 1, "v2": 1}}


# ---------------------------------------------------------------------------------------------------------------- outcomes
@pytest.mark.parametrize("when", ["early", "open", "resolved"])
def test_an_outcome_is_joined_whenever_it_comes(when):
    """Before its event, while that is open, or long after its row was written: the row and the counts are the same."""
    shard = Shard()
    if when == "early":
        shard.read(outcome(1, "a", time=START), source="outcomes/0")
        assert (shard.counts.waiting, shard.counts.joined) == (1, 0)
        shard.crash()
    shard.read(event(2, "a"))
    if when == "open":
        shard.read(outcome(3, "a", time=START), source="outcomes/0")
    shard.pair("a")
    if when == "resolved":
        shard.read(outcome(3, "a", time=START), source="outcomes/0")
    assert (shard.counts.joined, shard.counts.waiting, shard.counts.revised, shard.counts.orphaned) == (1, 0, 0, 0)
    assert (shard.row(0)["truth.age"], shard.row(0)["label_time"], shard.row(0)["propensity"]) == (17.0, START, 0.5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("n_before", [0, 1, 2, 3])
def test_the_last_outcome_by_time_counts_whatever_order_they_come_in(order, n_before):
    """A reviewer corrects a label: the newest finding counts, ties go to the higher number, and each after the first is `revised`."""
    shard = Shard()
    outcomes = [
        {"time": START + 1, "number": 5, "age": 10.0},
        {"time": START + 2, "number": 1, "age": 11.0},
        {"time": START + 2, "number": 2, "age": 12.0},
    ]
    shard.read(event(1, "a"))
    for n, index in enumerate(order):
        if n == n_before:
            shard.pair("a")
        shard.read(outcome(n, "a", **outcomes[index]), source="outcomes/0")
    if n_before == 3:
        shard.pair("a")
    assert (shard.row(0)["truth.age"], shard.counts.joined, shard.counts.revised) == (12.0, 1, 2)


def test_two_outcomes_of_one_fold_after_the_row_both_count(shard):
    """The second must see the first's label, which the store does not hold yet."""
    shard.read(event(1, "a"))
    shard.pair("a")
    found = [outcome(n, "a", time=START + 9 - n, age=float(n)) for n in (2, 3, 4)]
    shard.read(*found, source="outcomes/0")
    assert (shard.row(0)["truth.age"], shard.counts.joined, shard.counts.revised) == (2.0, 1, 2)


def test_an_early_outcome_given_up_is_orphaned_unless_its_event_came(shard):
    """Its event never came within the time to live; what arrives in the same fold is not given up."""
    shard.read(outcome(1, "a"), outcome(2, "a"), outcome(3, "b"), source="outcomes/0")
    due = shard.store.due(1 << 60, 9)
    shard.read(event(4, "b"), due=due)
    assert (shard.counts.orphaned, shard.counts.waiting, shard.counts.joined) == (2, 0, 1)
    assert list(shard.store.due(1 << 60, 9)) == []


def test_an_outcome_whose_row_has_expired_is_orphaned(shard):
    """There is nothing left to put it on; it is counted, not lost."""
    shard.read(event(1, "a"))
    shard.pair("a")
    shard.store.expire(1)
    shard.read(outcome(2, "a"), source="outcomes/0")
    assert (shard.counts.orphaned, shard.counts.joined) == (1, 0)


def test_a_label_on_a_row_that_labelled_gates_have_folded_is_noted(shard):
    """They must fold anew: their numbers are those of the labels, not of when somebody looked."""
    shard = Shard(matures_s=10.0)
    shard.read(event(1, "a"))
    shard.pair("a")
    shard.read(outcome(2, "a"), source="outcomes/0")
    assert shard.head.late_labels == 0
    shard.read(upto=START + 11 * SECOND)
    shard.read(outcome(3, "a"), source="outcomes/0")
    assert shard.head.late_labels == 1


# --------------------------------------------------------------------------------------------------------------- watermark
def test_the_watermark_stands_before_the_first_event_that_is_not_resolved(shard):
    """The analyst folds up to it: nothing that is still open may lie behind."""
    assert shard.head.watermark == NEVER
    shard.read(event(1, "a"), event(2, "b"), upto=START + 5 * SECOND)
    assert shard.head.watermark == START + SECOND - 1
    shard.pair("b")
    assert shard.head.watermark == START + SECOND - 1
    shard.pair("a")
    assert shard.head.watermark == START + 5 * SECOND


def test_the_watermark_waits_for_every_source_of_events(shard):
    """A partition that has not spoken may still hold the oldest event; those of outcomes do not matter."""
    shard.read(upto=START + 9, source="events/0", n_sources=2)
    shard.read(upto=START + 9, source="outcomes/0", n_sources=2)
    assert shard.head.watermark == NEVER
    shard.read(upto=START + 3, source="events/1", n_sources=2)
    assert shard.head.watermark == START + 3
    shard.read(upto=START + 2, source="events/1", n_sources=2)
    assert shard.head.watermark == START + 3


def test_an_event_whose_answers_come_in_the_same_fold_is_never_stored_as_open(shard):
    """Most events are such when lanes keep up; writing each as open and removing it again would double the store's work."""
    mirrored = Frame(config="c", source="events/0", sent=START, upto=START, entries=(event(1, "a"), event(2, "b")))
    said = [AnswerFrame(lane=lane, mirror=1, answers=(answer("a"),)) for lane in BOTH]
    fold = shard.fold
    fold.mirror(1, mirrored)
    for n, each in enumerate(said, 1):
        fold.predictions(n, each)
    effects = fold.effects(1)
    assert (list(effects.open), list(effects.settled), effects.gone, effects.head.resolved) == ([1], [], (), 1)
    fold.applied(effects)
    for n, lane in enumerate(BOTH, 3):
        fold.predictions(n, AnswerFrame(lane=lane, mirror=1, answers=(answer("b"),)))
    assert fold.effects(1).gone == (1,)


# ---------------------------------------------------------------------------------------------------------------- requests
@pytest.mark.parametrize("when", ["early", "open", "resolved"])
def test_a_request_marks_its_row_and_is_no_outcome(when):
    """Its row has a propensity and no label, which is what `pending` means; the counts of outcomes keep their meaning."""
    shard = Shard(requests=True)
    if when == "early":
        shard.read(request(1, "a", propensity=0.25), source="outcomes/0")
        assert (shard.counts.requests_waiting, shard.counts.requests, shard.counts.waiting) == (1, 0, 0)
        shard.crash()
    shard.read(event(2, "a"))
    if when == "open":
        shard.read(request(3, "a", propensity=0.25), source="outcomes/0")
        shard.crash()
    shard.pair("a")
    if when == "resolved":
        shard.read(request(3, "a", propensity=0.25), source="outcomes/0")
    assert (shard.row(0)["propensity"], shard.row(0)["label_time"], bool(shard.row(0)["kind.age"])) == (0.25, -1, False)
    assert (shard.counts.requests, shard.counts.requests_waiting, shard.counts.joined, shard.counts.outcomes) == (1, 0, 0, 1)
    shard.read(outcome(4, "a", time=START), source="outcomes/0")
    assert (shard.row(0)["propensity"], shard.row(0)["label_time"], shard.row(0)["truth.age"]) == (0.25, START, 17.0)
    assert (shard.counts.joined, shard.counts.revised) == (1, 0)


def test_a_label_without_a_chance_takes_that_of_its_request_and_the_smallest_one_counts():
    """An event that was drawn at 0.25 and then given to another reviewer for sure was drawn at 0.25."""
    shard = Shard(requests=True)
    shard.read(event(1, "a"), event(2, "b"))
    shard.pair("a", "b")
    label = outcome(3, "a")._replace(propensity=None)
    shard.read(request(3, "a", propensity=0.25), label._replace(position=4), request(5, "a", propensity=1.0), source="outcomes/0")
    assert (shard.row(0)["propensity"], shard.counts.requests) == (0.25, 2)
    shard.read(outcome(6, "b")._replace(propensity=None), source="outcomes/0")
    assert shard.row(1)["propensity"] != shard.row(1)["propensity"]  # nobody asked: the label is kept, and has no weight


def test_a_request_whose_event_never_comes_is_orphaned_apart():
    """A queue may ask about traffic that is not mirrored."""
    shard = Shard(requests=True)
    shard.read(request(1, "a"), outcome(2, "a"), source="outcomes/0")
    assert (shard.counts.requests_waiting, shard.counts.waiting, shard.counts.early) == (1, 1, 2)
    shard.read(due=[samples.key("a")[:10]])
    assert (shard.counts.requests_orphaned, shard.counts.orphaned, shard.counts.early) == (1, 1, 0)


def test_a_request_for_an_event_that_was_folded_is_late_as_a_label_is():
    """The labelled statistics took it for an event that nobody asked about."""
    shard = Shard(requests=True, matures_s=1.0)
    shard.read(event(1, "a"))
    shard.pair("a")
    shard.read(event(100, "b"))
    shard.read(request(101, "a"), source="outcomes/0")
    assert shard.head.late_labels == 1
    shard.read(request(102, "a"), source="outcomes/0")
    assert (shard.head.late_labels, shard.counts.requests) == (1, 2)
