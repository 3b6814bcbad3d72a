"""The in-memory double of the keeper of tokens, as those in `doubles`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.ports.tokens import Token


class MemoryTokens:
    """`ports.tokens.Tokens` in a dictionary."""

    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}

    def add(self, token: Token) -> None:
        """Keeps a token."""
        self._tokens[token.id] = token

    def get(self, id: str) -> Token | None:
        """The token of this id."""
        return self._tokens.get(id)

    def all(self) -> Sequence[Token]:
        """Every token, oldest first."""
        return sorted(self._tokens.values(), key=lambda token: (token.created, token.id))

    def remove(self, id: str) -> bool:
        """Forgets a token."""
        return self._tokens.pop(id, None) is not None
