"""Whether roles are at work: what they say of themselves, and what is made of it."""

from __future__ import annotations

import pytest

from harness.commands import health
from harness.commands.health import Beat, role_health
from harness.core.errors import StoreUnavailable
from harness.ports.clock import ManualClock
from harness.testing.doubles import MemoryPresence


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_700_000_000_000_000)


@pytest.fixture
def presence(clock: ManualClock) -> MemoryPresence:
    return MemoryPresence(clock)


def said(presence: MemoryPresence, *roles: str) -> list[tuple[bool, str]]:
    return [(found.ready, found.says) for found in role_health(roles, presence)]


def test_only_a_role_that_has_just_made_a_step_is_ready(presence: MemoryPresence, clock: ManualClock):
    """A role that waits, was stopped, was never started or fell silent does no work, whatever its process does."""
    Beat(presence, "router").steps()
    Beat(presence, "joiner").waits("redis://bus: Redis does not answer (ConnectionError)")
    Beat(presence, "analyst").stopped()
    assert said(presence, "router", "joiner", "analyst", "lane:challenger") == [
        (True, "steps"), (False, "waits: redis://bus: Redis does not answer (ConnectionError)"), (False, "stopped"), (False, "not started"),
    ]  # fmt: skip
    clock.move_to(clock.now() + 15_000_000)
    assert said(presence, "router") == [(True, "steps")]
    clock.move_to(clock.now() + 1)
    assert said(presence, "router") == [(False, "silent for 15 s")]


def test_a_role_that_waited_is_ready_with_its_next_step(presence: MemoryPresence):
    """The note of the step is not held back by that of the wait."""
    beat = Beat(presence, "router")
    beat.steps()
    beat.waits("the bus is away")
    beat.steps()
    assert said(presence, "router") == [(True, "steps")]


class _Counting(MemoryPresence):
    """Counts notes, and fails while told to."""

    def __init__(self) -> None:
        super().__init__()
        self.n, self.away = 0, False

    def note(self, role, state, why=""):
        self.n += 1
        if self.away:
            raise StoreUnavailable("away")
        super().note(role, state, why)


def test_a_role_notes_at_most_once_a_second_and_never_fails_by_it(monkeypatch: pytest.MonkeyPatch):
    """A thousand steps a second may not be a thousand writes; and a store that is away costs a lane nothing but a try now and then."""
    presence, now = _Counting(), [100.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    beat = Beat(presence, "lane:challenger")
    for _ in range(1_000):
        beat.steps()
    assert presence.n == 1
    now[0] += 1.0
    presence.away = True
    for _ in range(1_000):
        beat.steps()
    assert presence.n == 2
    now[0] += 4.9
    beat.steps()
    assert presence.n == 2
    now[0] += 0.1
    presence.away = False
    beat.steps()
    assert (presence.n, presence.all()["lane:challenger"].state) == (3, "steps")
