"""A rollout in a real Redis, and the API on it, asked in process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from fastapi.testclient import TestClient

from harness import config
from harness.adapters.redis.server import EmbeddedRedis
from harness.api.app import create_app
from harness.api.service import Service
from harness.wiring import Wiring, create, open_bus

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "recorded-replay.yaml"
NAME, EVENTS, OUTCOMES = "recorded-replay", "replay.events", "replay.outcomes"
N_PARTITIONS = 3


@dataclass(frozen=True)
class World:
    """One rollout with three partitions of events, the API on it, and the server underneath."""

    url: str
    wiring: Wiring
    service: Service
    client: TestClient
    raw: redis.Redis

    def post(self, path: str, content: bytes | str, **headers: str) -> Any:
        """Posts to the rollout; underscores in the names of headers are dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"/v1/rollouts/{NAME}/{path}", content=content, headers=named)

    def get(self, path: str = "") -> Any:
        """Asks for something of the rollout."""
        return self.client.get(f"/v1/rollouts/{NAME}{path}")

    def records(self, topic: str = EVENTS) -> list[list[bytes]]:
        """What stands in each partition of a topic, read without our own reader."""
        streams = [topic, *(f"{topic}:{n}" for n in range(1, N_PARTITIONS))]
        return [[fields[b"value"] for _, fields in self.raw.xrange(stream)] for stream in streams]

    def landed(self, topic: str = EVENTS) -> list[bytes]:
        """The same, without the partitions."""
        return [value for partition in self.records(topic) for value in partition]


def world_at(url: str) -> World:
    """A new world in an empty Redis."""
    bus = open_bus(url)
    bus.ensure(EVENTS, N_PARTITIONS)
    wiring = create(config.load(CONFIG), url, url)
    service = Service(bus=url, store=url, topic=EVENTS)
    return World(url, wiring, service, TestClient(create_app(service), raise_server_exceptions=False), redis.Redis.from_url(url))


@pytest.fixture
def world(redis_url: str, redis_db: redis.Redis) -> World:
    """On the Redis of the session."""
    return world_at(redis_url)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Redis of the test's own, to be filled up, frozen and stopped."""
    server = EmbeddedRedis.start(tmp_path / "redis", durable=False)
    yield server
    server.stop()


@pytest.fixture
def frail(own_redis: EmbeddedRedis) -> World:
    """A world on that one, opened once as a process that runs has."""
    found = world_at(own_redis.url)
    assert found.get("/verdict").status_code == 200
    return found


def event(id: str = "e1", **fields: Any) -> dict[str, Any]:
    """A good event of the rollout."""
    data = {"platform": "web", "answers": {"old": {"age": 17.0}, "new": {"age": 19.0}}}
    return {"specversion": "1.0", "id": id, "source": "/test", "type": "age.estimate", "subject": f"u-{id}", "data": data, **fields}


def outcome(id: str = "o1", **fields: Any) -> dict[str, Any]:
    """A good outcome of the rollout."""
    return event(id, **{"type": "age.verified", "data": {"event_id": "e1", "age": 19}, **fields})


@pytest.fixture
def make() -> dict[str, Callable[..., dict[str, Any]]]:
    """Events and outcomes."""
    return {"events": event, "outcomes": outcome}


@pytest.fixture
def send(world: World) -> Callable[..., Any]:
    """Posts one structured record."""
    return lambda path, document: world.post(path, json.dumps(document), content_type="application/cloudevents+json")
