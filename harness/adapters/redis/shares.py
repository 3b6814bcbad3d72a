"""Shares of work in Redis: one script decides, by the server's clock alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from harness.adapters.redis.connection import address_of, connect, script, translated


class RedisShares:
    """`ports.shares.Shares` in Redis."""

    def __init__(self, url: str, rollout: str) -> None:
        self._where, self._rollout = address_of(url), rollout
        self._client: Any = connect(url)
        self._share = self._client.register_script(script("share.lua"))

    def _keys(self, role: str) -> list[str]:
        return [f"shadow:{{{self._rollout}}}:share:{role}", f"shadow:{{{self._rollout}}}:workers:{role}"]

    def take(self, role: str, worker: str, parts: Sequence[str], *, ttl_s: float) -> tuple[str, ...]:
        """Renews, takes and gives back; returns what the worker holds, in the order of `parts`."""
        with translated(self._where):
            held = {part.decode() for part in self._share(keys=self._keys(role), args=[worker, ceil(ttl_s * 1_000), *parts])}
        return tuple(part for part in parts if part in held)

    def leave(self, role: str, worker: str) -> None:
        """Gives everything back at once."""
        with translated(self._where):
            parts = [part.decode() for part, owner in self._client.hgetall(self._keys(role)[0]).items() if owner.decode() == worker]
            self._share(keys=self._keys(role), args=[worker, 0, *parts])

    def workers(self, role: str) -> Mapping[str, Sequence[str]]:
        """Living workers of a role, each with the parts it holds."""
        parts, workers = self._keys(role)
        with translated(self._where):
            living: dict[str, list[str]] = {name.decode(): [] for name in self._client.zrange(workers, 0, -1)}
            for part, owner in sorted(self._client.hgetall(parts).items()):
                living.setdefault(owner.decode(), []).append(part.decode())
        return living

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
