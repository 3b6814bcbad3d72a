"""Several challengers by HTTP: events under the common name, and whose arms it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from harness import config
from harness.api.app import create_app
from harness.api.service import Service
from harness.assign import Assigner, choose, read
from harness.core.reading import timestamp
from harness.core.records import CONTROLLER, body
from harness.core.routing import Hasher
from harness.ports.clock import SystemClock
from harness.roles.standing import Follower
from harness.wiring import create, open_journal

NAME = "two-challengers"
CONFIG = Path(__file__).resolve().parents[3] / "configs" / f"{NAME}.yaml"
UNITS = [f"user-{n}" for n in range(1_000)]


class World:
    """Both rollouts in a real Redis, and the API."""

    def __init__(self, url: str) -> None:
        self.rollouts = {rollout.spoken("challenger"): create(rollout, url, url).rollout for rollout in config.load_all(CONFIG)}
        self.journals = {name: open_journal(url, rollout) for name, rollout in self.rollouts.items()}
        self.client = TestClient(create_app(Service(bus=url, store=url, topic="replay.events")), raise_server_exceptions=False)

    def write(self, name: str, kind: str, **more: Any) -> None:
        record = body(kind, rollout=self.rollouts[name].name, at=SystemClock().now(), by=CONTROLLER, reason="so", **more)
        self.journals[name].append(record, after=Follower(self.journals[name]).now().head)

    def get(self, path: str, name: str = NAME) -> Any:
        return self.client.get(f"/v1/rollouts/{name}/{path}").json()

    def arms(self, name: str = NAME) -> dict[str, str]:
        """Unit -> arm, by the document, as a process that serves has it."""
        hasher = Hasher(name)
        document = read(self.get("assignment", name), name, hasher)
        return {unit: choose(document, unit, hasher).arm for unit in UNITS}


@pytest.fixture
def world(redis_url, redis_db):
    return World(redis_url)


def enter(world: World, name: str) -> None:
    world.write(name, "entered", stage=1, since=timestamp(SystemClock().now()), percent=5.0)


def test_the_common_name_has_the_arms_of_the_challenger_that_serves(world):
    """Production asks under one name whichever is in its canary, and is told whom to call; each draws people of its own."""
    assert set(world.arms().values()) == {"incumbent"}
    found = {}
    for name in ("plain", "careful"):
        enter(world, name)
        found[name] = world.arms()
        assert found[name] == world.arms(f"{NAME}.{name}")
        assert (world.get("assignment")["arms"], world.get("assignment")["percent"]) == (f"{NAME}.{name}", 5.0)
        for asked in (NAME, f"{NAME}.{name}"):  # what its exposures must say
            assert read(world.get("assignment", asked), asked, Hasher(asked)).challenger == name
        mine = next(unit for unit, arm in found[name].items() if arm == "challenger")
        said = world.get(f"assign?unit={mine}")
        assert (said["rollout"], said["arm"], said["challenger"], said["percent"]) == (NAME, "challenger", name, 5.0)
        world.write(name, "rolled_back")
        assert set(world.arms().values()) == {"incumbent"}
        assert world.get(f"assign?unit={mine}")["arm"] == "incumbent"
    assert found["plain"] != found["careful"]


def test_an_assigner_in_process_follows_who_serves(world):
    """The same three lines in production as for one challenger."""
    enter(world, "careful")
    assigner = Assigner(lambda: world.get("assignment"), NAME)
    try:
        assert assigner.wait(30.0)
        arms = {unit: assigner.arm(unit) for unit in UNITS}
        assert {unit: arm.arm for unit, arm in arms.items()} == world.arms(f"{NAME}.careful")
        assert {arm.document.challenger for arm in arms.values()} == {"careful"}
    finally:
        assigner.close()


@pytest.mark.parametrize("arms", ["other.plain", "two-challengersplain", 7, ""])
def test_arms_of_a_stranger_are_a_doubt(world, arms):
    """A document that names another rollout's hash must not decide."""
    with pytest.raises(ValueError, match="arms: expected the rollout, or one of its challengers"):
        read({**world.get("assignment"), "arms": arms}, NAME, Hasher(NAME))


def test_events_come_under_the_common_name_and_all_else_is_asked_of_one(world):
    """There is one mirror; a verdict is one challenger's."""
    event = {
        "specversion": "1.0", "id": "e1", "source": "/t", "type": "t", "subject": "u", "data": {"answers": {"old": {"age": 1}}},
    }  # fmt: skip
    headers = {"content-type": "application/cloudevents+json"}
    for name in (NAME, f"{NAME}.plain"):
        answer = world.client.post(f"/v1/rollouts/{name}/events", content=json.dumps(event), headers=headers)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    for path in ("verdict", "report", "records"):
        answer = world.client.get(f"/v1/rollouts/{NAME}/{path}")
        assert answer.status_code == 404
        assert f"ask for one of {NAME}.plain, {NAME}.careful" in answer.text
    assert world.client.get("/v1/rollouts").json() == {"rollouts": [f"{NAME}.careful", f"{NAME}.plain"]}
    assert world.get("verdict", f"{NAME}.plain")["rollout"] == f"{NAME}.plain"
