"""How far each source was read, in Redis: one value a source, `shadow:{rollout}:src:<source>`, replaced by compare-and-set."""

from __future__ import annotations

from math import ceil
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved
from harness.ports.intake import Taken


class RedisIntake:
    """`ports.intake.Intake` in Redis. A source that is not read for `keep_s` is forgotten."""

    def __init__(self, url: str, rollout: str, *, keep_s: float) -> None:
        self._where, self._codec = address_of(url), MsgpackCodec()
        self._client: Any = connect(url)
        self._prefix, self._keep_ms = f"shadow:{{{rollout}}}:src:", ceil(keep_s * 1_000)
        self._swap = self._client.register_script(script("swap.lua"))
        self._stored: dict[str, tuple[Taken, bytes]] = {}  # as last loaded or saved, with its bytes, whatever release wrote them

    def load(self, source: str) -> Taken:
        """The state of a source; `Taken()` before the first save."""
        with translated(self._where):
            value = self._client.get(self._prefix + source)
        taken = self._codec.decode_taken(value) if value else Taken()
        self._stored[source] = (taken, value or b"")
        return taken

    def save(self, source: str, taken: Taken, *, after: Taken) -> None:
        """Replaces the state in one script."""
        known, stored = self._stored.get(source, (Taken(), b""))
        expected = stored if after == known else b"" if after == Taken() else self._codec.encode_taken(after)
        value = self._codec.encode_taken(taken)
        with translated(self._where):
            done = self._swap([self._prefix + source], [expected, value, self._keep_ms])
        if not done:
            raise HeadMoved(f"{self._where} {source}: the stored state is not that of position {after.position}; another router wrote")
        self._stored[source] = (taken, value)

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
