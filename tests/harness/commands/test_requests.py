"""A review queue that says what it asks for, through `shadow replay` and `shadow analyze`: labels that wait are counted and shown."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import decided
import pyarrow.parquet as pq
import pytest
import redis
import yaml

from harness.adapters.archive import FileArchive
from harness.commands import audit

N = 1_200
START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "rollout": "asked",
    "events": {"topic": "posts.scored", "unit": "subject", "segments": {"platform": {"field": "/platform", "values": ["phone", "web"]}}},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
    "outputs": {"toxicity": {"type": "number", "range": [0, 1], "incumbent": {"field": "/toxicity"}, "challenger": {"field": "/toxicity"}}},
    "policies": {"removed": {"output": "toxicity", "at_least": 0.5}},
    "harms": {"good_post_removed": {"policy": "removed", "truth": False, "decision": True}},
    "outcomes": {"topic": "posts.reviewed", "event": "/event_id", "truth": {"toxicity": "/is_toxic"}, "matures": "1h",
                 "propensity": {"field": "/p", "least": 0.5}, "requested": {"field": "/requested_at"}},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [
        {"name": "no more wrong", "metric": {"loss": "zero_one", "policy": "removed"}, "worse_by_at_most": 0.1, "each": ["platform"]},
        {"name": "good posts stay", "metric": {"harm": "good_post_removed"}, "below": 0.3, "on_fail": "hold"},
        {"name": "it answers", "metric": {"missing": "challenger"}, "below": 0.05},
    ],
}  # fmt: skip


@dataclass
class Stream:
    """Events and what becomes of their labels; `asked` and `came` by event."""

    events: list[dict[str, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    asked: dict[str, float] = field(default_factory=dict)
    came: set[str] = field(default_factory=set)

    def record(self, at: datetime, **data: Any) -> None:
        known = {"specversion": "1.0", "id": f"r{len(self.records)}", "source": "queue", "type": "review", "time": at.isoformat()}
        self.records.append(known | {"data": data})


def stream() -> Stream:
    """Half of the posts are asked about, disagreements always; two thirds of these labels come, days late, and some more."""
    rng, found = random.Random(7), Stream()
    for k in range(N):
        at, id, toxic = START + timedelta(seconds=30 * k), f"e{k}", rng.random() < 0.4
        old, new = ((0.8 if toxic != (rng.random() < wrong) else 0.2) for wrong in (0.2, 0.15))
        found.events.append({"specversion": "1.0", "id": id, "source": "app", "type": "post", "subject": f"u{k}", "time": at.isoformat(),
                             "data": {"platform": "phone" if k % 3 else "web", "old": {"toxicity": old}, "new": {"toxicity": new}}})
        chance = 1.0 if old != new else 0.5
        if rng.random() < chance:
            found.asked[id] = chance
            asked_at = at + timedelta(minutes=rng.uniform(-5, 20))  # a queue may be faster than the events' topic
            found.record(asked_at, event_id=id, requested_at=asked_at.isoformat(), p=chance)
            if rng.random() < 0.1:  # another reviewer is asked, for sure
                found.record(asked_at + timedelta(hours=1), event_id=id, requested_at=True, p=1.0)
            if rng.random() < 0.66:
                found.came.add(id)
                found.record(at + timedelta(hours=rng.uniform(0, 60)), event_id=id, is_toxic=toxic)
        elif rng.random() < 0.2:
            found.record(at + timedelta(hours=5), event_id=id, is_toxic=toxic)
    found.record(START, event_id="elsewhere", requested_at=True, p=0.5)
    found.record(START, event_id="elsewhere", requested_at=True)  # without its chance
    return found


def shadow(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def replay(folder: Path, outcomes: str, out: str) -> dict[str, Any]:
    done = shadow("replay", "rollout.yaml", "--events", "events.jsonl", "--outcomes", outcomes, "--out", out, folder=folder)
    assert done.returncode in (0, 3, 4), done.stderr
    found: dict[str, Any] = json.loads((folder / out / "verdict.json").read_text())
    return found


@pytest.fixture(scope="module")
def made() -> Stream:
    return stream()


@pytest.fixture(scope="module")
def folder(made: Stream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config, the records, and what a replay made of them in `out`."""
    folder = tmp_path_factory.mktemp("asked")
    (folder / "rollout.yaml").write_text(yaml.safe_dump(CONFIG))
    for name, lines in (("events", made.events), ("outcomes", made.records)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    replay(folder, "outcomes.jsonl", "out")
    return folder


@pytest.fixture(scope="module")
def verdict(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "out" / "verdict.json").read_text())
    return found


def test_requests_are_counted_apart_from_outcomes(made: Stream, verdict: dict[str, Any]) -> None:
    """The keys of `outcomes` mean what they meant; each request has one class of its own."""
    kinds = Counter("label" if "is_toxic" in line["data"] else "request" for line in made.records)
    assert verdict["outcomes"] == {"joined": kinds["label"], "waiting": 0, "orphaned": 0, "revised": 0, "invalid": 1}
    assert verdict["requests"] == {"joined": kinds["request"] - 2, "waiting": 0, "orphaned": 1}


def test_rows_say_how_many_labels_were_asked_for_came_and_wait(made: Stream, verdict: dict[str, Any]) -> None:
    """Labels that nobody asked for are in none of the three."""
    for row in verdict["gates"]:
        if row["name"] == "it answers":
            assert row["labels"] is None and row["method"] == "mixture"
            continue
        platform = (row["segment"] or {}).get("platform")
        mine = {event["id"] for event in made.events if platform in (None, event["data"]["platform"])}
        asked, came = len(mine & made.asked.keys()), len(mine & made.came)
        assert row["labels"] == {"requested": asked, "labelled": came, "pending": asked - came}
        assert row["method"] == "mixture, weighted, pending labels filled"
    assert 0 < len(made.came) < len(made.asked)


def test_a_verdict_that_waits_for_labels_says_so(made: Stream, verdict: dict[str, Any], folder: Path) -> None:
    """Never a bare hold: in the reasons and on the page."""
    waits = len(made.asked) - len(made.came)
    assert any(f"{waits} of {len(made.asked)} labels asked for have not come" in reason for reason in verdict["reasons"])
    page = (folder / "out" / "report.html").read_text()
    assert f"labels: {len(made.asked):,} asked for, {len(made.came):,} came, {waits:,} wait" in page


def test_the_pair_table_keeps_what_was_asked(made: Stream, folder: Path) -> None:
    """A propensity stands in the rows of which a label was asked for, the smallest that was stated, and in no other."""
    table = pq.read_table(folder / "out" / "pairs.parquet").to_pydict()
    chances = [p for p in table["propensity"] if p is not None]
    assert Counter(chances) == Counter(made.asked.values())
    pending = [p for p, label in zip(table["propensity"], table["label_time"], strict=True) if p is not None and label is None]
    assert len(pending) == len(made.asked) - len(made.came)


def test_analyze_gives_the_same_rows_from_the_parquet(verdict: dict[str, Any], folder: Path) -> None:
    """The table alone says who was asked."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--json", folder=folder)
    rows = json.loads(done.stdout)["gates"]
    assert [{key: row[key] for key in row if key in verdict["gates"][0]} for row in rows] == verdict["gates"]


def test_a_moment_to_stop_at_is_refused_where_the_table_cannot_know_it(folder: Path) -> None:
    """It has no time of a request; a guess would be another sample."""
    done = shadow("analyze", "rollout.yaml", "--pairs", "out/pairs.parquet", "--until", "2026-03-02T12:00:00Z", folder=folder)
    assert (done.returncode, "does not say when a label was asked for" in done.stderr) == (2, True)


def test_the_order_of_requests_and_labels_changes_nothing(made: Stream, verdict: dict[str, Any], folder: Path) -> None:
    """Their own times count, not their lines."""
    lines = list(made.records)
    random.Random(1).shuffle(lines)
    (folder / "shuffled.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = replay(folder, "shuffled.jsonl", "again")
    assert {**again, "watermark": None} == {**verdict, "watermark": None}


def test_labels_that_come_only_add_to_the_evidence(made: Stream, verdict: dict[str, Any], folder: Path) -> None:
    """The same requests with a third of their labels: each e-value is lower, none is higher."""
    kept = [line for k, line in enumerate(made.records) if "is_toxic" not in line["data"] or k % 3 == 0]
    (folder / "fewer.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    fewer = replay(folder, "fewer.jsonl", "fewer")
    for less, more in zip(fewer["gates"], verdict["gates"], strict=True):
        assert less["log_e_pass"] <= more["log_e_pass"] + 1e-9 and less["log_e_fail"] <= more["log_e_fail"] + 1e-9
    assert fewer["gates"][0]["labels"]["pending"] > verdict["gates"][0]["labels"]["pending"]


def test_a_decision_that_rests_on_requests_is_computed_again_from_its_records(
    tmp_path: Path, redis_url: str, redis_db: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    """From the sums and from the sealed pairs: a label that had not come counts as it did when it was decided."""
    events, labels = decided.stream()
    asked = [json.loads(line) for line in labels]
    for k, label in enumerate(asked):
        label["data"] |= {"age": None if k % 40 == 3 else label["data"]["age"], "asked": True, "p": 0.8}
    monkeypatch.setattr(decided, "stream", lambda n: (events, [json.dumps(label).encode() for label in asked]))
    outcomes = {**decided.CONFIG["outcomes"], "propensity": {"field": "/p", "least": 0.5}, "requested": {"field": "/asked"}}
    gates = [{"name": "minors", "metric": {"harm": "minor_in"}, "worse_by_at_most": 0.9}, *decided.CONFIG["gates"][2:]]
    found = decided.decide(tmp_path, redis_url, outcomes=outcomes, gates=gates)
    assert found.verdict["gates"][0]["labels"]["pending"] > 0
    said = audit.verify(found.links, FileArchive(found.archive), heads=[], level="pairs")
    assert (said.disagreements, [each.level for each in said.decisions]) == ([], ["pairs"])
