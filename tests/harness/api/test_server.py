"""The API as people run it: `shadow up`, real processes, a real Redis, real sockets."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
import redis
from patience import LONG_S, until
from ports import free_port

from harness import config
from harness.adapters.redis.server import find_redis_server
from harness.api import address
from harness.core.errors import UsageError
from harness.wiring import create

CONFIG = Path(__file__).resolve().parents[3] / "configs" / "recorded-replay.yaml"
URL = re.compile(r"The API is at (http://\S+) in a moment")
ASK = httpx.Client(verify=False, timeout=LONG_S, limits=httpx.Limits(max_keepalive_connections=0))  # no certificates are read: all is http


class OwnRedis:
    """A Redis on a port of its own that can be stopped and started again there; it keeps its data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        folder.mkdir()
        self.start()

    def start(self) -> None:
        settings = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", "", "--appendonly", "yes"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([find_redis_server(), *settings], stdout=log, stderr=log)
        until(self._answers, (self.folder / "log").read_text)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Up:
    """`shadow up` on a data folder."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "harness", "up", str(CONFIG), "--data", str(folder), "--store", url, *options]
        folder.mkdir(exist_ok=True)
        with (folder / "err").open("ab") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err)

    def said(self) -> str:
        return (self.folder / "err").read_text() + "".join(path.read_text() for path in sorted((self.folder / "log").glob("*.log")))

    def pids(self) -> dict[str, int]:
        try:
            found: dict[str, int] = json.loads((self.folder / "roles.json").read_text())
            return found
        except FileNotFoundError:
            return {}

    def address(self) -> str:
        """Where its API answers, once it does."""
        url: str = until(lambda: (m := URL.search((self.folder / "err").read_text())) and m[1], self.said)
        until(lambda: status(url + "/healthz") == 200, self.said)
        return url

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LONG_S)


def status(url: str) -> int | None:
    """The status of an answer, None without one."""
    try:
        return ASK.get(url).status_code
    except httpx.TransportError:
        return None


def paired(rollout: str) -> int | None:
    """The events paired, None without an answer that says so."""
    answer = ASK.get(rollout)
    return answer.json()["counts"]["paired"] if answer.status_code == 200 else None


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path / "redis")
    yield server
    server.stop()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(url: str, *options: str) -> Up:
        started.append(Up(tmp_path / f"data{len(started)}", url, *options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()


def test_a_rollout_is_fed_watched_and_outlives_its_servers_and_its_api(own_redis: OwnRedis, up: Callable[..., Up]) -> None:
    """One life: events come by HTTP and are counted; the API is killed and answers again at the same address; the server goes and
    comes back, and readiness says so of the API and of every role."""
    running = up(own_redis.url, "--listen", "127.0.0.1:0")
    url = running.address()
    rollout = f"{url}/v1/rollouts/recorded-replay"
    events = [json.loads(line) for line in (CONFIG.parent / "recorded-replay.events.jsonl").read_text().splitlines()]
    headers = {"content-type": "application/cloudevents-batch+json"}
    answer = ASK.post(f"{rollout}/events", content=json.dumps(events), headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 12})
    assert "server" not in answer.headers
    until(lambda: paired(rollout) == 12, running.said)
    until(lambda: status(f"{rollout}/ready") == 200, running.said)

    pid = running.pids()["api"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: running.pids().get("api") not in (None, pid) and status(url + "/readyz") == 200, running.said)
    assert running.process.poll() is None

    own_redis.stop()
    away = "not ready: the bus does not answer, the store does not answer"
    until(lambda: (a := ASK.get(url + "/readyz")).status_code == 503 and a.json()["error"] == away, running.said)
    assert status(url + "/healthz") == 200
    answer = ASK.post(f"{rollout}/events", content="{}", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    own_redis.start()
    until(lambda: status(url + "/readyz") == 200, running.said)
    until(lambda: status(f"{rollout}/ready") == 200, running.said)
    until(lambda: paired(rollout) == 12, running.said)  # a connection from before may still have to be found dead
    assert running.stop() == 0
    assert status(url + "/healthz") is None


def test_a_role_that_waits_for_its_bus_says_so_in_the_store(own_redis: OwnRedis, up: Callable[..., Up], redis_url: str, redis_db) -> None:
    """Bus and store are two servers in production: with the bus gone, status still answers, and tells which roles wait and for what."""
    running = up(redis_url, "--bus", own_redis.url, "--listen", "127.0.0.1:0")
    rollout = f"{running.address()}/v1/rollouts/recorded-replay"
    until(lambda: status(f"{rollout}/ready") == 200, running.said)
    own_redis.stop()
    waits = "waits: redis://127.0.0.1"
    until(lambda: (a := ASK.get(f"{rollout}/ready")).status_code == 503 and waits in a.json()["error"], running.said)
    assert ASK.get(f"{rollout}/verdict").json()["verdict"] == "hold"
    assert ASK.get(rollout).json()["bus"] == "away"


def test_an_api_that_is_stopped_while_it_starts_ends(redis_url: str, redis_db, tmp_path: Path) -> None:
    """Its server takes signals from the moment that it runs; one that came while its modules were loaded went to nobody, and it ran on."""
    create(config.load(CONFIG), redis_url, redis_url)
    command = [sys.executable, "-m", "harness", "role", "api", "--config", str(CONFIG), "--bus", redis_url, "--store", redis_url]
    said = tmp_path / "err"
    with said.open("wb") as err:
        process = subprocess.Popen([*command, "--shards", "1", "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL, stderr=err)
    try:
        until(lambda: "api.listens" in said.read_text(), said.read_text)  # and its modules come now
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG_S) == 0
    finally:
        process.kill()
        process.wait()
    assert "role.stopped" in said.read_text()


def test_a_port_that_is_taken_is_named_before_anything_starts(redis_url: str, redis_db, up: Callable[..., Up]) -> None:
    """The second rollout on a machine: what to do is in the message, and no role was started."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        running = up(redis_url, "--listen", listen)
        assert running.process.wait(LONG_S) == 2
    assert f"--listen {listen}: another program listens there" in running.said()
    assert running.pids() == {}


def test_without_an_address_there_is_no_api(redis_url: str, redis_db, up: Callable[..., Up]) -> None:
    """`--listen ''`: a rollout beside another, or in a container of its own."""
    running = up(redis_url, "--listen", "", "--roles", "router")
    until(running.pids, running.said)
    assert set(running.pids()) == {"router"}
    refused = up(redis_url, "--listen", "", "--roles", "api")
    assert refused.process.wait(LONG_S) == 2
    assert "--roles api: expected some of router" in refused.said()


@pytest.mark.parametrize("wrong", ["8686", "127.0.0.1", "127.0.0.1:x", ":8686", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    """Also without a host: who means every interface says 0.0.0.0, so that nobody opens the API to a network by leaving something out."""
    with pytest.raises(UsageError, match="expected HOST:PORT"):
        address.parse(wrong)


def test_addresses_of_both_kinds_are_read_and_written_alike() -> None:
    """IPv6 hosts stand in brackets."""
    for listen in ("127.0.0.1:8686", "[::1]:0", "localhost:80"):
        assert address.text(*address.parse(listen)) == listen


def test_an_address_of_another_machine_is_refused_by_name() -> None:
    """The message names the address, not an errno."""
    with pytest.raises(UsageError, match=r"--listen 192\.0\.2\.1:0"):
        address.free("192.0.2.1:0", patience_s=0.0)


def test_the_default_is_this_machine_only() -> None:
    """The API knows no passwords: nothing but loopback unless somebody says so."""
    assert address.parse(address.DEFAULT) == ("127.0.0.1", 8686)
