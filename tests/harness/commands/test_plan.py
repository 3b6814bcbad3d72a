"""`shadow plan`: how long each gate takes, from a config alone or from a pair table, with its assumptions."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from analysis.simulate import World, ages
from analysis.types import PairTable
from harness import config
from harness.adapters import parquet
from harness.cli import planning
from harness.commands.plan import Row, plan
from harness.core.rollout import Rollout

DAY_US = 86_400_000_000
CONFIG: dict[str, Any] = {
    "rollout": "age-plan",
    "events": {"topic": "e", "unit": "subject",
               "segments": {"gender": {"field": "/gender", "values": ["female", "male"]}, "region": "/region"}},
    "models": {"incumbent": {"uri": "recorded:a.jsonl"}, "challenger": {"uri": "recorded:b.jsonl"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {"over_18": {"output": "age", "at_least": 18}},
    "harms": {"minor_in": {"policy": "over_18", "truth": False, "decision": True}},
    "outcomes": {"topic": "o", "event": "/id", "truth": {"age": "/age"}, "matures": "14d"},
    "sample": {"percent": 50},
    "pairing": {"window": "30s"},
    "gates": [
        {"name": "flips", "metric": {"flip": "over_18"}, "below": 0.2},
        {"name": "flips by gender", "metric": {"flip": "over_18"}, "below": 0.2, "each": ["gender"]},
        {"name": "flips by region", "metric": {"flip": "over_18"}, "below": 0.2, "each": ["region"]},
        {"name": "no worse", "metric": {"harm": "minor_in"}, "worse_by_at_most": 0.05, "discordance": 0.1},
        {"name": "better", "metric": {"harm": "minor_in"}, "better_by_more_than": 0},
    ],
}  # fmt: skip


@pytest.fixture
def rollout() -> Rollout:
    return config.parse(copy.deepcopy(CONFIG), source="a test", folder=Path())


@pytest.fixture
def table() -> PairTable:
    return ages(np.random.default_rng(11), 20_000, World(events_a_unit=2.0))


def by_gate(rows: list[Row]) -> dict[str, list[Row]]:
    return {name: [row for row in rows if row.gate == name] for name in dict.fromkeys(row.gate for row in rows)}


def test_days_follow_from_events_a_day_the_sample_and_the_wait_for_labels(rollout):
    """Half of the traffic is sampled, and a label counts when it is fourteen days old."""
    rows = by_gate(plan(rollout, per_day=1_000))
    (flips,), (harm,) = rows["flips"], rows["no worse"]
    assert flips.units and flips.days == pytest.approx(flips.units / 500)
    assert (flips.labels, harm.labels) == (0, harm.events)
    assert harm.units and harm.days == pytest.approx(harm.units / 500 + 14)


def test_segments_share_the_traffic(rollout):
    """A gate with `each` waits for every value: two values take twice the events."""
    rows = by_gate(plan(rollout))
    assert [row.segment for row in rows["flips by gender"]] == [{"gender": "female"}, {"gender": "male"}]
    assert {row.events for row in rows["flips by gender"]} == {2 * (rows["flips"][0].units or 0)}
    assert "alike in size" in rows["flips by gender"][0].says
    (free,) = rows["flips by region"]
    assert free.segment == {"region": "(each value)"}
    assert "times the number of values" in free.says


def test_without_traffic_nobody_knows_the_days(rollout):
    """Events can be told from the config, days cannot."""
    assert {row.days for row in plan(rollout)} == {None}


def test_a_gate_that_cannot_be_planned_says_why(rollout):
    """No number stands where nobody knows one."""
    (row,) = by_gate(plan(rollout, per_day=1_000))["better"]
    assert (row.ends, row.units, row.events, row.labels, row.days) == ("unknown", None, None, None, None)
    assert "no `expect`" in row.says


def test_a_table_gives_its_own_rates_and_traffic(rollout, table):
    """After a first week in the shadow nothing needs to be guessed: events for each unit that counts, events a day, shares."""
    rows = by_gate(plan(rollout, table=table))
    days = (table["arrived"][-1] - table["arrived"][0]) / DAY_US
    (flips,) = rows["flips"]
    n_units = len(np.unique(table["unit_id"]))
    assert flips.units and flips.events == pytest.approx(flips.units * len(table) / n_units, abs=1)
    assert flips.days == pytest.approx(flips.events * days / len(table), rel=1e-6)
    (better,) = rows["better"]
    assert better.ends in ("pass", "fail", "never") and "as in the table" in better.says
    assert len(rows["flips by region"]) == 3
    labels = rows["no worse"][0].labels or 0
    assert labels == pytest.approx(0.8 * (rows["no worse"][0].events or 0), rel=0.05)


def test_events_a_day_take_the_place_of_the_tables(rollout, table):
    """The shadow ran on one percent; the question is how long it takes on all."""
    (mine,), (theirs,) = (by_gate(plan(rollout, per_day=per_day, table=table))["flips"] for per_day in (2_000, None))
    assert mine.events == theirs.events
    assert mine.days == pytest.approx((mine.events or 0) / 1_000)


ARMS: dict[str, Any] = {
    "exposures": {"topic": "x", "unit": "subject", "arm": "/arm"},
    "online": {"appeals": {"topic": "a", "unit": "subject", "type": "binary", "window": "3d", "better": "lower"},
               "visits": {"topic": "v", "unit": "subject", "type": "count", "window": "3d", "better": "lower"}},
    "gates": [{"name": "appeals", "metric": {"online": "appeals"}, "worse_by_at_most": 0.02},
              {"name": "rarer", "metric": {"online": "appeals"}, "worse_by_at_most": 0.05, "discordance": 0.1},
              {"name": "visits", "metric": {"online": "visits"}, "worse_by_at_most": 0.05},
              {"name": "split", "metric": {"sample_ratio": "exposures"}, "within": 0.05}],
    "stages": [{"shadow": {}}, {"canary": {"percent": 10}}, {"canary": {"percent": 50}}, {"promote": {"bake": "1d"}}],
}  # fmt: skip


def test_a_gate_on_a_canarys_arms_is_planned_at_each_percent_where_anybody_can_know():
    """Units of both arms; the more equal they are, the fewer; a count has no largest variance, so nobody knows."""
    rows = by_gate(plan(config.parse({**copy.deepcopy(CONFIG), **ARMS}, source="a test", folder=Path()), per_day=1_000))
    assert [row.segment for row in rows["appeals"]] == [{"canary": "10 %"}, {"canary": "50 %"}]
    tenth, half = rows["appeals"]
    assert tenth.units and half.units and tenth.units == pytest.approx(half.units / (4 * 0.1 * 0.9), rel=0.1)
    assert (half.ends, half.events, half.days) == ("pass", None, pytest.approx(half.units / 1_000 + 3))
    assert "of the challenger" in half.says and "at 50 %" in half.says
    assert rows["rarer"][0].units == 10_000, "no fewer than a thousand units of the smaller arm"
    assert [row.ends for row in rows["visits"]] == ["unknown"] * 2 and "give `discordance`" in rows["visits"][0].says
    assert [row.ends for row in rows["split"]] == ["pass"] * 2
    without = {**copy.deepcopy(CONFIG), **ARMS, "stages": [{"shadow": {}}]}
    assert {row.ends for row in plan(config.parse(without, source="a test", folder=Path()))} == {"unknown"}


def row(gate: str, ends: Any, days: float | None) -> Row:
    return Row(gate=gate, segment=None, ends=ends, units=None, events=None, labels=None, days=days, says="")


def test_the_last_line_names_the_slowest_gate_and_those_that_never_decide():
    """One line is what people read: a fail comes with its first segment, a pass with its last."""
    rows = [
        row("a", "pass", 3.0),
        row("b", "pass", 2.0),
        row("b", "pass", 9.0),
        row("c", "fail", 1.0),
        row("c", "pass", 400.0),
        row("d", "never", None),
    ]
    assert planning.verdict(rows) == ("plan: the slowest gate that can decide takes 9.0 days; 1 cannot decide as it is: d; 1 would fail: c")
    assert planning.verdict([row("a", "pass", 0.01)]) == "plan: the slowest gate that can decide takes under 0.1 days"
    assert planning.verdict([row("a", "pass", None)]) == "plan: every gate can decide; give --per-day to know when"


def test_the_command_prints_a_table_and_one_document(tmp_path, rollout, table):
    """People and machines read the same rows."""
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(CONFIG))
    parquet.write(rollout, table, tmp_path / "pairs.parquet")
    command = [sys.executable, "-m", "harness", "plan", "rollout.yaml", "--per-day", "5000", "--pairs", "pairs.parquet"]
    shown, document = (
        subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        for more in ([], ["--json"])
    )
    assert (shown.returncode, document.returncode) == (0, 0), shown.stderr
    assert shown.stdout.splitlines()[-1].startswith("plan: ")
    rows = json.loads(document.stdout)["rows"]
    assert [r["gate"] for r in rows] == [r.gate for r in plan(rollout, per_day=5_000, table=table)]
