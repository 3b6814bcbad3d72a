"""Tokens: shown once, kept as a salted hash, good for what their scope says and until they expire."""

from __future__ import annotations

import pytest

from harness.commands import tokens as commands
from harness.core.errors import UsageError
from harness.ports.clock import ManualClock
from harness.ports.tokens import SCOPES
from harness.testing.tokens import MemoryTokens

NOW = 1_000_000_000_000_000
DAY_S = 86_400.0


@pytest.fixture
def clock():
    return ManualClock(NOW)


@pytest.fixture
def kept():
    return MemoryTokens()


def make(kept, clock, name="bea", scope="approve", **more):
    return commands.create(kept, clock, **{"name": name, "roles": ("policy",), "scope": scope, **more})


def test_the_text_of_a_token_finds_it_again_and_is_kept_nowhere(kept, clock):
    """Whoever reads the store cannot act as anybody."""
    token, text = make(kept, clock)
    assert commands.check(kept, clock, text, scope="approve") == token
    assert (token.name, token.roles, token.scope, token.expires - token.created) == ("bea", ("policy",), "approve", 90 * 86_400_000_000)
    secret = text.rpartition(token.id + "_")[2]
    assert len(secret) == 43
    assert secret not in repr(kept.all())
    assert secret.encode() not in (token.digest, token.salt)


def test_the_same_secret_has_another_hash_for_another_salt(kept, clock):
    """Two stores, or two tokens, cannot be compared."""
    assert commands.digest("x", b"1" * 16) != commands.digest("x", b"2" * 16)


def test_each_scope_allows_what_the_ones_before_it_do(kept, clock):
    """read < approve < admin; the message says what is needed and what is there."""
    made = {scope: make(kept, clock, scope, scope)[1] for scope in SCOPES}
    for n, needed in enumerate(SCOPES):
        for m, scope in enumerate(SCOPES):
            if m >= n:
                assert commands.check(kept, clock, made[scope], scope=needed).scope == scope
            else:
                with pytest.raises(commands.NotAllowed, match=f"needs a token of scope {needed}; this one has {scope}"):
                    commands.check(kept, clock, made[scope], scope=needed)


def test_what_is_no_token_of_this_store_is_refused_without_being_repeated(kept, clock):
    """Each part wrong, another store's, nothing at all; the message holds none of it."""
    token, text = make(kept, clock)
    _, foreign = make(MemoryTokens(), clock)
    flipped = text[:-2] + ("A" if text[-2] != "A" else "B") + text[-1]
    for wrong in (None, "", "x", text + "x", text[:-1], f" {text}", text.upper(), flipped, foreign, foreign[:19] + text[19:], "é" * 63):
        with pytest.raises(commands.Unknown) as error:
            commands.check(kept, clock, wrong, scope="read")
        assert not wrong or wrong not in str(error.value)
        assert token.id not in str(error.value)


def test_a_token_ends_when_it_expires_or_is_revoked(kept, clock):
    """To the microsecond; and revoking is at once."""
    token, text = make(kept, clock, lasts_s=10.0)
    clock.move_to(clock.now() + 9_999_999)
    assert commands.check(kept, clock, text, scope="read") == token
    clock.move_to(clock.now() + 1)
    with pytest.raises(commands.Unknown, match="the token expired at 2001-09-09T01:46:50Z"):
        commands.check(kept, clock, text, scope="read")
    token, text = make(kept, clock)
    assert commands.revoke(kept, clock, id=token.id) == token
    with pytest.raises(commands.Unknown, match="not known here"):
        commands.check(kept, clock, text, scope="read")
    with pytest.raises(UsageError, match="no token has this id; the store has "):
        commands.revoke(kept, clock, id=token.id)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"name": ""}, "name of a token: expected"),
        ({"name": "a b"}, "name of a token: expected"),
        ({"name": "x" * 65}, "name of a token: expected"),
        ({"roles": ("",)}, "--role: expected"),
        ({"scope": "all"}, "--scope: expected one of read, approve, admin"),
        ({"lasts_s": 0.0}, "at most 366d"),
        ({"lasts_s": 367 * DAY_S}, "at most 366d"),
        ({"name": "BEA"}, "BEA and bea would be one person; use bea"),
    ],
)
def test_a_token_that_could_mislead_is_not_made(kept, clock, more, why):
    """Names go into records: no second spelling of one person, nothing unprintable, no end that never comes."""
    make(kept, clock)
    with pytest.raises(UsageError, match=why):
        make(kept, clock, **more)
    assert len(kept.all()) == 1


def test_as_soon_as_there_is_an_admin_token_only_such_a_one_makes_and_revokes_others(kept, clock):
    """Whoever has the store's address sets it up; after that nobody makes a second person of himself in passing."""
    approver, _ = make(kept, clock)
    admin, text = make(kept, clock, "root", "admin", lasts_s=DAY_S)
    for by in (None, approver):
        with pytest.raises(commands.NotAllowed, match="this store has a token of scope admin"):
            make(kept, clock, "cyd", by=by)
        with pytest.raises(commands.NotAllowed):
            commands.revoke(kept, clock, id=approver.id, by=by)
    make(kept, clock, "cyd", by=admin)
    clock.move_to(clock.now() + round(DAY_S * 1e6))
    make(kept, clock, "dan")  # it has expired: the store is not locked for good
    with pytest.raises(commands.Unknown):
        commands.check(kept, clock, text, scope="admin")
