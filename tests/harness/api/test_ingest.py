"""Events and outcomes by HTTP, on a real Redis: what is answered stands on the bus, and what is refused leaves nothing."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.api.app import create_app
from harness.core.events import Invalid
from harness.core.reading import WATERMARK, Reader
from harness.core.routing import Hasher

STRUCTURED, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": None}, "id: expected non-empty text, got null"),
    ({"source": ""}, "source: expected non-empty text"),
    ({"type": 7}, "type: expected non-empty text, got a number"),
    ({"specversion": 1.0}, "specversion: expected non-empty text"),
    ({"time": "MARKER"}, "time: expected an RFC 3339 text"),
    ({"type": WATERMARK, "time": "2099-01-01T00:00:00Z"}, f"type: {WATERMARK}"),
]


@pytest.mark.parametrize(("path", "topic"), [("events", "replay.events"), ("outcomes", "replay.outcomes")])
def test_what_is_accepted_stands_on_the_bus(world, make, path, topic):
    """202 is a promise: the record can be read by another client before the answer is."""
    body = json.dumps(make[path]())
    answer = world.post(path, body, content_type=STRUCTURED)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    assert world.landed(topic) == [body.encode()]


def test_a_subjects_events_stay_in_one_partition_in_their_order(world, make):
    """A busy account's events are read in the order in which they were sent; different subjects spread."""
    batch = [make["events"](f"e{n}", subject=f"u{n % 12}") for n in range(60)]
    assert world.post("events", json.dumps(batch), content_type=BATCH).json() == {"accepted": 60}
    found = [[json.loads(value) for value in partition] for partition in world.records()]
    homes: dict[str, set[int]] = {}
    for number, partition in enumerate(found):
        for one in partition:
            homes.setdefault(one["subject"], set()).add(number)
        for subject in {one["subject"] for one in partition}:
            ids = [int(one["id"][1:]) for one in partition if one["subject"] == subject]
            assert ids == sorted(ids)
    assert [len(home) for home in homes.values()] == [1] * 12
    assert all(found)


def test_a_copy_without_a_subject_goes_where_the_first_went(world, make):
    """A duplicate is told from a redelivery by its position, whichever partition it is in; the same one keeps their order too."""
    for _ in range(3):
        one = {key: value for key, value in make["events"]().items() if key != "subject"}
        world.post("events", json.dumps(one), content_type=STRUCTURED)
    assert sorted(len(partition) for partition in world.records()) == [0, 0, 3]


@pytest.mark.parametrize("path", ["events", "outcomes"])
@pytest.mark.parametrize(("fields", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_the_router_would_call_invalid_is_refused_by_its_attribute(world, make, send, path, fields, words):
    """A producer hears at once what would else be a number in a report; and record time is moved by nobody from outside."""
    answer = send(path, make[path](**fields))
    assert (answer.status_code, answer.json()["error"][: len(words)]) == (400, words)
    assert "MARKER" not in answer.text
    assert world.landed("replay.events") == world.landed("replay.outcomes") == []


@pytest.mark.parametrize(
    ("data", "words"),
    [({"age": 19}, "/event_id: expected"), ({"event_id": "e1"}, "/age: no truth"), ({"event_id": "e1", "age": "MARKER"}, "/age: expected")],
)
def test_an_outcome_that_is_none_is_refused_by_its_field(world, make, send, data, words):
    """A label without its event, or without a truth, can be joined by nobody."""
    answer = send("outcomes", make["outcomes"](data=data))
    assert (answer.status_code, answer.json()["error"][: len(words)]) == (400, words)
    assert "MARKER" not in answer.text


ATTRIBUTES = st.none() | st.text(max_size=3) | st.integers() | st.sampled_from(["2026-03-02T09:38:00Z", "2026-03-02", "1.0"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["id", "source", "type", "specversion", "time", "recordedtime", "subject", "data"]), ATTRIBUTES))
def test_the_api_refuses_exactly_what_the_router_would_not_read(world, make, send, changed):
    """Two rules for what an event is would drift apart: one of them would lose events, or count what it promised to refuse."""
    document = make["events"](**changed)
    router = Reader(world.wiring.rollout, Hasher(world.wiring.rollout.name))
    entry, _, _ = router.event(document, position=0, payload=b"")
    assert (send("events", document).status_code == 400) == isinstance(entry, Invalid)


def test_a_batch_is_taken_whole_or_not_at_all(world, make):
    """A client that sends a mended batch again must not have half of it counted as duplicates; the index says which one to mend."""
    batch = [make["events"]("e0"), make["events"](id=""), make["events"]("e2")]
    answer = world.post("events", json.dumps(batch), content_type=BATCH)
    assert (answer.status_code, answer.json()["error"]) == (400, "[1]: id: expected non-empty text, got empty text; nothing was taken")
    assert world.landed() == []
    assert world.post("events", "[]", content_type=BATCH).json() == {"accepted": 0}


def test_a_mirrored_request_becomes_an_event_with_the_proxys_id(world):
    """Envoy and others mirror the body and X-Request-ID, and know no CloudEvents; the id is what a label will name later."""
    answer = world.post("events", '{"platform": "web"}', content_type="application/json", x_request_id="req-1")
    other = world.post("events", '{"platform": "web"}', content_type="application/json")
    assert (answer.status_code, other.status_code) == (202, 202)
    found = {one["id"]: one for one in map(json.loads, world.landed())}
    assert found["req-1"]["source"] == "/http/recorded-replay"
    assert found["req-1"]["data"] == {"platform": "web"}
    assert len(found) == 2
    assert world.post("outcomes", "{}", content_type="application/json").status_code == 400


def test_an_unknown_rollout_is_answered_with_those_there_are(world, make):
    """A misspelt name in a proxy's config is the commonest mistake; and a rollout without outcomes says so."""
    answer = world.client.post("/v1/rollouts/replay/events", content=json.dumps(make["events"]()), headers={"content-type": STRUCTURED})
    assert (answer.status_code, answer.json()) == (404, {"error": "no such rollout; this store has recorded-replay"})


def test_a_body_over_the_limit_is_refused_before_it_is_held(world, make):
    """A client can fill no memory, whether it tells the length before or not."""
    from fastapi.testclient import TestClient

    small = TestClient(create_app(world.service, most_bytes=1_000))
    path = "/v1/rollouts/recorded-replay/events"
    document = make["events"]()
    exact = json.dumps(document | {"pad": ""})
    exact = json.dumps(document | {"pad": "x" * (1_000 - len(exact))})
    headers = {"content-type": STRUCTURED}
    assert small.post(path, content=exact, headers=headers).status_code == 202
    for content in (exact + " ", iter([exact.encode(), b" "])):
        answer = small.post(path, content=content, headers=headers)
        assert (answer.status_code, answer.json()) == (413, {"error": "body: more than 1000 bytes"})
    assert small.post(path, content=gzip.compress(exact.encode()), headers={**headers, "content-encoding": "gzip"}).status_code == 415
    assert len(world.landed()) == 1


def test_nothing_of_a_refused_request_is_answered_or_logged(world, make, capsys):
    """Bodies hold people's data. Whatever is wrong with one, neither the answer nor the log repeats it."""
    marker = "MARKER-4711"
    good = make["events"](subject=marker, data={"platform": marker})
    tries = [
        (json.dumps({**good, "time": marker}), STRUCTURED), (json.dumps([good, marker]), BATCH), (f'{{"{marker}', STRUCTURED),
        (json.dumps({marker: 1}), STRUCTURED), (marker, "application/json"), (json.dumps({**good, "id": [marker]}), STRUCTURED),
    ]  # fmt: skip
    for content, kind in tries:
        for path in ("events", "outcomes"):
            answer = world.post(path, content, content_type=kind, ce_subject=marker)
            assert answer.status_code in (400, 415)
            assert marker not in answer.text
    said = capsys.readouterr()
    assert "ingest.refused" in said.out + said.err
    assert marker not in said.out + said.err


def test_a_bus_that_is_away_is_said_and_nothing_is_promised(frail, own_redis, make):
    """The producer keeps the event and sends it again; a 202 for what no bus has would be a lost event."""
    own_redis.stop()
    answer = frail.post("events", json.dumps(make["events"]()), content_type=STRUCTURED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "the bus does not answer; send it again"}
    assert frail.get("/verdict").status_code == 503


def test_a_bus_that_is_full_is_said_and_takes_again_when_it_has_room(frail, make):
    """Redis with maxmemory refuses writes: the event is not taken, and the API lives on."""
    body = json.dumps(make["events"]())
    frail.raw.config_set("maxmemory", 1)
    answer = frail.post("events", body, content_type=STRUCTURED)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"error": "the bus has no room; send it again later"}
    frail.raw.config_set("maxmemory", 0)
    assert frail.post("events", body, content_type=STRUCTURED).status_code == 202
    assert frail.landed() == [body.encode()]


def test_what_came_by_http_is_read_by_the_router(world, make):
    """The records are those of a topic that producers write to themselves: every one is read, and none is invalid."""
    batch = [make["events"](f"e{n}") for n in range(50)]
    world.post("events", json.dumps([*batch, batch[0]]), content_type=BATCH)
    router, joiner = world.wiring.router(), world.wiring.joiner(0)
    while router.step():
        pass
    while joiner.step():
        pass
    found = world.wiring.watched().status()
    assert (found.routed, found.read, found.counts.duplicates, found.in_flight, found.counts.invalid) == (51, 51, 1, 50, 0)
    router.close()
    joiner.close()
