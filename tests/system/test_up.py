"""`shadow up` with real processes on a real Redis: the same numbers as a replay, whatever is stopped, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
import yaml

Shadow = Callable[..., subprocess.CompletedProcess[str]]
EXIT = {"promote": 0, "hold": 3, "rollback": 4}


@pytest.fixture
def by_url(redis_url: str, redis_db: redis.Redis) -> str:
    """The address of the session's Redis, emptied."""
    return redis_url


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("where", ["by url", "embedded"])
def test_a_live_rollout_says_what_a_replay_says(
    where: str, shards: int, up: Any, stream: Any, streams: ModuleType, processes: ModuleType, replay_verdict: dict[str, Any],
    shadow: Shadow, tmp_path: Path, request: pytest.FixtureRequest,
):  # fmt: skip
    """Processes, shards, a network and the wall clock in between change no number; and who looks, running or stopped, sees the same."""
    url = request.getfixturevalue("by_url") if where == "by url" else None
    running = up(stream, url=url, options=["--shards", shards]).start()
    running.send(stream.records)
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(replay_verdict)
    assert len(verdict["watermark"]["shards"]) == shards
    place = ["--data", running.data] if url is None else ["--store", url]
    if (where, shards) in (("by url", 1), ("embedded", 4)):  # each is half a dozen processes
        assert_looks_agree(shadow, place, stream, verdict, tmp_path / "running")
    assert_store_holds_no_payload(running, streams)
    assert running.stop() == 0
    assert_looks_agree(shadow, place, stream, verdict, tmp_path / "stopped")


def assert_looks_agree(shadow: Shadow, place: list[object], stream: Any, verdict: dict[str, Any], folder: Path) -> None:
    """status, decide, export and report, as processes."""
    status = shadow("status", "proof", *place, "--json")
    assert status.returncode == 0, status.stderr
    found = json.loads(status.stdout)
    assert (found["identity"], found["idle"], found["lag"]["events"], found["lag"]["sources"]) == ([], True, 0, [])
    assert found["routed"] == found["counts"]["read"] == stream.n_events
    assert (found["counts"], found["outcomes"], found["verdict"]) == (verdict["counts"], verdict["outcomes"], verdict["verdict"])
    decided = shadow("decide", "proof", *place, "--json")
    assert decided.returncode == EXIT[verdict["verdict"]], decided.stderr
    said = json.loads(decided.stdout)
    assert said["reasons"][-len(verdict["reasons"]) :] == verdict["reasons"]  # more may stand before them: the stream is long past
    assert {**said, "reasons": []} == {**verdict, "reasons": [], "watermark": said["watermark"]}
    exported = shadow("export", "proof", *place, "-o", folder / "pairs.parquet")
    assert exported.returncode == 0, exported.stderr
    table = pq.read_table(folder / "pairs.parquet")
    assert table.num_rows == verdict["counts"]["mirrored"] - verdict["counts"]["invalid"]
    reported = shadow("report", "proof", *place, "-o", folder / "report.html")
    assert reported.returncode == 0, reported.stderr
    assert "<html" in (folder / "report.html").read_text()


def assert_store_holds_no_payload(running: Any, streams: ModuleType) -> None:
    """The bus carries payloads; nothing else in the server does, and no log."""
    client = running.client()
    payload = f"{streams.MARKER}-payload"
    buses = 0
    for key in client.scan_iter():
        if client.type(key) == b"stream":
            buses += 1
        else:
            assert payload.encode() not in client.dump(key), key
    assert buses >= 3
    assert streams.MARKER not in running.words()
    for path in running.data.rglob("*.log"):
        assert streams.MARKER not in path.read_text(), path


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=["stopped", "interrupted", "killed"])
def test_an_up_that_ended_in_the_middle_goes_on_where_it_was(
    how: int, up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any], by_url: str
):
    """Producers do not wait for us: a third comes before, a third while nothing runs, a third after. No event is lost or counted twice."""
    running = up(small_stream, url=by_url, options=["--shards", 2]).start()
    third = len(small_stream.records) // 3
    running.send(small_stream.records[:third])
    processes.until(lambda: counted(running) > 0, processes.START_S, running.words)
    assert running.stop(how) == (-signal.SIGKILL if how == signal.SIGKILL else 0)
    running.send(small_stream.records[third : 2 * third])
    running.start()
    running.send(small_stream.records[2 * third :])
    verdict = running.finish(streams.watermark("proof.events"))
    assert processes.comparable(verdict) == processes.comparable(small_verdict)


def counted(running: Any) -> int:
    """Events read, as the verdict last said."""
    found = running.verdict()
    return found["counts"]["read"] if found else 0


def test_a_stop_leaves_nothing_in_flight(up: Any, small_stream: Any, by_url: str, shadow: Shadow, processes: ModuleType):
    """SIGTERM drains: what was taken is answered and joined before the processes leave."""
    running = up(small_stream, url=by_url).start()

    def at_work() -> bool:  # a role that a signal finds still importing leaves at once
        roles = json.loads(shadow("status", "proof", "--store", by_url, "--json").stdout)["roles"]
        return all(roles[role]["ready"] for role in processes.ROLES)

    processes.until(at_work, processes.START_S, running.words)
    running.send(small_stream.records)
    processes.until(lambda: running.client().exists("shadow:{proof}:src:events/0") == 1, processes.START_S, running.words)
    assert running.stop() == 0
    found = json.loads(shadow("status", "proof", "--store", by_url, "--json").stdout)
    assert found["counts"]["read"] == found["routed"] > 0
    assert (found["counts"]["in_flight"], found["identity"]) == (0, [])


def test_another_config_of_the_same_name_is_refused(up: Any, small_stream: Any, by_url: str, shadow: Shadow, tmp_path: Path):
    """Gates that change under a name would mix two questions in one answer; neither a running nor a stopped rollout takes it."""
    running = up(small_stream, url=by_url).start()
    other = {**yaml.safe_load(small_stream.config.read_text()), "alpha": 0.01}
    (small_stream.folder / "other.yaml").write_text(yaml.safe_dump(other))
    refuse(shadow, small_stream.folder / "other.yaml", by_url, [], tmp_path, "another config")
    refuse(shadow, small_stream.config, by_url, ["--shards", 3], tmp_path, "created with 1 shards")
    assert not running.ended
    running.stop()
    refuse(shadow, small_stream.folder / "other.yaml", by_url, [], tmp_path, "another config")
    refuse(shadow, small_stream.config, by_url, ["--shards", 3], tmp_path, "created with 1 shards")


def refuse(shadow: Shadow, config: Path, url: str, options: list[object], folder: Path, message: str) -> None:
    done = shadow("up", config, "--store", url, "--data", folder / "other", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "rollout proof was" in done.stderr and message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_up_of_the_same_rollout_changes_no_number(
    up: Any, small_stream: Any, streams: ModuleType, processes: ModuleType, small_verdict: dict[str, Any], by_url: str, tmp_path: Path
):
    """Somebody starts it on two machines: the compare-and-sets decide who writes, the other one's work is thrown away."""
    one = up(small_stream, url=by_url).start()
    other = up(small_stream, url=by_url, data=tmp_path / "other").start()
    one.send(small_stream.records, per_second=600)
    assert processes.comparable(one.finish(streams.watermark("proof.events"))) == processes.comparable(small_verdict)
    assert (one.stop(), other.stop()) == (0, 0)


def test_up_without_a_server_says_what_it_waits_for(shadow: Shadow, small_stream: Any, tmp_path: Path):
    """A wrong address is a message that names it, not a traceback."""
    done = shadow("up", small_stream.config, "--store", "redis://127.0.0.1:1/0", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_up_with_a_closed_stdin_runs(up: Any, small_stream: Any, by_url: str, processes: ModuleType):
    """As a service manager may start it."""
    running = up(small_stream, url=by_url, spawn={"stdin": None, "preexec_fn": lambda: os.close(0)}).start()
    running.send(small_stream.records[:50])
    processes.until(lambda: counted(running) > 0, processes.START_S, running.words)
    assert running.stop() == 0
