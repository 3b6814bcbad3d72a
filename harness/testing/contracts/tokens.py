"""What every keeper of tokens keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.ports.tokens import Token, Tokens

DAY = 86_400_000_000
NOW = 4_000_000_000_000_000  # in 2096: what a store keeps until a token expires is there during the test


class TokensContract:
    """Override `tokens`: an empty one."""

    @pytest.fixture
    def tokens(self) -> Tokens:
        """An empty keeper of tokens."""
        raise NotImplementedError

    @pytest.fixture
    def token(self) -> Token:
        """One with every byte a salt can have."""
        return Token(
            id="0123456789ab", name="Zoë@example.org", roles=("policy", "legal"), scope="approve", created=NOW, expires=NOW + DAY,
            salt=bytes(range(16)), digest=bytes(range(224, 256)),
        )  # fmt: skip

    def test_a_token_is_found_by_its_id_as_it_was_kept(self, tokens: Tokens, token: Token) -> None:
        """Name, roles, scope, times, salt and digest, byte for byte; nothing for another id."""
        assert (tokens.get(token.id), list(tokens.all())) == (None, [])
        bare = replace(token, id="f" * 12, roles=(), scope="read", created=NOW - DAY)
        tokens.add(token)
        tokens.add(bare)
        assert (tokens.get(token.id), tokens.get(bare.id), tokens.get("0" * 12)) == (token, bare, None)
        assert list(tokens.all()) == [bare, token]

    def test_a_removed_token_is_gone_at_once_and_no_other(self, tokens: Tokens, token: Token) -> None:
        """Revoking must not wait for anything; and it says whether there was something to revoke."""
        other = replace(token, id="a" * 12)
        tokens.add(token)
        tokens.add(other)
        assert (tokens.remove(token.id), tokens.remove(token.id)) == (True, False)
        assert (tokens.get(token.id), list(tokens.all())) == (None, [other])

    def test_a_short_lived_token_does_not_shorten_the_life_of_others(self, tokens: Tokens, token: Token) -> None:
        """What is kept goes when the last one has expired, not when the newest has."""
        tokens.add(token)
        tokens.add(replace(token, id="a" * 12, expires=1))
        assert tokens.get(token.id) == token
