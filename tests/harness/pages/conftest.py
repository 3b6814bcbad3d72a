"""Small rollouts from real configs, pair tables built from packed rows, and verdicts folded by the real evidence."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.evidence import Evidence, combine
from analysis.plan import Plan
from analysis.types import PairTable
from harness.config.loading import parse
from harness.core.events import Answer, Event, Outcome
from harness.core.rollout import Rollout
from harness.core.table import Dictionary, RowLayout, TableBuilder, flips

HOUR = 3_600_000_000

AGE: dict[str, Any] = {
    "rollout": "age-small",
    "events": {"topic": "age.events", "unit": "subject", "segments": {"region": "/region"}},
    "models": {"incumbent": {"uri": "recorded:a.jsonl"}, "challenger": {"uri": "recorded:b.jsonl"}},
    "outputs": {
        "age": {"type": "number", "unit": "years", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}
    },
    "policies": {
        "over_13": {"output": "age", "at_least": 13},
        "adult": {"output": "age", "at_least": 18, "decide": [{"allow": {"at_least": 25}}, {"check_id": {"at_least": 18}}, "block"]},
    },
    "harms": {
        "child_let_in": {"policy": "over_13", "truth": False, "decision": True},
        "minor_allowed": {"policy": "adult", "truth": False, "decision": "allow"},
        "adult_stopped": {"policy": "adult", "truth": True, "decision": ["check_id", "block"]},
    },
    "outcomes": {"topic": "age.verified", "event": "/event_id", "truth": {"age": "/age"}, "matures": "1d"},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [
        {"name": "fewer children", "metric": {"harm": "child_let_in"}, "better_by_more_than": 0, "each": ["region"]},
        {"name": "guesses no worse", "metric": {"loss": "absolute_error", "output": "age"}, "worse_by_at_most": 5},
        {"name": "it answers", "metric": {"missing": "challenger"}, "below": 0.2},
    ],
    "alpha": 0.05,
    "stages": [{"shadow": {"percent": 100}, "at_least": "1h"}, {"promote": {"bake": "1d"}}],
    "expires": "30d",
}


@pytest.fixture
def age() -> dict[str, Any]:
    """A config of age estimation, to change before use."""
    import copy

    return copy.deepcopy(AGE)


@pytest.fixture
def rollout_of() -> Callable[[Mapping[str, Any]], Rollout]:
    """The rollout of a config document."""
    return lambda document: parse(document, source="test.yaml", folder=Path("."))


Row = Mapping[str, Any]


def build(rollout: Rollout, rows: Sequence[Row]) -> PairTable:
    """A pair table; a row: unit, segments, old, new (tuples of outputs, None = no answer), truth (tuple or None)."""
    layout, words = RowLayout(rollout), Dictionary()
    packed = []
    for number, row in enumerate(rows):
        key = hashlib.sha256(f"event-{number}".encode()).digest()[:14]
        unit = int.from_bytes(hashlib.sha256(f"unit-{row['unit']}".encode()).digest()[:8], "big")
        event = Event(
            position=number,
            key=key,
            unit=unit,
            id=f"event-{number}",
            arrived=HOUR + number,
            segments=tuple(row["segments"]),
            decisions=(),
            payload=b"",
        )
        answers = {lane: _answer(key, row[name]) for lane, name in (("incumbent", "old"), ("challenger", "new"))}
        outcome = None if row.get("truth") is None else Outcome(position=0, key=key[:10], time=2 * HOUR, number=0, truths=row["truth"])
        packed.append(layout.pack(event, answers, outcome, words))
    return TableBuilder(rollout).build([(layout.records(b"".join(packed)), words.words)])


def _answer(key: bytes, outputs: tuple[Any, ...] | None) -> Answer:
    if outputs is None:
        return Answer(key=key, status="timeout")
    return Answer(key=key, status="answered", outputs=outputs, latency_ms=12.0)


@pytest.fixture
def table_of() -> Callable[[Rollout, Sequence[Row]], PairTable]:
    """Packs rows and builds their table."""
    return build


def judged(rollout: Rollout, table: PairTable, *, stage: str = "shadow") -> dict[str, Any]:
    """The verdict.json of a table at its end, by the real evidence."""
    listed = {s.name: s.listed for s in rollout.events.segments}
    plan = Plan(rollout.gates, alpha=rollout.alpha, n_stages=len(rollout.stages), listed=listed)
    looks = np.array([10 * HOUR], np.int64)
    evidence = [Evidence(plan, labelled) for labelled in (False, True)]
    for one in evidence:
        one.fold(table, looks)
    gates = [{**asdict(result), "status": result.status.name.lower()} for result in combine(plan, *evidence)]
    counted = {gate.name for gate in rollout.gates if gate.counted}
    whole = [row for row in gates if not row["segment"] and row["name"] in counted]
    fails = [row for row in whole if row["status"] == "fail" and row["on_fail"] == "rollback"]
    word = "rollback" if fails else "promote" if whole and all(row["status"] == "pass" for row in whole) else "hold"
    paired = int(((table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)).sum())
    lost = len(table) - paired
    reasons = [f"{row['name']}: {row['reason'] or row['status']}" for row in whole if row["status"] != "pass"]
    return {
        "rollout": rollout.name,
        "verdict": word,
        "reasons": reasons or ["nothing configured"],
        "stage": stage,
        "counts": {"read": len(table) + 2, "duplicates": 2, "unsampled": 0, "mirrored": len(table), "paired": paired, "shed": 0,
                   "invalid": 0, "in_flight": 0, "missing": {"challenger": {"timeout": lost}}},
        "lanes": {"incumbent": {"answered": len(table)}, "challenger": {"answered": paired, "timeout": lost}},
        "outcomes": {"joined": int((table["label_time"] >= 0).sum()), "waiting": 0, "orphaned": 0, "revised": 0, "invalid": 0},
        "gates": gates,
        "flips": flips(table, rollout.policies),
        "config_sha256": rollout.sha256,
        "code_version": "0.1.0",
        "watermark": {"mirror/0": len(table)},
        "as_of": "2026-03-16T00:00:00Z",
        "expires": None,
    }  # fmt: skip


@pytest.fixture
def verdict_of() -> Callable[..., dict[str, Any]]:
    """Judges a table."""
    return judged


@pytest.fixture
def age_rows() -> Callable[..., list[Row]]:
    """Rows of n under-13s and n adults: of 10 under-13s so many pass in each lane, more of them in the north; one in four is unlabelled."""

    def rows(n: int, *, old: int, new: int) -> list[Row]:
        found: list[Row] = []
        for k in range(n):
            north = k % 2 == 0
            young = {"old": (14.0 if k % 10 < old else 9.0,), "new": (15.0 if k % 10 < new + (1 if north and new > old else 0) else 9.5,)}
            found.append({"unit": k, "segments": ("north" if north else "south",), "truth": (11.0,), **young})
            found.append({"unit": n + k, "segments": ("south",), "truth": None if k % 4 == 0 else (30.0,), "old": (26.0,), "new": (29.0,)})
        return found

    return rows
