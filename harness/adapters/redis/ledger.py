"""The analyst's state in Redis, two hashes: `shadow:{rollout}:ledger` (version, folded), `shadow:{rollout}:verdict` (version, verdict,
looked).
"""

from __future__ import annotations

from math import ceil
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved
from harness.ports.ledger import Folded, Published


class RedisLedger:
    """`ports.ledger.Ledger` in Redis. Both hashes expire `keep_s` after they were last written."""

    def __init__(self, url: str, rollout: str, *, keep_s: float) -> None:
        self._where, self._codec = address_of(url), MsgpackCodec()
        self._client: Any = connect(url)
        self._rollout, self._keep_ms = rollout, ceil(keep_s * 1_000)
        self._ledger, self._verdict = f"shadow:{{{rollout}}}:ledger", f"shadow:{{{rollout}}}:verdict"
        self._save, self._publish = map(self._client.register_script, map(script, ("save.lua", "publish.lua")))

    def load(self) -> Folded:
        """The statistics last saved; `Folded()` before the first."""
        with translated(self._where):
            value = self._client.hget(self._ledger, "folded")
        return self._codec.decode_folded(value) if value else Folded()

    def save(self, folded: Folded, *, after: Folded) -> None:
        """Replaces them in one script."""
        args: list[int | bytes] = [after.version, folded.version, self._codec.encode_folded(folded), self._keep_ms]
        with translated(self._where):
            done = self._save([self._ledger], args)
        if not done:
            raise HeadMoved(f"{self._where} {self._rollout}: the stored statistics are not version {after.version}; another analyst wrote")

    def publish(self, published: Published, *, after: Published | None) -> None:
        """Replaces the verdict in one script."""
        args: list[int | bytes] = [after.version if after else 0, published.version, published.verdict, published.looked, self._keep_ms]
        with translated(self._where):
            done = self._publish([self._verdict], args)
        if not done:
            raise HeadMoved(f"{self._where} {self._rollout}: another analyst has published a verdict since; this one's is old")

    def published(self) -> Published | None:
        """The verdict last written; None before the first."""
        with translated(self._where):
            verdict, looked, version = self._client.hmget(self._verdict, ["verdict", "looked", "version"])
        return None if verdict is None or looked is None else Published(verdict=verdict, looked=int(looked), version=int(version or 0))

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
