"""A TCP proxy on loopback that a test can tell to misbehave: to lose connections, to delay what passes, to deliver half of it.

It stands between the roles and their server, as a network would. What passes is cut into the pieces that one `recv` gave, and each
piece has its own fate, drawn from a seeded generator: so a request is lost before it arrived, or a reply after its effect.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

PIECE_BYTES = 1 << 16
DELAY_S = 0.15  # the longest delay of a piece
FATES = ("drop", "delay", "halve")


@dataclass(slots=True, eq=False)
class _Link:
    """One connection through the proxy."""

    ours: socket.socket
    theirs: socket.socket
    held: bool = False

    def close(self) -> None:
        for end in (self.ours, self.theirs):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything to `upstream`, a port of the same machine, until told otherwise."""

    def __init__(self, upstream: int, *, seed: int = 0) -> None:
        self._upstream, self._rng, self._lock = upstream, random.Random(seed), threading.Lock()
        self._fate, self._chance = "pass", 0.0
        self._links: set[_Link] = set()
        self.harmed = 0  # pieces that were lost, delayed or cut
        self._wanted: Callable[[bytes], bool] | None = None
        self.held, self._released, self.answered = threading.Event(), threading.Event(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def misbehave(self, fate: str, *, chance: float = 0.2) -> None:
        """From now on each piece is lost with its connection, delayed, or cut in half with its connection, with this chance."""
        if fate not in FATES:
            raise ValueError(f"fate {fate!r}: expected one of {', '.join(FATES)}")
        self._fate, self._chance = fate, chance

    def behave(self) -> None:
        """From now on everything passes."""
        self._fate, self._chance = "pass", 0.0

    def hold(self, wanted: Callable[[bytes], bool]) -> None:
        """Keeps back the next piece to the server of which this is true, and what follows it on its connection: `held` says when there
        is one. Once only."""
        self._wanted = wanted

    def release(self) -> None:
        """Lets pass what is held; `answered` says when the server's answer to it has gone back."""
        self._released.set()

    def close(self) -> None:
        """Cuts every connection, and takes no more."""
        self.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        for link in list(self._links):
            link.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            try:
                theirs = socket.create_connection(("127.0.0.1", self._upstream))
            except OSError:
                ours.close()
                continue
            for each in (ours, theirs):  # before a thread of ours may close them
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(ours, theirs)
            self._links.add(link)
            for source, sink in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=(link, source, sink), daemon=True).start()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        send, up = sink.sendall, source is link.ours
        try:
            while piece := source.recv(PIECE_BYTES):
                if up and self._holds(piece):
                    link.held = True
                    self.held.set()
                    self._released.wait()
                fate, delay_s = self._drawn()
                if fate == "delay":
                    time.sleep(delay_s)
                elif fate == "drop":
                    break
                elif fate == "halve":
                    send(piece[: len(piece) // 2])
                    break
                send(piece)
                if link.held and not up:
                    self.answered.set()
        except OSError:
            pass  # one of the ends has gone
        finally:
            link.close()
            self._links.discard(link)

    def _holds(self, piece: bytes) -> bool:
        """Whether this is the piece that is wanted."""
        with self._lock:
            found = self._wanted is not None and self._wanted(piece)
            if found:
                self._wanted = None
            return found

    def _drawn(self) -> tuple[str, float]:
        """What becomes of the next piece."""
        with self._lock:
            if self._rng.random() >= self._chance:
                return "pass", 0.0
            self.harmed += 1
            return self._fate, self._rng.uniform(0.0, DELAY_S)
