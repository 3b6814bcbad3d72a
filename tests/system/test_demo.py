"""The moderation demo as a person runs it: every role a process, the trap found, and no word of a post outside the bus."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_S = 420


@pytest.mark.slow
def test_the_moderation_demo_stops_the_machine_for_one_community(tmp_path: Path):
    """From nothing to the verdict; the sentence comes of what two real detectors said, not of this repository's words."""
    for needed in ("profanity_check", "better_profanity"):
        pytest.importorskip(needed, reason="needs the extra demo")
    command = [sys.executable, "-m", "harness", "demo", "moderation", "--out", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert said.startswith("Stop. Of 1,000 harmless posts of community antibullying, ")
    assert "violating posts," in said and "This was a shadow: nobody was affected." in said
    shown, _, _ = said.partition(" gate estimate ")
    assert shown in " ".join((ROOT / "README.md").read_text().split())
    assert "report: " in done.stderr and "Next: shadow demo moderation --challenger careful" in done.stderr

    folder = tmp_path / "moderation-svm"
    verdict = json.loads((folder / "verdict.json").read_text())
    with gzip.open(folder / "stream" / "events.jsonl.gz", "rt") as lines:
        events = [json.loads(line) for line in lines]
    assert (verdict["verdict"], verdict["counts"]["paired"]) == ("rollback", len(events))
    gate = [row for row in verdict["gates"] if row["name"] == "harmless posts stay up"]
    rows = {tuple((row["segment"] or {}).values()): row for row in gate}
    failed = [where for where, row in rows.items() if where and row["status"] == "fail"]
    assert failed == [("antibullying",)]
    assert rows[()]["estimate"] > 0  # over all posts fewer harmless ones would be removed

    texts = {event["data"]["text"] for event in events} | {event["subject"] for event in events[:200]}
    left = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".html", ".json", ".log", ".parquet")]
    assert {path.suffix for path in left} >= {".html", ".json"}
    for path in left:
        content = path.read_bytes()
        assert not [text for text in texts if text.encode() in content], path
