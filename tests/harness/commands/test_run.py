"""The loop that runs a role: what a server's absence, another worker and a stop do to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from harness.commands import run as running
from harness.commands.health import Beat
from harness.commands.run import Running, run
from harness.core.errors import BusUnavailable, HeadMoved, RecordError, StoreFull, StoreUnavailable, UsageError
from harness.testing.doubles import MemoryPresence, MemoryShares


class Role:
    """A role whose every step does the next thing on a list: an error is raised, a number is what it took. Then it is told to stop."""

    def __init__(self, *things: Exception | int, after_stop: Sequence[Exception | int] = (), busy: int = 0, drains: bool = False) -> None:
        self._things, self._after, self._busy, self._drains = list(things), list(after_stop), busy, drains
        self.n_made = self.n_closed = self.n_steps = self.n_drained = 0
        self.holds: list[tuple[str, ...]] = []
        self.shares, self.presence = MemoryShares(), MemoryPresence()

    def make(self) -> Running:
        self.n_made += 1
        return Running(
            parts=("a", "b"), hold=self.holds.append, step=self._step, close=self._close, busy=self._is_busy, drains=self._drains
        )  # fmt: skip

    def _step(self, wait_s: float) -> int:
        self.n_steps += 1
        self.n_drained += self.stopped()
        things = self._after if self.stopped() else self._things
        thing = things.pop(0) if things else 0
        if isinstance(thing, Exception):
            raise thing
        return thing

    def _is_busy(self) -> bool:
        self._busy -= 1
        return self._busy >= 0

    def _close(self) -> None:
        self.n_closed += 1

    def stopped(self) -> bool:
        return not self._things

    def run(self) -> None:
        run(self.make, role="joiner", worker="w1", shares=lambda: self.shares, beat=Beat(self.presence, "joiner"), stopped=self.stopped)


@pytest.mark.parametrize("error", [BusUnavailable("away"), StoreUnavailable("away"), StoreFull("full"), HeadMoved("other")])
def test_a_role_waits_and_is_made_anew_from_what_is_stored(error: Exception):
    """Nothing in memory survives an error whose effect is unknown; the process does."""
    role = Role(1, error, 1, 1)
    role.run()
    assert (role.n_made, role.n_closed, role.n_steps) == (2, 2, 4)


def test_a_server_that_is_away_when_the_role_is_made_is_waited_for():
    """Processes start in any order."""
    role = Role(1)
    made = role.make
    tries = [StoreUnavailable("not yet"), StoreUnavailable("not yet")]

    def make() -> Running:
        if tries:
            raise tries.pop()
        return made()

    role.make = make  # type: ignore[method-assign]
    role.run()
    assert (role.n_made, role.n_closed) == (1, 1)


@pytest.mark.parametrize(("healthy_s", "pauses"), [(60.0, [0.1, 0.2, 0.4]), (0.0, [0.1, 0.1, 0.1])])
def test_the_pause_grows_while_a_server_stays_away_and_falls_back_after(
    healthy_s: float, pauses: list[float], monkeypatch: pytest.MonkeyPatch
):
    """A role that has run for a while starts again at once: an outage last week must not make it slow to come back from this one."""
    slept: list[float] = []
    monkeypatch.setattr(running, "HEALTHY_S", healthy_s)
    monkeypatch.setattr(running.time, "sleep", slept.append)
    Role(StoreUnavailable("away"), 1, StoreUnavailable("away"), 1, StoreUnavailable("away"), 1).run()
    assert slept == pauses


def test_a_close_that_fails_after_an_error_does_not_hide_it():
    """The connection that failed is the one that cannot be closed in order."""
    role = Role(StoreUnavailable("away"), 1)
    closes: list[int] = []
    real = role._close

    def close() -> None:
        closes.append(1)
        if len(closes) == 1:
            raise StoreUnavailable("still away")
        real()

    role._close = close  # type: ignore[method-assign]
    role.run()
    assert len(closes) == 2


@pytest.mark.parametrize("error", [UsageError("wrong"), RecordError("unreadable"), ZeroDivisionError()])
def test_what_waiting_does_not_mend_ends_the_process(error: Exception):
    """Wrong use and our own mistakes are for the supervisor, with their message."""
    role = Role(error, 1)
    with pytest.raises(type(error)):
        role.run()
    assert role.n_made == 1


def test_a_stop_drains_until_nothing_comes_and_nothing_is_held():
    """What was taken is finished before the process leaves: work that comes during the drain too."""
    role = Role(1, after_stop=[0, 3, 0, 2], busy=12, drains=True)
    role.run()
    assert role.n_drained >= 12
    assert role._after == []
    assert role.n_closed == 1


def test_a_role_that_does_not_drain_takes_nothing_more_after_a_stop():
    """A router that went on reading would keep the lanes behind it from ever coming to an end."""
    role = Role(1, 1, after_stop=[5, 5])
    role.run()
    assert (role.n_steps, role.n_drained) == (2, 0)


def test_a_worker_holds_all_parts_and_gives_them_back_at_the_end():
    """Whoever takes over need not wait for a lease to run out."""
    role = Role(1, 1)
    role.run()
    assert role.holds == [("a", "b")]
    assert role.shares.workers("joiner") == {}


def test_a_role_steps_only_while_it_holds_a_part():
    """With more workers than parts one stands by: it has no part, so it takes nothing."""
    role = Role(1)
    for worker in ("o1", "o2"):
        role.shares.take("joiner", worker, ("a", "b"), ttl_s=60)
    for worker in ("o1", "o2"):
        role.shares.take("joiner", worker, ("a", "b"), ttl_s=60)
    n: list[int] = []

    def stopped() -> bool:
        n.append(1)
        return len(n) > 4

    run(role.make, role="joiner", worker="w1", shares=lambda: role.shares, beat=Beat(role.presence, "joiner"), stopped=stopped)
    assert role.n_steps == 0


def test_what_a_role_says_of_itself_is_what_it_does():
    """People and probes see a role that waits for a server as one that waits, and a stopped one as stopped."""
    role = Role(1, StoreUnavailable("redis is away"), 1)
    said: list[tuple[str, str]] = []
    real: Callable[..., None] = role.presence.note

    def note(name: str, state: str, why: str = "") -> None:
        said.append((state, why))
        real(name, state, why)

    role.presence.note = note  # type: ignore[method-assign, assignment]
    role.run()
    assert said[0] == ("steps", "")
    assert ("waits", "redis is away") in said
    assert said[-1] == ("stopped", "")
    assert role.presence.all()["joiner"].state == "stopped"
