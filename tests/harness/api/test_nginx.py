"""The nginx recipe of docs/api.md, as it stands there, with a real nginx: what is mirrored arrives, and production does not feel it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest
import redis
from absent import missing
from patience import LONG_S, until
from ports import free_port

from harness import config
from harness.wiring import create

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "configs" / "recorded-replay.yaml"
BODY = b'{"platform": "web", "answers": {"old": {"age": 17.20}, "new": {"age": 18.9}}}'
BOUND_S = 0.2  # the recipe's proxy_read_timeout


def _nginx() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing("NO NGINX: the mirror recipe is not tested; install it, as in `apt-get install nginx`")
    return found


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def recipe(ports: dict[int, int]) -> str:
    """The text of the page, with its three ports exchanged for free ones."""
    (block,) = re.findall(r"^```nginx\n(.*?)^```$", (ROOT / "docs" / "api.md").read_text(), re.M | re.S)
    for old, new in ports.items():
        assert block.count(f"127.0.0.1:{old}") == 1
        block = block.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    return block


class Production:
    """The model server that decides: answers at once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], bytes]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
                answer = b'{"age": 17.2}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def production() -> Iterator[Production]:
    found = Production()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def gateway(tmp_path: Path, production: Production) -> Iterator[Callable[[int], str]]:
    """Starts nginx with the recipe, its shadow at a port; returns where clients ask."""
    nginx, started = _nginx(), []

    def start(shadow_port: int) -> str:
        port = free_port()
        folders = " ".join(
            f"{what}_temp_path {tmp_path}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )  # fmt: skip
        text = recipe({8000: production.port, 8686: shadow_port, 8080: port})
        root = "user root; " if os.getuid() == 0 else ""  # its workers must reach the test's folder
        main = f"{root}daemon off; worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
        (tmp_path / "nginx.conf").write_text(f"{main}\nevents {{}}\nhttp {{ access_log off; {folders}\n{text}}}\n")
        started.append(subprocess.Popen([nginx, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]))
        until(lambda: listens(port), (tmp_path / "error.log").read_text)
        return f"http://127.0.0.1:{port}/score"

    yield start
    for process in started:
        process.terminate()
        process.wait(LONG_S)


@pytest.fixture
def api(redis_url: str, redis_db: redis.Redis, tmp_path: Path) -> Iterator[int]:
    """The port of a running API: the role, as a process."""
    create(config.load(CONFIG), redis_url, redis_url)
    port = free_port()
    command = [sys.executable, "-m", "harness", "role", "api", "--config", str(CONFIG), "--bus", redis_url, "--store", redis_url]
    with (tmp_path / "api.log").open("wb") as log:
        process = subprocess.Popen([*command, "--shards", "1", "--listen", f"127.0.0.1:{port}"], stderr=log)
    until(lambda: listens(port), (tmp_path / "api.log").read_text)
    yield port
    process.terminate()
    process.wait(LONG_S)


def asked(url: str, **headers: str) -> tuple[int, bytes]:
    """One request of a client, on a connection of its own: status and body of the answer."""
    address = urlsplit(url)
    named = {"content-type": "application/json", "x-user-id": "person-01", "authorization": "Bearer MARKER", "cookie": "session=MARKER"}
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=LONG_S)) as connection:
        connection.request("POST", address.path, BODY, {**named, **headers})
        answer = connection.getresponse()
        return answer.status, answer.read()


def landed(client: redis.Redis, n: int) -> list[bytes]:
    """The records of the topic, once there are n."""
    until(lambda: client.xlen("replay.events") >= n, lambda: client.xlen("replay.events"))
    return [fields[b"value"] for _, fields in client.xrange("replay.events")]


def test_a_mirrored_request_arrives_as_the_event_that_production_scored(
    api: int, gateway: Callable[[int], str], production: Production, redis_db: redis.Redis
) -> None:
    """The same body byte for byte, the id that production was given, the user as unit; and no token or cookie."""
    url = gateway(api)
    answers = [asked(url) for _ in range(20)]
    assert answers == [(200, b'{"age": 17.2}')] * 20
    records = landed(redis_db, 20)
    events = [json.loads(record) for record in records]
    assert sorted(event["id"] for event in events) == sorted(headers["X-Request-ID"] for headers, _ in production.asked)
    assert len({event["id"] for event in events}) == 20
    expected = {
        "specversion": "1.0", "source": "/gateway", "type": "age.estimate", "subject": "person-01", "datacontenttype": "application/json",
        "data": json.loads(BODY),
    }  # fmt: skip
    assert [{key: value for key, value in event.items() if key != "id"} for event in events] == [expected] * 20
    for record in records:
        assert BODY in record
        assert b"MARKER" not in record


def test_a_client_cannot_choose_the_attributes_of_its_event(api: int, gateway: Callable[[int], str], redis_db: redis.Redis) -> None:
    """Headers of the request are not passed on: nobody writes another's id or another type into the stream from outside."""
    asked(gateway(api), **{"ce-id": "MARKER", "ce-type": "MARKER", "ce-extra": "MARKER"})
    (record,) = landed(redis_db, 1)
    assert b"MARKER" not in record


@pytest.mark.parametrize("how", ["down", "hung"])
def test_production_does_not_feel_an_api_that_is_down_or_hangs(how: str, gateway: Callable[[int], str], production: Production) -> None:
    """The first promise of the product: the client's answer is production's, whole and at once, whatever becomes of the copy."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if how == "hung":
            silent.listen(64)  # the kernel takes connections; nobody ever reads them
        url = gateway(silent.getsockname()[1])
        answers, at_once = [], 0
        while len(answers) < 20 or (at_once < 10 and len(answers) < 200):
            began = time.monotonic()
            answers.append(asked(url))
            at_once += time.monotonic() - began < BOUND_S / 2
    assert set(answers) == {(200, b'{"age": 17.2}')}
    assert len(production.asked) == len(answers)
    assert at_once >= 10  # an answer that waited for the mirror would take its timeout, every time, and on a machine that is idle too


def test_a_kept_alive_connection_waits_for_a_hung_mirror_only_as_long_as_the_page_says(
    gateway: Callable[[int], str], production: Production
) -> None:
    """nginx holds the next request of a connection until the mirror of the last one has ended; the recipe's timeouts bound that."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        url = gateway(silent.getsockname()[1])
        address, took_s = urlsplit(url), []
        with closing(HTTPConnection(address.hostname or "", address.port, timeout=LONG_S)) as connection:
            for _ in range(12):
                began = time.monotonic()
                connection.request("POST", address.path, BODY, {"content-type": "application/json"})
                assert connection.getresponse().read() == b'{"age": 17.2}'
                took_s.append(time.monotonic() - began)
    assert len(production.asked) == 12
    assert min(took_s[1:]) < BOUND_S * 1.5  # about the timeout, but for the machine's own stalls: less would make the page wrong, too
    assert median(took_s[1:]) > BOUND_S * 0.5
