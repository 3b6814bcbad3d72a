"""What stops a role or a command: one tree.

    ShadowError
    +-- ConfigError        the config is wrong: every problem, by path           exit 2
    +-- UsageError         a file, address or argument is wrong                  exit 2
    |   +-- TooLarge       a record is larger than its topic takes
    +-- RecordError        one record cannot be read; the caller counts it and goes on
    +-- HeadMoved          another worker was faster: reload and go on, or leave
    +-- Unavailable        bus, store or model server is away                    retriable
    |   +-- BusUnavailable
    |   +-- StoreUnavailable
    +-- StoreFull          the store refuses writes until there is room          retriable
    +-- Overrun            a position is older than the log's start

One bad record is a value and a count; only what stops a role is raised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class ShadowError(Exception):
    """Base of all our errors; `retriable` says whether waiting may help."""

    retriable = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config: where, and what was found and expected."""

    path: str
    message: str


class ConfigError(ShadowError):
    """A rollout config that cannot be used, with all its problems."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source, self.problems = source, tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        lines = [f"  {p.path}: {p.message}" if p.path else f"  {p.message}" for p in self.problems]
        super().__init__("\n".join([f"{source}: {count}", *lines]))


class UsageError(ShadowError):
    """A file, address or argument that cannot be used; the message says what to do."""


class TooLarge(UsageError):
    """A record is larger than its topic takes: the router leaves that event out, and counts it."""


class RecordError(ShadowError):
    """A record that cannot be read; never carries its payload."""


class HeadMoved(ShadowError):
    """The stored head is not the one that was loaded: another worker wrote first."""


class Unavailable(ShadowError):
    """A server does not answer."""

    retriable = True


class BusUnavailable(Unavailable):
    """The bus does not answer."""


class StoreUnavailable(Unavailable):
    """The store does not answer."""


class StoreFull(ShadowError):
    """The store has no room; the write was refused whole."""

    retriable = True


class Overrun(ShadowError):
    """The log no longer holds a position that was not read yet."""
