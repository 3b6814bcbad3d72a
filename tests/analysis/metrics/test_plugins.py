"""A metric of another package: installed for real, tested by its own suite, named in a config, folded by the evidence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.evidence import Evidence
from analysis.metrics.contributions import domain_of
from analysis.plan import Plan
from analysis.types import Gate, InputError, Metric

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs/examples/metric"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example package as pip installs it, outside of this environment; its source beside it."""
    folder = tmp_path_factory.mktemp("metric")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    command = [sys.executable, "-m", "pip", *words, str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """This Python with the package on its path."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False)


def test_the_example_passes_the_suite_of_every_metric(installed):
    """Its own tests, as its author runs them."""
    done = python(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "source/tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 passed" in done.stdout


def config(folder: Path, metric: str) -> Path:
    """A rollout whose only gate asks for this metric."""
    text = (ROOT / "configs/age-regression.yaml").read_text().split("\ngates:")[0]
    path = folder / "rollout.yaml"
    path.write_text(f"{text}\ngates:\n  - {{name: far off, metric: {metric}, worse_by_at_most: 0.5}}\n")
    return path


def test_a_config_names_it_and_gives_it_options(installed):
    """From YAML to a gate whose digest knows the package's version: another version is another metric."""
    config(installed, "{python: years_beyond_grace, with: {grace: 2}}")
    script = ("from harness.config import load; from pathlib import Path; import json; from dataclasses import asdict; "
              "print(json.dumps(asdict(load(Path('rollout.yaml')).gates[0].metric)))")
    done = python(installed, "-c", script)
    assert done.returncode == 0, done.stderr
    metric = json.loads(done.stdout)
    assert (metric["kind"], metric["name"], metric["options"]) == ("python", "years_beyond_grace", [["grace", 2.0]])
    assert (metric["version"], metric["bound"], metric["needs_labels"]) == ("years-beyond-grace 1.0.0", 120.0, True)


@pytest.mark.parametrize(("metric", "said"), [
    ("{python: years_beyond_grce}", "no installed package offers the metric 'years_beyond_grce'"),
    ("{python: years_beyond_grace, with: {patience: 2}}", "cannot be made: TypeError"),
    ("{python: years_beyond_grace, with: {bound: -1}}", "positive, finite bound"),
])
def test_a_wrong_name_or_option_is_told_before_the_start(installed, metric, said):
    """At its path, with what is installed; exit 2."""
    config(installed, metric)
    done = python(installed, "-m", "harness", "validate", "rollout.yaml")
    assert done.returncode == 2 and "gates.0.metric.python" in done.stderr and said in " ".join(done.stderr.split())


def test_a_metric_that_is_not_installed_breaks_its_gate_and_no_other():
    """Where evidence is folded on a machine without the package: undecided with the reason, not a crash."""
    metric = Metric(kind="python", name="nowhere", bound=1.0)
    with pytest.raises(InputError, match="no installed package offers the metric 'nowhere'"):
        domain_of(metric)
    other = Gate(name="other", metric=Metric(kind="missing"), word="below", limit=0.1)
    evidence = Evidence(Plan((Gate(name="lost", metric=metric, word="below", limit=0.5), other), alpha=0.05, n_stages=1, listed={}), False)
    assert list(evidence.broken) == ["lost"] and [row.name for row in evidence.results()] == ["lost", "other"]
