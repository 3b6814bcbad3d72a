"""A rollout on real processes walks its stages by itself, and one that turns bad goes back by itself. Record time runs hours in seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError

from harness.adapters.redis.journal import RedisJournal
from harness.core.errors import HeadMoved
from harness.core.reading import timestamp
from harness.core.records import Author, body, digest

SECOND, HOUR = 1_000_000, 3_600_000_000
STAGES = [
    {"shadow": {}, "at_least": "50m", "pairs": 24},
    {"canary": {"percent": 1}, "approval": {"people": 1, "roles": ["policy"]}},
    {"canary": {"percent": 10}},
    {"promote": {"bake": "50m"}},
]
CONFIG: dict[str, Any] = {
    "rollout": "proof",
    "events": {"topic": "proof.events", "unit": "subject"},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {"adult": {"output": "age", "at_least": 18}},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "looks": "1h",
    "gates": [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.5}],
    "stages": STAGES,
}
GOOD = [("entered", 1, 1.0), ("entered", 2, 10.0), ("entered", 3, 100.0), ("promoted", 3, 100.0)]


@dataclass
class Walk:
    """A rollout that runs, and production one hour after the other."""

    up: Any
    url: str
    processes: ModuleType
    send: Callable[[list[tuple[str, bytes]]], object]
    place: list[str]
    hour: int = 0
    start: int = field(default_factory=lambda: time.time_ns() // 1_000 // HOUR * HOUR - 40 * HOUR)

    @property
    def journal(self) -> RedisJournal:
        """The chain, as anybody with the store's address reads and extends it."""
        return RedisJournal(self.url, "proof", keep_s=86_400.0)

    def moves(self) -> list[tuple[str, int, float]]:
        """(kind, stage, percent) of what the controller did."""
        found = [json.loads(link.body) for link in self.journal.read()]
        return [(r["kind"], r["stage"], r["percent"]) for r in found if r["by"]["name"] == "controller"]

    def approve(self, who: str, stage: int) -> None:
        """A record of a person, in the role that the config asks."""
        journal, by = self.journal, Author(name=who, via="test", role="policy")
        record = body("approved", rollout="proof", at=time.time_ns() // 1_000, by=by, reason="seen", stage=stage)

        def is_appended() -> bool:
            try:
                journal.append(record, after=journal.read()[-1].hash)
            except HeadMoved:  # the controller was faster
                return False
            return True

        self.until(is_appended)

    def live(self, *, moves: int, new: float = 20.0) -> None:
        """One hour of production; returns when the analyst has looked at it and the controller has made so many moves in all."""
        at = self.start + self.hour * HOUR
        events = [self._event(n, at + n * 150 * SECOND + SECOND, new) for n in range(24)]
        self.hour += 1
        end = timestamp(at + HOUR)
        mark = {"specversion": "1.0", "id": "m", "source": "/s", "type": "io.shadow-harness.watermark", "time": end}
        self.send([("proof.events", record) for record in (*events, json.dumps(mark).encode())])
        self.until(lambda: (self.up.verdict() or {}).get("as_of") == end)
        self.until(lambda: len(self.moves()) >= moves)

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for it; fails with what the rollout has done and said."""
        self.processes.until(condition, self.processes.START_S, lambda: (self.moves(), self.up.verdict(), self.up.words()))

    def _event(self, n: int, at: int, new: float) -> bytes:
        id = f"e{self.hour}-{n}"
        data = {"old": {"age": 20.0}, "new": {"age": new}}
        event = {"specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": f"u-{id}", "time": timestamp(at), "data": data}
        return json.dumps(event).encode()


@pytest.fixture(params=["redis", pytest.param("kafka", marks=pytest.mark.slow)])
def walk(request: Any, redis_url: str, redis_db: Any, up: Any, processes: ModuleType, tmp_path: Path) -> Iterator[Walk]:
    """The rollout on each bus, its store in Redis."""
    (tmp_path / "rollout.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    options: list[str] = []
    if request.param == "kafka":
        address = request.getfixturevalue("kafka_broker").address
        options = ["--bus", f"kafka://{address}"]
    running = up(type("Stream", (), {"config": tmp_path / "rollout.yaml"}), url=redis_url, options=options).start()
    if request.param == "redis":
        yield Walk(up=running, url=redis_url, processes=processes, send=running.send, place=["--store", redis_url])
        return
    producer = KafkaProducer(bootstrap_servers=address)

    def send(records: list[tuple[str, bytes]]) -> None:
        for sent in [producer.send(topic, value=record) for topic, record in records]:
            sent.get(300)

    yield Walk(up=running, url=redis_url, processes=processes, send=send, place=[*options, "--store", redis_url])
    producer.close()
    running.close()
    with KafkaAdminClient(bootstrap_servers=address) as client:
        for topic in ("events", "mirror", "predictions", "records"):
            with suppress(UnknownTopicOrPartitionError):
                client.delete_topics([f"proof.{topic}"])


def test_a_good_challenger_walks_every_stage_and_is_promoted_though_its_controller_is_killed(walk: Walk, shadow: Any):
    """It waits for the person, then goes on alone; kill -9 before a move and after one makes none twice and skips none."""
    walk.live(moves=0)
    walk.until(lambda: walk.up.verdict()["verdict"] == "promote")
    done = shadow("status", "proof", *walk.place, "--json")
    assert json.loads(done.stdout)["waits_for"] == ["approval: 0 of 1 people in the role policy approved the next stage"], done.stderr
    assert walk.moves() == []
    walk.up.kill("controller")
    walk.approve("bea", 1)
    walk.until(lambda: len(walk.moves()) == 1)
    walk.live(moves=2)
    walk.up.kill("controller")
    walk.live(moves=3)
    walk.live(moves=4)
    assert walk.moves() == GOOD
    done = shadow("decide", "proof", "--store", walk.url, "--json")
    assert (done.returncode, json.loads(done.stdout)["standing"]) == (0, "promoted"), done.stderr
    chain = walk.journal.read()
    hashes, kept = [link.hash for link in chain], walk.up.data / "proof.records.jsonl"
    walk.until(lambda: kept_hashes(kept) == hashes)
    if walk.place[0] == "--store":  # on Redis alone, who listens reads with plain redis-py

        def heard() -> list[bytes]:
            return [fields[b"value"] for _, fields in walk.up.client().xrange("proof.records")]

        walk.until(lambda: list(dict.fromkeys(json.loads(value)["id"] for value in heard())) == hashes)
        told = heard()
        assert all(digest(json.loads(v)["previous"], v.partition(b'"data": ')[2][:-1]) == json.loads(v)["id"] for v in told)


def kept_hashes(path: Path) -> list[str]:
    """The records of the file; none while it is not there or a line is being written."""
    try:
        return [json.loads(line)["hash"] for line in path.read_text().splitlines()]
    except (FileNotFoundError, ValueError):
        return []


def test_a_challenger_that_turns_bad_in_a_canary_is_rolled_back_by_itself(walk: Walk, shadow: Any):
    """Nobody is asked and nobody looks: the units that it served go back to the incumbent, and the command says so."""
    walk.until(lambda: len(walk.journal.read()) == 1)
    walk.approve("bea", 1)
    walk.live(moves=1)
    walk.live(moves=2)
    assert walk.moves() == GOOD[:2]
    walk.live(moves=3, new=12.0)
    assert walk.moves() == [*GOOD[:2], ("rolled_back", 2, 0.0)]
    done = shadow("decide", "proof", "--store", walk.url, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["standing"], found["percent"]) == (4, "rolled_back", 0.0)
    assert "flips: failed" in found["reasons"][0]
