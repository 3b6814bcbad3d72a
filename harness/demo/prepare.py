"""Trains the demo's models and makes its traffic and config in a folder: what `shadow demo` does first, and a fleet does once."""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.demo import age_models, stream

CONFIG = "rollout.yaml"
MODELS, STREAM = "models", "stream"
CHALLENGERS = ("regressor", "corrected")
DAY = 86_400_000_000


def prepare(folder: Path, challenger: str) -> stream.Built:
    """Writes models, stream and config into `folder`, with this challenger on trial; returns what the stream holds."""
    age_models.train(folder / MODELS)
    built = stream.build(folder / STREAM)
    document = yaml.safe_load((Path(__file__).parent / "age.yaml").read_text())
    document["models"]["challenger"]["uri"] = f"python:harness.demo.age_models:{challenger}"
    (folder / CONFIG).write_text(yaml.safe_dump(document, sort_keys=False, width=140))
    return built


def end_of(rollout: Rollout) -> int:
    """Record time at which every event of the stream has matured and a look has passed, microseconds."""
    matures = rollout.outcomes.matures_s if rollout.outcomes else 0.0
    first = microseconds(stream.START.isoformat()) or 0
    return first + (stream.DAYS + 1) * DAY + int((matures + rollout.window_s + rollout.looks_s) * 1e6)


def main() -> None:
    """`python -m harness.demo.prepare --folder FOLDER`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--challenger", choices=CHALLENGERS, default=CHALLENGERS[0])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    prepare(args.folder, args.challenger)


if __name__ == "__main__":
    main()
