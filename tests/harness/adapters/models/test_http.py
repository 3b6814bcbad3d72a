"""Plain JSON model servers: what they are asked, what they may do, and which tally it ends in. Every server here is real."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpcore
import pytest
from absent import missing
from model_servers import CLOSE, HANG, RESET, Request, Script, ScriptedServer, Step, answer
from patience import LONG_S, tried

from harness.adapters.models import open_model
from harness.adapters.models.http import HttpModel
from harness.adapters.models.server import LARGEST_ANSWER
from harness.core.errors import UsageError
from harness.core.rollout import Model
from harness.ports.model import Call, Reply

Serve = Callable[..., ScriptedServer]
Ask = Callable[..., list[Reply]]
TIMEOUT_S = 0.5
SLACK_S = 60.0  # a busy machine; a call that does not end would be far over it


def call(event_id: str, data: Any, **attributes: str) -> Call:
    return Call(event_id=event_id, event={"id": event_id, "source": "/app", "type": "io.scored", "data": data, **attributes})


def echo(request: Request) -> list[Step]:
    return [answer({"said": request.json})]


@pytest.fixture
def ask(serve: Serve) -> Iterator[Ask]:
    """The replies of a server to these data, and its requests; models are closed when the test is over."""
    models: list[HttpModel] = []

    def ask(script: Script, *data: Any, batch: int = 1, timeout_s: float = LONG_S) -> list[Reply]:
        server = serve(script)
        models.append(HttpModel(f"http://{server.address}/score", lane="challenger", batch=batch))
        return list(models[-1].call([call(f"e{n}", each) for n, each in enumerate(data)], timeout_s=timeout_s))

    yield ask
    for model in models:
        model.close()


@pytest.fixture
def model_of(serve: Serve) -> Iterator[Callable[..., tuple[HttpModel, ScriptedServer]]]:
    """A model and its server, both ended with the test."""
    models: list[HttpModel] = []

    def make(script: Script, **options: Any) -> tuple[HttpModel, ScriptedServer]:
        server = serve(script)
        models.append(HttpModel(f"http://{server.address}/score?v=2", lane="challenger", **options))
        return models[-1], server

    yield make
    for model in models:
        model.close()


# ------------------------------------------------------------------------------------------------------------------- what is asked
def test_one_event_is_one_post_of_its_data(model_of: Any) -> None:
    """The server sees what production would send it, and an id by which it can know a repeat."""
    model, server = model_of(echo)
    (reply,) = model.call([call("e1", {"text": "héllo", "n": 1.5}, subject="anna")], timeout_s=LONG_S)
    (request,) = server.requests
    assert (reply.status, reply.answer) == ("answered", {"said": {"text": "héllo", "n": 1.5}})
    assert request.target == "/score?v=2"
    expected = {"content-type": "application/json", "idempotency-key": "e1", "ce-id": "e1", "ce-source": "/app", "ce-type": "io.scored",
                "ce-specversion": "1.0"}  # fmt: skip
    assert {name: request.headers[name] for name in expected} == expected
    assert "anna" not in str(request.headers)


@pytest.mark.parametrize(
    ("event_id", "sent"),
    [("a b", "a%20b"), ('100%"', "100%25%22"), ("é€", "%C3%A9%E2%82%AC"), ("x\r\nevil: 1", "x%0D%0Aevil:%201"), ("\ud800", "%ED%A0%80")],
)
def test_an_id_that_no_header_holds_is_percent_encoded(event_id: str, sent: str, model_of: Any) -> None:
    """Ids come from outside: a line break in one must not become a header of its own."""
    model, server = model_of(echo)
    assert model.call([call(event_id, 1)], timeout_s=LONG_S)[0].status == "answered"
    assert (server.requests[0].headers["ce-id"], server.requests[0].headers["idempotency-key"]) == (sent, sent)
    assert "evil" not in server.requests[0].headers


def test_a_batch_is_one_post_of_an_array_even_when_one_event_is_left(model_of: Any) -> None:
    """A server that expects arrays must not meet an object when traffic is low; a repeat has the same idempotency key."""
    model, server = model_of(lambda request: [answer([2 * n for n in request.json])], batch=8)
    calls = [call("e1", 1), call("e2", 2), call("e3", 3)]
    assert [reply.answer for reply in model.call(calls, timeout_s=LONG_S)] == [2, 4, 6]
    assert [reply.answer for reply in model.call(calls[:1], timeout_s=LONG_S)] == [2]
    model.call(calls, timeout_s=LONG_S)
    assert [request.json for request in server.requests] == [[1, 2, 3], [1], [1, 2, 3]]
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert keys[0] == keys[2] != keys[1]


def test_data_that_json_cannot_say_is_an_error_of_its_event_alone(model_of: Any) -> None:
    """Its neighbours in the batch are asked all the same."""
    model, server = model_of(lambda request: [answer(request.json)], batch=8)
    replies = model.call([call("e1", 1), call("e2", float("nan")), call("e3", 3)], timeout_s=LONG_S)
    assert [(reply.status, reply.answer) for reply in replies] == [("answered", 1), ("error", None), ("answered", 3)]
    assert [reply.status for reply in model.call([call("e2", float("inf"))], timeout_s=LONG_S)] == ["error"]
    assert len(server.requests) == 1


@pytest.mark.parametrize(("uri", "batch", "expected"), [("http://{}/", None, {"n": 1}), ("http://{}/", 2, [{"n": 1}])])
def test_a_config_without_batch_asks_one_event_a_call(uri: str, batch: int | None, expected: Any, serve: Serve) -> None:
    """That is how production asks; arrays are for servers that were made for them."""
    server = serve(lambda request: [answer(request.json)])
    model = open_model(Model(lane="challenger", uri=uri.format(server.address), batch=batch), folder=Path())
    model.call([call("e1", {"n": 1})], timeout_s=LONG_S)
    model.close()
    assert server.requests[0].json == expected


# ---------------------------------------------------------------------------------------------------------------- what it may do
def drip(content: bytes, every_s: float) -> Iterator[Step]:
    for byte in content:
        yield bytes([byte])
        yield every_s


def endless(head: bytes, piece: bytes) -> Iterator[Step]:
    yield head
    while True:
        yield piece


WHOLE = answer({"age": 20})
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"age": 2'
TIMEOUTS: dict[str, Script] = {
    "says nothing": lambda _: [HANG],
    "stops after the headers": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", HANG],
    "stops in the body": lambda _: [HALF, HANG],
    "drips the headers": lambda _: drip(WHOLE, 0.1),
    "drips the body": lambda _: drip(HALF + b" " * 900, 0.1),
    "promises for ever": lambda _: (step for _ in range(1000) for step in (b"HTTP/1.1 102 Processing\r\n\r\n", 0.05)),
    "answers too late": lambda _: [2 * TIMEOUT_S, WHOLE],
}
ERRORS: dict[str, Script] = {
    "closes": lambda _: [CLOSE],
    "resets": lambda _: [RESET],
    "half a body, then closes": lambda _: [HALF, CLOSE],
    "half a header, then closes": lambda _: [b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE],
    "half a chunk, then closes": lambda _: [b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"age"', CLOSE],
    "no HTTP": lambda _: [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE],
    "headers without end": lambda _: endless(b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000),
    "500": lambda _: [answer({"age": 20}, code=500)],
    "503": lambda _: [answer(b"", code=503)],
    "429": lambda _: [answer({"age": 20}, code=429)],
    "400": lambda _: [answer({"error": "no such field"}, code=400)],
    "404": lambda _: [answer(b"not found", code=404)],
    "101": lambda _: [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", CLOSE],
}
BAD_OUTPUTS: dict[str, Script] = {
    "a web page": lambda _: [answer(b"<html>sign in</html>", headers={"Content-Type": "text/html"})],
    "an empty body": lambda _: [answer(b"")],
    "204": lambda _: [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "half a document": lambda _: [answer(b'{"age": 2')],
    "two documents": lambda _: [answer(b'{"age": 2}{"age": 3}')],
    "no UTF-8": lambda _: [answer(b'{"age": "\xff\xfe"}')],
    "nesting without end": lambda _: [answer(b"[" * 200_000)],
    "a number of 5000 digits": lambda _: [answer(b"9" * 5_000)],
    "gzip that nobody asked for": lambda _: [answer(gzip.compress(b'{"age": 20}'), headers={"Content-Encoding": "gzip"})],
    "an answer over the limit": lambda _: [answer(b" " * LARGEST_ANSWER + b'{"age": 20}')],
    "an answer without end": lambda _: endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65_536),
}
FAULTS = [("timeout", TIMEOUTS), ("error", ERRORS), ("bad_output", BAD_OUTPUTS)]


@pytest.mark.parametrize(
    ("status", "script"), [pytest.param(status, each, id=f"{name}: {status}") for status, faults in FAULTS for name, each in faults.items()]
)
def test_what_a_server_does_wrong_ends_in_its_tally_and_in_time(status: str, script: Script, model_of: Any) -> None:
    """Nothing a server does may raise, hang the lane, or spoil the next call."""
    model, server = model_of(script)

    def asked() -> int:
        server.requests.clear()
        began = time.monotonic()
        (reply,) = model.call([call("e1", {})], timeout_s=TIMEOUT_S if status == "timeout" else LONG_S)
        took_s = time.monotonic() - began
        assert (reply.status, reply.answer) == (status, None)
        assert reply.latency_ms is not None and reply.latency_ms <= took_s * 1000
        assert took_s < (TIMEOUT_S if status == "timeout" else 0) + SLACK_S
        return len(server.requests)

    assert tried(asked, bool) == 1  # none: the machine was too slow for the server to hear of it within the timeout
    server.script = lambda _: [WHOLE]
    assert [(each.status, each.answer) for each in model.call([call("e2", {})], timeout_s=LONG_S)] == [("answered", {"age": 20})]


@pytest.mark.parametrize("found", [[1], [1, 2, 3], {"answers": [1, 2]}, 1, None, "ab"], ids=str)
def test_a_batch_with_another_number_of_answers_is_bad_output_for_all(found: Any, ask: Ask) -> None:
    """Nobody can say which answer belongs to which event, so none does."""
    assert [reply.status for reply in ask(lambda _: [answer(found)], "a", "b", batch=2)] == ["bad_output"] * 2


def test_a_redirect_is_an_error_and_is_not_followed(model_of: Any, serve: Serve) -> None:
    """A payload goes to the address in the config, and to no other."""
    elsewhere = serve(echo)
    model, _ = model_of(lambda _: [answer(b"", code=307, headers={"Location": f"http://{elsewhere.address}/score"})])
    assert [reply.status for reply in model.call([call("e1", {})], timeout_s=LONG_S)] == ["error"]
    assert elsewhere.requests == []


def test_an_answer_without_end_is_cut_at_the_limit(ask: Ask, serve: Serve) -> None:
    """A lying server must not fill the lane's memory; what it could send is bounded by the limit and the system's buffers."""
    server = serve(BAD_OUTPUTS["an answer without end"])
    model = HttpModel(f"http://{server.address}/", lane="challenger")
    model.call([call("e1", {})], timeout_s=LONG_S)
    model.close()
    assert LARGEST_ANSWER <= server.n_sent < LARGEST_ANSWER + (32 << 20)


def test_a_server_that_does_not_read_is_a_timeout() -> None:
    """Sending waits too, and ends at the deadline like all else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        model = HttpModel(f"http://127.0.0.1:{listener.getsockname()[1]}/", lane="challenger")
        began = time.monotonic()
        (reply,) = model.call([call("e1", "x" * (32 << 20))], timeout_s=TIMEOUT_S)
        model.close()
    assert reply.status == "timeout"
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S


def test_nobody_listening_is_an_error() -> None:
    """A server that is not there yet, or no more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "nowhere.invalid"):
        model = HttpModel(f"http://{host}/", lane="challenger")
        assert [reply.status for reply in model.call([call("e1", {})], timeout_s=LONG_S)] == ["error"]
        model.close()


def test_a_name_whose_lookup_hangs_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's lookup has no timeout of its own; the lane does not wait for it."""
    found, lookup = threading.Event(), socket.getaddrinfo

    def slow(*arguments: Any, **options: Any) -> Any:
        found.wait(60)
        return lookup(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    model = HttpModel("http://localhost:9/", lane="challenger")
    began = time.monotonic()
    assert [reply.status for reply in model.call([call("e1", {})], timeout_s=TIMEOUT_S)] == ["timeout"]
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    found.set()
    model.close()


# ------------------------------------------------------------------------------------------------------------- versions, latencies
def test_another_version_midway_is_seen_with_the_first_answer_that_says_it(model_of: Any) -> None:
    """A verdict mixes no two models: whoever deploys one in the middle of a rollout is noticed."""
    model, server = model_of(lambda _: [answer({"age": 20}, headers={"X-Model-Version": "7"})])
    found = [model.call([call("e1", {})], timeout_s=LONG_S)[0].version]
    for document in ({"model_version": "8"}, {"model_version": 9}, {"model_version": ["x"]}, {"model_version": "x" * 1000}, [1], {}):
        server.script = lambda _, document=document: [answer(document)]
        found.append(model.call([call("e1", {})], timeout_s=LONG_S)[0].version)
    assert found == ["7", "8", "9", None, None, None, None]


def test_the_answers_of_an_array_may_name_their_version(ask: Ask) -> None:
    """Behind a load balancer that asks two servers."""
    replies = ask(lambda _: [answer([{"model_version": "1"}, {"x": 1}], headers={"x-model-version": "2"})], "a", "b", batch=2)
    assert [reply.version for reply in replies] == ["1", "2"]


def test_latency_is_that_of_the_call(model_of: Any) -> None:
    """Gates read it: it holds the server's time, and not that of the calls before."""
    model, _ = model_of(lambda request: [0.3 if request.json == "slow" else 0.0, answer({})])

    def latency(data: str) -> float:
        found = model.call([call("e1", data)], timeout_s=LONG_S)[0].latency_ms
        assert found is not None
        return found

    assert latency("slow") >= 300
    assert tried(lambda: latency("fast"), lambda found: found < 300) < 300


# -------------------------------------------------------------------------------------------------------------------- connections
def test_connections_are_kept_and_never_more_than_allowed(model_of: Any) -> None:
    """A connection an event would cost more than the model; each thread gets the answers to its own questions."""
    model, server = model_of(lambda request: [0.01, answer(request.json)], connections=4)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: model.call([call(f"e{n}", n)], timeout_s=LONG_S)[0].answer, range(60)))
    assert found == list(range(60))
    assert server.n_connections <= 4


def test_a_thread_never_closes_the_connection_of_another(model_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore asks each idle connection of a pool whether something can be read on it, which means that the server has closed it; that of
    another thread may get its answer in between, and here does."""
    handle, n_asked = httpcore.HTTP11Connection.handle_request, Counter[Any]()

    def handle_later(connection: Any, request: Any) -> Any:
        time.sleep(0.002)
        n_asked[connection] += 1
        return handle(connection, request)

    def has_expired(connection: Any) -> bool:
        is_idle, before = connection.is_idle(), n_asked[connection]
        time.sleep(0.02)
        return is_idle and n_asked[connection] > before  # what could be read was an answer

    monkeypatch.setattr(httpcore.HTTP11Connection, "handle_request", handle_later)
    monkeypatch.setattr(httpcore.HTTP11Connection, "has_expired", has_expired)
    model, server = model_of(lambda request: [answer(request.json)], connections=2)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda n: model.call([call(f"e{n}", n)], timeout_s=LONG_S)[0], range(40)))
    assert [(reply.status, reply.answer) for reply in found] == [("answered", n) for n in range(40)]
    assert len(server.requests) == 40 and server.n_connections <= 2, "nothing was asked again"


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced_without_an_error(model_of: Any) -> None:
    """Servers close idle connections; which of them are dead shows only when one is used. It is the same call, with the same key."""
    model, server = model_of(lambda request: [answer(request.number)] if request.number == 1 else [CLOSE])
    replies = [model.call([call(f"e{n}", n)], timeout_s=LONG_S)[0] for n in range(3)]
    assert [(reply.status, reply.answer) for reply in replies] == [("answered", 1)] * 3
    assert [request.headers["idempotency-key"] for request in server.requests] == ["e0", "e1", "e1", "e2", "e2"]


def test_proxies_of_the_environment_are_not_used(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload goes to the address in the config, and to no other."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert [reply.status for reply in ask(echo, 1)] == ["answered"]


@pytest.mark.parametrize("uri", ["http://user:secret@host/", "https://:secret@host/"])
def test_a_password_in_an_address_is_refused_and_not_repeated(uri: str) -> None:
    """Configs are shown in reports and kept in records."""
    with pytest.raises(UsageError, match=r"^models\.challenger\.uri: .*must not hold a user or password") as caught:
        open_model(Model(lane="challenger", uri=uri), folder=Path())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://", "http:///x", "http://host:0/", "http://host:99999/", "http://host/a b", "http://host/\r\nx: 1"])
def test_an_address_that_is_none_is_refused_at_the_start(uri: str) -> None:
    """Not as a lane that never answers."""
    with pytest.raises(UsageError, match=r"^models\.challenger\.uri: .*expected http://HOST"):
        open_model(Model(lane="challenger", uri=uri), folder=Path())


def test_https_asks_only_whom_the_system_trusts(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that nobody vouches for gets no payload; a private authority is named in SSL_CERT_FILE."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
               "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        missing("NO OPENSSL: no `openssl` on the PATH to make a certificate")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = serve(echo, tls=tls)
    statuses = []
    for trusted in (False, True):
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        model = open_model(Model(lane="challenger", uri=f"https://{server.address}/"), folder=Path())
        statuses.append(model.call([call("e1", {})], timeout_s=LONG_S)[0].status)
        model.close()
    assert statuses == ["error", "answered"]
    assert [json.loads(request.body) for request in server.requests] == [{}]
