"""What the roles of a rollout said last, in Redis: one hash, `shadow:{rollout}:presence`, timed by the server's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.ports.presence import Seen, State

KEEP_S = 86_400
_TIMEOUT_S = 1.0


class RedisPresence:
    """`ports.presence.Presence` in Redis. A store that hangs costs a role a second, not the fifteen of other adapters."""

    def __init__(self, url: str, rollout: str) -> None:
        self._where = address_of(url)
        self._client: Any = connect(url, timeout_s=_TIMEOUT_S)
        self._key = f"shadow:{{{rollout}}}:presence"
        self._note = self._client.register_script(script("note.lua"))

    def note(self, role: str, state: State, why: str = "") -> None:
        """Replaces the role's last word."""
        with translated(self._where):
            self._note([self._key], [role, state, why, KEEP_S * 1_000])

    def all(self) -> Mapping[str, Seen]:
        """The last word of every role that spoke within the last day."""
        with translated(self._where), self._client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(self._key)
            (seconds, rest), found = pipe.execute()
        now = seconds * 1_000_000 + rest
        seen = {role.decode(): _seen(value.decode(), now) for role, value in sorted(found.items())}
        return {role: last for role, last in seen.items() if last.age_s < KEEP_S}

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()


def _seen(value: str, now: int) -> Seen:
    time, state, why = value.split(" ", 2)
    return Seen(state=cast(State, state), why=why, age_s=max(0, now - int(time)) / 1e6)
