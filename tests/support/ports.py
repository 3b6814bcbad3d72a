"""Ports for servers that a test starts by number, stops, and starts again at the same one.

A port that the system gives for 0 may be given to any connection as soon as it is let go, and while a server restarts its clients open
connections all the time. So these stand below the range from which the system takes ports by itself, and none is handed out twice.
"""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress
from pathlib import Path

FIRST, LEAST = 10_000, 5_000  # the first port; fewer would not do
_rng = random.Random(os.urandom(8))  # two runs on one machine must not ask for the same ones in the same order
_given: set[int] = set()


def _end() -> int:
    """The first port that the system may take by itself."""
    with suppress(OSError, ValueError):
        return max(FIRST + LEAST, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    return 32_768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(n: int) -> list[int]:
    """Ports of 127.0.0.1 on which nobody listens."""
    found: list[int] = []
    while len(found) < n:
        port = _rng.randrange(FIRST, _end())
        if port not in _given and _is_free(port):
            _given.add(port)
            found.append(port)
    return found


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
