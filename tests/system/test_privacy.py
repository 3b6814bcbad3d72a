"""What people wrote stays on the bus: markers in every field that no config asks for, and then everything that was written is searched.

Bus and store are databases of their own, as in production two servers are. Searched are: every key of the store with its raw value, of
every type; the data folder with its logs and `roles.json`; what the commands print; the verdict, the report, the pair table.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import redis

Shadow = Callable[..., subprocess.CompletedProcess[str]]
MARKER = "MARK-7c1e"  # stands in every field below; may stand in nothing but the bus
N_EVENTS, N_BAD = 60, 5
WITHOUT_TIME_TO_LIVE = {b"shadow:rollouts"}  # the list of rollouts, as the page on privacy says
SECRET = "a secret of at least sixteen bytes"
MODEL = f'''"""A challenger that says more than it is asked for, fails with words, and has trouble saying either."""


class Loud(Exception):
    pass


def score(batch):
    (data,) = batch
    match data["behave"]:
        case "raise":
            raise Loud("{MARKER} in an exception about " + data["note"])
        case "group":
            raise ExceptionGroup("{MARKER} in a group", [ValueError("{MARKER} inside"), Loud(data["note"])])
        case "wrong":
            return [{{"age": "{MARKER} as an answer"}}]
        case "many":
            return [{{"age": 1.0}}, "{MARKER}"]
    return [{{"age": 33.0, "note": "{MARKER} in an output", "seen": data}}]


score.version = "v1"
'''
BEHAVIOURS = ("good", "good", "good", "raise", "group", "wrong", "many")


def event(streams: ModuleType, n: int, **changes: Any) -> dict[str, Any]:
    """An event with a marker in all that is not read."""
    return {
        "specversion": "1.0", "id": f"{MARKER}-id-{n}", "source": f"/{MARKER}-source", "type": f"{MARKER}-type",
        "subject": f"{MARKER}-subject-{n % 9}", "time": streams.stated(streams.START), "recordedtime": streams.stated(streams.START),
        "dataschema": f"http://{MARKER}.example/schema", "datacontenttype": "application/json", "traceparent": f"{MARKER}-extension",
        f"{MARKER.lower().replace('-', '')}name": "an attribute's name",
        "data": {
            "region": ("SE", f"{MARKER}-unlisted")[n % 2], "behave": BEHAVIOURS[n % len(BEHAVIOURS)], "note": f"{MARKER}-payload-{n}",
            "deep": {f"{MARKER}-key": [f"{MARKER}-item", {"n": f"{MARKER}-leaf"}]},
        }, **changes,
    }  # fmt: skip


def outcome(streams: ModuleType, n: int, **changes: Any) -> dict[str, Any]:
    """An outcome with a marker in all that is not read."""
    return {
        "specversion": "1.0", "id": f"{MARKER}-outcome-{n}", "source": f"/{MARKER}-review", "type": f"{MARKER}-type",
        "time": streams.stated(streams.START), "subject": f"{MARKER}-person", "reviewer": f"{MARKER}-reviewer",
        "data": {"event_id": f"{MARKER}-id-{n}", "age": 20.0 + n % 7, "comment": f"{MARKER}-comment"}, **changes,
    }  # fmt: skip


def records(streams: ModuleType) -> Iterator[tuple[str, bytes]]:
    """Events, a copy, outcomes, outcomes of nobody, and records of both topics that cannot be read."""
    for n in range(N_EVENTS):
        yield "proof.events", json.dumps(event(streams, n)).encode()
        yield "proof.outcomes", json.dumps(outcome(streams, n)).encode()
    yield "proof.events", json.dumps(event(streams, 0)).encode()
    yield "proof.outcomes", json.dumps(outcome(streams, 10_000)).encode()
    bad: list[dict[str, Any]] = [{"time": f"{MARKER}-time"}, {"id": [MARKER]}, {"source": [MARKER]}]
    for n, changes in enumerate(bad):
        yield "proof.events", json.dumps(event(streams, 100 + n, **changes)).encode()
        yield "proof.outcomes", json.dumps(outcome(streams, n, **changes)).encode()
    yield "proof.outcomes", json.dumps(outcome(streams, 1, data={"event_id": f"{MARKER}-id-1", "age": f"{MARKER}-age"})).encode()
    for line in (MARKER.encode() + b"\xff", json.dumps(event(streams, 200)).encode()[:-9]):
        yield "proof.events", line
        yield "proof.outcomes", line


@pytest.fixture(scope="module")
def servers(redis_url: str) -> Iterator[tuple[str, str]]:
    """The addresses of an empty bus and an empty store: two databases."""
    root = redis_url.rpartition("/")[0]
    found = (f"{root}/11", f"{root}/12")
    for url in found:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    yield found
    for url in found:
        with redis.Redis.from_url(url) as client:
            client.flushdb()


@pytest.fixture(scope="module")
def written(
    servers: tuple[str, str], streams: ModuleType, processes: ModuleType, shadow: Shadow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, bytes]]:
    """Name -> what was written, by a rollout with a recorded incumbent and a `python:` challenger: while it ran, and when it had ended."""
    bus, store = servers
    folder = tmp_path_factory.mktemp("privacy")
    models = {"incumbent": {"uri": "recorded:loud.jsonl"}, "challenger": {"uri": "python:model:score", "timeout": "600s", "batch": 1}}
    stream = streams.build(folder / "stream", seed=1, n_events=1, models=models)
    (stream.folder / "model.py").write_text(MODEL)
    (stream.folder / "loud.jsonl").write_text("".join(line + "\n" for line in answers()))
    sent = list(records(streams))
    running = processes.Up(stream, folder / "data", url=store, options=["--bus", bus, "--shards", 2]).start()
    try:
        with redis.Redis.from_url(bus) as producer:
            for topic, record in sent:
                producer.xadd(topic, {"value": record})
            found = {f"in flight: {name}": value for name, value in stored(store).items()}
            producer.xadd("proof.events", {"value": streams.watermark("proof.events")[1]})
        n_events = sum(topic == "proof.events" for topic, _ in sent)
        processes.until(lambda: is_done(running.verdict(), n_events, len(sent) - n_events), processes.FINISH_S, running.words)
        found |= {"verdict": json.dumps(running.verdict()).encode(), **stored(store)}
        for command in (["status", "proof"], ["status", "proof", "--json"], ["decide", "proof", "--json"], ["decide", "proof"]):
            done = shadow(*command, "--store", store, "--bus", bus) if command[0] == "status" else shadow(*command, "--store", store)
            found[" ".join(command)] = (done.stdout + done.stderr).encode()
        for name in ("pairs.parquet", "report.html"):
            command = "export" if name.endswith("parquet") else "report"
            done = shadow(command, "proof", "--store", store, "-o", folder / "out" / name)
            assert done.returncode == 0, done.stderr
            found[f"{command} said"] = (done.stdout + done.stderr).encode()
        assert running.stop() == 0
        found |= {f"stopped: {name}": value for name, value in stored(store).items()}
        for path in [*(folder / "data").rglob("*"), *(folder / "out").rglob("*")]:
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
        yield found
    finally:
        running.close()


def answers() -> Iterator[str]:
    """Recorded answers that say too much: extra outputs, texts of errors, versions are kept and so hold none."""
    for n in range(N_EVENTS):
        said: dict[str, Any] = {"event_id": f"{MARKER}-id-{n}", "output": {"age": 30.0, "why": f"{MARKER}-why"}, "trace": f"{MARKER}-trace"}
        if n % 7 == 5:
            said = {**said, "error": f"{MARKER}-error"}
        if n % 7 == 6:
            said = {**said, "output": {"age": f"{MARKER}-text"}}
        yield json.dumps(said)
    yield f'{{"event_id": "{MARKER}-cut'


def is_done(verdict: dict[str, Any] | None, n_events: int, n_outcomes: int) -> bool:
    """Whether everything sent has been read and nothing waits."""
    if verdict is None:
        return False
    counts, outcomes = verdict["counts"], verdict["outcomes"]
    seen = (counts["read"], sum(outcomes.values()), counts["in_flight"], outcomes["waiting"])
    return seen == (n_events, n_outcomes, 0, 0) and verdict["as_of"] is not None


def stored(url: str) -> dict[str, bytes]:
    """Key -> its raw value as bytes, for every type: read with plain commands, because a dump may be compressed."""
    with redis.Redis.from_url(url) as client:
        return {f"store {key.decode(errors='replace')}": raw(client, key) for key in client.scan_iter()}


def raw(client: redis.Redis, key: bytes) -> bytes:
    """All bytes of a value."""
    match client.type(key):
        case b"string":
            return client.get(key) or b""
        case b"hash":
            return b"\n".join(part for item in client.hgetall(key).items() for part in item)
        case b"list":
            return b"\n".join(client.lrange(key, 0, -1))
        case b"set":
            return b"\n".join(client.smembers(key))
        case b"zset":
            return b"\n".join(client.zrange(key, 0, -1))
        case b"none":  # it expired since it was listed
            return b""
        case b"stream":
            return b"\n".join(value for _, fields in client.xrange(key) for item in fields.items() for value in item)
        case kind:
            raise AssertionError(f"{key!r} is a {kind!r}, which this test cannot read")


def test_nothing_that_was_sent_or_said_stands_outside_the_bus(written: dict[str, bytes]):
    """Payloads, ids, subjects, attributes and their names, unlisted segment values, reviewers, error texts, exceptions, extra outputs."""
    held = [name for name, value in written.items() if MARKER.encode() in value or MARKER.encode() in name.encode()]
    assert held == []


def test_what_is_searched_is_what_there_is(written: dict[str, bytes], servers: tuple[str, str]):
    """A search through nothing finds nothing: the places are there, they are not empty, and the bus does hold the markers."""
    names = "\n".join(name for name, value in written.items() if value)
    for place in (
        ":head", ":ids:", ":tail", ":words", "}:verdict", "}:ledger", "}:journal", "}:src:events/0", "shadow:rollouts", "in flight",
        "roles.json", "lane:challenger.log", "joiner.log", "data/err", "pairs.parquet", "report.html", "status proof --json",
    ):  # fmt: skip
        assert place in names, place
    with redis.Redis.from_url(servers[0]) as bus:
        assert any(MARKER.encode() in raw(bus, key) for key in bus.scan_iter(_type="stream"))
        assert [key for key in bus.scan_iter("shadow:*") if b"{proof" in key] == [], "state is in the store only"


def test_the_models_did_what_could_have_leaked(written: dict[str, bytes]):
    """Each kind of trouble is in the tally: exceptions, wrong answers, wrong counts, recorded errors, records that nobody can read."""
    verdict = json.loads(written["verdict"])
    lanes, counts = verdict["lanes"], verdict["counts"]
    assert set(lanes["challenger"]) == {"answered", "error", "bad_output"}
    assert set(lanes["incumbent"]) >= {"answered", "error", "bad_output"}
    assert (counts["invalid"], counts["duplicates"]) == (N_BAD, 1)
    assert verdict["outcomes"]["orphaned"] == 1 and verdict["outcomes"]["invalid"] >= N_BAD
    assert any(b"model.raised" in value for name, value in written.items() if name.endswith("lane:challenger.log"))


def test_every_key_of_the_store_has_a_time_to_live(written: dict[str, bytes], servers: tuple[str, str]):
    """What nobody deletes by hand goes by itself; the list of rollouts is the one thing that stays."""
    with redis.Redis.from_url(servers[1]) as store:
        living = {key: store.ttl(key) for key in store.scan_iter()}
    assert len(living) > 8
    assert {key for key, ttl in living.items() if ttl == -1} == WITHOUT_TIME_TO_LIVE


@pytest.mark.parametrize("column", ["event_id", "unit_id"])
def test_with_a_secret_the_hashes_are_others(
    column: str, small_stream: Any, shadow: Shadow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever knows an id and not the secret cannot find its row; with the same secret the same rows come again."""
    import pyarrow.parquet as pq

    def hashes(name: str, secret: str | None) -> list[str]:
        if secret is None:
            monkeypatch.delenv("SHADOW_SECRET", raising=False)
        else:
            monkeypatch.setenv("SHADOW_SECRET", secret)
        done = shadow("replay", small_stream.config, "--events", small_stream.events, "--out", tmp_path / name, env=None)
        assert done.returncode in (0, 3, 4), done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert all(SECRET.encode() not in path.read_bytes() for path in (tmp_path / name).iterdir())
        found: list[str] = pq.read_table(tmp_path / name / "pairs.parquet")[column].to_pylist()
        return found

    without, keyed, again = hashes("without", None), hashes("keyed", SECRET), hashes("again", SECRET)
    assert keyed == again
    assert len(set(without)) > 100 and not set(without) & set(keyed)
