"""The table of goals: its parts against slow versions, and the whole of it, reduced, on every run of the tests."""

from __future__ import annotations

import re
from math import log
from pathlib import Path

import numpy as np
import pytest

from analysis.calibration import REDUCED, Measured, arrivals, everything, kl, stopping_times, table
from analysis.gates import prepare
from analysis.sequential.designs import Question, design
from analysis.types import Gate, Metric

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


@pytest.fixture(scope="module")
def lines() -> list[Measured]:
    return list(everything(REDUCED))


def test_every_goal_is_met(lines):
    """Error rates at the limits, stopping times, delays: a change of a bet, a prior or a level that costs any of them is seen here."""
    assert [line.task for line in lines if not line.met] == []
    assert len(lines) >= 30 and all(np.isfinite(line.value) for line in lines)


def test_the_page_has_the_lines_that_are_measured(lines):
    """A table that was printed before a line was added, or renamed, promises what nobody measured."""
    shown = re.search(r"<!-- calibration -->\n(.*?)<!-- /calibration -->", PAGE.read_text(), re.S)
    assert shown is not None
    assert re.findall(r"^\| (.*?) \| [\d.,e-]+ \| ", shown[1], re.M) == [line.task for line in lines]


@pytest.mark.parametrize(("word", "limit", "kind"), [("below", 0.1, "rate"), ("worse_by_at_most", 0.05, "sign")])
@pytest.mark.parametrize("side", ["pass", "fail"])
def test_stopping_times_are_those_of_a_look_at_every_contribution(word, limit, kind, side):
    """The gaps between events are skipped in one step; a loop over all contributions must find the same first time."""
    made = design(Question(kind=kind, low=0.0 if kind == "rate" else -1.0, high=1.0, word=word, limit=limit))
    process = (made.pass_ if side == "pass" else made.fail)[0]
    rng = np.random.default_rng(2)
    chance = {"pass": 0.05, "fail": 0.2}[side]
    times = arrivals(rng, 12, chance, 1_500)
    signs = np.where(rng.random(times.shape) < (0.5 if side == "pass" else 0.1), 1.0, -1.0)
    values = np.ones(times.shape) if kind == "rate" else signs
    found = stopping_times(process, times, values, 1_500)
    support = np.array([0.0, 1.0]) if kind == "rate" else np.array([-1.0, 0.0, 1.0])
    for run in range(12):
        stream = np.zeros(1_500)
        inside = times[run] <= 1_500
        stream[times[run][inside] - 1] = values[run][inside]
        counts = np.cumsum(stream[:, None] == support, axis=0)
        enough = process.log_e(counts, support) >= log(20)
        assert found[run] == (np.argmax(enough) + 1 if enough.any() else np.inf)
    assert np.isfinite(found).any()


def test_a_line_that_misses_its_goal_says_so():
    """Two standard errors are allowed, no more."""
    good, bad = (Measured(task="t", value=value, most=0.05, runs=100, error=0.01) for value in (0.069, 0.071))
    assert good.met and not bad.met
    assert "| **no** |" in table([bad]) and "| yes |" in table([good])


def test_the_limit_of_the_rate_gate_is_the_published_one():
    """ln(20)/KL(0.01, 0.02) is 960 contributions (STATISTICS, goals)."""
    assert log(20) / kl(0.01, 0.02) == pytest.approx(960, abs=5)
    assert prepare(Gate(name="r", metric=Metric(kind="flip", policy="p"), word="below", limit=0.02)).support.kind == "rate"
