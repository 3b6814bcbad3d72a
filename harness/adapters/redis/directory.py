"""The rollouts of a store: one hash, `shadow:rollouts` (name -> JSON), which never expires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.adapters.redis.connection import address_of, connect, translated

_ROLLOUTS = "shadow:rollouts"


class RedisDirectory:
    """`ports.directory.Directory` in Redis."""

    def __init__(self, url: str) -> None:
        self._where = address_of(url)
        self._client: Any = connect(url)

    def register(self, name: str, entry: bytes) -> bytes:
        """Writes the entry if the name is new; returns the entry that stands there now."""
        with translated(self._where), self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(_ROLLOUTS, name, entry)
            pipe.hget(_ROLLOUTS, name)
            found: bytes = pipe.execute()[1]
        return found

    def replace(self, name: str, entry: bytes) -> None:
        """Writes the entry."""
        with translated(self._where):
            self._client.hset(_ROLLOUTS, name, entry)

    def all(self) -> Mapping[str, bytes]:
        """Every rollout with its entry, by name."""
        with translated(self._where):
            return {name.decode(): entry for name, entry in sorted(self._client.hgetall(_ROLLOUTS).items())}

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
