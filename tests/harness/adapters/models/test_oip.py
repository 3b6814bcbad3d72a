"""Models behind the Open Inference Protocol: a real MLServer, and servers of our own for what MLServer does not do wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_servers import CLOSE, HANG, Request, Script, ScriptedServer, Step, answer
from patience import LONG_S, tried

from harness.adapters.models import open_model
from harness.adapters.models.breaker import FAILURES
from harness.adapters.models.oip import OipModel
from harness.core.errors import UsageError
from harness.core.outputs import pointer
from harness.core.rollout import Model
from harness.ports.model import Call, ModelPort

Make = Callable[..., tuple[OipModel, ScriptedServer]]


def calls(*data: Any) -> list[Call]:
    return [
        Call(event_id=f"e{n}", event={"id": f"e{n}", "source": "/app", "type": "io.scored", "data": each}) for n, each in enumerate(data)
    ]


def said(replies: Any) -> list[tuple[str, Any]]:
    return [(reply.status, reply.answer) for reply in replies]


@pytest.fixture
def model_of(serve: Callable[..., ScriptedServer]) -> Iterator[Make]:
    """A model and its scripted server, both ended with the test."""
    models: list[OipModel] = []

    def make(script: Script) -> tuple[OipModel, ScriptedServer]:
        server = serve(script)
        models.append(OipModel(f"http://{server.address}/v2/models/age", lane="challenger"))
        return models[-1], server

    yield make
    for model in models:
        model.close()


# --------------------------------------------------------------------------------------------------------------- a real MLServer
@pytest.fixture
def real(mlserver: str) -> Iterator[Callable[[str], ModelPort]]:
    """Models of the real server."""
    models: list[ModelPort] = []

    def make(path: str) -> ModelPort:
        uri = f"oip+http://{mlserver}/v2/models/{path}"
        models.append(open_model(Model(lane="challenger", uri=uri, batch=32), folder=Path()))
        return models[-1]

    yield make
    for model in models:
        model.close()


def people(n: int) -> list[dict[str, Any]]:
    return [{"score": k if k % 2 else k + 0.5, "verified": k % 3 == 0, "region": ["se", "és"][k % 2]} for k in range(n)]


@pytest.mark.parametrize("path", ["age", "age/versions/v3"])
@pytest.mark.parametrize("n", [1, 7])
def test_mlserver_answers_each_event_by_the_names_of_its_outputs(path: str, n: int, real: Callable[[str], ModelPort]) -> None:
    """Numbers, truth values and texts go in; pointers like /age and /bands read what comes out, each event its own."""
    data = people(n)
    replies = real(path).call(calls(*data), timeout_s=LONG_S)
    assert [(reply.status, reply.version) for reply in replies] == [("answered", "v3")] * n
    for person, reply in zip(data, replies, strict=True):
        assert pointer(reply.answer, "/age") == 2 * person["score"] + person["verified"]
        assert pointer(reply.answer, "/bands") == pytest.approx([1 - person["score"] / 100, person["score"] / 100])
        assert pointer(reply.answer, "/region") == person["region"].upper()


def test_mlserver_with_a_scikit_learn_model_takes_a_list_as_a_row(real: Callable[[str], ModelPort]) -> None:
    """Features that stand in one field are one tensor [n, k]."""
    replies = real("linear").call(calls({"predict": [1, 2.5]}, {"predict": [0.0, 4.0]}), timeout_s=LONG_S)
    assert [reply.answer["predict"] for reply in replies] == pytest.approx([10.5, 13.0])


def test_mlserver_takes_inputs_that_stand_in_the_event(real: Callable[[str], ModelPort]) -> None:
    """Whoever logs requests of the protocol replays them as they are; a request about two items has two answers under one name."""
    one = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1.0, 2.0]]}]}
    two = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 0, 4]}], "outputs": [{"name": "predict"}]}
    found = real("linear").call(calls(one, two), timeout_s=LONG_S)
    assert [reply.status for reply in found] == ["answered"] * 2
    assert found[0].answer["predict"] == pytest.approx(9.0)
    assert [row[0] for row in found[1].answer["predict"]] == pytest.approx([9.0, 13.0])


def test_a_field_that_mlservers_model_needs_is_an_error_when_missing(real: Callable[[str], ModelPort]) -> None:
    """And costs its event alone: events of other fields are asked by themselves."""
    whole, part = people(1)[0], {"score": 3.0}
    assert [reply.status for reply in real("age").call(calls(whole, part, whole), timeout_s=LONG_S)] == ["answered", "error", "answered"]


def test_a_model_that_mlserver_does_not_have_is_an_error(real: Callable[[str], ModelPort]) -> None:
    """A wrong name in the config: every event says so in its tally."""
    assert [reply.status for reply in real("nothing").call(calls(*people(2)), timeout_s=LONG_S)] == ["error"] * 2


# ------------------------------------------------------------------------------------------------------------------ what is sent
def numbers(request: Request) -> list[Step]:
    n = request.json["inputs"][0]["shape"][0]
    return [answer({"model_name": "age", "id": request.json["id"], "outputs": [output("x", [n, 1], list(range(n)))]})]


def output(name: str, shape: Any, data: Any, datatype: str = "FP64") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def test_each_field_is_a_tensor_of_its_type(model_of: Make) -> None:
    """To the letter of the protocol: servers are strict."""
    model, server = model_of(numbers)
    asked = calls({"a": 1, "b": "x", "c": True, "d": [1, 2]}, {"d": [3, 4.5], "c": False, "b": "ü", "a": -2.5})
    replies = model.call(asked, timeout_s=LONG_S)
    assert said(replies) == [("answered", {"x": 0}), ("answered", {"x": 1})]
    (request,) = server.requests
    assert request.target == "/v2/models/age/infer"
    assert request.json == {
        "id": request.headers["idempotency-key"],
        "inputs": [
            {"name": "a", "shape": [2, 1], "datatype": "FP64", "data": [1, -2.5]},
            {"name": "b", "shape": [2, 1], "datatype": "BYTES", "data": ["x", "ü"]},
            {"name": "c", "shape": [2, 1], "datatype": "BOOL", "data": [True, False]},
            {"name": "d", "shape": [2, 2], "datatype": "FP64", "data": [1, 2, 3, 4.5]},
        ],
    }


def test_one_event_carries_its_id(model_of: Make) -> None:
    """As the request's id, as idempotency key, and as a CloudEvents attribute."""
    model, server = model_of(numbers)
    model.call(calls({"a": 1}), timeout_s=LONG_S)
    (request,) = server.requests
    assert (request.json["id"], request.headers["idempotency-key"], request.headers["ce-id"]) == ("e0", "e0", "e0")


def test_events_of_other_fields_or_types_are_other_requests(model_of: Make) -> None:
    """They fit no common tensor. Null, objects, mixed and empty lists make no input."""
    model, server = model_of(numbers)
    data = [{"a": 1}, {"a": "x"}, {"a": 2, "n": None, "o": {}, "m": [1, "x"], "e": []}, {"a": [1, 2]}, {"a": [3]}]
    assert [reply.answer["x"] for reply in model.call(calls(*data), timeout_s=LONG_S)] == [0, 0, 1, 0, 2]
    assert [request.json["inputs"][0]["shape"] for request in server.requests] == [[3, 1], [1, 1], [1, 2]]


@pytest.mark.parametrize(
    "data", [None, 3, "text", [], [1, 2], {}, {"a": None}, {"a": {"b": 1}}, {"inputs": {}}, {"a": float("nan")}], ids=repr
)
def test_data_of_which_no_input_can_be_made_is_an_error_without_a_call(data: Any, model_of: Make) -> None:
    """The event is tallied; the server is not bothered."""
    model, server = model_of(numbers)
    assert said(model.call(calls(data), timeout_s=LONG_S)) == [("error", None)]
    assert server.requests == []


# ------------------------------------------------------------------------------------------------------------------ what is read
@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([output("age", [2], [1, 2])], [{"age": 1}, {"age": 2}]),
        ([output("age", [2, 1], [1, 2])], [{"age": 1}, {"age": 2}]),
        ([output("age", [2, 1], [[1], [2]])], [{"age": 1}, {"age": 2}]),
        ([output("age", [2], [[1], [2]])], [{"age": 1}, {"age": 2}]),
        ([output("bands", [2, 3], [1, 2, 3, 4, 5, 6])], [{"bands": [1, 2, 3]}, {"bands": [4, 5, 6]}]),
        ([output("bands", [2, 3], [[1, 2, 3], [4, 5, 6]])], [{"bands": [1, 2, 3]}, {"bands": [4, 5, 6]}]),
        ([output("maps", [2, 2, 2], [1, 2, 3, 4, 5, 6, 7, 8])], [{"maps": [[1, 2], [3, 4]]}, {"maps": [[5, 6], [7, 8]]}]),
        ([output("maps", [2, 2, 2], [[[1, 2], [3, 4]], [[5, 6], [7, 8]]])], [{"maps": [[1, 2], [3, 4]]}, {"maps": [[5, 6], [7, 8]]}]),
        ([output("label", [2], ["a", "b"], "BYTES")], [{"label": "a"}, {"label": "b"}]),
        ([output("age", None, [1, 2])], [{"age": 1}, {"age": 2}]),
        ([{"name": "bands", "data": [[1, 2], [3, 4]]}], [{"bands": [1, 2]}, {"bands": [3, 4]}]),
        ([output("age", [2], [1, 2]), output("seconds", [1], [0.5]), "noise", {"name": 3, "data": []}], [{"age": 1}, {"age": 2}]),
    ],
)
def test_outputs_are_read_flat_or_nested_an_entry_an_event(outputs: Any, expected: Any, model_of: Make) -> None:
    """Both are legal, and servers leave out what the protocol demands; an output about something else is let be."""
    model, _ = model_of(lambda _: [answer({"outputs": outputs, "parameters": {"took": 3}})])
    assert said(model.call(calls({"a": 1}, {"a": 2}), timeout_s=LONG_S)) == [("answered", each) for each in expected]


@pytest.mark.parametrize(
    "document",
    [
        [], {}, None, "text", {"outputs": None}, {"outputs": []}, {"outputs": {"age": [1, 2]}},
        {"outputs": [output("age", [3], [1, 2, 3])]}, {"outputs": [output("age", [1], [1])]},
        {"outputs": [output("age", [2, 2], [1, 2, 3])]},
        {"outputs": [output("age", [2], "ab")]},
        {"outputs": [output("age", [2], None)]}, {"outputs": [output("age", None, [1, 2, 3])]}, {"error": "no"},
        {"id": "another", "outputs": [output("age", [2], [1, 2])]},
    ],
    ids=repr,
)  # fmt: skip
def test_an_answer_about_something_else_is_bad_output_for_all(document: Any, model_of: Make) -> None:
    """The wrong number of items, another request's id, a document that is none of the protocol: no event gets a neighbour's answer."""
    model, _ = model_of(lambda _: [answer(document)])
    assert said(model.call(calls({"a": 1}, {"a": 2}), timeout_s=LONG_S)) == [("bad_output", None)] * 2


@pytest.mark.parametrize(
    ("status", "script"),
    [
        ("error", lambda _: [answer({"error": "shape mismatch"}, code=400)]), ("error", lambda _: [answer(b"", code=503)]),
        ("error", lambda _: [CLOSE]), ("timeout", lambda _: [HANG]), ("bad_output", lambda _: [answer(b'{"outputs": [')]),
    ],
)  # fmt: skip
def test_what_a_server_does_wrong_ends_in_its_tally(status: str, script: Script, model_of: Make) -> None:
    """The transport is that of plain JSON servers, where each fault is tried."""
    model, _ = model_of(script)
    began = time.monotonic()
    replies = model.call(calls({"a": 1}, {"a": 2}), timeout_s=0.5 if status == "timeout" else LONG_S)
    assert said(replies) == [(status, None)] * 2
    assert all(reply.latency_ms is not None for reply in replies)
    assert time.monotonic() - began < LONG_S


def test_a_server_that_is_down_is_spared(model_of: Make) -> None:
    """The breaker stands before these servers too."""
    model, server = model_of(lambda _: [answer(b"", code=503)])
    assert said(model.call(calls(*({f"x{n}": 1} for n in range(30))), timeout_s=LONG_S)) == [("error", None)] * 30
    assert len(server.requests) == FAILURES


def test_requests_of_one_call_share_its_timeout(model_of: Make) -> None:
    """However many tensors a batch needs, the lane gets its answers when the timeout is over."""
    model, _ = model_of(lambda request: [HANG] if request.json["inputs"][0]["name"] == "slow" else numbers(request))
    began = time.monotonic()

    def ask() -> list[str]:
        return [reply.status for reply in model.call(calls({"fast": 1}, {"slow": 1}, {"later": 1}), timeout_s=0.5)]

    assert tried(ask, lambda found: found[0] == "answered") == ["answered", "timeout", "timeout"]
    assert time.monotonic() - began < LONG_S


def test_another_version_midway_is_seen(model_of: Make) -> None:
    """A verdict mixes no two models."""
    model, server = model_of(numbers)
    versions = []
    for version in ("1", "2", 3, "", None):
        server.script = lambda _, version=version: [answer({"model_version": version, "outputs": [output("x", [1], [1])]})]
        versions.append(model.call(calls({"a": 1}), timeout_s=LONG_S)[0].version)
    assert versions == ["1", "2", "3", None, None]


@pytest.mark.parametrize(
    "path", ["/", "/v2/models", "/v2/models/", "/v2/models/a/b", "/v2/models/a/versions", "/v1/models/a", "/v2/models/a?x=1"]
)
def test_an_address_that_names_no_model_is_refused_at_the_start(path: str) -> None:
    """With the form that is expected."""
    with pytest.raises(UsageError, match=r"^models\.challenger\.uri: oip\+http://host.*expected oip\+http://HOST"):
        open_model(Model(lane="challenger", uri=f"oip+http://host{path}"), folder=Path())


@pytest.mark.parametrize("path", ["/v2/models/a", "/v2/models/a/", "/v2/models/a/infer", "/gateway/team/v2/models/a/versions/1"])
def test_an_address_may_stand_behind_a_gateway(path: str, serve: Callable[..., ScriptedServer]) -> None:
    """A prefix, a slash or the last word more are no reason to fail."""
    server = serve(numbers)
    model = open_model(Model(lane="challenger", uri=f"oip+http://{server.address}{path}"), folder=Path())
    model.call(calls({"a": 1}), timeout_s=LONG_S)
    model.close()
    assert server.requests[0].target == path.rstrip("/").removesuffix("/infer") + "/infer"
