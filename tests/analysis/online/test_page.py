"""The page about two arms: its examples run and print what it shows, and the study behind its tables and its picture can be run again."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "statistics.md").read_text()
SECTION = PAGE.partition("\n## Two arms\n")[2].partition("\n## ")[0]
STUDY = ROOT / "benchmarks" / "asos.py"


def test_the_examples_print_what_the_page_shows():
    """Who pastes them in order sees the same numbers."""
    examples = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", SECTION, re.S)
    assert len(examples) == 2
    names: dict[str, object] = {}
    for code, shown in examples:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(code, "docs/statistics.md", "exec"), names)
        assert said.getvalue() == shown


def experiments(n_looks: int = 12) -> pd.DataFrame:
    """Two series as ASOS publishes them: one with a large effect, one without; the first look is too small to be read."""
    rng, rows = np.random.default_rng(1), []
    for name, effect in (("large", 0.5), ("none", 0.0)):
        values = rng.normal(1.0, 1.0, (2, 600 * n_looks)) + np.array([[0.0], [effect]])
        for k in range(1, n_looks + 1):
            told = [(part.size, part.mean(), part.var(ddof=1)) for part in values[:, : 600 * k]]
            rows.append([name, 1, 1, 0.5 * k, *np.array(told).T.ravel()])
    return pd.DataFrame(rows, columns=["experiment_id", "variant_id", "metric_id", "time_since_start", "count_c", "count_t", "mean_c",
                                       "mean_t", "variance_c", "variance_t"])


def ran(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(STUDY), *args], capture_output=True, text=True, timeout=600, check=False)


def test_the_study_finds_the_effect_that_is_there_and_writes_page_and_picture(tmp_path):
    """The real file is not in this repository: a small one of the same columns goes the same way."""
    experiments().to_parquet(tmp_path / "data.parquet")
    page, drawn = tmp_path / "page.md", tmp_path / "asos.svg"
    page.write_text("before\n<!-- asos -->\nold\n<!-- /asos -->\nafter\n")
    done = ran(str(tmp_path / "data.parquet"), "--write", str(page), "--picture", str(drawn), "--rounds", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    body = page.read_text()
    assert body.startswith("before\n<!-- asos -->\n\n2 series") and body.endswith("<!-- /asos -->\nafter\n") and "old" not in body
    assert "22 looks; 2 looks with fewer than 1,000 units" in body
    assert re.search(r"\| mixture over lifts at any look, nothing expected \| 1 \| 1 \| 1.0 \|", body)
    assert drawn.read_text().startswith("<svg xmlns=") and drawn.read_text().count("<path") == 3


def test_the_study_says_when_its_data_are_missing_or_of_another_shape(tmp_path):
    """The file comes from elsewhere: say where from, and what is expected of it."""
    done = ran(str(tmp_path / "none.parquet"))
    assert done.returncode == 2 and "osf.io/64jsb" in done.stderr
    experiments().drop(columns=["variance_t"]).to_parquet(tmp_path / "other.parquet")
    done = ran(str(tmp_path / "other.parquet"))
    assert done.returncode != 0 and "no column variance_t" in done.stderr


@pytest.mark.parametrize("name", ["z", "sequence", "mixture"])
def test_the_picture_on_the_page_is_that_of_the_study(name):
    """One curve a method, with the words beside it."""
    assert "](assets/asos.svg)" in SECTION
    assert f'class="curve {name}"' in (ROOT / "docs" / "assets" / "asos.svg").read_text()
