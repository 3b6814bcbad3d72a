"""A model in an ONNX file, run by onnxruntime in the killable child of `python.py`: a crash in native code costs its batch only.

`onnx:FILE.onnx`: an input for each field of the event's data. `onnx:FILE.onnx?fields=a,b,c`: one input, with these fields as its
columns. `threads=N` (default 1) is how many threads one child computes with; `concurrency` is how many children there are.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qs, unquote

from harness.adapters.models.python import PythonModel
from harness.core.errors import UsageError

_SESSION = "harness.adapters.models.onnx_session:batch_function"


def onnx_model(rest: str, folder: Path, *, processes: int = 1, memory: int | None = None) -> PythonModel:
    """The model of `onnx:{rest}`, not started. Raises UsageError for an unknown option, a missing file or a missing onnxruntime."""
    uri = f"onnx:{rest}"
    name, _, query = rest.partition("?")
    try:
        options = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        options = {"": [query]}
    unknown = options.keys() - {"fields", "threads"}
    fields = [field for value in options.get("fields", []) for field in value.split(",")]
    threads = options.get("threads", ["1"])[-1]
    if unknown or not all(fields) or not threads.isascii() or not threads.isdigit() or int(threads) < 1:
        raise UsageError(f"{uri}: expected onnx:FILE.onnx, onnx:FILE.onnx?fields=a,b,c or ?threads=N")
    path = (folder / unquote(name)).resolve()
    if not path.is_file():
        raise UsageError(f"{uri}: {path}: no such file")
    if find_spec("onnxruntime") is None:
        raise UsageError(f"{uri}: onnxruntime is not installed: pip install 'shadow-harness[onnx]'")
    argument = json.dumps({"file": str(path), "fields": fields, "threads": int(threads)})
    return PythonModel(_SESSION, folder, processes=processes, argument=argument, uri=uri, memory=memory)
