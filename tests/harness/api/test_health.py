"""Health that tells the truth: alive is alive, ready is having just asked bus and store."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from patience import LONG_S, tried
from ports import free_port

from harness.api import health
from harness.api.app import create_app
from harness.api.probe import Probe
from harness.api.service import Service
from harness.core.errors import StoreUnavailable


def asked(bus: str, store: str) -> TestClient:
    return TestClient(create_app(Service(bus=bus, store=store, topic="replay.events")), raise_server_exceptions=False)


@pytest.fixture
def nowhere() -> str:
    """An address at which nobody listens."""
    return f"redis://127.0.0.1:{free_port()}/0"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_an_api_whose_bus_and_store_answer_is_ready(world):
    """It says what it has asked, and what the roles of each rollout say."""
    world.wiring.watched().presence.note("router", "steps")
    answer = world.client.get("/readyz")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["ready"], found["bus"], found["store"]) == (True, "answers", "answers")
    assert (found["rollouts"]["recorded-replay"]["router"], found["rollouts"]["recorded-replay"]["joiner"]) == ("steps", "not started")


@pytest.mark.parametrize("gone", ["bus", "store"])
@pytest.mark.parametrize("how", ["nowhere", "silent"])
def test_an_api_without_its_bus_or_store_is_not_ready_and_says_which(gone, how, redis_url, request, monkeypatch):
    """Within the bound, also when the server takes the connection and hangs: a check that hangs is a check that lies."""
    monkeypatch.setattr(health, "WITHIN_S", 0.3)
    address = request.getfixturevalue(how)
    client = asked(address, redis_url) if gone == "bus" else asked(redis_url, address)
    other = "store" if gone == "bus" else "bus"

    def ready():
        began = time.monotonic()
        answer = client.get("/readyz")
        return answer.status_code, answer.json(), time.monotonic() - began < 3.0

    expected = 503, {"error": f"not ready: the {gone} does not answer", "ready": False, gone: "away", other: "answers"}, True
    assert tried(ready, lambda found: found == expected) == expected  # a stall may keep the other one from its answer
    assert client.get("/healthz").json() == {"alive": True}


def test_probes_of_a_server_that_hangs_do_not_pile_up():
    """Health is asked every second by everybody; each asking a thread more would be the end of the process."""
    gate, n = threading.Event(), []

    def call() -> None:
        n.append(1)
        gate.wait(LONG_S)

    probe = Probe(call)
    assert [probe.answers(0.02) for _ in range(5)] == [False] * 5
    assert len(n) == 1
    gate.set()
    assert probe.answers(LONG_S)
    assert len(n) <= 2


def test_a_probe_that_fails_is_asked_again():
    """Away now is not away for ever."""
    answers = iter([StoreUnavailable("away"), None])

    def call() -> None:
        error = next(answers)
        if error is not None:
            raise error

    probe = Probe(call)
    assert [probe.answers(LONG_S), probe.answers(LONG_S)] == [False, True]
