"""Recorded sums give every kind of gate the row that its pairs give, and hold nothing of any unit."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decided import CONFIG

from analysis.packing import unpack
from harness import config
from harness.commands.analyze import table_of
from harness.core.errors import RecordError
from harness.core.sealed import without_ids
from harness.core.verdicts import row_document
from harness.roles.sealing import from_sums, refold

N = 600
START = np.datetime64("2026-03-02T09:00:00", "us")
GATES = [
    *CONFIG["gates"],
    {"name": "ever", "metric": {"flip": "over_18"}, "below": 0.9, "unit": "ever", "unit_window": "1d"},
    {"name": "average", "metric": {"flip": "over_18"}, "below": 0.9, "unit": "mean", "unit_window": "12h", "each": ["region"]},
    {"name": "prior", "metric": {"missing": "challenger"}, "below": 0.5, "method": "beta-binomial"},
    {"name": "planned", "metric": {"flip": "over_18"}, "below": 0.6, "method": "group_sequential", "plan": {"maximum": 250, "looks": 4}},
    {"name": "planned harm", "metric": {"harm": "minor_in"}, "worse_by_at_most": 0.5, "method": "group_sequential",
     "plan": {"maximum": 100, "looks": 3}},
    {"name": "higher", "metric": {"difference": "mean", "output": "age"}, "within": 30},
    {"name": "moved", "metric": {"difference": "mean", "output": "age"}, "within": 1, "method": "asymptotic", "decide_at": 400,
     "burn_in": 100, "each": ["region"]},
    {"name": "right", "metric": {"recall": "over_18"}, "worse_by_at_most": 0.5},
    {"name": "squares", "metric": {"loss": "squared_error", "output": "age"}, "worse_by_at_most": 10_000},
]  # fmt: skip


def rollout(**changes: Any) -> Any:
    return config.parse({**CONFIG, "gates": GATES, **changes}, source="test", folder=Path())


def columns(seed: int = 1) -> dict[str, Any]:
    """A pair table in which units come again, lanes are silent and labels are missing."""
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, N // 2, N)
    age = 8.0 + unit % 40
    silent = rng.random(N) < 0.05
    known = rng.random(N) < 0.7
    arrived = START + np.arange(N).astype("timedelta64[m]") * 10
    said = {
        "incumbent": list(np.clip(age + rng.normal(1, 3, N), 0, 120)),
        "challenger": [None if gone else value for gone, value in zip(silent, np.clip(age + rng.normal(0, 2, N), 0, 120), strict=True)],
    }
    return {
        "event_id": [f"e{n:04d}" for n in range(N)], "unit_id": [f"u{n}" for n in unit], "arrived": list(arrived),
        "segment.region": [("SE", "ES", "other")[n % 3] for n in unit], "segment.gender": ["fm"[n % 2] for n in unit],
        "age.incumbent": said["incumbent"], "age.challenger": said["challenger"],
        "missing.incumbent": [None] * N, "missing.challenger": ["timeout" if gone else None for gone in silent],
        "latency_ms.incumbent": list(rng.uniform(5, 300, N)), "latency_ms.challenger": list(rng.uniform(5, 300, N)),
        "truth.age": [value if there else None for value, there in zip(age, known, strict=True)],
        "segment.true_age": [
            ("[0, 18)" if value < 18 else "[18, 120)") if there else None for value, there in zip(age, known, strict=True)
        ],
        "label_time": [at + np.timedelta64(3, "h") if there else None for at, there in zip(arrived, known, strict=True)],
        "propensity": list(rng.uniform(0.2, 1.0, N)),
    }  # fmt: skip


@pytest.mark.parametrize("weighted", ["no", "yes", "with requests"])
@pytest.mark.parametrize("hours", [1, 30, 150])
def test_the_recorded_sums_give_every_gate_the_row_that_the_pairs_give(hours: int, weighted: str):
    """To the last bit: whatever a row is made of is either in the sums or in the config; early, midway and at the end."""
    changes: dict[str, Any] = {}
    if weighted != "no":
        requested = {"requested": {"field": "/asked"}} if weighted == "with requests" else {}
        changes["outcomes"] = {**CONFIG["outcomes"], "propensity": {"field": "/p", "least": 0.1}, **requested}
        changes["gates"] = [gate for gate in GATES if gate["name"] not in ("guesses", "planned harm")]
    found = rollout(**changes)
    table = without_ids(table_of(found, columns(), source="test"))
    look = int((START + np.timedelta64(hours, "h")).astype(np.int64))
    again = refold(found, table, as_of=look, stage=0, attempt=0)
    rows = from_sums(found, again.sums, stage=0, attempt=0)
    assert [row_document(row) for row in rows] == [row_document(row) for row in again.rows]
    assert {row.name for row in rows} == {gate.name for gate in found.gates}
    if hours == 150:
        assert {row.status.name for row in rows} >= {"PASS", "UNDECIDED"}


def test_the_sums_hold_nothing_of_any_unit():
    """A record is kept for years; what grows with the number of people is not in it."""
    found = rollout()
    table = without_ids(table_of(found, columns(), source="test"))
    look = int((START + np.timedelta64(150, "h")).astype(np.int64))
    for text in refold(found, table, as_of=look, stage=0, attempt=0).sums.values():
        _, arrays = unpack(base64.b64decode(text))
        assert not {name for name in arrays if name.startswith(("units", "sighted", "recent", "windows")) or name.endswith(".keys")}
        few = {array.shape[0] for name, array in arrays.items() if not name.startswith(("counts", "cells"))}
        assert max(few, default=0) < 40


@pytest.mark.parametrize("text", ["", "no base64!", base64.b64encode(b"other bytes").decode(), base64.b64encode(b"SHEV1\n12").decode()])
def test_sums_that_are_none_are_refused(text: str):
    """They may come from anybody's hand."""
    with pytest.raises(RecordError, match="recorded sums of the unlabelled gates"):
        from_sums(rollout(), {"unlabelled": text, "labelled": text}, stage=0, attempt=0)
