"""Recorded answers: what a line means, which line counts, and what a broken one costs."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.models import open_model
from harness.adapters.models.recorded import RecordedFile, RecordedInEvent
from harness.core.errors import UsageError
from harness.core.outputs import read_outputs
from harness.core.rollout import Model, Output, Reader
from harness.ports.model import Call, Reply

AGE = {"age": Output(name="age", type="number", readers={"incumbent": Reader(how="field", pointer="/age")}, range=(0.0, 120.0))}


def line(event_id: object = "e1", **fields: Any) -> bytes:
    """One recorded line."""
    return json.dumps({"event_id": event_id, "output": {"age": 17.5}, **fields}).encode()


def recorded(tmp_path: Path, *lines: bytes, name: str = "m.jsonl") -> RecordedFile:
    """A model over a file of these lines."""
    content = b"\n".join(lines)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return RecordedFile(tmp_path / name)


def ask(model: RecordedFile | RecordedInEvent, event_id: str = "e1", *, data: Any = None, timeout_s: float = 1.0) -> Reply:
    """The reply on one event."""
    (reply,) = model.call([Call(event_id=event_id, event={"id": event_id, "data": data})], timeout_s=timeout_s)
    return reply


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_a_line_is_the_answer_with_its_latency_and_version(tmp_path: Path, name: str) -> None:
    """Both forms that DESIGN names, with the bytes of the answer untouched."""
    model = recorded(tmp_path, line(latency_ms=20.5, error=None, model_version="v7"), line("e2", output=[1, "é"]), name=name)
    assert ask(model) == Reply(status="answered", answer={"age": 17.5}, latency_ms=20.5, version="v7")
    assert ask(model, "e2") == Reply(status="answered", answer=[1, "é"])
    assert (len(model), model.n_unreadable) == (2, 0)


def test_replies_come_in_the_order_of_the_calls_and_an_event_without_a_line_has_no_answer(tmp_path: Path) -> None:
    """The lane pairs replies with events by place."""
    model = recorded(tmp_path, line("a", output=1), line("b", output=2))
    replies = model.call([Call(event_id=e, event={}) for e in ("b", "nobody", "a", "b")], timeout_s=1)
    assert [(reply.status, reply.answer) for reply in replies] == [("answered", 2), ("no_answer", None), ("answered", 1), ("answered", 2)]


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"error": "model crashed"}, "error"), ({"error": "late", "latency_ms": 5000}, "error"), ({"error": ""}, "answered"),
     ({"latency_ms": 300}, "answered"), ({"latency_ms": 300.001}, "timeout"), ({"latency_ms": None}, "answered")],
)  # fmt: skip
def test_errors_and_latencies_over_the_timeout_are_reasons(tmp_path: Path, fields: dict[str, Any], status: str) -> None:
    """A recorded latency above the lane's timeout is a timeout; exactly at it is none."""
    assert ask(recorded(tmp_path, line(**fields)), timeout_s=0.3).status == status


@pytest.mark.parametrize("latency", [b'"fast"', b"-1", b"NaN", b"1e999", b"true", b"[]", b"1" * 400, b"9" * 6000])
def test_a_latency_that_is_none_is_unknown_and_the_answer_still_counts(tmp_path: Path, latency: bytes) -> None:
    """A broken clock is no broken model."""
    model = recorded(tmp_path, b'{"event_id":"e1","output":{"age":3},"latency_ms":%b}' % latency)
    assert ask(model) == Reply(status="answered", answer={"age": 3})


@pytest.mark.parametrize(
    "number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 400, b"9" * 6000, b'"17"', b"true", b"null", b"400"]
)
def test_a_number_that_is_none_is_a_bad_output_and_its_line_still_counts(tmp_path: Path, number: bytes) -> None:
    """Were the line lost, a second one would count in its place: the model could choose its answers."""
    model = recorded(tmp_path, b'{"event_id":"e1","output":{"age":%b},"latency_ms":20.5}' % number, line())
    reply = ask(model)
    assert (reply.status, reply.latency_ms, model.n_unreadable) == ("answered", 20.5, 0)
    assert read_outputs(AGE, "incumbent", reply.answer) is None


def test_the_first_readable_line_of_an_event_counts_and_unreadable_ones_count_nowhere(tmp_path: Path) -> None:
    """The contract's faults: cut lines, lines without a text id, no JSON, no UTF-8."""
    cut = line(output={"age": 99})[:-6]
    wrong = [cut, b"not json", b"[1,2]", b'{"output":{"age":17.0}}', b'{"event_id":17,"output":{"age":17.0}}', b"\xff\xfe",
             b'{"event_id":"e1","output":"\xff"}', b'{"event_id":"e1","output":' + b"[" * 100_000]  # fmt: skip
    model = recorded(tmp_path, *wrong, b"", b"  ", line(output=1), *wrong, line(output=2))
    assert (ask(model).answer, len(model), model.n_unreadable) == (1, 1, 2 * len(wrong))


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    """Spreadsheets and editors write both."""
    model = recorded(tmp_path, b"\xef\xbb\xbf" + line("a", output=1) + b"\r", line("b", output=2) + b"\r", b"")
    assert [ask(model, e).answer for e in "ab"] == [1, 2]
    assert model.n_unreadable == 0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers() | st.none() | st.floats(allow_nan=False)), max_size=20))
def test_any_file_answers_as_a_dictionary_of_first_lines_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any]]
) -> None:
    """A slow second version."""
    model = recorded(tmp_path_factory.mktemp("m"), *(line(event_id, output=value) for event_id, value in rows))
    first = {event_id: value for event_id, value in reversed(rows)}
    for event_id in "abcd":
        reply = ask(model, event_id)
        assert (reply.status, reply.answer) == (("answered", first[event_id]) if event_id in first else ("no_answer", None))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A silent empty model would look like a dead one: every event without an answer."""
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(line() * 100)[:-20])
    (tmp_path / "folder.jsonl").mkdir()
    for name in ("none.jsonl", "cut.jsonl.gz", "folder.jsonl"):
        with pytest.raises(UsageError, match=rf"^models\.challenger\.uri: .*{name}"):
            open_model(Model(lane="challenger", uri=f"recorded:{name}"), folder=tmp_path)


def test_an_answer_can_stand_in_the_event() -> None:
    """Production has computed it already; nothing is called and its latency is not known."""
    model = open_model(Model(lane="incumbent", uri="recorded:event:/model/0"), folder=Path())
    assert isinstance(model, RecordedInEvent)
    assert ask(model, data={"model": [{"age": 3}]}) == Reply(status="answered", answer={"age": 3})
    absent: list[Any] = [None, {}, {"model": []}, {"model": [None]}, "text", 3]
    assert [ask(model, data=data).status for data in absent] == ["no_answer"] * 6


def test_a_pointer_that_is_none_is_refused_at_the_start() -> None:
    """Else every event would be without an answer, and nobody would know why."""
    with pytest.raises(UsageError, match=r"^models\.incumbent\.uri: recorded:event:score: expected a JSON pointer"):
        open_model(Model(lane="incumbent", uri="recorded:event:score"), folder=Path())


def test_a_scheme_of_a_later_version_says_so() -> None:
    """The config is right, the version is not."""
    with pytest.raises(UsageError, match=r"^models\.challenger\.uri: .*is not available in this version"):
        open_model(Model(lane="challenger", uri="mlflow:models:/age@champion"), folder=Path())


@pytest.mark.parametrize("uri", ["", "age", "ftp://x", "python:age", "python:age:", "python:os.path:join;x", "python:a-b:c"])
def test_a_uri_that_no_model_has_is_refused(uri: str) -> None:
    """With the form that is expected."""
    with pytest.raises(UsageError, match=r"^models\.challenger\.uri: .*expected python:package"):
        open_model(Model(lane="challenger", uri=uri), folder=Path())


def test_nan_stays_nan_when_the_whole_output_is_one(tmp_path: Path) -> None:
    """It is handed over as it stands; reading outputs is one rule in one place."""
    answer = ask(recorded(tmp_path, b'{"event_id":"e1","output":NaN}')).answer
    assert isinstance(answer, float)
    assert math.isnan(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b/c", "0", ""]), inner, max_size=3),
    max_leaves=8,
)


@given(data=JSON, path=st.sampled_from(["", "/a", "/a/a", "/b~1c", "/a/0", "/0", "/", "/a/b~1c/0", "/no~2"]))
def test_an_answer_is_the_same_from_the_bytes_of_an_event_as_from_the_event(data: Any, path: str) -> None:
    """From the bytes only what the pointer names is decoded; that must be a faster way to the same reply, and nothing else."""
    event = {"specversion": "1.0", "id": "e1", "data": data}
    model = RecordedInEvent(path)
    from_event = model.call([Call(event_id="e1", event=event)], timeout_s=1.0)
    assert model.call([Call(event_id="e1", payload=json.dumps(event).encode())], timeout_s=1.0) == from_event


def test_of_a_key_that_stands_twice_the_last_counts() -> None:
    """As in the event when it is decoded whole."""
    for payload in (b'{"data":{"a":1,"a":2}}', b'{"data":7,"data":{"a":2}}', b'{"data":{"a":1},"data":{"a":2}}'):
        assert RecordedInEvent("/a").call([Call(event_id="e", payload=payload)], timeout_s=1.0) == [Reply(status="answered", answer=2)]
