"""The table of goals: its parts against slow versions, and the whole of it, reduced, on every run of the tests."""

from __future__ import annotations

import re
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stopping import METHODS

from analysis.calibration.arms import arms
from analysis.calibration.conditions import conditions
from analysis.calibration.goals import goals
from analysis.calibration.kinds import cases, kinds
from analysis.calibration.measure import REDUCED, Measured, arrivals, kl, stopping_times, table
from analysis.calibration.runs import log_e_of_runs
from analysis.evidence import Evidence, Plan
from analysis.gates import prepare
from analysis.metrics.contributions import contributions_of, domain_of, rows_of
from analysis.sequential.designs import Question, design
from analysis.simulate import SHORT_US, Known, known
from analysis.types import Gate, Metric, PairTable

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


PARTS = {"goals": goals, "conditions": conditions, "arms": arms, "kinds": kinds}


@pytest.fixture(scope="module")
def measured() -> dict[str, list[Any]]:
    return {name: list(part(np.random.default_rng(20240611), REDUCED)) for name, part in PARTS.items()}


def flat(lines: list[Any]) -> list[Measured]:
    return [one for line in lines for one in (line if isinstance(line, tuple) else (line,))]


@pytest.mark.parametrize("name", PARTS)
def test_every_goal_is_met(measured, name):
    """Error rates at the limits, stopping times, delays: a change of a bet, a prior or a level that costs any of them is seen here."""
    lines = flat(measured[name])
    assert [line.task for line in lines if not line.met] == []
    assert len(lines) >= (12 if name == "arms" else 20) and all(np.isfinite(line.value) for line in lines)


def test_the_wrong_ways_are_wrong_on_the_same_streams(measured):
    """A condition under which the naive way holds as well would be no hard one."""
    naive = {line.task: line.value for line in measured["conditions"] if line.task.startswith("*wrong")}
    assert len(naive) >= 9 and sum(value > 0.15 for value in naive.values()) >= 7
    assert all(value > 0.9 for task, value in naive.items() if "in order of arrival" in task and "labels 100" in task)


@pytest.mark.parametrize("name", [*PARTS, "compared"])
def test_the_page_has_the_lines_that_are_measured(measured, name):
    """A table that was printed before a line was added, or renamed, promises what nobody measured."""
    shown = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE.read_text(), re.S)
    assert shown is not None
    firsts = re.findall(r"^\| (.*?) \| [\d.,e-]+ \| ", shown[1], re.M)
    if name == "compared":
        assert firsts[1:] == list(METHODS)
    else:
        assert firsts == [line[0].task if isinstance(line, tuple) else line.task for line in measured[name]]


# --------------------------------------------------------------------------------------------- the streams and the fast path
@pytest.mark.parametrize("world", [Known(), Known().swapped, Known(least=0.25)], ids=["plain", "swapped", "drawn"])
def test_the_truth_of_a_stream_is_what_its_formula_says(world):
    """A limit that is not the truth makes an error rate of nothing: 40,000 units, within five standard errors."""
    table = known(np.random.default_rng(7), 40_000, world)
    for case in cases():
        if case.world != world or case.gate.unit != "first" or case.gate.metric.kind == "latency":
            continue
        values, weights = contributions_of(case.gate, table)
        rows = rows_of(domain_of(case.gate.metric), table)
        kept, heavy = values[rows], np.ones(int(rows.sum())) if weights is None else weights[rows]
        kept = np.where(heavy > 0.0, kept, 0.0)
        limit = {"worse_by_at_most": -case.gate.limit}.get(case.gate.word, case.gate.limit)
        mean = (kept * heavy).sum() / heavy.sum()
        error = float(np.sqrt((heavy**2 * (kept - mean) ** 2).sum()) / heavy.sum())
        near = min(abs(mean - limit), abs(mean + limit)) if case.gate.word == "within" else abs(mean - limit)
        assert near < 5.0 * error, case.name


def test_a_latency_limit_is_the_quantile_of_its_stream():
    """One in ten is slower or missing."""
    world = Known()
    table = known(np.random.default_rng(7), 40_000, world)
    slow = (table["missing.challenger"] >= 0) | (np.nan_to_num(table["latency_ms.challenger"]) > world.latency_limit(0.9))
    assert slow.mean() == pytest.approx(0.1, abs=0.0075)


TIED = ("harm `worse_by_at_most`", "latency p90 `below`", "precision `above`", "loss, absolute error `within`", "flip, closed form `above`",
        "excess_disagreement, a quarter asked `below`", "harm, weighted `below`", "harm `below`, three events a unit, unit `ever`",
        "flip `below`, three events a unit, unit `mean`", "flip `below`, three events a unit, unit `first`")


@pytest.mark.parametrize("name", TIED)
def test_many_runs_at_once_are_the_same_as_evidence_row_by_row(name):
    """Three runs of the fast path, each folded alone by `Evidence`, a look at a time: the same e-values at every look."""
    (case,) = [case for case in cases() if case.name == name]
    tables = [known(np.random.default_rng(seed), 200, case.world) for seed in range(3)]
    looks = np.linspace(tables[0]["arrived"][0], tables[0]["arrived"][-1] + SHORT_US, 7)[1:].astype(np.int64)
    joined = {column: np.concatenate([table[column] for table in tables]) for column in tables[0].columns}
    run = np.repeat(np.arange(3), [len(table) for table in tables])
    joined["unit_id"] = joined["unit_id"] + run.astype(np.uint64) * np.uint64(1_000)
    fast = log_e_of_runs(prepare(case.gate), PairTable(joined, tables[0].words), run, looks)
    for k, one in enumerate(tables):
        evidence, start = Evidence(Plan((case.gate,), alpha=0.05, n_stages=1, listed={}), case.gate.metric.labelled), -1
        for at, look in enumerate(looks.tolist()):
            evidence.fold(one.take((one["arrived"] > start) & (one["arrived"] <= look)), np.array([look]))
            (row,) = evidence.results()
            assert (row.log_e_pass, row.log_e_fail) == pytest.approx((fast[0][k, at], fast[1][k, at]), abs=1e-6)
            start = look


def test_an_error_rate_that_is_too_high_would_be_seen():
    """The same streams with each limit moved to the wrong side: these gates pass, so the rates above are not those of blind tests."""
    gate = replace(next(case.gate for case in cases() if case.name == "flip `below`"), limit=0.2)
    table = known(np.random.default_rng(1), 3_000, Known())
    found, _ = log_e_of_runs(prepare(gate), table, np.zeros(len(table), np.int64), table["arrived"][-1:])
    assert found[0, 0] > log(20)


# ---------------------------------------------------------------------------------------------------------- stopping times
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
