"""Several challengers under one incumbent, with real processes on a real Redis: one mirror, a lane and a verdict each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import redis
import yaml

from harness.adapters.redis.journal import RedisJournal
from harness.core.reading import timestamp
from harness.core.records import parse
from harness.core.stages import folded, serves

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
    processes.until(lambda: sorted(running.pids()) == sorted(ROLES), processes.START_S, running.words)
    hung = running.pid_of("lane:bad")
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
    decided = json.loads(shadow("decide", "proof.bad", "--store", redis_url, "--json").stdout)  # a minute later: stale
    assert decided["verdict"] == bad["verdict"]
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


# ----------------------------------------------------------------------------------------------------------------------- stages
HOUR = 3_600_000_000
WALKING: dict[str, Any] = {
    "rollout": "proof",
    "events": {"topic": "proof.events", "unit": "subject"},
    "models": {name: {"uri": "recorded:event:/age"} for name in ("incumbent", "fast", "exact")},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": ""}, "challenger": {"field": ""}}},
    "policies": {"adult": {"output": "age", "at_least": 18}},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "looks": "1h",
    "gates": [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}],
    "stages": [{"shadow": {}}, {"canary": {"percent": 10}}],
}


class Config(NamedTuple):
    """What `Up` needs of a stream to start it."""

    config: Path


def hour_of_production(start: int, hour: int) -> list[tuple[str, bytes]]:
    """Thirty events of an hour, and the word that no more of it comes."""
    common = {"specversion": "1.0", "source": "/s", "type": "t"}
    at = [start + hour * HOUR + n * HOUR // 60 for n in range(1, 31)]
    found = [{**common, "id": f"e{hour}-{n}", "subject": f"u{n}", "time": timestamp(t), "data": {"age": 20.0}} for n, t in enumerate(at)]
    end = {**common, "id": "m", "type": "io.shadow-harness.watermark", "time": timestamp(start + (hour + 1) * HOUR)}
    return [("proof.events", json.dumps(record).encode()) for record in (*found, end)]


def test_one_is_in_its_canary_the_other_waits_and_goes_when_it_was_rolled_back(
    up: Any, processes: ModuleType, shadow: Shadow, redis_url: str, redis_db: redis.Redis, tmp_path: Path
):
    """Both pass at the same look, with a controller each in a process of its own: one has the seat, whichever was faster."""
    path = tmp_path / "several.yaml"
    path.write_text(yaml.safe_dump(WALKING, sort_keys=False))
    roles = [role.replace("good", "fast").replace("bad", "exact") for role in ROLES]
    running = up(Config(path), url=redis_url, roles=roles).start()
    start = time.time_ns() // 1_000 // HOUR * HOUR - 40 * HOUR

    def serving() -> list[str]:
        found = {}
        for name in ("fast", "exact"):
            links = RedisJournal(redis_url, f"proof.{name}", keep_s=1.0).read()
            found[name] = folded([(parse(link.body), link.hash) for link in links])
        return [name for name, state in found.items() if serves(state)]

    def status(name: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(shadow("status", f"proof.{name}", "--store", redis_url, "--json").stdout)
        return said

    running.send(hour_of_production(start, 0))
    processes.until(lambda: len(serving()) == 1, processes.FINISH_S, running.words)
    (first,) = serving()
    (other,) = {"fast", "exact"} - {first}
    running.send(hour_of_production(start, 1))
    running.name = f"proof.{other}"
    processes.until(lambda: (running.verdict() or {}).get("as_of") == timestamp(start + 2 * HOUR), processes.FINISH_S, running.words)
    assert running.verdict()["verdict"] == "promote"
    assert serving() == [first]
    waits = f"waits: `{first}` is in canary at 10 %"
    said = status(other)
    assert (said["verdict"], said["percent"], waits in said["reasons"]) == ("hold", 0.0, True)
    assert waits in said["waits_for"]
    assert shadow("rollback", f"proof.{first}", "--reason", "complaints", "--store", redis_url).returncode == 0
    processes.until(lambda: serving() == [other], processes.FINISH_S, running.words)
    assert (status(other)["percent"], status(first)["standing"]) == (10.0, "rolled_back")
    for name in (first, other):
        audited = shadow("audit", "verify", f"proof.{name}", "--store", redis_url, "--data", running.data)
        assert (audited.returncode, "everything agrees, level pairs" in audited.stdout) == (0, True), audited.stdout
        assert shadow("explain", f"proof.{name}", "e0-7", "--store", redis_url).returncode == 0
    assert running.stop() == 0
