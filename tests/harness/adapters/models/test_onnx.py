"""ONNX files as models: small ones, built here, run by the real onnxruntime in real child processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from patience import LONG_S

from harness.adapters.models import open_model
from harness.core.errors import UsageError
from harness.core.outputs import pointer
from harness.core.rollout import Model
from harness.ports.model import Call, ModelPort, Reply

FLOAT, DOUBLE, INT64, BOOL, STRING = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
Open = Callable[..., ModelPort]


def write(
    path: Path, nodes: list[Any], inputs: Any, outputs: Any, *, weights: Any = (), version: int | None = None, **metadata: str
) -> None:
    """A model file; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(*each) for each in inputs], [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if version is not None:
        model.model_version = version
    helper.set_model_props(model, metadata)
    save(model, path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """named: age = 2 * score + verified, bands [n, 2] and the region back. rows: x @ [2, 3] + 1. endless: computes for ever."""
    nodes = [
        helper.make_node("Add", ["score", "score"], ["twice"]), helper.make_node("Cast", ["verified"], ["v"], to=DOUBLE),
        helper.make_node("Add", ["twice", "v"], ["age"]), helper.make_node("Concat", ["score", "age"], ["bands"], axis=1),
        helper.make_node("Identity", ["region"], ["place"]), helper.make_node("ReduceSum", ["score"], ["total"], keepdims=0),
        helper.make_node("Identity", ["count"], ["n"]),
    ]  # fmt: skip
    inputs = [("score", DOUBLE, [None, 1]), ("verified", BOOL, [None, 1]), ("region", STRING, [None, 1]), ("count", INT64, [None])]
    outputs = [("age", DOUBLE, [None, 1]), ("bands", DOUBLE, [None, 2]), ("place", STRING, [None, 1]), ("total", DOUBLE, []),
               ("n", INT64, [None])]  # fmt: skip
    write(tmp_path / "named.onnx", nodes, inputs, outputs, version=4, version_text="x")
    linear = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], ["age"])]
    weights = [("w", np.array([[2.0], [3.0]], dtype=np.float32)), ("b", np.array([1.0], dtype=np.float32))]
    write(tmp_path / "rows.onnx", linear, [("x", FLOAT, [None, 2])], [("age", FLOAT, [None, 1])], weights=weights)
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Sin", ["s"], ["s2"])], "body",
        [helper.make_tensor_value_info(*each) for each in (("i", INT64, []), ("c", BOOL, []), ("s", FLOAT, [None, 1]))],
        [helper.make_tensor_value_info(*each) for each in (("c2", BOOL, []), ("s2", FLOAT, [None, 1]))],
    )  # fmt: skip
    loops = [helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0), helper.make_node("Cast", ["most"], ["n"], to=INT64),
             helper.make_node("Loop", ["n", "yes", "x"], ["age"], body=body)]  # fmt: skip
    write(tmp_path / "endless.onnx", loops, [("x", FLOAT, [None, 1])], [("age", FLOAT, [None, 1])], weights=[("yes", np.array(True))])
    return tmp_path


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """Models of that folder, closed with the test."""
    models: list[ModelPort] = []

    def make(rest: str) -> ModelPort:
        models.append(open_model(Model(lane="challenger", uri=f"onnx:{rest}"), folder=folder))
        return models[-1]

    yield make
    for model in models:
        model.close()


def ask(model: ModelPort, *data: Any, timeout_s: float = LONG_S) -> list[Reply]:
    return list(model.call([Call(event_id=f"e{n}", event={"data": each}) for n, each in enumerate(data)], timeout_s=timeout_s))


def person(score: Any = 1.5, verified: Any = True, region: Any = "sé", count: Any = 3) -> dict[str, Any]:
    return {"score": score, "verified": verified, "region": region, "count": count, "more": None}


@pytest.mark.parametrize("n", [1, 5])
def test_fields_go_in_by_name_and_outputs_come_out_by_name(n: int, opened: Open) -> None:
    """Numbers, truth values and texts; pointers like /age and /bands read each event's own row, and the file's version is told."""
    people = [person(k + 0.5, k % 2 == 0, f"r{k}", k) for k in range(n)]
    replies = ask(opened("named.onnx"), *people)
    assert [(reply.status, reply.version) for reply in replies] == [("answered", "4")] * n
    for k, reply in enumerate(replies):
        age = 2 * (k + 0.5) + (k % 2 == 0)
        assert [pointer(reply.answer, path) for path in ("/age", "/bands", "/place", "/n")] == [age, [k + 0.5, age], f"r{k}", k]
        assert reply.latency_ms is not None and reply.latency_ms > 0


@pytest.mark.parametrize(
    "wrong",
    [person(score="3"), person(score=True), person(score=None), person(verified=1), person(region=3), person(count=1.5), {"score": 1.0},
     person(score=[1, 2]), 3, None],
    ids=str,
)  # fmt: skip
def test_a_field_of_another_type_is_an_error_of_its_event_alone(wrong: Any, opened: Open) -> None:
    """Nothing is converted in silence: a text "3" is no 3 and true is no 1. Its neighbours in the batch are answered."""
    replies = ask(opened("named.onnx"), person(), wrong, person())
    assert [reply.status for reply in replies] == ["answered", "error", "answered"]


def test_named_fields_are_the_columns_of_one_input(opened: Open) -> None:
    """For models that were trained on a table."""
    replies = ask(opened("rows.onnx?fields=b,a"), {"a": 1, "b": 2}, {"a": 4.5, "b": 0})
    assert [reply.answer for reply in replies] == [{"age": 8.0}, {"age": 14.5}]


def test_a_list_is_a_row(opened: Open) -> None:
    """For models whose features stand in one field; a row of another length is an error."""
    replies = ask(opened("rows.onnx?threads=2"), {"x": [2, 1]}, {"x": [1, 1, 1]}, {"x": [0.0, 4.5]})
    assert [(reply.status, reply.answer) for reply in replies] == [("answered", {"age": 8.0}), ("error", None), ("answered", {"age": 14.5})]


def children() -> list[int]:
    """The processes that run a model for this one."""
    found = subprocess.run(["ps", "-ww", "-A", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(None, 2) for line in found.splitlines()]
    return [int(pid) for pid, parent, words in lines if int(parent) == os.getpid() and "onnx_session" in words]


def test_native_code_that_computes_for_ever_costs_its_batch_only(opened: Open) -> None:
    """A thread could not be stopped; a process can."""
    model = opened("endless.onnx")
    began = time.monotonic()
    assert [reply.status for reply in ask(model, {"x": 1e15}, timeout_s=0.5)] == ["timeout"]
    assert time.monotonic() - began < LONG_S
    assert [reply.status for reply in ask(model, {"x": 2})] == ["answered"]


def test_a_crash_in_native_code_costs_its_batch_only(opened: Open) -> None:
    """The lane lives on, with a new child."""
    model = opened("rows.onnx")
    (child,) = children()
    os.kill(child, signal.SIGSEGV)
    statuses = [ask(model, {"x": [1, 1]})[0].status for _ in range(3)]
    assert statuses == ["error", "answered", "answered"]


@pytest.mark.parametrize(
    ("rest", "reason"),
    [("none.onnx", "no such file"), ("", "no such file"), ("text.onnx", "INVALID_PROTOBUF|InvalidProtobuf"),
     ("cut.onnx", "Invalid|INVALID|Fail"),
     ("named.onnx?fields=score", "fields= is for a model with one input"), ("rows.onnx?field=a", "expected onnx:FILE"),
     ("rows.onnx?fields=a,,b", "expected onnx:FILE"), ("rows.onnx?threads=0", "expected onnx:FILE"), ("rows.onnx?", "")],
)  # fmt: skip
def test_what_cannot_be_run_is_refused_at_the_start_with_the_reason(rest: str, reason: str, folder: Path) -> None:
    """To the person who wrote the config: not as a lane that never answers."""
    (folder / "text.onnx").write_text("no model")
    (folder / "cut.onnx").write_bytes((folder / "named.onnx").read_bytes()[:-200])
    if not reason:
        open_model(Model(lane="challenger", uri=f"onnx:{rest}"), folder=folder).close()
        return
    with pytest.raises(UsageError, match=rf"(?s)^models\.challenger\.uri: onnx:.*({reason})"):
        open_model(Model(lane="challenger", uri=f"onnx:{rest}"), folder=folder)
    assert children() == []
