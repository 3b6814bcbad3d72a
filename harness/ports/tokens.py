"""The tokens of a store: by which people and services say who they are. What is kept does not let anybody in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Scope = Literal["read", "approve", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)  # each may do what the ones before it may


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token.

    id: 12 hex digits, its public part. name, roles: who acts with it. created, expires: wall time, microseconds. salt, digest: of its
    secret part.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    scope: Scope
    created: int
    expires: int
    salt: bytes
    digest: bytes

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs `scope`."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


class Tokens(Protocol):
    """Ids to tokens."""

    def add(self, token: Token) -> None:
        """Keeps a token, durable on return; the same id once more replaces it."""

    def get(self, id: str) -> Token | None:
        """The token of this id; None when there is none or it was removed. Expired ones are found, too."""

    def all(self) -> Sequence[Token]:
        """Every token, oldest first."""

    def remove(self, id: str) -> bool:
        """Forgets a token at once, and says whether it was there."""
