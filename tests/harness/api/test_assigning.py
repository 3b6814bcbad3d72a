"""Which model serves a unit, by HTTP and in process: what a rollback does to production, and what an API that is away does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from patience import until
from ports import free_port

from harness import config
from harness.api.app import create_app
from harness.api.service import Service
from harness.assign import Assigner, choose, read
from harness.commands import moves, tokens
from harness.commands.amend import amend
from harness.core.reading import microseconds, timestamp
from harness.core.records import CONTROLLER, Author, body
from harness.core.routing import Hasher
from harness.ports.clock import SystemClock
from harness.roles.standing import Follower
from harness.wiring import create, open_directory, open_journal, open_tokens

NAME = "age-regression"
CONFIG = Path(__file__).resolve().parents[3] / "configs" / f"{NAME}.yaml"
ME = Author(name="bea", via="cli")
SECRET = b"0123456789abcdef"
UNITS = [f"user-{n}" for n in range(2_000)]


class World:
    """A rollout in a real Redis whose chain a test extends as the controller would."""

    def __init__(self, url: str) -> None:
        self.url, self.clock = url, SystemClock()
        self.rollout = config.load(CONFIG)
        create(self.rollout, url, url)
        self.journal = open_journal(url, self.rollout)

    def write(self, kind: str, **more: Any) -> None:
        after = Follower(self.journal).now().head
        self.journal.append(body(kind, rollout=NAME, at=self.clock.now(), by=CONTROLLER, reason="so", **more), after=after)

    def enter(self, stage: int) -> None:
        self.write("entered", stage=stage, since=timestamp(self.clock.now()))

    def rollback(self) -> None:
        moves.rollback(self.rollout, self.journal, self.clock, by=ME, reason="people complain")

    def client(self) -> TestClient:
        service = Service(bus=self.url, store=self.url, topic=self.rollout.events.topic)
        return TestClient(create_app(service), raise_server_exceptions=False)


@pytest.fixture
def world(redis_url, redis_db, monkeypatch):
    monkeypatch.setenv("SHADOW_SECRET", SECRET.decode())
    return World(redis_url)


def test_after_an_amendment_the_percents_are_those_of_the_question_that_is_asked_now(world):
    """An API that goes on running would else serve the old one's tenth in a stage that is a hundredth now."""
    client = world.client()
    old = next(stage.percent for stage in world.rollout.stages if stage.kind == "canary")
    assert client.get(f"/v1/rollouts/{NAME}/assignment").json()["percent"] == 0.0
    stages = [{**stage, "canary": {"percent": old / 4}} if "canary" in stage and n == 1 else stage
              for n, stage in enumerate(world.rollout.document["stages"])]  # fmt: skip
    amended = config.parse({**world.rollout.document, "stages": stages}, source="test", folder=world.rollout.folder)
    amend(
        amended, world.journal, open_directory(world.url), world.clock, by=ME, reason="more carefully",
        verdict={"as_of": None, "since": None},
    )  # fmt: skip
    world.enter(1)
    found = client.get(f"/v1/rollouts/{NAME}/assignment").json()
    assert (found["percent"], found["config_sha256"]) == (old / 4, amended.sha256)
    assert client.get(f"/v1/rollouts/{NAME}/verdict").json()["config_sha256"] == amended.sha256


def test_the_document_says_what_the_chain_says_at_each_step(world):
    """Percent of the stage; nobody after a rollback; a later document has a later time."""
    client, seen = world.client(), []

    def document() -> dict[str, Any]:
        answer = client.get(f"/v1/rollouts/{NAME}/assignment")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
        found: dict[str, Any] = answer.json()
        assert found["head"] == Follower(world.journal).now().head
        assert (found["rollout"], found["config_sha256"]) == (NAME, world.rollout.sha256)
        seen.append(microseconds(found["as_of"]))
        return found

    def facts() -> tuple[Any, ...]:
        found = document()
        return found["percent"], found["stage"], found["kind"], found["standing"]

    assert facts() == (0.0, 0, "shadow", "running")
    world.enter(1)
    assert facts() == (1.0, 1, "canary", "running")
    world.write("paused")
    assert facts() == (1.0, 1, "canary", "paused")
    world.rollback()
    assert facts() == (0.0, 1, "canary", "rolled_back")
    assert seen == sorted(set(seen))
    assert client.get("/v1/rollouts/other/assignment").status_code == 404


def test_by_http_a_unit_has_the_arm_that_it_has_in_process(world):
    """A service in another language may ask; both must serve one person one model."""
    client, hasher = world.client(), Hasher(NAME, SECRET)
    world.enter(1)
    world.enter(2)
    document = read(client.get(f"/v1/rollouts/{NAME}/assignment").json(), NAME, hasher)
    challenged = [unit for unit in UNITS if choose(document, unit, hasher).arm == "challenger"]
    assert 100 < len(challenged) < 300
    for unit in (*challenged[:20], *UNITS[:20]):
        found = client.get(f"/v1/rollouts/{NAME}/assign", params={"unit": unit}).json()
        assert found["arm"] == choose(document, unit, hasher).arm
        assert (found["reason"], found["percent"], found["stage"], found["head"]) == ("split", 10.0, 2, document.head)
    for query in ("", "?unit="):
        found = client.get(f"/v1/rollouts/{NAME}/assign{query}").json()
        assert (found["arm"], found["reason"]) == ("incumbent", "no_unit")
    assert client.get("/v1/rollouts/other/assign?unit=u").status_code == 404


def test_a_chain_that_is_damaged_and_a_store_that_is_away_are_the_incumbent(frail, own_redis):
    """Production gets an answer it can serve by, not an error to interpret; and the document itself is an error, so that it grows old."""
    path = "/v1/rollouts/recorded-replay"
    assert frail.client.get(f"{path}/assign?unit=u").json()["reason"] == "static"
    frail.raw.rpush("shadow:{recorded-replay}:journal", b"1" + b"0" * 128 + b"{}")
    found = frail.client.get(f"{path}/assign?unit=u")
    assert (found.status_code, found.json()["arm"], found.json()["says"]) == (200, "incumbent", "the chain of records is damaged")
    assert frail.client.get(f"{path}/assignment").status_code == 500
    own_redis.stop()
    found = frail.client.get(f"{path}/assign?unit=u")
    assert (found.status_code, found.json()["arm"], found.json()["says"]) == (200, "incumbent", "the store does not answer")
    assert frail.client.get(f"{path}/assignment").status_code == 503


@pytest.fixture
def api(world) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A real API process on the world, which asks readers for a token."""
    port = free_port()
    command = [sys.executable, "-m", "harness", "role", "api", "--config", str(CONFIG), "--shards", "1", "--listen", f"127.0.0.1:{port}"]
    command.append("--read-needs-token")
    env = {**os.environ, "SHADOW_BUS": world.url, "SHADOW_STORE": world.url}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"http://127.0.0.1:{port}", process
        process.kill()


def test_a_rollback_reaches_production_and_an_api_that_is_killed_ends_in_the_incumbent(world, api):
    """The kill switch, through a real process: a record, at most one poll later nobody has the challenger; and without news neither."""
    url, process = api
    world.enter(1)
    world.enter(2)
    world.enter(3)  # the challenger serves everybody
    _, token = tokens.create(open_tokens(world.url), world.clock, name="age-service", roles=(), scope="read")
    without_token = Assigner(url, NAME, secret=SECRET, timeout_s=5.0)
    with_wrong_secret = Assigner(url, NAME, secret=b"another", token=token, timeout_s=5.0)
    assigner = Assigner(url, NAME, secret=SECRET, token=token, timeout_s=5.0, stale_after_s=3.0)
    try:
        until(lambda: all(assigner.arm(unit).arm == "challenger" for unit in UNITS[:50]))
        until(lambda: with_wrong_secret.arm("u").says == "this process and the API hold different secrets")
        until(lambda: without_token.arm("u").says == "the API answered 401")
        assert {with_wrong_secret.arm("u").arm, without_token.arm("u").arm} == {"incumbent"}
        world.rollback()

        def rolled_back(said: Any) -> bool:  # and not: stale for a moment, on a machine that stalls
            return (said.arm, said.reason, said.document.standing if said.document else None) == ("incumbent", "static", "rolled_back")

        until(lambda: all(rolled_back(assigner.arm(unit)) for unit in UNITS[:50]))
        process.kill()
        until(lambda: assigner.arm("u").reason == "stale" and "the API does not answer" in assigner.arm("u").says)
        assert assigner.arm("u").arm == "incumbent"
    finally:
        assigner.close()
        with_wrong_secret.close()
        without_token.close()
