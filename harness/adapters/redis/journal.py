"""The chain of records of one rollout in Redis: one list, `shadow:{rollout}:journal`, extended by compare-and-set."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from math import ceil
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved
from harness.ports.journal import Link


class RedisJournal:
    """`ports.journal.Journal` in Redis. The chain expires `keep_s` after its last record."""

    def __init__(self, url: str, rollout: str, *, keep_s: float) -> None:
        self._where, self._codec = address_of(url), MsgpackCodec()
        self._client: Any = connect(url)
        self._rollout, self._key, self._keep_ms = rollout, f"shadow:{{{rollout}}}:journal", ceil(keep_s * 1_000)
        self._extend = self._client.register_script(script("extend.lua"))

    def append(self, body: bytes, *, after: str) -> Link:
        """Adds a record in one script."""
        link = Link(hash=sha256(after.encode() + body).hexdigest(), previous=after, body=body)
        with translated(self._where):
            done = self._extend([self._key], [after, self._codec.encode_link(link), self._keep_ms])
        if not done:
            raise HeadMoved(f"{self._where} {self._rollout}: the chain no longer ends with {after[:12]}; somebody else added a record")
        return link

    def read(self, start: int = 0) -> Sequence[Link]:
        """The chain from record `start` on, oldest first."""
        with translated(self._where):
            return [self._codec.decode_link(value) for value in self._client.lrange(self._key, start, -1)]

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
