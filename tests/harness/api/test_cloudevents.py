"""CloudEvents over HTTP to records: which bytes go in, which come out, and what is refused with which words."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.codec import MsgpackCodec
from harness.api.cloudevents import BATCH, JSON, STRUCTURED, Cut, cut
from harness.api.errors import ApiError

DECODE = MsgpackCodec().json
FOUR = {"ce-id": "e1", "ce-source": "/test", "ce-type": "t", "ce-specversion": "1.0"}
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12,
)  # fmt: skip


def cuts(body: bytes, headers: dict[str, str], attributes: Any = None) -> list[Cut]:
    return cut([(k.encode(), v.encode()) for k, v in headers.items()], body, decode=DECODE, attributes=attributes)


def refused(body: bytes, headers: dict[str, str], attributes: Any = None) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        cuts(body, headers, attributes)
    return caught.value.status, caught.value.message


def test_a_structured_event_becomes_a_record_byte_for_byte():
    """Spaces, the order of keys and the digits of numbers are the producer's: a signature or a hash over them still holds."""
    body = b'{"id": "e1",  "data": {"b": 1.10, "a": 12345678901234567890.0e-1}}\n'
    (one,) = cuts(body, {"content-type": "Application/CloudEvents+JSON; charset=UTF-8"})
    assert one.record == body
    assert one.document["id"] == "e1"


@given(st.lists(st.fixed_dictionaries({"id": st.text(), "data": JSONS}), max_size=5))
def test_a_batch_is_cut_into_the_bytes_of_its_items(items):
    """What a topic carries does not depend on whether events came alone or together."""
    texts = [json.dumps(item, ensure_ascii=False).encode() for item in items]
    found = cuts(b" [" + b" ,\n".join(texts) + b"] ", {"content-type": BATCH})
    assert [one.record for one in found] == texts
    assert [one.document for one in found] == items


@given(JSONS, st.text(min_size=1).filter(str.strip))
def test_a_binary_message_keeps_the_bytes_of_its_data(data, subject):
    """The attributes are put around the body: data is what the producer sent, not what a JSON library makes of it."""
    body = json.dumps(data, ensure_ascii=False).encode()
    (one,) = cuts(body, {**FOUR, "ce-subject": quote(subject, safe=""), "content-type": JSON})
    assert one.record.endswith(b', "data": ' + body + b"}")
    read = DECODE(one.record)
    assert read == one.document == {
        "id": "e1", "source": "/test", "type": "t", "specversion": "1.0", "subject": subject, "datacontenttype": JSON, "data": data,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "text"), [("/a", "/a"), ("caf%C3%A9", "café"), ('"a \\"b\\""', 'a "b"'), ("100%", "100%"), ('a"b', 'a"b'), ("é", "é")]
)
def test_values_of_headers_are_decoded_as_the_binding_says(header, text):
    """Percent-encoded UTF-8, perhaps quoted; what is no encoding is taken as it stands, because a proxy copies headers as they are."""
    (one,) = cuts(b"1", {**FOUR, "ce-subject": header, "content-type": JSON})
    assert one.document["subject"] == text


def test_a_binary_message_without_a_body_is_an_event_without_data():
    """The binding allows it; an empty body is no JSON."""
    (one,) = cuts(b"", {**FOUR, "content-type": JSON})
    assert "data" not in DECODE(one.record)


@pytest.mark.parametrize("left_out", FOUR)
def test_a_missing_header_is_named(left_out):
    """A proxy that sets three of four headers loses every event; its operator must see which."""
    headers = {name: value for name, value in FOUR.items() if name != left_out}
    assert refused(b"{}", {**headers, "content-type": JSON}) == (400, f"{left_out}: missing")


@pytest.mark.parametrize(
    ("headers", "body", "status", "words"),
    [
        ({}, b"{}", 415, "content-type: expected one, got 0"),
        ({"content-type": "text/plain"}, b"{}", 415, "content-type: expected"),
        ({"content-type": "application/cloudevents+avro"}, b"{}", 415, "content-type: of the CloudEvents formats"),
        ({"content-type": STRUCTURED + "; charset=latin-1"}, b"{}", 415, "content-type: the charset must be utf-8"),
        ({"content-type": STRUCTURED, "content-encoding": "gzip"}, b"{}", 415, "content-encoding: the body must not be compressed"),
        ({"content-type": STRUCTURED}, b'{"MARKER', 400, "body: 8 bytes that are no JSON"),
        ({"content-type": STRUCTURED}, b'"\xff"', 400, "body: 3 bytes that are no JSON"),
        ({"content-type": STRUCTURED}, b'{"a": NaN}', 400, "body: 10 bytes that are no JSON"),
        ({"content-type": STRUCTURED}, b"[" * 100_000, 400, "body: "),
        ({"content-type": BATCH}, b'{"MARKER": 1}', 400, "body: expected a JSON array of CloudEvents"),
        ({"content-type": BATCH}, b'[{}, "\xff"]', 400, "[1]: 3 bytes that are no JSON"),
        ({**FOUR, "content-type": JSON}, b"{MARKER}", 400, "body: 8 bytes that are no JSON"),
        ({**FOUR, "content-type": JSON, "ce-data": "MARKER"}, b"1", 400, "a ce- header is no attribute"),
        ({**FOUR, "content-type": JSON, "ce-MARKER": "1"}, b"1", 400, "a ce- header is no attribute"),
        ({**FOUR, "content-type": JSON, "ce-subject": "%FF"}, b"1", 400, "ce-subject: expected UTF-8"),
        ({"content-type": JSON}, b"{}", 400, "ce-id: missing"),
        ({"content-type": JSON}, b'{"specversion": "1.0"}', 415, "content-type: the body looks like a structured CloudEvent"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_place_and_without_the_words(headers, body, status, words):
    """Who sends it can mend it; nothing of a person's data gets into an answer or a log."""
    found, message = refused(body, headers)
    assert (found, message[: len(words)]) == (status, words)
    assert "MARKER" not in message


def test_a_header_given_twice_is_refused():
    """Which of two ids is meant nobody knows."""
    pairs = [(k.encode(), v.encode()) for k, v in {**FOUR, "content-type": JSON}.items()] + [(b"ce-id", b"e2")]
    with pytest.raises(ApiError, match="ce-id: given twice"):
        cut(pairs, b"1", decode=DECODE, attributes=None)


def test_a_plain_body_is_given_attributes_only_where_that_is_allowed():
    """A mirrored request has no attributes; half of them are a mistake, and are not filled up."""
    made = {"id": "made", "source": "/http/x", "type": "t", "specversion": "1.0"}
    (one,) = cuts(b' {"a": 1}\n', {"content-type": JSON}, lambda: made)
    assert DECODE(one.record) == {**made, "datacontenttype": JSON, "data": {"a": 1}}
    assert refused(b"1", {"content-type": JSON, "ce-id": "x"}, lambda: made)[0] == 400
    assert refused(b"", {"content-type": JSON}, lambda: made) == (400, "body: empty, and no ce- header says what it is")
