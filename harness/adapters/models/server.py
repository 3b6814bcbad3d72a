"""One model server over HTTP/1.1: a POST that is over at its deadline, whatever the server does, and what became of it.

Built on httpcore, the transport under httpx: httpx bounds each read by itself, so a server that sends a byte now and then is waited
for without end. Here a `timeout` handed to httpcore is the moment at which the call is over, and every wait is cut there: the name's
lookup, connecting, TLS, sending, each read. Redirects are not followed, cookies not kept, proxies of the environment not used.
"""

from __future__ import annotations

import json
import queue
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpcore

from harness.adapters.models.breaker import Breaker
from harness.core.errors import UsageError
from harness.ports.model import Reply

LARGEST_ANSWER = 1 << 20  # bytes an event
LARGEST_BODY = 1 << 24  # bytes a call
KEEPALIVE_S = 4.0  # an idle connection is not used again after this: common servers close theirs after 5 s
LONGEST_VERSION = 128  # characters
_PIECE = 1 << 16
_PLAIN = "".join(map(chr, range(0x21, 0x7F))).replace('"', "").replace("%", "")
_BUSY = (408, 429)  # answers of a server that has no time; other 4xx speak of the request

Headers = Sequence[tuple[bytes, bytes]]


class _Deadline(float):
    """The moment (time.monotonic) at which a call is over. It goes through httpcore as a `timeout`, and notes what happened on the way."""

    connected = False  # on a connection of its own
    received = False  # something came back

    def left(self, gone: type[httpcore.TimeoutException]) -> float:
        """Seconds left; raises `gone` when there are none."""
        left_s = self - time.monotonic()
        if left_s <= 0:
            raise gone
        return left_s


def _deadline(timeout: float | None) -> _Deadline:
    assert isinstance(timeout, _Deadline)
    return timeout


class _Stream(httpcore.NetworkStream):
    """A connection whose timeouts are deadlines."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        deadline = _deadline(timeout)
        content = self._inner.read(max_bytes, deadline.left(httpcore.ReadTimeout))
        deadline.received |= bool(content)
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        deadline = _deadline(timeout)
        for start in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[start : start + _PIECE], deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _deadline(timeout).left(httpcore.ConnectTimeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Connects within a deadline; names are looked up in a thread, because the system's lookup has no timeout."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix="names")

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> _Stream:  # fmt: skip
        deadline = _deadline(timeout)
        deadline.connected = True
        addresses = self._addresses(host, port, deadline)
        for n_left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            share_s = deadline.left(httpcore.ConnectTimeout) / n_left
            try:
                return _Stream(self._inner.connect_tcp(address, port, share_s, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if n_left == 1:
                    raise
        raise httpcore.ConnectError("no address")

    def _addresses(self, host: str, port: int, deadline: _Deadline) -> list[str]:
        lookup = self._lookups.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            return list(dict.fromkeys(str(found[4][0]) for found in lookup.result(deadline.left(httpcore.ConnectTimeout))))
        except TimeoutError:
            lookup.cancel()
            raise httpcore.ConnectTimeout from None
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(type(error).__name__) from error

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """What became of a POST. status: answered, timeout, error, bad_output. `document` is the JSON of an answer; `version` its header's."""

    status: str
    document: Any = None
    version: str | None = None
    latency_ms: float | None = None
    failure: str | None = None  # what the breaker counts, in a word

    def reply(self, answer: Any = None, *, status: str | None = None, version: str | None = None) -> Reply:
        """The reply to one of its events; that of the whole call unless `answer` or `status` say otherwise."""
        return Reply(status=status or self.status, answer=answer, latency_ms=self.latency_ms, version=version or self.version)


class _TooLarge(Exception):
    """An answer that is longer than answers may be."""


class Server:
    """One address that is posted to, by as many threads as there are `connections`."""

    def __init__(self, url: str, *, lane: str, connections: int = 1, breaker: Breaker | None = None) -> None:
        """Opens no connection. Raises UsageError for an address that cannot be used; one with a password is not repeated."""
        try:
            parts = urlsplit(url)
            good = bool(parts.hostname) and parts.port != 0 and url.isascii() and url.isprintable() and " " not in url
        except ValueError:
            good = False
        if not good or parts.scheme not in ("http", "https"):
            raise UsageError(f"{url.rpartition('@')[2]!r}: expected http://HOST[:PORT]/PATH")
        if parts.username is not None or parts.password is not None:
            raise UsageError(f"{parts.hostname}: an address in a config must not hold a user or password")
        self._url = url.partition("#")[0]
        self._network = _Network()
        self._breaker = breaker or Breaker(lane)
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        # One each, never shared: httpcore looks through all connections of a pool, and takes one on which another thread's answer has just
        # arrived for one that the server has closed, and closes it.
        self._pools = [
            httpcore.ConnectionPool(
                ssl_context=tls, max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE_S, network_backend=self._network
            )
            for _ in range(connections)
        ]
        self._idle: queue.LifoQueue[httpcore.ConnectionPool] = queue.LifoQueue()
        for pool in self._pools:
            self._idle.put(pool)
        self._headers = [(b"Host", parts.netloc.encode()), (b"Content-Type", b"application/json"), (b"Accept", b"application/json"),
                         (b"Accept-Encoding", b"identity"), (b"User-Agent", b"shadow-harness")]  # fmt: skip

    def post(self, body: bytes, headers: Headers, *, deadline: float, events: int = 1) -> Posted:
        """Posts JSON and reads JSON, until `deadline` (time.monotonic). Never raises for what a server does. `events` bounds the answer.

        A connection that was kept open and turns out to be closed before anything came back is no answer: the call is made again on
        another one. The idempotency key in the headers tells the server that it is the same call.
        """
        if time.monotonic() >= deadline:
            return Posted(status="timeout")
        ticket = self._breaker.admit()
        if ticket is None:
            return Posted(status="error")
        posted = Posted(status="error", failure="stopped")
        try:
            posted = self._posted(body, [*self._headers, (b"Content-Length", str(len(body)).encode()), *headers], deadline, events)
        finally:
            self._breaker.report(ticket, posted.failure)
        return posted

    def _posted(self, body: bytes, headers: Headers, deadline: float, events: int) -> Posted:
        started = time.monotonic()

        def posted(status: str, failure: str | None = None, document: Any = None, version: str | None = None) -> Posted:
            return Posted(status=status, document=document, version=version, latency_ms=latency_ms, failure=failure)

        try:
            code, found, content = self._exchanged(body, headers, deadline, min(LARGEST_ANSWER * events, LARGEST_BODY))
        except httpcore.TimeoutException:
            latency_ms = (time.monotonic() - started) * 1000
            return posted("timeout", "timeout")
        except _TooLarge:
            latency_ms = (time.monotonic() - started) * 1000
            return posted("bad_output")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            latency_ms = (time.monotonic() - started) * 1000
            return posted("error", type(error).__name__)
        latency_ms = (time.monotonic() - started) * 1000
        if not 200 <= code < 300:
            return posted("error", f"HTTP {code}" if code >= 500 or code in _BUSY else None)
        try:
            document = json.loads(content)
        except (ValueError, RecursionError):  # of text that is no UTF-8 too
            return posted("bad_output")
        return posted("answered", None, document, _header_version(found))

    def _exchanged(self, body: bytes, headers: Headers, deadline: float, largest: int) -> tuple[int, Headers, bytes]:
        while True:
            until = _Deadline(deadline)
            try:
                return self._exchange(body, headers, until, largest)
            except (httpcore.NetworkError, httpcore.RemoteProtocolError):
                if until.connected or until.received:
                    raise

    def _exchange(self, body: bytes, headers: Headers, until: _Deadline, largest: int) -> tuple[int, Headers, bytes]:
        waits = {"connect": until, "write": until, "read": until, "pool": until.left(httpcore.PoolTimeout)}
        with (
            self._connection(until) as pool,
            pool.stream("POST", self._url, headers=headers, content=body, extensions={"timeout": waits}) as response,
        ):
            content = bytearray()
            for piece in response.iter_stream():
                content += piece
                if len(content) > largest:
                    raise _TooLarge
            return response.status, response.headers, bytes(content)

    @contextmanager
    def _connection(self, until: _Deadline) -> Iterator[httpcore.ConnectionPool]:
        """One that no other thread uses meanwhile, the last one used first."""
        try:
            pool = self._idle.get(timeout=until.left(httpcore.PoolTimeout))
        except queue.Empty:
            raise httpcore.PoolTimeout from None
        try:
            yield pool
        finally:
            self._idle.put(pool)

    def close(self) -> None:
        """Closes the connections."""
        for pool in self._pools:
            pool.close()
        self._network.close()


def _header_version(headers: Headers) -> str | None:
    return next((version(value.decode("latin-1")) for name, value in headers if name.lower() == b"x-model-version"), None)


def version(value: object) -> str | None:
    """A model's version as a server says it; None if it is no short text or whole number."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else value
    return text if isinstance(text, str) and 0 < len(text) <= LONGEST_VERSION and text.isprintable() else None


def encoded(document: object) -> bytes | None:
    """Strict JSON; None for what it cannot say: numbers beyond a float, nesting without end."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):
        return None


def header_text(text: str) -> bytes:
    """A text as a header's value: all but printable ASCII, spaces, quotes and % are percent-encoded UTF-8.

    Source: CloudEvents 1.0.2, HTTP protocol binding, section 3.1.3.2.
    """
    return quote(text, safe=_PLAIN, errors="surrogatepass").encode()
