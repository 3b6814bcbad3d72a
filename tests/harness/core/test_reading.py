"""What is an event, what is an outcome, and why a record is neither. No reason repeats what a record says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import config
from harness.core.events import Event, Invalid, InvalidOutcome, Outcome
from harness.core.reading import WATERMARK, Reader, microseconds, timestamp, watermark
from harness.core.routing import Hasher

EVENT = {"specversion": "1.0", "id": "e1", "source": "/app", "type": "score.requested", "subject": "u1", "time": "2026-03-02T00:00:01Z"}
OUTCOME = {**EVENT, "id": "o1", "type": "label.given", "data": {"event_id": "e1", "age": 15}}
SECRET = "very-private-words"


@pytest.fixture(scope="module")
def reader():
    """A reader of a rollout with a free, a listed and a defaulted segment, and a propensity."""
    document = {
        "rollout": "reading",
        "events": {
            "topic": "e",
            "unit": "subject",
            "segments": {"region": "/region", "gender": {"field": "/gender", "values": ["female", "male"]}, "app": "source"},
        },
        "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
        "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
        "policies": {"adult": {"output": "age", "at_least": 18}},
        "outcomes": {
            "topic": "o", "event": "/event_id", "truth": {"age": "/age"}, "matures": "1d", "propensity": {"field": "/p", "least": 0.1}
        },
        "sample": {"percent": 100},
        "pairing": {"window": "30s"},
        "gates": [],
    }  # fmt: skip
    rollout = config.parse(document, source="test", folder=Path())
    return Reader(rollout, Hasher("reading"))


def read(reader, document):
    """The entry of one event."""
    return reader.event(document, position=7, payload=b"{}")[0]


@pytest.mark.parametrize(
    "change",
    [{"id": 17}, {"id": ""}, {"id": None}, {"source": 17}, {"type": None}, {"specversion": ""}, {"time": "yesterday"}, {"time": 17},
     {"time": None}, {"recordedtime": "now"}],
    ids=str,
)  # fmt: skip
def test_a_record_that_is_no_cloudevent_is_invalid(reader, change):
    """It is counted and named, and the pipeline goes on."""
    entry = read(reader, {**EVENT, **change})
    assert isinstance(entry, Invalid)
    assert entry.reason.startswith(next(iter(change)))


@pytest.mark.parametrize("document", [[], "text", 17, None, {}, True])
def test_what_is_no_object_is_invalid(reader, document):
    """JSON that is no event at all."""
    assert isinstance(read(reader, document), Invalid)


@given(st.dictionaries(st.sampled_from(["id", "source", "type", "time", "subject"]), st.just(SECRET)))
def test_no_reason_repeats_a_record(reader, change):
    """Reasons go to logs: a payload never does."""
    entry = read(reader, {**{k: v for k, v in EVENT.items() if k != "type"}, **change, "data": {"note": SECRET}})
    assert not isinstance(entry, Invalid) or SECRET not in entry.reason


def test_segments_have_a_word_for_every_event(reader):
    """Listed values, one `other` for those not listed, `unknown` for those absent; attributes and pointers; in the order of names."""
    data = {"region": "SE", "gender": "female"}
    assert read(reader, {**EVENT, "data": data}).segments == ("/app", "female", "SE")
    assert read(reader, {**EVENT, "data": {"region": 7, "gender": "x"}}).segments == ("/app", "other", "7")
    assert read(reader, {**EVENT, "data": {"region": ["SE"], "gender": ""}}).segments == ("/app", "unknown", "unknown")
    assert read(reader, EVENT).segments == ("/app", "unknown", "unknown")


def test_an_event_without_a_unit_is_a_unit_of_its_own(reader):
    """Otherwise all anonymous events would be one voice."""
    first = read(reader, {k: v for k, v in EVENT.items() if k != "subject"})
    second = read(reader, {**{k: v for k, v in EVENT.items() if k != "subject"}, "id": "e2"})
    assert isinstance(first, Event)
    assert first.unit != second.unit


def test_the_stated_arrival_is_recordedtime_then_time(reader):
    """`time` is when it happened, `recordedtime` when it arrived."""
    late = {**EVENT, "recordedtime": "2026-03-02T00:00:09Z"}
    assert reader.event(late, position=0, payload=b"")[2] == microseconds("2026-03-02T00:00:09Z")
    assert reader.event(EVENT, position=0, payload=b"")[2] == microseconds("2026-03-02T00:00:01Z")
    assert reader.event({k: v for k, v in EVENT.items() if k != "time"}, position=0, payload=b"")[2] is None


@pytest.mark.parametrize("truth", ["forty", None, [15], {}, float("nan"), float("inf"), 10**400])
def test_a_truth_is_a_boolean_or_a_finite_number(reader, truth):
    """A label that is neither is no label, and is counted."""
    document = {**OUTCOME, "data": {"event_id": "e1", "age": truth, "p": 0.5}}
    assert isinstance(reader.outcome(document, position=1, time=5), InvalidOutcome)


@pytest.mark.parametrize("p", [None, 0.0, 0.05, 1.5, "0.5", True])
def test_a_propensity_below_the_declared_least_is_refused(reader, p):
    """The bound of every weighted process is built on `least`: a smaller one would void it."""
    document = {**OUTCOME, "data": {"event_id": "e1", "age": 15, "p": p}}
    assert isinstance(reader.outcome(document, position=1, time=5), InvalidOutcome)


def test_an_outcome_keeps_class_and_number_apart(reader):
    """A boolean is the class itself, a number is cut at the line: they must not become one."""
    number = reader.outcome({**OUTCOME, "data": {"event_id": "e1", "age": 1, "p": 1}}, position=1, time=5)
    boolean = reader.outcome({**OUTCOME, "data": {"event_id": "e1", "age": True, "p": 1}}, position=1, time=5)
    assert isinstance(number, Outcome)
    assert (number.truths, boolean.truths) == ((1.0,), (True,))
    assert type(number.truths[0]) is float
    assert type(boolean.truths[0]) is bool


def test_a_watermark_is_no_event():
    """It says that nothing older will follow; anything else says nothing."""
    assert watermark({**EVENT, "type": WATERMARK}) == microseconds(EVENT["time"])
    assert watermark({**EVENT, "type": WATERMARK, "time": "x"}) is None
    assert watermark(EVENT) is None
    assert watermark([WATERMARK]) is None


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(9998, 1, 1)))
def test_times_survive_a_round_trip(when):
    """Microseconds to text and back, before and after 1970."""
    aware = when.replace(tzinfo=UTC)
    assert timestamp(microseconds(aware.isoformat())) == timestamp(microseconds(timestamp(microseconds(aware.isoformat()))))
    assert microseconds(timestamp(microseconds(aware.isoformat()))) == microseconds(aware.isoformat())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1970-01-01T00:00:01Z", 1_000_000), ("1970-01-01t00:00:01.5z", 1_500_000), ("1970-01-01T01:00:00+01:00", 0),
     ("1970-01-01T00:00:00.1234567Z", 123_456), ("1969-12-31T23:59:59.5Z", -500_000), ("2016-12-31T23:59:60Z", 1_483_228_800_000_000)],
)  # fmt: skip
def test_rfc_3339_is_read_to_the_microsecond(text, expected):
    """Lower case, fractions, offsets, leap seconds: all of the RFC."""
    assert microseconds(text) == expected


@pytest.mark.parametrize(
    "text", ["2026-03-02", "2026-03-02T00:00:00", "20260302T000000Z", "2026-13-02T00:00:00Z", "", None, 5, "2026-03-02 00:00:00Z"]
)
def test_other_forms_of_time_are_refused(text):
    """ISO 8601 is wider than RFC 3339; a time without an offset says nothing."""
    assert microseconds(text) is None


# ---------------------------------------------------------------------------------------------------------------- requests
@pytest.fixture(scope="module")
def asking(reader):
    """A reader of a rollout that records requests."""
    outcomes = replace(reader.rollout.outcomes, requested="/requested_at")
    return Reader(replace(reader.rollout, outcomes=outcomes), Hasher("reading"))


@pytest.mark.parametrize("said", [True, "2026-03-02T09:00:00Z"])
@pytest.mark.parametrize("age", [{}, {"age": None}])
def test_a_record_without_a_truth_may_ask_for_one(asking, said, age):
    """A queue writes when it asks, and often leaves the label's place empty."""
    found = asking.outcome({**OUTCOME, "data": {"event_id": "e1", "requested_at": said, "p": 0.5, **age}}, position=1, time=5)
    assert isinstance(found, Outcome)
    assert (found.truths, found.propensity) == ((None,), 0.5)


@pytest.mark.parametrize(
    ("data", "why"),
    [({"requested_at": True}, "/p: expected a probability"), ({"requested_at": True, "p": 0.01}, "/p: expected a probability"),
     ({"requested_at": "soon", "p": 0.5}, "/requested_at: expected true or the time"),
     ({"requested_at": 5, "p": 0.5}, "/requested_at: expected"), ({"p": 0.5}, "no request in /requested_at"),
     ({"requested_at": False, "p": 0.5}, "/age: no truth in it, and no request in /requested_at"),
     ({"age": 15, "p": 0.01}, "/p: expected a probability"), ({"age": None, "p": 0.5}, "/age: expected a boolean")],
    ids=str,
)  # fmt: skip
def test_a_request_that_cannot_be_counted_is_invalid_and_says_why(asking, data, why):
    """Without its chance a label has no weight, and with a chance under `least` it would break the bound of the bets."""
    found = asking.outcome({**OUTCOME, "data": {"event_id": "e1", **data}}, position=1, time=5)
    assert isinstance(found, InvalidOutcome)
    assert why in found.reason
    assert "soon" not in found.reason


def test_a_label_takes_its_chance_from_its_request(asking, reader):
    """So it need not repeat it; without requests it must state one."""
    document = {**OUTCOME, "data": {"event_id": "e1", "age": 15}}
    found = asking.outcome(document, position=1, time=5)
    assert isinstance(found, Outcome)
    assert (found.truths, found.propensity) == ((15.0,), None)
    assert isinstance(reader.outcome(document, position=1, time=5), InvalidOutcome)
    both = asking.outcome({**OUTCOME, "data": {"event_id": "e1", "age": 15, "requested_at": True, "p": 0.5}}, position=1, time=5)
    assert isinstance(both, Outcome)
    assert (both.truths, both.propensity) == ((15.0,), 0.5)
