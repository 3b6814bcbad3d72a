"""Whether the roles of a rollout are at work: a role whose bus or store is away, or that has not been heard of, is not."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from harness.core.errors import StoreFull, Unavailable
from harness.ports.presence import Presence, Seen, State

SILENT_AFTER_S = 15.0  # longer than a step takes: a model's timeout, a fold of the analyst
NOTE_EVERY_S = 1.0
AGAIN_AFTER_S = 5.0  # after a note that failed: a store that hangs may cost a role a second in so many


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleHealth:
    """One role. ready: it steps, and said so a moment ago; says: the same for people, and why not."""

    role: str
    ready: bool
    says: str


def role_health(roles: Sequence[str], presence: Presence) -> list[RoleHealth]:
    """The health of each of these roles. Raises StoreUnavailable."""
    seen = presence.all()
    return [_health(role, seen.get(role)) for role in roles]


def _health(role: str, seen: Seen | None) -> RoleHealth:
    if seen is None:
        return RoleHealth(role=role, ready=False, says="not started")
    if seen.state == "stopped":
        return RoleHealth(role=role, ready=False, says="stopped")
    if seen.age_s > SILENT_AFTER_S:
        return RoleHealth(role=role, ready=False, says=f"silent for {seen.age_s:.0f} s")
    return RoleHealth(role=role, ready=seen.state == "steps", says=f"waits: {seen.why}" if seen.why else seen.state)


class Beat:
    """How a role tells that it is at work: at most a note a second, and never a reason for the role to fail."""

    def __init__(self, presence: Presence, role: str) -> None:
        self._presence, self._role = presence, role
        self._due = 0.0

    def steps(self) -> None:
        """It has made a step; call it after each."""
        if time.monotonic() >= self._due:
            self._note("steps")

    def waits(self, why: str) -> None:
        """A server that it needs is away."""
        self._note("waits", why)
        self._due = 0.0  # the next step is news

    def stopped(self) -> None:
        """It was told to stop, and has."""
        self._note("stopped")

    def _note(self, state: State, why: str = "") -> None:
        self._due = time.monotonic() + AGAIN_AFTER_S
        with suppress(Unavailable, StoreFull):  # whoever looks sees the age of the last note
            self._presence.note(self._role, state, why)
            self._due = time.monotonic() + NOTE_EVERY_S
