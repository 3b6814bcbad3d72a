"""A production week in minutes: people who are judged, arms that serve them, what they complain of, and the rollout that watches.

Record time is the stream's own: a step of it is sent, then the rollout is let think until it has looked at all of it and has nothing more
to do, then the next step is drawn with the arms that production would use by then.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import redis
import yaml
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import UnknownTopicOrPartitionError

from harness.adapters.archive import FileArchive
from harness.commands import moves
from harness.commands.audit import Audit, verify
from harness.core.records import Author
from harness.core.routing import Hasher
from harness.core.stages import State, Wait, is_of, next_move
from harness.roles.standing import Follower
from harness.wiring import open_journal, reopen

START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=10)  # evidence must not have expired
STEP = timedelta(hours=4)
TOPICS = ("week.events", "week.outcomes", "week.exposures", "week.complaints")
COMPLAIN = 0.04  # of the people who were served
ROLES = ("router", "lane:incumbent", "lane:challenger", "joiner", "observer", "analyst", "controller")


def config(percents: Sequence[float]) -> dict[str, Any]:
    """A rollout with a canary at each percent, an approval before the first, and a bake."""
    first, *others = percents
    return {
        "rollout": "week",
        "events": {"topic": "week.events", "unit": "subject"},
        "models": {lane: {"uri": f"recorded:event:/{lane}", "timeout": "1s"} for lane in ("incumbent", "challenger")},
        "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
        "policies": {"adult": {"output": "age", "at_least": 18}},
        "harms": {"minor_let_in": {"policy": "adult", "truth": False, "decision": True}},
        "outcomes": {"topic": "week.outcomes", "event": "/event_id", "truth": {"age": "/age"}, "matures": "2h"},
        "exposures": {"topic": "week.exposures", "unit": "subject", "arm": "/arm", "percent": "/percent"},
        "online": {"complaints": {"topic": "week.complaints", "unit": "subject", "type": "binary", "window": "2h", "better": "lower"}},
        "sample": {"percent": 100},
        "pairing": {"window": "60s"},
        "looks": "4h",
        "gates": [
            {"name": "fewer minors let in", "metric": {"harm": "minor_let_in"}, "worse_by_at_most": 0.05},
            {"name": "it answers", "metric": {"missing": "challenger"}, "below": 0.05},
            {"name": "no more complaints", "metric": {"online": "complaints"}, "worse_by_at_most": 0.2},
        ],
        "stages": [
            {"shadow": {"percent": 100}, "at_least": "8h", "pairs": 100},
            {"canary": {"percent": first}, "at_least": "4h", "approval": {"people": 1, "roles": ["policy"]}},
            *({"canary": {"percent": percent}, "at_least": "4h"} for percent in others),
            {"promote": {"bake": "8h"}},
        ],
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    """What `up` needs of a stream."""

    config: Path


@dataclass(slots=True)
class Production:
    """The traffic. send: gives (topic, record) pairs to the bus. bad_from: the percent from which on the challenger lets minors in, because
    it takes people for `years` older than they are; more than 100 is the bake time. lost: the share of the challenger's exposures that
    production forgets to report. exposed: units that the challenger served so far. turned: when it turned bad, in record time."""

    send: Callable[[Sequence[tuple[str, bytes]]], object]
    units: int
    seed: int = 1
    bad_from: float = 1_000.0
    years: float = 5.0
    lost: float = 0.0
    steps: int = 0
    exposed: int = 0
    turned: datetime | None = None
    hasher: Hasher = field(default_factory=lambda: Hasher("week"))

    def step(self, percent: float, baking: bool) -> None:
        """One step of record time at this percent, and a watermark at its end."""
        rng = random.Random(self.seed * 100_000 + self.steps)
        begins = START + STEP * self.steps
        bad = percent >= self.bad_from or (baking and self.bad_from > 100 and self.bad_from < 1_000)
        self.turned = self.turned or (begins if bad else None)
        records: list[tuple[datetime, str, dict[str, Any]]] = []
        for n in range(self.units):
            when = begins + STEP * ((n + 0.5) / self.units)
            records += self._person(rng, f"{self.steps}-{n}", when, percent, bad)
        records.sort(key=lambda record: record[0])
        end = begins + STEP
        sent = [(topic, _event(topic, document, when)) for when, topic, document in records]
        for topic in TOPICS:
            mark = {"specversion": "1.0", "id": f"end-{self.steps}", "source": "/week", "type": "io.shadow-harness.watermark"}
            sent.append((topic, json.dumps({**mark, "time": _text(end)}).encode()))
        self.send(sent)
        self.steps += 1

    def _person(
        self, rng: random.Random, name: str, when: datetime, percent: float, bad: bool
    ) -> list[tuple[datetime, str, dict[str, Any]]]:
        """One event of a new person, the label, the exposure and perhaps a complaint, all within the same step."""
        age, guesses = person(rng, self.years if bad else 0.0)
        said = {lane: {"age": guess} for lane, guess in guesses.items()}
        found = [(when, "week.events", {"id": f"e{name}", "subject": f"u{name}", "data": said})]
        label = {"id": f"l{name}", "data": {"event_id": f"e{name}", "age": age}}
        found.append((when + timedelta(microseconds=1), "week.outcomes", label))
        if percent == 100.0:
            self.exposed += 1
        if 0.0 < percent < 100.0:
            arm = "challenger" if self.hasher.fraction(b"arm", f"u{name}") * 100.0 < percent else "incumbent"
            if arm == "challenger":
                self.exposed += 1
            if arm == "incumbent" or rng.random() >= self.lost:
                shown = {"id": f"x{name}", "subject": f"u{name}", "data": {"arm": arm, "percent": percent}}
                found.append((when + timedelta(microseconds=2), "week.exposures", shown))
            if rng.random() < COMPLAIN:
                found.append((when + timedelta(microseconds=3), "week.complaints", {"id": f"c{name}", "subject": f"u{name}", "data": {}}))
        return found


def person(rng: random.Random, years: float) -> tuple[float, dict[str, float]]:
    """(age, what each model guesses it is) of a new person. years: by how much the challenger takes everybody for older."""
    age = rng.uniform(10, 18) if rng.random() < 0.5 else rng.uniform(18, 30)
    guesses = {"incumbent": age + rng.gauss(0, 3), "challenger": age + rng.gauss(years, 1.5)}
    return age, {lane: max(0.0, guess) for lane, guess in guesses.items()}


def to_redis(client: redis.Redis) -> Callable[[Sequence[tuple[str, bytes]]], object]:
    """What sends records to Redis Streams, many in one go."""

    def send(records: Sequence[tuple[str, bytes]]) -> None:
        with client.pipeline(transaction=False) as pipe:
            for topic, record in records:
                pipe.xadd(topic, {"value": record})
            pipe.execute()

    return send


@contextmanager
def to_kafka(address: str) -> Iterator[Callable[[Sequence[tuple[str, bytes]]], object]]:
    """What sends records to Kafka, all acknowledged when it returns; deletes the rollout's topics at the end."""
    producer = KafkaProducer(bootstrap_servers=address, acks="all")

    def send(records: Sequence[tuple[str, bytes]]) -> None:
        for sent in [producer.send(topic, value=record) for topic, record in records]:
            sent.get(300)

    yield send
    producer.close()
    with KafkaAdminClient(bootstrap_servers=address) as admin:
        for topic in (*TOPICS, *(f"week.{name}" for name in ("mirror", "predictions", "records"))):
            with suppress(UnknownTopicOrPartitionError):
                admin.delete_topics([topic])


def _text(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _event(topic: str, document: Mapping[str, Any], when: datetime) -> bytes:
    return json.dumps({"specversion": "1.0", "source": "/week", "type": topic, "time": _text(when), **document}).encode()


def written(folder: Path, percents: Sequence[float]) -> Files:
    """The config as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "week.yaml").write_text(yaml.safe_dump(config(percents), sort_keys=False))
    return Files(folder / "week.yaml")


@dataclass(slots=True)
class Week:
    """A running rollout and its production. rollout: the config, parsed; follower: where the rollout stands, from its journal. exposed:
    stage -> units that the challenger served in it. told: is called after each step."""

    running: Any
    production: Production
    rollout: Any
    follower: Follower
    processes: ModuleType
    history: list[tuple[str, int]] = field(default_factory=list)
    exposed: dict[int, int] = field(default_factory=dict)
    told: Callable[[Week], None] = lambda week: None

    def state(self) -> State:
        """Where the rollout stands."""
        return self.follower.now()

    def live(self, until: Callable[[State], bool], *, most: int) -> State:
        """Step after step until this is so."""
        state = self.state()
        while not until(state):
            assert self.production.steps < most, f"after {most} steps: {state}; {self.waits()}\n{self.running.words()}"
            stage = self.rollout.stages[state.stage]
            percent = {"shadow": 0.0, "canary": stage.percent, "promote": 100.0}[stage.kind]
            before, number = self.production.exposed, state.stage
            self.production.step(percent, stage.kind == "promote")
            state = self._thought()
            self.exposed[number] = self.exposed.get(number, 0) + self.production.exposed - before
            self.told(self)
        return state

    def _thought(self) -> State:
        """Lets the rollout look at everything that was sent, and move until it has nothing more to do."""
        end = _text(START + STEP * self.production.steps).replace(".000000", "")

        def done() -> bool:
            state, verdict = self.state(), self.running.verdict()
            seen = (state.standing.value, state.stage)
            if not self.history or self.history[-1] != seen:
                self.history.append(seen)
            if state.final:
                return True
            if verdict is None or not is_of(verdict, state) or verdict["as_of"] is None or verdict["as_of"] < end:
                return False
            arms = verdict.get("arms") or {"as_of": end}
            return arms["as_of"] is not None and arms["as_of"] >= end and isinstance(next_move(self.rollout, state, verdict), Wait)

        self.processes.until(
            done,
            self.processes.FINISH_S,
            lambda: f"{end}: {self.state()}\n{self.waits()}\n{self.running.verdict()}\n{self.running.words()}",
        )
        return self.state()

    def waits(self) -> Sequence[str]:
        """What the next move waits for, on the last verdict."""
        found = self.running.verdict()
        return ["no verdict"] if found is None else next_move(self.rollout, self.state(), found).reasons

    def audited(self) -> Audit:
        """What an auditor finds, from the records and the archives alone."""
        wiring = reopen("week", self.running.address(), self.running.address())
        return verify(open_journal(wiring.store_url, wiring.rollout).read(), FileArchive(self.running.data / "archive"))

    def approve(self, name: str, role: str) -> None:
        """A person's approval, by the function that command line and API call."""
        wiring = reopen("week", self.running.address(), self.running.address())
        journal, by = open_journal(wiring.store_url, wiring.rollout), Author(name=name, via="api")
        moves.approve(
            wiring.rollout, journal, wiring.clock, by=by, roles=(role,), reason="it looks right", verdict=wiring.verdicts()()
        )  # fmt: skip

    def approve_by_hand(self, name: str, role: str) -> None:
        """As a person does, on the command line, with a token."""
        made = self._shadow("token", "create", name, "--role", role, "--scope", "approve")
        token = next(word for word in made.split() if word.startswith("shadow_"))
        self._shadow("approve", "week", "--reason", "it looks right", token=token)

    def _shadow(self, *words: str, token: str | None = None) -> str:
        environment = {**os.environ, **({"SHADOW_TOKEN": token} if token else {})}
        command = [sys.executable, "-m", "harness", *words, "--store", self.running.address()]
        done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout
