"""A whole rollout on the in-memory doubles: every role, time moved by hand, and a crash wherever a role calls outside."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import config
from harness.adapters.codec import MsgpackCodec
from harness.commands.replay import whole_table
from harness.core.reading import timestamp
from harness.core.records import Author, body, parse
from harness.core.rollout import Rollout
from harness.core.stages import State
from harness.core.table import RowLayout
from harness.ports.clock import ManualClock
from harness.ports.journal import ROOT, Link
from harness.ports.model import Call, Reply
from harness.roles import topology
from harness.roles.analyst import Analyst
from harness.roles.controller import Controller
from harness.roles.frontier import Frontier
from harness.roles.joiner import Joiner
from harness.roles.lane import Lane
from harness.roles.outbox import Outbox
from harness.roles.plainids import IdKeeper
from harness.roles.router import Router
from harness.roles.sealing import Sealer
from harness.roles.standing import Follower
from harness.testing.archives import MemoryArchive
from harness.testing.doubles import MemoryBus, MemoryIntake, MemoryJournal, MemoryLedger, MemoryObservationLog, MemoryPairLog
from harness.testing.plainids import MemoryPlainIds

START = 1_767_571_200_000_000  # 2026-01-05, microseconds
SECOND = 1_000_000
HOUR = 3_600 * SECOND
CONFIG: dict[str, Any] = {
    "rollout": "small",
    "events": {"topic": "small.events", "unit": "subject", "segments": {"region": "/region"}},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {"adult": {"output": "age", "at_least": 18}},
    "harms": {"minor_let_in": {"policy": "adult", "truth": False, "decision": True}},
    "outcomes": {"topic": "small.outcomes", "event": "/event_id", "truth": {"age": "/age"}, "matures": "2h"},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "looks": "1h",
    "gates": [
        {"name": "minors", "metric": {"harm": "minor_let_in"}, "worse_by_at_most": 0.1, "each": ["region"]},
        {"name": "flips", "metric": {"flip": "adult"}, "below": 0.9},
        {"name": "answers", "metric": {"missing": "challenger"}, "below": 0.9},
    ],
    "stages": [{"shadow": {"percent": 100}}],
}  # fmt: skip


class Crash(BaseException):
    """The process is gone: nothing in the product may catch it."""


class CrashOnce:
    """Counts the calls that go outside through `around`, and crashes at one of them: before it happens, or after (its reply is lost)."""

    def __init__(self, at: int = 0, *, after: bool = False) -> None:
        self._at, self._after, self.n_calls, self.crashed = at, after, 0, False

    def around(self, port: Any) -> Any:
        """The port, with its calls counted."""
        return _Counted(port, self)

    def call(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self.n_calls += 1
        now = self.n_calls == self._at
        self.crashed |= now
        if now and not self._after:
            raise Crash
        found = function(*args, **kwargs)
        if now:
            raise Crash
        return found


class _Counted:
    def __init__(self, port: Any, nemesis: CrashOnce) -> None:
        self._port, self._nemesis = port, nemesis

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found
        if name == "reader":  # what a reader reads is outside too
            return lambda *args: _Counted(found(*args), self._nemesis)
        return lambda *args, **kwargs: self._nemesis.call(found, args, kwargs)


class InEvent:
    """A model that says what stands in the event; `calls` keeps the ids it was asked."""

    def __init__(self, name: str) -> None:
        self._name, self.calls = name, []
        self.version: str | None = None

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """An answer, or the reason that the event names."""
        self.calls += [call.event_id for call in calls]
        found = [call.data.get(self._name) for call in calls]
        return [
            Reply(status=said, version=self.version)
            if isinstance(said, str)
            else Reply(status="answered", answer={"age": said}, latency_ms=5.0, version=self.version)
            for said in found
        ]

    def close(self) -> None:
        """Nothing was started."""


class Crew:
    """One rollout, its stores and its roles. `nemesis` stands between one role and its ports."""

    def __init__(self, *, shards: int = 2, partitions: int = 1, role: str = "", nemesis: CrashOnce | None = None, **changes: Any) -> None:
        self.rollout: Rollout = config.parse({**CONFIG, **changes}, source="test", folder=Path())
        self.clock, self.codec = ManualClock(START), MsgpackCodec()
        self.bus, self.intake, self.ledger, self.journal = MemoryBus(self.clock), MemoryIntake(), MemoryLedger(), MemoryJournal()
        self.observations, self.archive = MemoryObservationLog(), MemoryArchive()
        self.say("registered", "author")
        self.bus.ensure(self.rollout.events.topic, partitions)
        self.topology = topology.create(self.rollout, shards, self.bus)
        self.logs = [MemoryPairLog(RowLayout(self.rollout)) for _ in range(shards)]
        self.plain_ids = [MemoryPlainIds() for _ in range(shards)]
        self.models = {lane: InEvent(name) for lane, name in (("incumbent", "old"), ("challenger", "new"))}
        self.silent: set[str] = set()
        self.kept: list[str] = []
        self.n_crashes = 0
        self._role, self._nemesis = role, nemesis
        self._made: dict[str, Any] = {}
        self._n = 0

    # ------------------------------------------------------------------------------------------------------------------- roles
    @property
    def names(self) -> tuple[str, ...]:
        """Every role, in the order in which they are stepped."""
        return ("router", "lane:incumbent", "lane:challenger", *(f"joiner:{n}" for n in range(len(self.logs))), "analyst", "controller")

    def make(self, name: str) -> Any:
        """A new worker of a role, made from what is stored."""
        kind, _, part = name.partition(":")

        def port(found: Any) -> Any:
            return self._nemesis.around(found) if self._nemesis is not None and kind == self._role.partition(":")[0] else found

        common = {"codec": self.codec, "clock": self.clock, "bus": port(self.bus)}
        if kind == "router":
            return Router(self.rollout, self.topology, intake=port(self.intake), **common)
        if kind == "lane":
            return Lane(part, self.rollout, self.topology, model=port(self.models[part]), **common)
        if kind == "joiner":
            asked = self.rollout.keep.ids != "none"
            ids = IdKeeper(self.rollout, port(self.plain_ids[int(part)])) if asked else None
            return Joiner(self.rollout, self.topology, int(part), pair_log=port(self.logs[int(part)]), ids=ids, **common)
        journal, intake, ledger = port(self.journal), port(self.intake), port(self.ledger)
        if kind == "controller":
            sealer = Sealer(self.rollout, pair_logs=self.logs, archive=self.archive, code_version="1", observations=self.observations)
            return Controller(
                self.rollout, journal=journal, ledger=ledger, clock=self.clock, code_version="1",
                outbox=lambda: Outbox("small", self.topology.records, journal=journal, bus=common["bus"], intake=intake, keep=self.keep),
                frontier=lambda: Frontier(self.topology, common["bus"], intake),
                words=lambda state, word: sealer.word(journal, state, word),
            )  # fmt: skip
        return Analyst(
            self.rollout, self.topology, pair_logs=[port(log) for log in self.logs], intake=intake, ledger=ledger, clock=self.clock,
            code_version="1", where=Follower(journal).now, observations=port(self.observations),
        )  # fmt: skip

    def step(self, name: str) -> int:
        """One step of a role; one that crashes is made anew, and this step has done nothing."""
        try:
            if name not in self._made:
                self._made[name] = self.make(name)
            return self._made[name].step() or 0
        except Crash:
            self.n_crashes += 1
            self._made.pop(name, None)
            return 1

    def settle(self) -> None:
        """Steps everybody until nobody finds anything."""
        while sum(self.step(name) for name in self.names if name not in self.silent):
            pass

    # ------------------------------------------------------------------------------------------------------------------ records
    def say(self, kind: str, who: str = "ada", role: str | None = None, **more: Any) -> None:
        """A person's record, behind whatever there is."""
        links = self.journal.read()
        by = Author(name=who, via="test", role=role)
        record = body(kind, rollout="small", at=self.clock.now(), by=by, reason=f"{who} says so", **more)
        self.journal.append(record, after=links[-1].hash if links else ROOT)

    def records(self) -> list[dict[str, Any]]:
        """The chain."""
        return [dict(parse(link.body)) for link in self.journal.read()]

    def state(self) -> State:
        """Where the rollout stands."""
        return Follower(self.journal).now()

    def keep(self, chain: Sequence[Link]) -> None:
        """The file of records."""
        self.kept = [link.hash for link in chain]

    def told(self) -> list[dict[str, Any]]:
        """The records on the bus."""
        return [json.loads(record.value) for record in self.bus.after(self.topology.records, -1, 10_000)]

    def walk(self, times: int = 1) -> None:
        """Lets the wall clock go on so that analyst and controller look again, and each has its say."""
        for _ in range(times):
            self.clock.move_to(self.clock.now() + 2 * SECOND)
            self.settle()

    # -------------------------------------------------------------------------------------------------------------------- input
    def event(self, id: str, at: int, *, old: object = 20.0, new: object = 20.0, **changes: Any) -> bytes:
        """An event that arrives `at` microseconds after START."""
        when = timestamp(START + at)
        record = {
            "specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": f"unit of {id}", "time": when,
            "data": {"old": old, "new": new, "region": "SE"}, **changes,
        }  # fmt: skip
        return json.dumps(record).encode()

    def label(self, id: str, at: int, age: object) -> bytes:
        """What is learnt of an event `at` microseconds after START."""
        self._n += 1
        record = {
            "specversion": "1.0", "id": f"o{self._n}", "source": "/l", "type": "t", "time": timestamp(START + at),
            "data": {"event_id": id, "age": age},
        }  # fmt: skip
        return json.dumps(record).encode()

    def mark(self, at: int) -> bytes:
        """No more comes that is older than this."""
        record = {"specversion": "1.0", "id": "m", "source": "/s", "type": "io.shadow-harness.watermark", "time": timestamp(START + at)}
        return json.dumps(record).encode()

    def send(self, source: str, records: Iterable[bytes]) -> None:
        """Appends records to the events or the outcomes topic: to its first partition, or to the one named, as in "events/1"."""
        self.bus.append(self.topology.sources[source if "/" in source else f"{source}/0"], list(records))

    # ------------------------------------------------------------------------------------------------------------------ results
    def frames(self, shard: int = 0) -> list[Any]:
        """All mirror frames of a shard."""
        return [self.codec.decode_frame(record.value) for record in self.bus.after(self.topology.mirror(shard), -1, 10_000)]

    def answers(self, shard: int = 0) -> list[Any]:
        """All answer frames of a shard."""
        return [self.codec.decode_answers(record.value) for record in self.bus.after(self.topology.predictions(shard), -1, 10_000)]

    def verdict(self) -> dict[str, Any]:
        """The verdict of a fresh look."""
        found: dict[str, Any] = self.make("analyst").publish() if "analyst" in self.silent else self._verdict()
        return found

    def _verdict(self) -> dict[str, Any]:
        self.clock.move_to(self.clock.now() + 2 * SECOND)  # past the time between two verdicts
        self.settle()
        published = self.ledger.published()
        assert published is not None
        found: dict[str, Any] = json.loads(published.verdict)
        return found

    def rows(self) -> list[list[Any]]:
        """The pair table as plain lists, with NaN as None."""
        table = whole_table(self.rollout, self.logs)
        plain = [column.tolist() for column in table.columns.values()]
        return [[None if isinstance(x, float) and np.isnan(x) else x for x in column] for column in plain]


@pytest.fixture
def crew() -> Callable[..., Crew]:
    """Makes rollouts."""
    return Crew


@pytest.fixture
def crash_once() -> type[CrashOnce]:
    """The nemesis."""
    return CrashOnce
