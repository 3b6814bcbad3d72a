"""Runs in the child of an `onnx:` model: an onnxruntime session as a batch function. Nothing else should import it.

Inputs come by name from the fields of an event's data: a value makes a tensor [n, 1] (or [n], if the model's input has one dimension),
a list of k values [n, k]. Outputs whose first dimension is n go by name into each event's answer: one value, or lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}  # fmt: skip
_NO_VERSION = (0, (1 << 63) - 1)


def batch_function(argument: str) -> Callable[[list[Any]], list[Any]]:
    """The batch function of a file. `argument` is JSON: file, fields (empty: inputs by name), threads.

    Raises ValueError for a model that cannot be fed; whatever onnxruntime raises for a file that is no model.
    """
    said = json.loads(argument)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = said["threads"]
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(said["file"], options, providers=["CPUExecutionProvider"])
    inputs, fields = session.get_inputs(), said["fields"]
    unknown = [f"{each.name} {each.type}" for each in inputs if each.type not in _DTYPES]
    if unknown:
        raise ValueError(f"inputs of a type that no event has: {', '.join(unknown)}")
    if fields and len(inputs) != 1:
        raise ValueError(f"fields= is for a model with one input, this one has {', '.join(each.name for each in inputs)}")
    outputs = [each.name for each in session.get_outputs()]

    def run(batch: list[Any]) -> list[Any]:
        if fields:
            feed = {inputs[0].name: _tensor(inputs[0], [[row[field] for field in fields] for row in batch])}
        else:
            feed = {each.name: _tensor(each, [row[each.name] for row in batch]) for each in inputs}
        return _answers(outputs, session.run(outputs, feed), len(batch))

    run.version = _version(session.get_modelmeta())  # type: ignore[attr-defined]  # the worker reads it
    return run


def _version(meta: Any) -> str | None:
    """The metadata's `version`, else the model's own number, if it has one."""
    return meta.custom_metadata_map.get("version") or (None if meta.version in _NO_VERSION else str(meta.version))


def _tensor(wanted: Any, values: list[Any]) -> Any:
    """Values of n events as a tensor of the model's type; ValueError if they are of another."""
    dtype = _DTYPES[wanted.type]
    cells = [cell for value in values for cell in (value if isinstance(value, list) else [value])]
    if not all(_fits(cell, dtype) for cell in cells):
        raise ValueError("a field is missing, or not of the input's type")
    if wanted.shape is not None and len(wanted.shape) == 1:
        return np.array(cells, dtype=dtype).reshape(len(values))
    return np.array(cells, dtype=dtype).reshape(len(values), -1)


def _fits(cell: object, dtype: Any) -> bool:
    if dtype is np.object_:
        return isinstance(cell, str)
    if dtype is np.bool_:
        return isinstance(cell, bool)
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return False
    return np.issubdtype(dtype, np.floating) or float(cell).is_integer()


def _answers(names: list[str], outputs: list[Any], n: int) -> list[Any]:
    """An answer an event; none at all, a wrong count, if no output has a row for each."""
    rows = {name: _rows(output) for name, output in zip(names, outputs, strict=True)}
    fitting = {name: found for name, found in rows.items() if len(found) == n}
    return [{name: found[place] for name, found in fitting.items()} for place in range(n)] if fitting else []


def _rows(output: Any) -> list[Any]:
    """Of an array or a list (what ONNX calls a sequence): the rows, those of one value as that value."""
    if isinstance(output, np.ndarray):
        if output.ndim == 0:
            return []
        flat = output.ndim > 1 and output[0].size == 1 if len(output) else False
        found: list[Any] = (output.reshape(len(output)) if flat else output).tolist()
        return found
    return list(output) if isinstance(output, list) else []
