"""docs/api.md says what is there: its examples are sent, its tables are compared with what the API answers."""

from __future__ import annotations

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from fastapi.routing import APIRoute

from harness.api.app import create_app
from harness.api.ingest import BODY_S, MOST_BYTES
from harness.api.server import MOST_CONNECTIONS
from harness.commands.health import SILENT_AFTER_S
from harness.commands.tokens import create

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


def curls() -> list[list[str]]:
    """Every example, as its words."""
    return [shlex.split(line)[1:] for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.parametrize("words", curls(), ids=[" ".join(words)[:60] for words in curls()])
def test_every_example_can_be_pasted(world, words):
    """An example that answers 4xx is worse than none."""
    options = list(pairwise(words))
    tokens, clock = world.service.tokens, world.service.clock
    _, token = create(tokens, clock, name="bea", roles=(), scope="approve")
    headers = dict(value.replace("$SHADOW_TOKEN", token).split(": ", 1) for option, value in options if option == "-H")
    body = next((value for option, value in options if option == "-d"), None)
    url = urlsplit(next(word for word in words if word.startswith("http://127.0.0.1:8686/")))
    for role in world.wiring.role_names():
        world.wiring.watched().presence.note(role, "steps")
    answer = world.client.request("POST" if body else "GET", f"{url.path}?{url.query}", content=body, headers=headers)
    takes = url.path.endswith(("/events", "/outcomes"))
    assert (answer.status_code, answer.json().get("accepted", 1)) == (202 if takes else 200, 1)


def test_every_address_is_in_the_table_and_every_row_is_an_address(world):
    """What is not written down is not supported; what is written down is there."""
    app = create_app(world.service)
    rows = set(re.findall(r"^\| `((?:GET|POST) /[^`]*)` \|", PAGE, re.M))
    routes = {f"{method} {route.path}" for route in walked(app.routes) for method in route.methods}
    assert rows == routes


def walked(routes) -> list[APIRoute]:
    """The routes of an application, those of included routers too."""
    found = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append(route)
        found += walked(getattr(getattr(route, "original_router", None), "routes", ()))
    return found


def test_every_metric_is_in_the_table_and_every_row_is_a_metric(world, make):
    """People write alerts from the table."""
    world.post("events", json.dumps(make["events"]()), content_type="application/cloudevents+json")
    router, joiner = world.wiring.router(), world.wiring.joiner(0)
    lanes = [world.wiring.lane(lane) for lane in world.wiring.rollout.lanes]
    for lane in lanes:
        lane.hold([0])
    for part in (router, *lanes, joiner):
        while part.step():
            pass
        part.close()
    scraped = {line.split("{")[0] for line in world.client.get("/metrics").text.splitlines() if not line.startswith("#")}
    table = PAGE[PAGE.index("| metric |") : PAGE.index("There is exactly one series")]
    rows = set()
    for cell in re.findall(r"^\| (`shadow_[^|]*) \|", table, re.M):
        names = re.findall(r"`([a-z_]+)`", cell)
        rows |= {name if name.startswith("shadow_") else names[0].removesuffix("_bound") + name for name in names}
    assert scraped == rows


def test_the_limits_on_the_page_are_those_of_the_code():
    """A limit that is written down wrong is found at three in the morning."""
    assert f"larger than {MOST_BYTES >> 20} MiB" in PAGE
    assert f"longer than {BODY_S:g} s" in PAGE
    assert f"more than {MOST_CONNECTIONS:,} connections" in PAGE
    assert f"within the last {SILENT_AFTER_S:g} s" in PAGE


def test_the_argo_template_cannot_pass_on_holds_alone():
    """With as many inconclusive measurements allowed as are made, Argo ends in success; and its own validation must accept the numbers."""
    (template,) = map(yaml.safe_load, blocks("yaml"))
    (metric,) = template["spec"]["metrics"]
    assert metric["inconclusiveLimit"] < metric["count"]
    assert metric["count"] >= metric["failureLimit"] + metric["consecutiveSuccessLimit"]
    assert metric["failureCondition"] == 'result.verdict == "rollback"'
    assert metric["provider"]["web"]["jsonPath"] == "{$}"
    assert metric["provider"]["web"]["url"].endswith("/v1/rollouts/{{args.rollout}}/verdict")
