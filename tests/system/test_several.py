"""Several challengers under one incumbent, with real processes on a real Redis: one mirror, a lane and a verdict each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis
import yaml

Shadow = Callable[..., subprocess.CompletedProcess[str]]
ROLES = (
    "router", "lane:incumbent", "lane:good", "lane:bad", "joiner:good", "joiner:bad", "analyst:good", "analyst:bad", "controller:good",
    "controller:bad",
)  # fmt: skip


def worse(line: bytes) -> bytes:
    """A recorded answer of a model that takes the young for old and the old for young; what is no answer stays."""
    try:
        record = json.loads(line)
        record["output"]["age"] = 120 - record["output"]["age"]
    except (ValueError, KeyError, TypeError):
        return line
    return json.dumps(record).encode()


@pytest.fixture(scope="module")
def several(small_stream: Any) -> Any:
    """The small stream with two challengers, of which one is bad."""
    folder = small_stream.folder
    (folder / "bad.jsonl").write_bytes(b"\n".join(map(worse, (folder / "challenger.jsonl").read_bytes().split(b"\n"))))
    document = yaml.safe_load(small_stream.config.read_text())
    challenger = document["models"].pop("challenger")
    document["models"] |= {"good": challenger, "bad": {**challenger, "uri": "recorded:bad.jsonl"}}
    path = folder / "several.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return replace(small_stream, config=path)


UNTIL = ("--until", "2026-01-14T03:00:00Z")  # when live producers say that no more will come: streams.END


def replayed_alone(shadow: Shadow, stream: Any, name: str) -> dict[str, Any]:
    """The verdict of one challenger in a config of its own that nobody derived: its name, its share of alpha, and no other."""
    document = yaml.safe_load(stream.config.read_text())
    document["models"] = {"incumbent": document["models"]["incumbent"], "challenger": document["models"][name]}
    document |= {"rollout": f"proof.{name}", "alpha": 0.025}
    path = stream.folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    done = shadow("replay", path, "--events", stream.events, "--outcomes", stream.outcomes, *UNTIL, "--json")
    assert done.returncode in (0, 3, 4), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_challenger_has_the_verdict_of_a_replay_alone_and_a_hung_one_costs_the_other_nothing(
    up: Any, several: Any, streams: ModuleType, processes: ModuleType, shadow: Shadow, redis_url: str, redis_db: redis.Redis
):
    """The bad one's lane is stopped like a model that hangs: the good one is judged to the end meanwhile. Then it goes on, and is judged as
    if it had been alone. There is one mirror, one router and one lane of the incumbent."""
    alone = {name: replayed_alone(shadow, several, name) for name in ("good", "bad")}
    running = up(several, url=redis_url, options=["--shards", 2], roles=ROLES).start()
    assert sorted(running.pids()) == sorted(ROLES)
    hung = running.pids()["lane:bad"]
    os.kill(hung, signal.SIGSTOP)
    running.send(several.records)
    running.name = "proof.good"
    good = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(good) == processes.comparable(alone["good"])
    running.name = "proof.bad"
    waiting = running.verdict()
    assert waiting is not None
    assert waiting["counts"]["paired"] == 0 < waiting["counts"]["in_flight"]
    os.kill(hung, signal.SIGCONT)
    bad = running.settled()
    assert processes.comparable(bad) == processes.comparable(alone["bad"])
    assert good["gates"] != bad["gates"] and good["counts"]["mirrored"] == bad["counts"]["mirrored"]
    topics = {topic.decode() for topic in redis_db.hgetall("shadow:topics")}
    assert topics == {
        "proof.events", "proof.outcomes", "proof.mirror", "proof.predictions", "proof.good.records", "proof.bad.records"
    }  # fmt: skip
    assert running.stop() == 0
    assert_looks(shadow, redis_url, good, bad)


def assert_looks(shadow: Shadow, url: str, good: dict[str, Any], bad: dict[str, Any]) -> None:
    """What people see of both, and of the name that is neither."""
    place = ["--store", url]
    status = shadow("status", *place, "--json")
    found = {document["rollout"]: document for document in json.loads(status.stdout)}
    assert {name: document["counts"] for name, document in found.items()} == {"proof.good": good["counts"], "proof.bad": bad["counts"]}
    assert all(document["identity"] == [] and document["idle"] for document in found.values())
    for command in ("status", "decide", "report", "export"):
        done = shadow(command, "proof", *place)
        assert (done.returncode, "proof.good, proof.bad" in done.stderr) == (2, True), done.stderr
    decided = json.loads(shadow("decide", "proof.bad", *place, "--json").stdout)
    assert decided["verdict"] == bad["verdict"]


def test_a_replay_of_all_is_a_replay_of_each(several: Any, shadow: Shadow, tmp_path: Path):
    """One pass, a folder each, and the exit code of the worst."""
    recorded = ("--events", several.events, "--outcomes", several.outcomes, *UNTIL)
    done = shadow("replay", several.config, *recorded, "--out", tmp_path)
    found = {name: json.loads((tmp_path / name / "verdict.json").read_text()) for name in ("good", "bad")}
    assert found == {name: replayed_alone(shadow, several, name) for name in found}
    code = max({"promote": 0, "hold": 3, "rollback": 4}[verdict["verdict"]] for verdict in found.values())
    assert done.returncode == code
    assert all((tmp_path / name / "report.html").exists() for name in found)
    assert done.stdout.index("proof.good, at alpha 0.025") < done.stdout.index("proof.bad, at alpha 0.025")
    one = shadow("replay", several.config, "--challenger", "bad", *recorded, "--json")
    assert json.loads(one.stdout) == found["bad"]
