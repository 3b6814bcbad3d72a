"""The demo's models: answers of the right shape, the trap of the regressor, and the model that avoids it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.demo import age_models
from harness.demo.age_models import EDGES, LINES

GENDERS = ("female", "male")


def let_in(demo: Any, model: str, line: int, gender: str | None = None) -> float:
    """Share of the people under a line whom a model takes for that old, a person counted once."""
    under = demo.truth < line
    if gender:
        under &= np.array([event["data"]["segments"]["gender"] == gender for event in demo.events])
    return float(np.mean(demo.ages[model][demo.firsts(under)] >= line))


def mean_error(demo: Any, model: str) -> float:
    known = demo.firsts(~np.isnan(demo.truth))
    return float(np.mean(np.abs(demo.ages[model] - demo.truth)[known]))


def adults_stopped(demo: Any, model: str) -> float:
    return float(np.mean(demo.ages[model][demo.firsts(demo.truth >= 18)] < 18))


def test_the_incumbent_answers_chances_of_its_bands(demo: Any):
    """The rollout reads their median over the same edges: another length would be no answer."""
    answers = age_models.incumbent([event["data"] for event in demo.events[:64]])
    assert {len(answer["bands"]) for answer in answers} == {len(EDGES) - 1}
    assert np.allclose([sum(answer["bands"]) for answer in answers], 1.0, atol=1e-5)


@pytest.mark.parametrize("model", [age_models.regressor, age_models.corrected], ids=lambda model: model.name)
def test_a_challenger_answers_a_plausible_age(demo: Any, model: age_models.Served):
    """An age outside the output's range would be counted as a bad output."""
    ages = [answer["age"] for answer in model([event["data"] for event in demo.events[:64]])]
    assert len(ages) == 64
    assert all(isinstance(age, float) and 4 < age < 100 for age in ages)


def test_an_answer_does_not_depend_on_the_batch(demo: Any):
    """How a lane cuts a frame into batches must not move a decision."""
    data = [event["data"] for event in demo.events[:40]]
    for model in (age_models.incumbent, age_models.regressor, age_models.corrected):
        assert model(data) == [answer for item in data for answer in model([item])]


def test_a_strange_event_costs_its_own_answer_only(demo: Any):
    """One event that is no object, or holds text where a number belongs, must not take its batch along."""
    answers = age_models.regressor([None, {"height_cm": "tall", "lead": True}, {}])  # type: ignore[list-item]
    assert answers[0] == {}
    assert answers[1] == answers[2] != {}


def test_the_version_names_the_trained_file(demo: Any):
    """A record of a verdict must say which model it judged; a lane asks before the first event."""
    versions = [model.version for model in (age_models.incumbent, age_models.regressor, age_models.corrected)]
    assert [str(version).split("/")[0] for version in versions] == list(age_models.NAMES)
    assert len({str(version).split("/")[1] for version in versions}) == 3


def test_without_a_folder_of_models_a_call_says_what_to_do():
    """The functions can be named in any config: outside the demo the error must explain itself."""
    program = "from harness.demo.age_models import incumbent as m; assert m.version is None; m([])"
    environment = {name: value for name, value in os.environ.items() if name != age_models.FOLDER}
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 1
    assert "SHADOW_DEMO_DIR is not set" in found.stderr
    assert "shadow demo age" in found.stderr


def test_importing_the_models_does_not_load_scikit_learn():
    """The command line imports this module to know the demo; training alone should pay for scikit-learn."""
    program = "import sys, harness.demo.age_models; sys.exit('sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], timeout=600, check=True)


def test_the_regressor_guesses_better_on_average(demo: Any):
    """The bait of the trap: by its mean error the regressor should be promoted."""
    assert mean_error(demo, "regressor") < mean_error(demo, "incumbent") - 0.5


@pytest.mark.parametrize("gender", [None, *GENDERS])
@pytest.mark.parametrize("line", LINES)
def test_the_regressor_lets_more_minors_in(demo: Any, line: int, gender: str | None):
    """The trap, at every line and for everybody: the mean error says nothing about decisions."""
    assert let_in(demo, "regressor", line, gender) > let_in(demo, "incumbent", line, gender) + 0.03


@pytest.mark.parametrize("gender", [None, *GENDERS])
@pytest.mark.parametrize("line", LINES)
def test_the_corrected_model_lets_fewer_minors_in(demo: Any, line: int, gender: str | None):
    """What earns it the promotion must hold in each gender, with room for the tests to see it."""
    assert let_in(demo, "corrected", line, gender) < let_in(demo, "incumbent", line, gender) - 0.03


def test_the_corrected_model_costs_few_adults_and_no_accuracy(demo: Any):
    """It is stricter at a stated price, and still the better guesser."""
    assert adults_stopped(demo, "corrected") < adults_stopped(demo, "incumbent") + 0.02
    assert mean_error(demo, "corrected") < mean_error(demo, "incumbent") - 0.5


def test_the_corrected_model_lets_nobody_in_whom_the_incumbent_stops(demo: Any):
    """Promised in its description; it also leaves no pair of decisions that so few people reach that none of them has a label."""
    for line in LINES:
        assert not np.any((demo.ages["incumbent"] < line) & (demo.ages["corrected"] >= line))


def test_training_tells_what_it_did(demo: Any):
    """The demo prints it: people, seconds and the cuts that cross-validation chose, one a line."""
    assert 2_500 < demo.training.n_people < 3_500
    assert demo.training.seconds > 0
    assert sorted(demo.training.cuts) == list(LINES)
    assert all(0.3 < cut < 0.95 for cut in demo.training.cuts.values())


@pytest.mark.slow
def test_a_second_training_gives_the_same_models(demo: Any, tmp_path: Path):
    """A demo that says something else on the next run convinces nobody."""
    assert age_models.train(tmp_path).cuts == demo.training.cuts
    for name in age_models.NAMES:
        first, second = ((folder / f"{name}.pickle").read_bytes() for folder in (demo.folder, tmp_path))
        assert first == second, name


def test_the_config_reads_the_bands_that_the_incumbent_has():
    """Edges and lines stand in the config and in the code; they must be the same numbers."""
    config = yaml.safe_load((Path(age_models.__file__).parent / "age.yaml").read_text())
    assert tuple(map(float, config["outputs"]["age"]["incumbent"]["median"]["edges"])) == EDGES
    assert tuple(policy["at_least"] for policy in config["policies"].values()) == LINES
    uris = [config["models"][lane]["uri"] for lane in ("incumbent", "challenger")]
    assert uris == [f"python:{age_models.__name__}:{model.name}" for model in (age_models.incumbent, age_models.regressor)]
