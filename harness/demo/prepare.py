"""Makes a demo's models, traffic and config in a folder: what `shadow demo` does first, and a fleet does once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from harness.core.errors import UsageError
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.demo import age_models, forum, stream, text_models, traffic
from harness.demo.traffic import Built

CONFIG = "rollout.yaml"
MODELS, STREAM = "models", "stream"
DAY = 86_400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A demo. challengers: names in its module of models, the one to begin with first. first: what is done before any traffic, in words;
    traffic: what its events are and who is behind them."""

    name: str
    challengers: tuple[str, ...]
    module: str
    first: str
    traffic: str
    make: Callable[[Path], Built]


def _age(folder: Path) -> Built:
    age_models.train(folder / MODELS)
    return stream.build(folder / STREAM)


def _moderation(folder: Path) -> Built:
    for detector in (text_models.wordlist, text_models.svm):  # a missing one is told before anything starts
        detector.answers(["hello"])
    return forum.build(folder / STREAM)


CASES = {
    "age": Case(
        name="age",
        challengers=("regressor", "corrected"),
        module="harness.demo.age_models",
        first="training an incumbent and two challengers on NHANES 2017-2018 (people who will not be in the traffic)",
        traffic="events of {people} other people",
        make=_age,
    ),
    "moderation": Case(
        name="moderation",
        challengers=("svm", "careful"),
        module="harness.demo.text_models",
        first="a word list decides, a support vector machine is on trial (better-profanity, alt-profanity-check); the posts are made up",
        traffic="posts of {people} authors",
        make=_moderation,
    ),
}


def case_of(name: str, challenger: str | None) -> tuple[Case, str]:
    """A demo by its name, and its challenger, of which None is the first. Raises UsageError for other words."""
    case = CASES.get(name)
    if case is None:
        raise UsageError(f"demo {name}: expected {' or '.join(CASES)}")
    if challenger is not None and challenger not in case.challengers:
        raise UsageError(f"--challenger {challenger}: expected one of {', '.join(case.challengers)}")
    return case, challenger or case.challengers[0]


def prepare(case: Case, folder: Path, challenger: str) -> Built:
    """Writes models, stream and config into `folder`, with this challenger on trial; returns what the stream holds."""
    built = case.make(folder)
    document = yaml.safe_load((Path(__file__).parent / f"{case.name}.yaml").read_text())
    document["models"]["challenger"]["uri"] = f"python:{case.module}:{challenger}"
    (folder / CONFIG).write_text(yaml.safe_dump(document, sort_keys=False, width=140))
    return built


def end_of(rollout: Rollout) -> int:
    """Record time at which every event of the stream has matured and a look has passed, microseconds."""
    matures = rollout.outcomes.matures_s if rollout.outcomes else 0.0
    first = microseconds(traffic.START.isoformat()) or 0
    return first + (traffic.DAYS + 1) * DAY + int((matures + rollout.window_s + rollout.looks_s) * 1e6)


def main() -> None:
    """`python -m harness.demo.prepare --folder FOLDER`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--case", choices=tuple(CASES), default="age")
    parser.add_argument("--challenger")
    args = parser.parse_args()
    try:
        case, challenger = case_of(args.case, args.challenger)
    except UsageError as error:
        parser.error(str(error))
    args.folder.mkdir(parents=True, exist_ok=True)
    prepare(case, args.folder, challenger)


if __name__ == "__main__":
    main()
