"""At most one of several challengers serves people, whoever races, dies or changes his mind, and at whatever moment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config import parse_all
from harness.core.errors import HeadMoved
from harness.core.reading import timestamp
from harness.core.records import Author, body
from harness.core.rollout import Rollout
from harness.core.stages import Standing, State, serves, since_text
from harness.ports.clock import ManualClock
from harness.ports.journal import ROOT
from harness.ports.ledger import Published
from harness.roles.controller import Controller, Evidence
from harness.roles.seating import Seating, beside
from harness.roles.standing import Follower
from harness.testing.doubles import MemoryJournal
from harness.testing.seats import MemorySeats

START, HOUR = 1_767_571_200_000_000, 3_600_000_000
NAMES = ("fast", "exact")
STAGES = [{"shadow": {}}, {"canary": {"percent": 1}}, {"canary": {"percent": 10}}, {"promote": {"bake": "2h"}}]


class Crash(BaseException):
    """The process is gone."""


class Untold:
    """An outbox that tells nobody."""

    def tell(self) -> int:
        return 0


class Duel:
    """Two challengers with their chains, one seat, and a verdict each that a test sets."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.rollouts: dict[str, Rollout] = dict(zip(NAMES, parse_all(document, source="test", folder=Path()), strict=True))
        self.clock, self.seats = ManualClock(START), MemorySeats()
        self.journals = {name: MemoryJournal() for name in NAMES}
        self.says = dict.fromkeys(NAMES, "promote")
        for name in NAMES:
            self.write(name, "registered", sha256=self.rollouts[name].sha256)

    def write(self, name: str, kind: str, **more: Any) -> None:
        """A person's record."""
        links = self.journals[name].read()
        record = body(kind, rollout=name, at=START, by=Author(name="ada", via="test"), reason="so", **more)
        self.journals[name].append(record, after=links[-1].hash if links else ROOT)

    def state(self, name: str) -> State:
        return Follower(self.journals[name]).now()

    def served(self) -> list[str]:
        return [name for name in NAMES if serves(self.state(name))]

    def published(self, name: str) -> Published:
        """What the analyst said last: of the stage in which the rollout is, a day into it."""
        state = self.state(name)
        look = timestamp(max(state.since, START) + 24 * HOUR)
        verdict = {
            "verdict": self.says[name], "reasons": [f"it says {self.says[name]}"], "as_of": look, "stage_index": state.stage,
            "since": since_text(state), "attempt": state.attempt, "began": timestamp(START), "stage_pairs": 1_000, "gates": [],
            "expires": timestamp(START + 10_000 * HOUR),
        }  # fmt: skip
        return Published(verdict=json.dumps(verdict).encode(), looked=self.clock.now())

    def controller(self, name: str, around: Callable[[Any], Any] = lambda port: port, evidence: Evidence | None = None) -> Controller:
        """A worker; `around` stands between it and its ports."""
        family = self.rollouts[name].family
        assert family is not None
        others = {other: Follower(around(self.journals[other])).now for other in family.siblings}
        return Controller(
            self.rollouts[name], journal=around(self.journals[name]), ledger=around(_Ledger(self, name)), clock=self.clock,
            outbox=Untold, code_version="1", seating=Seating(family, around(self.seats), others), evidence=evidence,
        )  # type: ignore[arg-type]  # fmt: skip


class _Ledger:
    def __init__(self, duel: Duel, name: str) -> None:
        self._duel, self._name = duel, name

    def published(self) -> Published:
        return self._duel.published(self._name)


@pytest.fixture
def document(crew: Callable[..., Any]) -> dict[str, Any]:
    """The small rollout with two challengers."""
    found = dict(crew(stages=STAGES).rollout.document)
    models = found["models"]
    return {**found, "models": {"incumbent": models["incumbent"], **dict.fromkeys(NAMES, models["challenger"])}}


@pytest.fixture
def duel(document: dict[str, Any]) -> Duel:
    return Duel(document)


def walk(duel: Duel, *names: str, times: int = 1) -> None:
    """Fresh controllers, one step each, so many times."""
    for _ in range(times):
        for name in names or NAMES:
            duel.controller(name).step()


def test_both_pass_one_is_in_canary_and_the_other_waits_until_it_is_over(duel: Duel):
    """Also for the second and third stage of the one, and when the other has better numbers meanwhile."""
    walk(duel, times=2)
    assert duel.served() == ["fast"] and duel.state("fast").stage == 2 and duel.state("exact").stage == 0
    assert beside({"fast": lambda: duel.state("fast")}) == ("waits: `fast` is in canary at 10 %",)
    duel.says["fast"] = "rollback"
    walk(duel)
    assert duel.served() == ["exact"]
    assert (duel.state("fast").standing, duel.state("exact").stage) == (Standing.ROLLED_BACK, 1)
    assert duel.seats.load().holder == "exact"


def test_who_waits_for_the_seat_seals_nothing_meanwhile(duel: Duel):
    """It may wait for weeks beside a canary: neither its pairs are folded at each step, nor is an archive kept of each look."""
    walk(duel, "fast")
    sealed: list[str] = []

    def evidence(state: State, verdict: Any) -> dict[str, Any]:
        sealed.append(verdict["as_of"])
        return {"evidence": {}}

    waiting = duel.controller("exact", evidence=evidence)
    for _ in range(3):
        waiting.step()
    assert sealed == [] and duel.state("exact").n_records == 1
    duel.says["fast"] = "rollback"
    walk(duel, "fast")
    waiting.step()
    assert len(sealed) == 1 and duel.served() == ["exact"]


def test_after_a_promotion_the_others_stay_where_they_are(duel: Duel):
    """They were judged beside an incumbent that is none any more."""
    walk(duel, times=8)
    assert (duel.state("fast").standing, duel.state("exact").stage) == (Standing.PROMOTED, 0)
    (said,) = beside({"fast": lambda: duel.state("fast")})
    assert "`fast` was promoted" in said and "another name" in said


def test_a_controller_that_died_before_its_move_goes_on_or_gives_the_seat_back(duel: Duel):
    """Between the seat and the record nothing has happened: neither may the seat be lost, nor may two have it."""
    state = duel.state("fast")
    family = duel.rollouts["fast"].family
    assert family is not None
    seating = Seating(family, duel.seats, {"exact": lambda: duel.state("exact")})
    seating.look()
    assert seating.take(state) == ()  # and here it died
    walk(duel, "exact")
    assert duel.served() == []
    duel.says["fast"] = "hold"
    walk(duel, "fast")
    assert json.loads(duel.journals["fast"].read()[-1].body)["kind"] == "yielded"
    walk(duel, "exact")
    assert duel.served() == ["exact"]
    with pytest.raises(HeadMoved):  # the dead one's move, if it was not dead
        duel.journals["fast"].append(b"{}", after=state.head)


def test_a_seat_that_the_store_has_lost_is_taken_up_again_by_who_serves(duel: Duel):
    """A store that comes back without its last second must not let a second challenger in."""
    walk(duel, "fast")
    duel.seats = MemorySeats()
    walk(duel, "exact")
    assert duel.served() == ["fast"]
    duel.says["fast"] = "hold"
    walk(duel, "fast", "exact")
    assert (duel.served(), duel.seats.load().holder) == (["fast"], "fast")


def test_a_seat_is_free_at_once_when_a_person_goes_back_though_nobody_controls_that_challenger(duel: Duel):
    """Its roles may have been stopped."""
    walk(duel, "fast")
    duel.write("fast", "rolled_back")
    walk(duel, "exact")
    assert duel.served() == ["exact"]


# ------------------------------------------------------------------------------------------------------------------------- races
class Worker(threading.Thread):
    """A controller that makes one call outside each time it is let; `crash` kills it there instead."""

    def __init__(self, duel: Duel, name: str) -> None:
        super().__init__(daemon=True)
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._crash = self.over = False
        self.failed: BaseException | None = None
        self._controller = duel.controller(name, self._around)
        self.start()
        self._waits.acquire()

    def _around(self, port: Any) -> Any:
        worker = self

        class Counted:
            def __getattr__(self, call: str) -> Any:
                found = getattr(port, call)

                def made(*args: Any, **kwargs: Any) -> Any:
                    worker._turn()
                    return found(*args, **kwargs)

                return made

        return Counted()

    def _turn(self) -> None:
        if threading.current_thread() is self:
            self._waits.release()
            self._go.acquire()
            if self._crash:
                raise Crash

    def run(self) -> None:
        try:
            self._turn()
            while True:
                self._controller.step()
        except Crash:
            pass
        except BaseException as error:
            self.failed = error
        self.over = True
        self._waits.release()

    def let(self, *, crash: bool = False) -> None:
        """One call, or its end."""
        self._crash = crash
        self._go.release()
        self._waits.acquire()
        if self.failed is not None:
            raise self.failed


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("second", ["fast", "exact"])
def test_at_whatever_call_one_is_interrupted_the_other_goes_first_or_waits(duel: Duel, at: int, second: str):
    """Each call outside of the one in turn: its rival, or a second worker of its own, makes a whole way in between. Then it goes on."""
    first, rival = Worker(duel, "exact"), Worker(duel, second)
    for worker, n in ((first, at), (rival, 12), (first, 12)):
        for _ in range(n):
            worker.let()
            assert len(duel.served()) <= 1
    assert len(duel.served()) == 1
    for worker in (first, rival):
        worker.let(crash=True)


TURNS = st.lists(
    st.tuples(st.sampled_from(["call"] * 8 + ["crash", "promote", "hold", "rollback", "amend"]), st.integers(0, 3), st.integers(1, 9)),
    min_size=10, max_size=80,
)  # fmt: skip


def test_whoever_races_and_dies_two_never_serve_and_nobody_waits_for_ever(document: dict[str, Any]):
    """Two workers for each of two challengers, one call outside at a time in any order."""

    @settings(max_examples=120, deadline=None)
    @given(TURNS)
    def race(turns: list[tuple[str, int, int]]) -> None:
        duel = Duel(document)
        workers = [Worker(duel, NAMES[n % 2]) for n in range(4)]
        try:
            for what, which, times in turns:
                play(duel, workers, what, which, times)
                assert len(duel.served()) <= 1
        finally:
            for worker in workers:
                worker.let(crash=True)
        ended = [name for name in NAMES if duel.state(name).final and duel.state(name).standing is not Standing.PROMOTED]
        duel.says = dict.fromkeys(NAMES, "promote")
        walk(duel, times=12)
        assert len(duel.served()) == (0 if len(ended) == 2 else 1)

    race()


def play(duel: Duel, workers: list[Worker], what: str, which: int, times: int) -> None:
    """One turn of a race."""
    name = NAMES[which % 2]
    if what in ("call", "crash"):
        for _ in range(times if what == "call" else 1):
            workers[which].let(crash=what == "crash")
        if workers[which].over:
            workers[which] = Worker(duel, name)
    elif what == "amend":
        if duel.state(name).standing is not Standing.PROMOTED:
            duel.write(name, "amended", sha256=duel.rollouts[name].sha256, since=None)
    else:
        duel.says[name] = what
