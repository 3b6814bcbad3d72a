"""What is read of a rollout by HTTP: status, verdict, report, readiness of roles."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from harness.core.verdicts import EXIT_CODES, STALE_AFTER
from harness.ports.clock import SystemClock
from harness.ports.ledger import Published
from harness.roles.analyst import canonical


def published(world, *, looked: int | None = None, **fields) -> dict:
    """The verdict of a first look, with some fields replaced, as the analyst would write it."""
    analyst = world.wiring.analyst()
    verdict = {**analyst.publish(), **fields}
    ledger = world.wiring.ledger
    found = Published(verdict=canonical(verdict), looked=SystemClock().now() if looked is None else looked, version=1_000)
    ledger.publish(found, after=ledger.published())
    return verdict


def test_the_rollouts_of_the_store_are_listed(world):
    """What there is, by name; 404 for anything else."""
    assert world.client.get("/v1/rollouts").json() == {"rollouts": ["recorded-replay"]}
    for path in ("", "/verdict", "/report", "/ready"):
        answer = world.client.get(f"/v1/rollouts/other{path}")
        assert (answer.status_code, answer.json()) == (404, {"error": "no such rollout; this store has recorded-replay"})


def test_before_the_first_look_the_verdict_is_a_whole_hold(world):
    """Argo ends in an abort when a key is missing or the answer is no 200: a rollout that has just been created holds, with every key."""
    before = world.get("/verdict")
    assert (before.status_code, before.headers["content-type"], before.headers["cache-control"]) == (200, "application/json", "no-store")
    found = before.json()
    assert (found["verdict"], found["as_of"], found["expires"]) == ("hold", None, None)
    assert "the analyst has not looked" in found["reasons"][0]
    looked = published(world)
    assert set(found) == set(looked)
    assert [row["name"] for row in found["gates"]] == [row["name"] for row in looked["gates"]]
    assert {row["status"] for row in found["gates"]} == {"undecided"}
    assert [set(row) for row in found["gates"]] == [set(row) for row in looked["gates"]]
    assert all(row["reason"] for row in found["gates"])


def test_the_command_says_the_same_before_the_first_look(world):
    """`shadow decide` in a pipeline that starts a rollout must hold, not fail as wrong use."""
    command = [sys.executable, "-m", "harness", "decide", "recorded-replay", "--store", world.url, "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, json.loads(run.stdout)) == (EXIT_CODES["hold"], world.get("/verdict").json()), run.stderr


def test_the_verdict_is_verdict_json_byte_for_byte(world):
    """Whoever keeps both files can compare them; no envelope, no other order of keys."""
    verdict = published(world)
    assert world.get("/verdict").content == canonical(verdict)


@pytest.mark.parametrize(("said", "answered"), [("promote", "hold"), ("rollback", "rollback"), ("hold", "hold")])
def test_a_verdict_of_an_analyst_that_stopped_looking_promotes_nothing(world, said, answered):
    """A dead analyst's last word must not move traffic; a rollback stays one, because going back is the safe side."""
    published(world, verdict=said, reasons=["as it was"])
    assert world.get("/verdict").json()["verdict"] == said
    published(world, verdict=said, reasons=["as it was"], looked=SystemClock().now() - STALE_AFTER - 1_000_000)
    found = world.get("/verdict").json()
    assert (found["verdict"], found["reasons"][-1]) == (answered, "as it was")
    assert found["reasons"][0].startswith("stale: the analyst last looked at ")


def test_the_status_is_that_of_the_command(world):
    """One document, two ways to ask."""
    found = world.get().json()
    command = [sys.executable, "-m", "harness", "status", "recorded-replay", "--store", world.url, "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == found
    assert (found["rollout"], found["verdict"], found["idle"], found["bus"]) == ("recorded-replay", "hold", True, "answers")
    assert set(found["roles"]) == {"router", "lane:incumbent", "lane:challenger", "joiner", "analyst", "controller"}


def test_the_report_is_one_page_that_loads_nothing(world, make):
    """It is opened where the data is: the browser is told to fetch nothing, and no payload is in it."""
    marker = "MARKER-0815"
    world.post("events", json.dumps(make["events"](marker, data={"platform": "web", "text": marker})),
               content_type="application/cloudevents+json")  # fmt: skip
    answer = world.get("/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.text.lstrip().lower().startswith("<!doctype html>")
    assert marker not in answer.text


def test_roles_are_ready_only_while_they_say_so(world):
    """A health check of a container asks for its own role; one of the rollout for all."""
    presence = world.wiring.watched().presence
    answer = world.get("/ready")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "router (not started)" in answer.json()["error"]
    for role in world.wiring.role_names():
        presence.note(role, "steps")
    assert world.get("/ready").json() == {"ready": True, "roles": dict.fromkeys(world.wiring.role_names(), "steps")}
    presence.note("joiner", "waits", "redis://bus: Redis does not answer")
    answer = world.get("/ready")
    assert (answer.status_code, answer.json()["error"]) == (503, "not at work: joiner (waits: redis://bus: Redis does not answer)")
    assert world.get("/ready?role=router").status_code == 200
    assert world.get("/ready?role=joiner").status_code == 503
    assert world.get("/ready?role=cook").status_code == 404


def test_errors_are_json_and_no_page_of_a_framework(world):
    """Machines read them; and nobody learns which framework answers."""
    for method, path, status in (("GET", "/", 404), ("DELETE", "/healthz", 405), ("GET", "/docs", 404), ("GET", "/openapi.json", 404)):
        answer = world.client.request(method, path)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert "access-control-allow-origin" not in world.client.get("/healthz", headers={"origin": "https://elsewhere"}).headers
