"""Models by the scheme of their URI, one file a kind: functions, recorded answers, ONNX files, servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import UsageError
from harness.core.rollout import Model
from harness.ports.model import ModelPort

if TYPE_CHECKING:
    from harness.adapters.models.python import PythonModel

LATER = ("mlflow",)


def open_model(model: Model, *, folder: Path) -> ModelPort:
    """The model of a lane, ready to be called. Relative paths and modules start at `folder`, the config's.

    Functions and files are loaded; of a server nothing is asked: it may come later. Raises UsageError, which names the lane, if the
    scheme is unknown or not there yet, the address is none, or file or function cannot be loaded.
    """
    scheme, _, rest = model.uri.partition(":")
    try:
        opened = _opened(model, scheme, rest, folder)
    except UsageError as error:
        raise UsageError(f"models.{model.lane}.uri: {error}") from error
    if opened is not None:
        return opened
    if scheme in LATER:
        raise UsageError(f"models.{model.lane}.uri: {model.uri}: {scheme}: is not available in this version, use another of docs/models.md")
    raise UsageError(
        f"models.{model.lane}.uri: got {model.uri!r}, expected python:package.module:function, recorded:FILE.jsonl, http://HOST/PATH, "
        "oip+http://HOST/v2/models/NAME or onnx:FILE.onnx"
    )


def _opened(model: Model, scheme: str, rest: str, folder: Path) -> ModelPort | None:
    """None for a scheme that is not known. Adapters are imported where they are used: a lane holds one."""
    match scheme:
        case "recorded":
            from harness.adapters.models.recorded import RecordedFile, RecordedInEvent

            return RecordedInEvent(rest.removeprefix("event:")) if rest.startswith("event:") else RecordedFile(folder / rest)
        case "python":
            from harness.adapters.models.python import PythonModel

            return _started(PythonModel(rest, folder, processes=model.concurrency, memory=model.memory))
        case "onnx":
            from harness.adapters.models.onnx import onnx_model

            return _started(onnx_model(rest, folder, processes=model.concurrency, memory=model.memory))
        case "http" | "https":
            from harness.adapters.models.http import HttpModel

            return HttpModel(model.uri, lane=model.lane, batch=model.events_a_call, connections=model.concurrency)
        case "oip+http" | "oip+https":
            from harness.adapters.models.oip import OipModel

            return OipModel(model.uri.removeprefix("oip+"), lane=model.lane, connections=model.concurrency)
    return None


def _started(model: PythonModel) -> PythonModel:
    try:
        return model.start()
    except UsageError:
        model.close()
        raise
