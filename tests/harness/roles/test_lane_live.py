"""Lanes that call real servers: several calls at once, in order, within their time, and without harm to each other."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from model_servers import CLOSE, HANG, Request, Script, ScriptedServer, Step, answer
from patience import LONG_S, until

from harness.adapters.codec import MsgpackCodec
from harness.adapters.models import open_model
from harness.adapters.models.breaker import FAILURES
from harness.adapters.models.server import LARGEST_ANSWER
from harness.config import parse
from harness.core.events import AnswerFrame, Event, Frame
from harness.core.rollout import Rollout
from harness.core.routing import Hasher
from harness.ports.clock import Clock, ManualClock, SystemClock
from harness.roles import topology
from harness.roles.lane import Lane
from harness.testing.doubles import MemoryBus

Serve = Callable[..., ScriptedServer]
CODEC = MsgpackCodec()
HASHER = Hasher("live")
SLACK_S = 120.0  # a busy machine; a lane that waits for every event would be far over it


def rollout(incumbent: str, challenger: str, *, timeout: str = "20s", replica: float = 0.0, **options: int) -> Rollout:
    document: dict[str, Any] = {
        "rollout": "live",
        "events": {"topic": "live.events", "unit": "subject"},
        "models": {"incumbent": {"uri": incumbent}, "challenger": {"uri": challenger, "timeout": timeout, **options}},
        "outputs": {"age": {"type": "number", "range": [0, 1e9], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
        "policies": {"over_18": {"output": "age", "at_least": 18}},
        "sample": {"percent": 100},
        "pairing": {"window": "30s"},
        "gates": [{"name": "few decisions change", "metric": {"flip": "over_18"}, "below": 0.05}],
        "stages": [{"shadow": {"percent": 100}, "at_least": "1h"}],
    }
    if replica:
        document["models"]["replica"] = {"of": "incumbent", "percent": replica}
        document["models"]["incumbent"] |= options
    return parse(document, source="test", folder=Path())


class Live:
    """Lanes of one rollout on a bus in memory, whose mirror is filled by hand."""

    def __init__(self, found: Rollout, clock: Clock) -> None:
        self.rollout, self.bus, self.clock = found, MemoryBus(clock), clock
        self.topology = topology.create(found, 1, self.bus)
        self.lanes: list[Lane] = []

    def lane(self, name: str) -> Lane:
        model = open_model(self.rollout.models[name], folder=Path())
        self.lanes.append(Lane(name, self.rollout, self.topology, bus=self.bus, codec=CODEC, clock=self.clock, model=model))
        return self.lanes[-1]

    def mirror(self, *frames: int) -> None:
        """Appends frames of so many events each, numbered through; an event's data is {"n": its number}."""
        values, n = [], 0
        for size in frames:
            events = tuple(event(n + k) for k in range(size))
            n += size
            now = self.clock.now()
            values.append(CODEC.encode_frame(Frame(config=self.rollout.version, source="events/0", sent=now, upto=now, entries=events)))
        self.bus.append(self.topology.mirror(0), values)

    def answered(self) -> list[AnswerFrame]:
        """The answer frames appended so far."""
        records = self.bus.after(self.topology.predictions(0), -1, 1_000_000)
        return [CODEC.decode_answers(record.value) for record in records]

    def tally(self, lane: str) -> Counter[str]:
        return Counter(each.status for frame in self.answered() if frame.lane == lane for each in frame.answers)


def event(n: int) -> Event:
    payload = json.dumps({"id": f"e{n}", "source": "/app", "type": "io.scored", "specversion": "1.0", "data": {"n": n}}).encode()
    return Event(position=n, key=HASHER.key("/app", f"e{n}"), unit=n, id=f"e{n}", arrived=n, segments=(), decisions=(), payload=payload)


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """Makes rollouts whose lanes are closed with the test."""
    made: list[Live] = []

    def make(found: Rollout, clock: Clock | None = None) -> Live:
        made.append(Live(found, clock or SystemClock()))
        return made[-1]

    yield make
    for each in made:
        for lane in each.lanes:
            lane.close()


def age(request: Request) -> list[Step]:
    return [answer({"age": request.json["n"]})]


def uri(server: ScriptedServer) -> str:
    return f"http://{server.address}/"


# ------------------------------------------------------------------------------------------------------------------- concurrency
def test_as_many_calls_at_once_as_the_config_allows_and_no_more(serve: Serve, live: Any) -> None:
    """The server answers only when four ask together; a fifth would have been seen."""
    together = threading.Barrier(4)

    def script(request: Request) -> list[Step]:
        together.wait(LONG_S)
        return age(request)

    server = serve(script)
    found = live(rollout("recorded:event:/n", uri(server), concurrency=4))
    found.mirror(10, 6, 4)
    assert found.lane("challenger").step() == 3
    assert found.tally("challenger") == {"answered": 20}
    assert server.most_at_once == server.n_connections == 4


def test_answers_stand_in_the_order_of_the_mirror_whoever_answers_first(serve: Serve, live: Any) -> None:
    """The joiner reads them by their place in the frame; all frames of one read are appended together."""
    server = serve(lambda request: [0.05 * (request.json["n"] % 3 == 0), *age(request)])
    found = live(rollout("recorded:event:/n", uri(server), concurrency=8))
    found.mirror(5, 0, 7)
    found.lane("challenger").step()
    assert [frame.mirror for frame in found.answered()] == [0, 2]
    assert [[each.outputs for each in frame.answers] for frame in found.answered()] == [
        [(float(n),) for n in range(5)], [(float(n),) for n in range(5, 12)]
    ]  # fmt: skip
    assert [each.key for frame in found.answered() for each in frame.answers] == [event(n).key for n in range(12)]


def test_a_batch_is_what_one_read_gave(serve: Serve, live: Any) -> None:
    """Nothing waits for a batch to fill; a full one is cut at its size, across frames."""
    server = serve(lambda request: [answer([{"age": each["n"]} for each in request.json])])
    found = live(rollout("recorded:event:/n", uri(server), batch=4))
    lane = found.lane("challenger")
    found.mirror(2)
    lane.step()
    found.mirror(3, 3, 4)
    lane.step()
    assert [len(request.json) for request in server.requests] == [2, 4, 4, 2]
    assert found.tally("challenger") == {"answered": 12}


def test_a_replica_is_called_as_the_incumbent_is(serve: Serve, live: Any) -> None:
    """It measures the incumbent's noise: the same server, the same arrays."""
    server = serve(lambda request: [answer([{"age": each["n"]} for each in request.json])])
    found = live(rollout(uri(server), "recorded:event:/n", replica=100.0, batch=3, concurrency=2))
    found.mirror(6)
    for name in ("incumbent", "replica"):
        found.lane(name).step()
    assert found.tally("incumbent") == found.tally("replica") == {"answered": 6}
    assert [len(request.json) for request in server.requests] == [3] * 4


# --------------------------------------------------------------------------------------------------------------------- isolation
HARM: dict[str, Script] = {
    "hangs": lambda _: [HANG],
    "drips": lambda _: (step for _ in range(1000) for step in (b"H", 0.1)),
    "crashes": lambda _: [CLOSE],
}


@pytest.mark.parametrize("script", HARM.values(), ids=HARM.keys())
def test_a_broken_challenger_costs_a_few_timeouts_and_the_incumbent_nothing(script: Script, serve: Serve, live: Any) -> None:
    """1,000 events, one second each: without the breaker a step would take minutes. Each event is in the tally, and the incumbent's
    lane goes on meanwhile."""
    good, broken = serve(age), serve(script)
    found = live(rollout(uri(good), uri(broken), timeout="1s", concurrency=2))
    found.mirror(*[250] * 4)
    incumbent, challenger = found.lane("incumbent"), found.lane("challenger")
    began = time.monotonic()
    other = threading.Thread(target=challenger.step)
    other.start()
    incumbent.step()
    incumbent_s = time.monotonic() - began
    other.join(LONG_S)
    assert not other.is_alive()
    assert found.tally("incumbent") == {"answered": 1000}
    assert incumbent_s < SLACK_S
    tally = found.tally("challenger")
    assert tally.total() == 1000 == tally["error"] + tally["timeout"]
    assert FAILURES <= len(broken.requests) <= FAILURES + 10
    assert time.monotonic() - began < FAILURES * 1.0 + SLACK_S


def test_a_challenger_that_comes_back_is_asked_again(serve: Serve, live: Any) -> None:
    """The breaker's pause is the longest that good events can be tallied as errors."""
    server = serve(lambda _: [answer(b"", code=503)])
    found = live(rollout("recorded:event:/n", uri(server)))
    lane = found.lane("challenger")
    found.mirror(50)
    lane.step()
    assert found.tally("challenger") == {"error": 50}
    server.script = age

    def answered() -> int:
        found.mirror(1)
        lane.step()
        return found.tally("challenger")["answered"]

    until(answered)
    found.mirror(50)
    lane.step()
    assert found.tally("challenger")["answered"] >= 51
    assert found.tally("challenger").total() == found.tally("challenger")["answered"] + found.tally("challenger")["error"]


def test_a_lying_challenger_fills_no_memory(serve: Serve, live: Any) -> None:
    """400 answers of a megabyte each: what is no output is let go at once, not when the read is over."""
    lie = answer(b'{"age": "' + b"x" * (LARGEST_ANSWER - 20) + b'"}')
    server = serve(lambda _: [lie])
    found = live(rollout("recorded:event:/n", uri(server), concurrency=2))
    found.mirror(200, 200)
    lane = found.lane("challenger")
    tracemalloc.start()
    lane.step()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tally("challenger") == {"bad_output": 400}
    assert most < 40 << 20


# -------------------------------------------------------------------------------------------------------------------------- time
def test_a_frame_that_grows_too_old_while_others_are_asked_is_shed_without_a_call(serve: Serve, live: Any) -> None:
    """Its events are closed by the time an answer could come; a slow model must not work through them all."""
    clock = ManualClock(1_700_000_000_000_000)

    def script(request: Request) -> list[Step]:
        if request.json["n"] == 3:
            clock.move_to(clock.now() + 31_000_000)
        return age(request)

    server = serve(script)
    found = live(rollout("recorded:event:/n", uri(server)), clock)
    found.mirror(6, 2)
    found.lane("challenger").step()
    assert [[each.status for each in frame.answers] for frame in found.answered()] == [["answered"] * 4 + ["shed"] * 2, ["shed"] * 2]
    assert len(server.requests) == 4


def test_the_versions_of_a_frame_name_the_last_one(serve: Serve, live: Any) -> None:
    """A model that is replaced midway is seen with the frame in which it happened."""
    server = serve(lambda request: [answer({"age": 1, "model_version": "1" if request.json["n"] < 4 else "2"})])
    found = live(rollout("recorded:event:/n", uri(server)))
    found.mirror(3, 3, 3)
    found.lane("challenger").step()
    assert [frame.version for frame in found.answered()] == ["1", "2", "2"]


@pytest.mark.parametrize(
    ("address", "batch", "expected"),
    [("http://h/", None, 1), ("https://h/", None, 1), ("oip+http://h/v2/models/m", None, 1), ("oip+http://h/v2/models/m", 32, 32),
     ("http://h/", 8, 8), ("python:m:f", None, 64), ("onnx:m.onnx", None, 64), ("recorded:m.jsonl", None, 64), ("python:m:f", 1, 1)],
)  # fmt: skip
def test_without_a_batch_a_server_is_asked_for_one_event_a_call(address: str, batch: int | None, expected: int) -> None:
    """A server cannot be assumed to know arrays; what runs here takes 64 at once."""
    options = {} if batch is None else {"batch": batch}
    assert rollout("recorded:event:/n", address, **options).models["challenger"].events_a_call == expected
