"""The tokens of a store: one hash, `shadow:tokens` (id -> JSON with salt and digest), which expires with the last of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import RecordError
from harness.ports.clock import Clock, SystemClock
from harness.ports.tokens import Scope, Token

_TOKENS = "shadow:tokens"


class _Token(Struct, frozen=True, tag="1", tag_field="layout"):
    id: str
    name: str
    roles: tuple[str, ...]
    scope: Scope
    created: int
    expires: int
    salt: bytes
    digest: bytes


class RedisTokens:
    """`ports.tokens.Tokens` in Redis."""

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._where, self._clock = address_of(url), clock or SystemClock()
        self._client: Any = connect(url)
        self._keep = self._client.register_script(script("token.lua"))

    def add(self, token: Token) -> None:
        """Keeps a token in one script."""
        wire = _Token(token.id, token.name, token.roles, token.scope, token.created, token.expires, token.salt, token.digest)
        with translated(self._where):
            self._keep([_TOKENS], [token.id, msgspec.json.encode(wire), max(1, (token.expires - self._clock.now()) // 1_000 + 1)])

    def get(self, id: str) -> Token | None:
        """The token of this id."""
        with translated(self._where):
            found = self._client.hget(_TOKENS, id)
        return None if found is None else self._read(found)

    def all(self) -> Sequence[Token]:
        """Every token, oldest first."""
        with translated(self._where):
            found = self._client.hvals(_TOKENS)
        return sorted(map(self._read, found), key=lambda token: (token.created, token.id))

    def remove(self, id: str) -> bool:
        """Forgets a token."""
        with translated(self._where):
            return bool(self._client.hdel(_TOKENS, id))

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()

    def _read(self, value: bytes) -> Token:
        try:
            wire = msgspec.json.decode(value, type=_Token)
        except ValueError:  # also what msgspec raises
            raise RecordError(f"{self._where}: a value in {_TOKENS} is no token of a release up to this one") from None
        return Token(
            id=wire.id, name=wire.name, roles=wire.roles, scope=wire.scope, created=wire.created, expires=wire.expires,
            salt=wire.salt, digest=wire.digest,
        )  # fmt: skip
