"""Which of several challengers may serve, in Redis: one value, `shadow:{rollout}:seat`, replaced by compare-and-set."""

from __future__ import annotations

from math import ceil
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved
from harness.ports.seats import Seat


class RedisSeats:
    """`ports.seats.Seats` in Redis. The seat expires `keep_s` after it last changed, as the chains of its challengers do."""

    def __init__(self, url: str, family: str, *, keep_s: float) -> None:
        self._where, self._family, self._codec = address_of(url), family, MsgpackCodec()
        self._client: Any = connect(url)
        self._key, self._keep_ms = f"shadow:{{{family}}}:seat", ceil(keep_s * 1_000)
        self._swap = self._client.register_script(script("swap.lua"))

    def load(self) -> Seat:
        """The seat as it is."""
        with translated(self._where):
            value = self._client.get(self._key)
        return self._codec.decode_seat(value) if value else Seat()

    def save(self, seat: Seat, *, after: Seat) -> None:
        """Replaces it in one script."""
        expected = b"" if after == Seat() else self._codec.encode_seat(after)
        with translated(self._where):
            done = self._swap([self._key], [expected, self._codec.encode_seat(seat), self._keep_ms])
        if not done:
            raise HeadMoved(f"{self._where} {self._family}: the seat is not that of version {after.version}; another controller was faster")

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()
