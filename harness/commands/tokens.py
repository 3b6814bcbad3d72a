"""Tokens: who says what on whose behalf. A token is shown once; only a salted hash of it is kept.

    shadow_<id, 12 hex digits>_<secret, 43 characters, 256 bits>

The id finds what is kept, the secret proves it. A secret of 256 random bits needs no slow hash.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest

from harness.core.errors import UsageError
from harness.core.reading import timestamp
from harness.core.stages import person
from harness.ports.clock import Clock
from harness.ports.tokens import SCOPES, Scope, Token, Tokens

LASTS_S = 90 * 86_400.0
LONGEST_S = 366 * 86_400.0
_TEXT = re.compile(r"shadow_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[\w.@+-]{1,64}")


class Unknown(UsageError):
    """No token, or one that lets nobody in. Never carries it."""


class NotAllowed(UsageError):
    """A token that is good, but not for this."""


def create(
    tokens: Tokens, clock: Clock, *, name: str, roles: Sequence[str], scope: Scope, lasts_s: float = LASTS_S, by: Token | None = None
) -> tuple[Token, str]:
    """A new token, and its text, which is kept nowhere. by: whose token asks; needed, with scope admin, while such a one is good.

    Raises UsageError; NotAllowed.
    """
    now = clock.now()
    _may_manage(tokens, by, now)
    if not _NAME.fullmatch(name):
        raise UsageError("the name of a token: expected up to 64 letters, digits and . @ + - _, as in ada or ada@example.org")
    for role in roles:
        if not _NAME.fullmatch(role):
            raise UsageError("--role: expected up to 64 letters, digits and . @ + - _, as in policy")
    if scope not in SCOPES:
        raise UsageError(f"--scope: expected one of {', '.join(SCOPES)}")
    if not 0 < lasts_s <= LONGEST_S:
        raise UsageError("--expires: expected a duration of at most 366d")
    same = {token.name for token in tokens.all() if person(token.name) == person(name)} - {name}
    if same:
        raise UsageError(f"the name of a token: {name} and {min(same)} would be one person; use {min(same)}")
    id, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_bytes(16)
    token = Token(
        id=id, name=name, roles=tuple(dict.fromkeys(roles)), scope=scope, created=now, expires=now + round(lasts_s * 1e6), salt=salt,
        digest=digest(secret, salt),
    )  # fmt: skip
    tokens.add(token)
    return token, f"shadow_{id}_{secret}"


def revoke(tokens: Tokens, clock: Clock, *, id: str, by: Token | None = None) -> Token:
    """Makes a token worthless at once. Raises UsageError for an id that is none; NotAllowed."""
    _may_manage(tokens, by, clock.now())
    found = tokens.get(id)
    if found is None or not tokens.remove(id):
        there = ", ".join(f"{token.id} ({token.name})" for token in tokens.all()) or "none"
        raise UsageError(f"no token has this id; the store has {there}")
    return found


def check(tokens: Tokens, clock: Clock, text: str | None, *, scope: Scope) -> Token:
    """The token of this text, if it may do what needs `scope`. Raises Unknown; NotAllowed; StoreUnavailable."""
    if not text:
        raise Unknown("a token is needed, and none was given")
    match = _TEXT.fullmatch(text)
    token = tokens.get(match[1]) if match else None
    if match is None or token is None or not compare_digest(digest(match[2], token.salt), token.digest):
        raise Unknown("the token is not known here: it was mistyped or revoked, or is another store's")
    if clock.now() >= token.expires:
        raise Unknown(f"the token expired at {timestamp(token.expires)}")
    if not token.allows(scope):
        raise NotAllowed(f"this needs a token of scope {scope}; this one has {token.scope}")
    return token


def digest(secret: str, salt: bytes) -> bytes:
    """What is kept of a secret: 32 bytes of BLAKE2b, salted."""
    return blake2b(secret.encode(), digest_size=32, salt=salt, person=b"shadow-token").digest()


def _may_manage(tokens: Tokens, by: Token | None, now: int) -> None:
    """Whoever has the store's address makes the first tokens; as soon as there is one of scope admin, only such a one makes others."""
    if by is not None and by.scope == "admin":
        return
    if any(token.scope == "admin" and now < token.expires for token in tokens.all()):
        raise NotAllowed("this store has a token of scope admin: give it, as SHADOW_TOKEN or --token-file")
