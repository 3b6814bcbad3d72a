"""Connections to Redis, and its errors in our words. No message holds a password, a key's value or a command's arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.core.errors import StoreFull, StoreUnavailable, Unavailable, UsageError

MOST_BLOCK_S = 5.0  # the longest a read waits inside Redis; the socket's timeout must be longer
_TIMEOUT_S = 15.0
_CONNECT_TIMEOUT_S = 5.0
_AWAY = ("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "UNBLOCKED")
_AWAY_ERRORS = (
    redis.BusyLoadingError, redis.ReadOnlyError, redis.exceptions.MasterDownError, redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)  # fmt: skip
_FULL = ": Redis has no memory left (maxmemory); the write was refused whole"
_REFUSED = {"NOAUTH": "it asks for a password", "WRONGPASS": "wrong user or password", "NOPERM": "this user may not do that"}


def address_of(url: str) -> str:
    """A URL without its user, password and options, for messages."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else "an address without a scheme"
    except ValueError:
        return "an unreadable address"


def connect(url: str, *, timeout_s: float = _TIMEOUT_S) -> redis.Redis:
    """A client for redis://, rediss:// or unix://; connects with the first command. Thread-safe. timeout_s: the longest a reply may take.

    Nothing is sent twice by itself: who calls knows what a lost reply means. Raises UsageError for an address that cannot be used.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix" and not parts.path:
            raise ValueError("no path")
        tcp = {} if parts.scheme == "unix" else {"socket_keepalive": True, "socket_connect_timeout": min(timeout_s, _CONNECT_TIMEOUT_S)}
        return redis.Redis.from_url(url, protocol=2, socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0), **tcp)
    except ValueError:
        raise UsageError(f"{address_of(url)}: not an address of a Redis; say redis://host:port/db, rediss://... or unix:///path") from None


@contextmanager
def translated(where: str, unavailable: type[Unavailable] = StoreUnavailable) -> Iterator[None]:
    """Errors of redis-py inside become ours; `where` is the address as messages may show it."""
    try:
        yield
    except redis.AuthenticationError:  # a ConnectionError to redis-py, but waiting does not help
        raise UsageError(f"{where}: wrong user or password, or one is asked for") from None
    except (redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError):
        raise UsageError(f"{where}: {_REFUSED['NOPERM']}") from None
    except _AWAY_ERRORS as error:
        raise unavailable(f"{where}: Redis takes no such command now ({type(error).__name__})") from None
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        raise unavailable(f"{where}: Redis does not answer ({type(error).__name__})") from error
    except redis.exceptions.OutOfMemoryError:
        raise StoreFull(where + _FULL) from None
    except redis.RedisError as error:
        raise _refusal(where, unavailable, str(error)) from None


def _refusal(where: str, unavailable: type[Unavailable], message: str) -> Exception:
    """What an error reply means. A pipeline puts the command before it, a script the place around it."""
    words = message.rpartition("caused error: ")[2].replace("-", " ").split()
    if "OOM" in words:
        return StoreFull(where + _FULL)
    for code, meaning in _REFUSED.items():
        if code in words:
            return UsageError(f"{where}: {meaning}")
    if "WRONGTYPE" in words or "Operation against a key holding the wrong kind" in message:
        return UsageError(f"{where}: a key of ours holds a value of another type; something else writes into this database")
    found = next((code for code in _AWAY if code in words), None)
    if found is not None:
        return unavailable(f"{where}: Redis takes no such command now ({found})")
    return UsageError(f"{where}: Redis refused a command; is it version 6.2 or later?")


def script(name: str) -> str:
    """The text of a Lua script beside this module."""
    return (files(__package__) / name).read_text(encoding="utf-8")
