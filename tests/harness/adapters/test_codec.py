"""The wire format: what goes in comes out, and what is not ours is an error that repeats nothing of it."""

from __future__ import annotations

from operator import attrgetter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.codec import MsgpackCodec
from harness.core.accounting import Counts
from harness.core.columns import A_LABEL, A_NUMBER, AnswerRun, EventRun
from harness.core.errors import RecordError
from harness.core.events import ANSWERED, Answer, AnswerFrame, Event, Frame, Invalid, InvalidOutcome, Outcome
from harness.core.held import Open
from harness.core.pairing import Head
from harness.core.rollout import MISSING_REASONS
from harness.core.table import RowLayout
from harness.ports.intake import Taken
from harness.ports.journal import Link
from harness.ports.ledger import Folded
from harness.testing import samples

CODEC = MsgpackCodec()
KINDS = ("frame", "answers", "head", "open", "outcomes", "taken", "folded", "link")

ints = st.integers(-(1 << 62), 1 << 62)
numbers = st.floats(allow_nan=False)
text = st.text(max_size=8)
keys, ids = st.binary(min_size=14, max_size=14), st.binary(min_size=10, max_size=10)


def objects(kind, **fields):
    return st.builds(kind, **fields)


events = objects(
    Event, position=ints, key=keys, unit=st.integers(0, (1 << 64) - 1), id=text, arrived=ints, segments=st.tuples(text, text),
    decisions=st.lists(st.none() | text, max_size=3).map(tuple), payload=st.binary(max_size=50),
)  # fmt: skip
outcomes = objects(
    Outcome, position=ints, key=ids, time=ints, number=st.integers(0, (1 << 63) - 1),
    truths=st.lists(st.none() | st.booleans() | numbers, max_size=3).map(tuple), propensity=st.none() | numbers,
)  # fmt: skip
invalid = objects(Invalid, position=ints, reason=text) | objects(InvalidOutcome, position=ints, reason=text)
# those of one frame have different positions, in their order
entries = st.lists(events | outcomes | invalid, max_size=5, unique_by=lambda e: e.position).map(
    lambda e: tuple(sorted(e, key=attrgetter("position")))
)
runs = st.lists(events, min_size=1, max_size=5).map(EventRun.of)
frames = objects(Frame, config=text, source=text, sent=ints, upto=ints, entries=entries | runs)
answers = objects(
    Answer, key=keys, status=st.sampled_from((ANSWERED, *MISSING_REASONS)), latency_ms=st.none() | numbers,
    outputs=st.lists(numbers | text | st.lists(numbers, max_size=3).map(tuple), max_size=3).map(tuple),
)  # fmt: skip
said = st.lists(answers, max_size=4).map(tuple)
columns = {A_NUMBER: numbers, A_LABEL: text, 1: st.tuples(numbers), 3: st.tuples(numbers, numbers, numbers)}


@st.composite
def answer_runs(draw):
    """Answers whose outputs are all of the same kinds."""
    kinds = draw(st.lists(st.sampled_from(list(columns)), max_size=3))
    outputs, times = st.tuples(*map(columns.get, kinds)), st.none() | numbers
    full = st.builds(Answer, key=keys, status=st.just(ANSWERED), latency_ms=times, outputs=outputs)
    none = st.builds(Answer, key=keys, status=st.sampled_from(MISSING_REASONS), latency_ms=times, outputs=st.just(()))
    return AnswerRun.of(draw(st.lists(full | none, min_size=1, max_size=5)), kinds)


answer_frames = objects(AnswerFrame, lane=text, mirror=ints, answers=said | answer_runs(), version=st.none() | text)
tallies = st.dictionaries(text, st.dictionaries(text, ints, max_size=2), max_size=2)
counts = objects(Counts, paired=ints, missing=tallies, lanes=tallies, versions=tallies, unknown=ints)
positions = st.dictionaries(text, ints, max_size=3)
heads = objects(Head, version=ints, mirror=ints, seen=positions, upto=positions, watermark=ints, counts=counts)
opens = objects(
    Open, ordinal=ints, event=events, mirror=ints, sent=ints, answers=st.dictionaries(text, answers, max_size=3),
    outcome=st.none() | outcomes,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("frame"), frames), st.tuples(st.just("answers"), answer_frames), st.tuples(st.just("head"), heads),
        st.tuples(st.just("open"), opens), st.tuples(st.just("outcomes"), st.lists(outcomes, max_size=4).map(tuple)),
        st.tuples(st.just("taken"), objects(Taken, position=ints, arrived=ints, read=ints)),
        st.tuples(st.just("folded"), objects(Folded, version=ints, state=st.binary())),
    )
)  # fmt: skip
def test_what_is_written_is_read(case):
    """Payloads, extreme numbers and any text pass untouched, with their types: a boolean truth is not the number 1."""
    kind, thing = case
    value = getattr(CODEC, f"encode_{kind}")(thing)
    found = getattr(CODEC, f"decode_{kind}")(value)
    assert found == thing
    assert kind in ("head", "open") or repr(found) == repr(thing)  # theirs are sorted, so that equal ones are equal bytes


def test_a_link_keeps_its_body_and_hashes():
    """The chain is checked by anybody, byte for byte."""
    link = Link(hash="0f" * 32, previous="a0" * 32, body=b"\x00{}\n\xff")
    assert CODEC.decode_link(CODEC.encode_link(link)) == link


def test_equal_heads_give_equal_bytes_whatever_the_order_of_their_fields():
    """Compare-and-set compares bytes: a head that was loaded must be the one that was written."""
    one = Head(version=1, seen={"a": 1, "b": 2}, counts=Counts(lanes={"x": {"p": 1, "q": 2}, "y": {}}))
    two = Head(version=1, seen={"b": 2, "a": 1}, counts=Counts(lanes={"y": {}, "x": {"q": 2, "p": 1}}))
    assert CODEC.encode_head(one) == CODEC.encode_head(two)


def test_an_answer_with_an_unknown_status_is_refused():
    """A status that this release cannot count must not be folded as if it were one."""
    known = [Answer(key=b"k" * 14, status=status) for status in (ANSWERED, *MISSING_REASONS)]
    frame = AnswerFrame(lane="challenger", mirror=1, answers=tuple(known))
    assert CODEC.decode_answers(CODEC.encode_answers(frame)) == frame
    with pytest.raises(RecordError):
        CODEC.decode_answers(CODEC.encode_answers(AnswerFrame(lane="challenger", mirror=1, answers=(known[0]._replace(status="fine"),))))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(
    value=st.binary(max_size=60) | st.recursive(ints | text | numbers | st.booleans(), st.lists, max_leaves=10).map(msgspec.msgpack.encode)
)
def test_what_is_not_ours_is_an_error_and_nothing_else(kind, value):
    """Anybody can write to a topic; a role must count such a record and go on."""
    with pytest.raises(RecordError):
        getattr(CODEC, f"decode_{kind}")(value)


@pytest.mark.parametrize("change", [(0, 2), (0, 99), (1, 5), (3, "late"), (5, [[7, 1, "secret"]]), (5, [[0, 1, b"short"]])])
def test_a_frame_of_a_newer_layout_or_a_wrong_field_is_refused(change):
    """A version we do not know may mean anything, and a key of the wrong length would be cut silently."""
    value = msgspec.msgpack.decode(CODEC.encode_frame(Frame(config="c", source="s", sent=1, upto=2, entries=(samples.event(1, "a"),))))
    value[change[0]] = change[1]
    with pytest.raises(RecordError):
        CODEC.decode_frame(msgspec.msgpack.encode(value))


RUN = EventRun.of([samples.event(1, "a"), samples.event(2, "b")])
SAID = AnswerRun.of([samples.answer("a"), samples.answer("b", status="timeout")], RowLayout(samples.rollout()).kinds)


@pytest.mark.parametrize(
    ("kind", "at", "value"),
    [
        ("frame", 0, 3), ("frame", 5, b"x" * 27), ("frame", 5, b"x" * 14), ("frame", 6, b"\0" * 8), ("frame", 7, b"\0" * 15),
        ("frame", 8, b""), ("frame", 9, []), ("frame", 10, b"\1\0\1\0"), ("frame", 10, b"\0\0\0"), ("frame", 11, [b"a", b"\1\0\0\0"]),
        ("frame", 11, [b"\xff\xfe", b"\1\0\0\0\2\0\0\0"]), ("frame", 12, [b"{}", b"\2\0\0\0\1\0\0\0"]),
        ("frame", 12, [b"{}", b"\1\0\0\0\3\0\0\0"]), ("answers", 0, 3), ("answers", 4, b"x" * 14), ("answers", 5, b"\0\6"),
        ("answers", 5, b""), ("answers", 6, b"\0" * 8), ("answers", 7, [[0, b"\0" * 8, []]]), ("answers", 7, [[-2, b"", []]]),
    ],
)  # fmt: skip
def test_columns_that_do_not_belong_together_are_refused(kind, at, value):
    """Each is bytes that anybody can write; one that is too short would put an answer on another event."""
    frame = Frame(config="c", source="s", sent=1, upto=2, entries=RUN)
    if kind == "answers":
        frame = AnswerFrame(lane="challenger", mirror=1, answers=SAID)
    wire = msgspec.msgpack.decode(getattr(CODEC, f"encode_{kind}")(frame))
    assert getattr(CODEC, f"decode_{kind}")(msgspec.msgpack.encode(wire)) == frame
    wire[at] = value
    with pytest.raises(RecordError):
        getattr(CODEC, f"decode_{kind}")(msgspec.msgpack.encode(wire))


def test_fields_that_a_newer_release_added_are_passed_over():
    """During an update old and new workers read the same topic; fields are only ever added at the end."""
    frame = Frame(config="c", source="s", sent=1, upto=2)
    assert CODEC.decode_frame(msgspec.msgpack.encode([*msgspec.msgpack.decode(CODEC.encode_frame(frame)), "new"])) == frame


def test_no_error_repeats_what_was_read():
    """Records hold people's data, and errors end up in logs."""
    secret = "alice@example.org"
    status = msgspec.msgpack.encode([1, "incumbent", 1, None, [[b"x" * 14, secret, [], None]]])
    for read, value in ((CODEC.decode_answers, status), (CODEC.json, b'{"mail": "alice@example.org",}'), (CODEC.json, secret.encode())):
        with pytest.raises(RecordError) as caught:
            read(value)
        assert "alice" not in str(caught.value)
        assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"nul", b"{", b'{"a": NaN}', b"[Infinity]", b"-Infinity", b'{"a": 1} x', b"{'a': 1}", b'"\xff"', b'"\xed\xa0\x80"',
        b'"\\ud800"', b"01", b"+1", b"[1,]", b"\xef\xbb\xbf{}", b'"\x00"', b"1e999", b"[" * 100_000, b"1" * 100_000,
    ],
    ids=lambda value: repr(value[:12]),
)  # fmt: skip
def test_json_that_the_standard_does_not_know_is_refused(value):
    """Readers that bend the standard disagree on what such a record says; one that cannot crash the router either."""
    with pytest.raises(RecordError):
        CODEC.json(value)


def test_json_is_read_to_plain_values():
    """Everything behind it works on dictionaries, lists, texts, numbers, booleans and None."""
    assert CODEC.json('{"a": [1, 2.5, true, null, "\\u00e5\u00e5"], "b": {}}'.encode()) == {"a": [1, 2.5, True, None, "åå"], "b": {}}
