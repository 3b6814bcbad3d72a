"""Plain ids in Redis: a hash for each chunk of rows, with the life of the rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from harness.adapters.redis.chunks import CHUNK_ROWS
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.ports.plainids import PlainId

_UNIT_BYTES = 8
_READ_CHUNKS = 64  # in one round trip
_KEPT_AT_ONCE = 1_024  # ids in one script


class RedisPlainIds:
    """`ports.plainids.PlainIds` in Redis 6.2 or later; `keep_s` is that of the pairs."""

    def __init__(self, url: str, rollout: str, shard: int, *, keep_s: float) -> None:
        self._where, self._keep_ms = address_of(url), ceil(keep_s * 1_000)
        self._client: Any = connect(url)
        self._prefix = f"shadow:{{{rollout}:{shard}}}:plain:"
        self._keep = self._client.register_script(script("keepids.lua"))

    def keep(self, ids: Sequence[PlainId]) -> None:
        """Each in the hash of its chunk."""
        for at in range(0, len(ids), _KEPT_AT_ONCE):
            flat = [
                x for one in ids[at : at + _KEPT_AT_ONCE]
                for x in (one.ordinal // CHUNK_ROWS, one.key, one.unit.to_bytes(_UNIT_BYTES, "big") + one.id.encode())
            ]  # fmt: skip
            with translated(self._where):
                self._keep([self._prefix], [self._keep_ms, *flat])

    def between(self, start: int, stop: int) -> Mapping[bytes, str]:
        """Those of the chunks that hold these ordinals."""
        return {key: value[_UNIT_BYTES:].decode() for _, found in self._chunks(start, stop) for key, value in found.items()}

    def forget(self, unit: int, *, before: int) -> int:
        """Chunk by chunk; an id that is written meanwhile is of an event that was in flight."""
        hashed, n = unit.to_bytes(_UNIT_BYTES, "big"), 0
        for chunk, found in self._chunks(0, before):
            if theirs := [key for key, value in found.items() if value.startswith(hashed)]:
                with translated(self._where):
                    n += self._client.hdel(f"{self._prefix}{chunk}", *theirs)
        return n

    def _chunks(self, start: int, stop: int) -> Iterator[tuple[int, dict[bytes, bytes]]]:
        """(chunk, what is in it) of the chunks of these ordinals."""
        numbers = range(start // CHUNK_ROWS, -(-stop // CHUNK_ROWS))
        for at in range(0, len(numbers), _READ_CHUNKS):
            part = numbers[at : at + _READ_CHUNKS]
            with translated(self._where):
                pipe = self._client.pipeline(transaction=False)
                for chunk in part:
                    pipe.hgetall(f"{self._prefix}{chunk}")
                found = pipe.execute()
            yield from zip(part, found, strict=True)
