"""`--listen HOST:PORT`: where the API listens. Opens sockets, knows nothing of HTTP."""

from __future__ import annotations

import errno
import socket
import time

from harness.core.errors import UsageError

DEFAULT = "127.0.0.1:8686"
PATIENCE_S = 2.0


class Taken(UsageError):
    """Somebody else listens there."""


def parse(listen: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [HOST]:PORT; port 0 lets the system choose. Raises UsageError."""
    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise UsageError(f"--listen {listen}: expected HOST:PORT, as in {DEFAULT}")
    return host, int(port)


def text(host: str, port: int) -> str:
    """HOST:PORT as `parse` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A socket bound there, which listens once a server takes it. Raises Taken; UsageError for a host that is not this machine's."""
    where = text(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"--listen {where}: {error.strerror}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended does not hold the port
        bound.bind(address)
        bound.listen(2_048)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise Taken(f"--listen {where}: another program listens there; name another port, or do without: --listen ''") from None
        raise UsageError(f"--listen {where}: {error.strerror}") from None
    return bound


def free(listen: str, *, patience_s: float = PATIENCE_S) -> str:
    """The same address, its port chosen if it was 0, after seeing that nobody listens there: an API of ours that is just leaving gets
    `patience_s` to do so. Raises Taken; UsageError."""
    host, port = parse(listen)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with bind(host, port) as bound:
                return text(host, bound.getsockname()[1])
        except Taken:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
