"""Models by the scheme of their URI: `python:` functions and `recorded:` answers."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UsageError
from harness.core.rollout import Model
from harness.ports.model import ModelPort

SCHEMES = ("python", "recorded")
LATER = ("http", "https", "oip+http", "oip+https", "onnx", "mlflow")


def open_model(model: Model, *, folder: Path) -> ModelPort:
    """The model of a lane, ready to be called. Relative paths and modules start at `folder`, the config's.

    Raises UsageError, which names the lane, if the scheme is unknown or not there yet, the file cannot be read, or the function
    cannot be loaded.
    """
    scheme, _, rest = model.uri.partition(":")
    try:
        if scheme == "recorded":
            from harness.adapters.models.recorded import RecordedFile, RecordedInEvent

            return RecordedInEvent(rest.removeprefix("event:")) if rest.startswith("event:") else RecordedFile(folder / rest)
        if scheme == "python":
            from harness.adapters.models.python import PythonModel

            python = PythonModel(rest, folder, processes=model.concurrency)
            try:
                return python.start()
            except UsageError:
                python.close()
                raise
    except UsageError as error:
        raise UsageError(f"models.{model.lane}.uri: {error}") from error
    if scheme in LATER:
        raise UsageError(f"models.{model.lane}.uri: {model.uri}: {scheme}: is not available in this version, use python: or recorded:")
    raise UsageError(f"models.{model.lane}.uri: got {model.uri!r}, expected python:package.module:function or recorded:FILE.jsonl")
