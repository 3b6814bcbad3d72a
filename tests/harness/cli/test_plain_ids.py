"""`keep.ids` as people meet it: who may be looked up by a plain id, where it stands, and where it never does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
import yaml
from decided import CONFIG, Decided, decide, stream

EVENTS = {event["id"]: event for event in map(json.loads, stream(400)[0])}
PLAIN = re.compile(rb"(?<![0-9A-Za-z])e\d{1,3}(?![0-9A-Za-z])")  # e7 as a word: not a part of a hash


@pytest.fixture
def differing(tmp_path: Path, redis_db: redis.Redis, redis_url: str) -> Decided:
    return decide(tmp_path, redis_url, n=400, keep={"ids": "disagreements"})


def rows(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def differs(row: dict[str, Any]) -> bool:
    """Whether both models answered and one policy decides otherwise."""
    paired = row["missing.incumbent"] is None and row["missing.challenger"] is None
    return paired and any(row[f"{name}.incumbent"] != row[f"{name}.challenger"] for name in ("over_18", "adult"))


def test_an_export_has_the_plain_id_of_every_event_whose_decisions_differ(shadow, differing, redis_url, tmp_path):
    """Reviewers find these events in their own systems; of all others there is the hash alone."""
    done = shadow("export", "age-sealed", "-o", tmp_path / "pairs.parquet", "--store", redis_url)
    assert done.code == 0, done.err
    found = rows(tmp_path / "pairs.parquet")
    assert {differs(row) for row in found} == {True, False}
    assert [row for row in found if (row["plain_id"] is not None) != differs(row)] == []
    for row in found:
        if row["plain_id"] is not None:
            data = EVENTS[row["plain_id"]]["data"]
            assert (row["age.incumbent"], row["age.challenger"]) == (data["old"]["age"], data["new"]["age"])
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump({**CONFIG, "keep": {"ids": "disagreements"}}))
    analysed = shadow("analyze", tmp_path / "rollout.yaml", "--pairs", tmp_path / "pairs.parquet")
    assert analysed.code in (0, 3, 4), analysed.err


def test_explain_says_whether_the_plain_id_is_kept_and_forget_takes_it(shadow, differing, redis_url, redis_db, tmp_path):
    """It is what we have of somebody, so it is told and can be taken out."""
    shadow("export", "age-sealed", "-o", tmp_path / "pairs.parquet", "--store", redis_url)
    kept = [row["plain_id"] for row in rows(tmp_path / "pairs.parquet") if row["plain_id"] is not None]
    unit = EVENTS[kept[0]]["subject"]
    theirs = [id for id in kept if EVENTS[id]["subject"] == unit]
    other = next(id for id in EVENTS if id not in kept and EVENTS[id]["subject"] != unit)
    assert "its plain id is kept" in shadow("explain", "age-sealed", kept[0], "--store", redis_url).out
    told = json.loads(shadow("explain", "age-sealed", other, "--store", redis_url, "--json").out)
    assert [event["plain_id"] for event in told["events"]] == [None]
    assert shadow("forget", "age-sealed", unit, "--reason", "a request", "--store", redis_url).code == 0
    left = {value[8:].decode() for key in redis_db.keys("*:plain:*") for value in redis_db.hvals(key)}
    assert left == set(kept) - set(theirs)


def test_no_record_archive_or_verdict_has_a_plain_id(shadow, differing, redis_url):
    """They are kept for years, and shown to many; only what goes with the pairs may name an event."""
    places = {f"record {n}": link.body for n, link in enumerate(differing.links)} | {"verdict": json.dumps(differing.verdict).encode()}
    for path in differing.archive.rglob("*.parquet"):
        table = pq.read_table(path)
        assert "plain_id" not in table.column_names
        places[path.name] = json.dumps(table.to_pylist(), default=str).encode()
    assert len(places) > len(differing.links) + 1
    assert [name for name, content in places.items() if PLAIN.search(content)] == []


def test_a_replay_writes_them_into_the_table_alone(shadow, tmp_path):
    """The same config gives the same columns, live or replayed."""
    events, labels = stream(60)
    (tmp_path / "events.jsonl").write_bytes(b"\n".join(events))
    (tmp_path / "labels.jsonl").write_bytes(b"\n".join(labels))
    for words, n in (("all", 60), ("none", None)):
        (tmp_path / "rollout.yaml").write_text(yaml.safe_dump({**CONFIG, "keep": {"ids": words}}))
        files = ("--events", tmp_path / "events.jsonl", "--outcomes", tmp_path / "labels.jsonl", "--out", tmp_path / words)
        done = shadow("replay", tmp_path / "rollout.yaml", *files)
        assert done.code in (0, 3, 4), done.err
        table = pq.read_table(tmp_path / words / "pairs.parquet")
        assert ("plain_id" in table.column_names) == (n is not None)
        assert n is None or set(table["plain_id"].to_pylist()) == {f"e{k}" for k in range(n)}
        for name in ("verdict.json", "report.html"):
            assert not PLAIN.search((tmp_path / words / name).read_bytes())
