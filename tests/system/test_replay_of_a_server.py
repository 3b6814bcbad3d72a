"""`shadow replay` with a challenger behind HTTP: the whole pipeline, a real process and a real server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from model_servers import Script, ScriptedServer, answer

N = 60
CONFIG: dict[str, Any] = {
    "rollout": "served",
    "events": {"topic": "served.events", "unit": "subject"},
    "models": {"incumbent": {"uri": "recorded:event:/old"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": ""}, "challenger": {"field": "/age"}}},
    "policies": {"over_18": {"output": "age", "at_least": 18}},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [{"name": "few decisions change", "metric": {"flip": "over_18"}, "below": 0.05}],
    "stages": [{"shadow": {"percent": 100}, "at_least": "1h"}],
}


@pytest.mark.parametrize(
    ("script", "tally"),
    [
        (lambda request: [answer({"age": request.json["old"]})], {"answered": N}),
        (lambda _: [answer(b"", code=503)], {"error": N}),
        (lambda _: [answer(b"<html>")], {"bad_output": N}),
    ],
    ids=["answers", "is down", "lies"],
)
def test_every_event_of_a_replay_ends_in_the_tally_of_its_server(
    script: Script, tally: dict[str, int], tmp_path: Path, serve: Callable[..., ScriptedServer]
) -> None:
    """And what the lane logs meanwhile is no part of the verdict that machines read from stdout."""
    server = serve(script)
    models = {**CONFIG["models"], "challenger": {"uri": f"http://{server.address}/score", "timeout": "20s", "concurrency": 4}}
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump({**CONFIG, "models": models}))
    events = (
        {"specversion": "1.0", "id": f"e{n}", "source": "/app", "type": "io.scored", "subject": f"u{n}",
         "time": f"2026-03-01T00:00:{n:02}Z", "data": {"old": n}}
        for n in range(N)
    )  # fmt: skip
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    command = [sys.executable, "-m", "harness", "replay", "rollout.yaml", "--events", "events.jsonl", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    verdict = json.loads(done.stdout)
    assert {status: n for status, n in verdict["lanes"]["challenger"].items() if n} == tally
    assert verdict["lanes"]["incumbent"]["answered"] == N == verdict["counts"]["mirrored"]
    assert ("breaker.opened" in done.stderr) == ("error" in tally)
