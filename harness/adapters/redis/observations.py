"""What was observed of a canary in Redis: a state, a list of packed rows and the keys seen for each source, changed by one script."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved, StoreUnavailable
from harness.core.observations import Observation
from harness.core.routing import KEY_BYTES
from harness.ports.observations import ROW, Observed

DEDUP_S = 7 * 86_400.0
_ROW = struct.Struct("<Qqdd")


class RedisObservationLog:
    """`ports.observations.ObservationLog` in Redis. A source that is silent for `keep_s` is forgotten; a key is known for a week."""

    def __init__(self, url: str, rollout: str, *, keep_s: float) -> None:
        self._where, self._codec = address_of(url), MsgpackCodec()
        self._client: Any = connect(url)
        self._prefix, self._keep_ms = f"shadow:{{{rollout}}}:obs:", ceil(keep_s * 1_000)
        self._append, self._replace = map(self._client.register_script, map(script, ("observe.lua", "unobserve.lua")))

    def load(self, source: str) -> Observed:
        """The state of a source; `Observed()` before the first append."""
        with translated(self._where):
            value = self._client.get(self._prefix + source)
        return self._codec.decode_observed(value) if value else Observed()

    def append(self, source: str, observations: Sequence[Observation], observed: Observed, *, after: Observed) -> None:
        """Adds the new rows and replaces the state in one script."""
        expected = b"" if after == Observed() else self._codec.encode_observed(after)
        rows = b"".join(_ROW.pack(*row[1:]) for row in observations)
        keys = b"".join(row.key for row in observations)
        args: list[int | bytes] = [
            expected, self._codec.encode_observed(observed), self._keep_ms, ceil(DEDUP_S * 1_000), KEY_BYTES, keys, _ROW.size, rows,
            source.encode(),
        ]  # fmt: skip
        state = self._prefix + source
        with translated(self._where):
            done = self._append([state, f"{state}:rows", f"{state}:key:", f"{self._prefix}sources"], args)
        if not done:
            raise HeadMoved(f"{self._where} {source}: the stored state is not that of position {after.position}; another observer wrote")

    def rows(self, source: str, start: int) -> tuple[NDArray[Any], int]:
        """Rows from chunk `start` on, and the number of the chunk after them."""
        with translated(self._where):
            chunks = self._client.lrange(f"{self._prefix}{source}:rows", start, -1)
        return np.frombuffer(b"".join(chunks), ROW), start + len(chunks)

    def sources(self) -> Sequence[str]:
        """The sources that have rows, as the store lists them: no bus is asked. A store of before that list is searched for its keys."""
        with translated(self._where):
            found = self._client.smembers(f"{self._prefix}sources")
            keys = [] if found else self._client.scan_iter(match=f"{self._prefix}*:rows", count=1_000)
            return sorted({name.decode().removeprefix(self._prefix).removesuffix(":rows") for name in (*found, *keys)})

    def forget(self, unit: int) -> int:
        """Takes the rows of a unit out of every chunk that has one."""
        n = 0
        with translated(self._where):
            for name in [f"{self._prefix}{source}:rows" for source in self.sources()]:
                for place, chunk in enumerate(self._client.lrange(name, 0, -1)):
                    rows = np.frombuffer(chunk, ROW)
                    kept = rows[rows["unit"] != unit]
                    if len(kept) == len(rows):
                        continue
                    if not self._replace([name], [place, chunk, kept.tobytes()]):
                        raise StoreUnavailable(f"{self._where}: rows were changed by somebody else at this moment; try again")
                    n += len(rows) - len(kept)
        return n

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
