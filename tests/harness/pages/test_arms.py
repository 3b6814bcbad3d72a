"""A canary's arms on the page, in the terminal and in the record: who was served, and by what split."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import pytest

from analysis.online.judge import judge
from harness.pages.arms import arms_lines
from harness.pages.records import sections
from harness.pages.report import render
from harness.pages.terminal import gate_table, summary_lines

ARMS = {"units": 12_345, "crossed": 3, "strays": 7, "split_fired_at": None, "as_of": "2026-03-15T00:00:00Z"}
EXPOSED = {
    "units": 1_300,
    "stages": [
        {"attempt": 0, "stage_index": 1, "percent": 1.0, "units": 100}, {"attempt": 0, "stage_index": 2, "percent": 10.0, "units": 1_234},
    ],
}  # fmt: skip
SERVED = "served by the challenger: 1,300 units: 100 in stage 1 at 1 %, 1,234 in stage 2 at 10 %"


@pytest.fixture
def canary(age, rollout_of, table_of, verdict_of, age_rows) -> Any:
    """A rollout with gates on both arms, its verdict in a canary, and its pair table."""
    age = copy.deepcopy(age)
    age["exposures"] = {"topic": "age.x", "unit": "subject", "arm": "/arm"}
    age["online"] = {"appeals": {"topic": "age.appeals", "unit": "subject", "type": "binary", "window": "1d", "better": "lower"}}
    age["gates"] += [
        {"name": "no more appeals", "metric": {"online": "appeals"}, "worse_by_at_most": 0.02},
        {"name": "split", "metric": {"sample_ratio": "exposures"}, "within": 0.01},
    ]
    age["stages"][1:1] = [{"canary": {"percent": 1}}, {"canary": {"percent": 10}, "stop_after": {"minor_allowed": 3}}]
    rollout = rollout_of(age)
    table = table_of(rollout, age_rows(200, old=5, new=2))
    online = [
        asdict(judge(gate, None, failed=False, misdrawn=True, alpha=0.05, fail_level=0.01)) | {"status": "undecided"}
        for gate in rollout.gates if gate.metric.group == "online"
    ]  # fmt: skip
    found = verdict_of(rollout, table)
    served = {"arms": ARMS, "exposed": EXPOSED, "exposed_harms": {"minor_allowed": 2}}
    return rollout, {**found, "gates": [*found["gates"], *online], "stage": "canary", "stage_index": 2, **served}, table


def test_the_page_says_how_the_arms_stand(canary):
    """Beside the gates: units, those in both arms, the split, and how near a count is to its end."""
    rollout, verdict, table = canary
    page = render(rollout, verdict, table)
    for words in (
        "arms as of 2026-03-15T00:00:00Z: 12,345 units, 3 of them seen in both; the split is as configured; 7 measurements", SERVED,
        "minor allowed: 2 among people whom the challenger served, 3 end the stage", "no more appeals",
        "share of units that the challenger serves, beyond the configured one: within 10 per 1,000 either way",
    ):  # fmt: skip
        assert words in page, words


def test_a_split_that_is_wrong_says_since_when(canary):
    """And an attempt is named where there were several."""
    rollout, verdict, _ = canary
    wrong = {**ARMS, "split_fired_at": "2026-03-14T00:00:00Z"}
    again = {"units": 5, "stages": [{"attempt": 1, "stage_index": 1, "percent": 1.0, "units": 5}]}
    lines = arms_lines(rollout, {**verdict, "arms": wrong, "exposed": again})
    assert "the split is not as configured since 2026-03-14T00:00:00Z" in lines[0]
    assert lines[1] == "served by the challenger: 5 units: 5 in stage 1 at 1 % of attempt 1"
    assert arms_lines(rollout, {**verdict, "arms": None, "exposed": None, "exposed_harms": {}}) == []


def test_in_a_shadow_nobody_waits_for_a_gate_on_arms(canary):
    """A verdict shows the gates of its own stage, and no others as undecided."""
    rollout, verdict, table = canary
    shadow = {**verdict, "stage": "shadow", "stage_index": 0, "arms": None, "exposed": None, "exposed_harms": {}}
    shadow["gates"] = [row for row in verdict["gates"] if row["name"] not in ("no more appeals", "split")]
    names = [[str(cell) for cell in gate_table(rollout, each).columns[0].cells] for each in (verdict, shadow)]
    assert [("split" in each, "no more appeals" in each) for each in names] == [(True, True), (False, False)]
    assert "no more appeals" not in summary_lines(rollout, shadow, table)[1]
    assert "no more appeals" not in render(rollout, shadow, table)


@pytest.mark.parametrize("more", [{}, {"evidence": {"as_of": None}}], ids=["of a person", "of the controller"])
def test_a_record_says_whom_the_challenger_served(more):
    """Also that of a person who went back."""
    record = {"kind": "rolled_back", "by": {"name": "ada"}, "people": {"exposed": EXPOSED, "exposed_harms": {"minor_allowed": 2}}, **more}
    (section,) = sections([(record, "00")], [None])
    assert dict(section.facts)["The people"] == (SERVED, "minor allowed: 2 among them")
