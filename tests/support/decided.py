"""A small rollout on a real Redis that took one decision on real pairs, and what it left behind: records.jsonl and the archive."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness import config
from harness.adapters import recordsfile
from harness.adapters.archive import FileArchive
from harness.adapters.redis.journal import RedisJournal
from harness.commands import registry, replay
from harness.core.records import CONTROLLER, Author, body
from harness.core.rollout import Rollout
from harness.core.stages import Record
from harness.ports.clock import ManualClock
from harness.ports.journal import Link
from harness.roles.analyst import Analyst
from harness.roles.sealing import Sealer
from harness.wiring import Wiring, open_directory

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
CONFIG: dict[str, Any] = {
    "rollout": "age-sealed",
    "events": {"topic": "age.events", "unit": "subject", "segments": {
        "region": {"field": "/region", "values": ["SE", "ES"]}, "gender": "/gender", "true_age": {"truth": "age", "bins": [0, 18, 120]}}},
    "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {
        "over_18": {"output": "age", "at_least": {"by": "region", "default": 18, "ES": 16}},
        "adult": {"output": "age", "at_least": 18, "decide": [{"allow": {"at_least": 25}}, {"check_id": {"at_least": 18}}, "block"],
                  "incumbent": {"decision": "/action"}},
    },
    "harms": {"minor_in": {"policy": "over_18", "truth": False, "decision": True}},
    "outcomes": {"topic": "age.verified", "event": "/event_id", "truth": {"age": "/age"}, "matures": "1d"},
    "sample": {"percent": 100},
    "pairing": {"window": "30s"},
    "gates": [
        {"name": "minors", "metric": {"harm": "minor_in"}, "worse_by_at_most": 0.5, "each": ["region"]},
        {"name": "guesses", "metric": {"loss": "absolute_error", "output": "age"}, "worse_by_at_most": 60, "each": ["true_age"],
         "on_fail": "hold"},
        {"name": "flips", "metric": {"flip": "over_18"}, "below": 0.6, "each": ["gender"]},
        {"name": "answers", "metric": {"missing": "challenger"}, "below": 0.5},
        {"name": "fast", "metric": {"latency": "p95"}, "below": "250ms", "dry_run": True},
    ],
    "stages": [{"shadow": {"percent": 100}}, {"canary": {"percent": 1}, "approval": {"people": 1}}, {"promote": {"bake": "1d"}}],
}  # fmt: skip


def stream(n: int = 400) -> tuple[list[bytes], list[bytes]]:
    """Events of units that come several times, some without an answer, and labels of most of them."""
    rng = random.Random(20260302)
    events, labels = [], []
    for k in range(n):
        at, unit = START + timedelta(minutes=5 * k, seconds=rng.randrange(50)), rng.randrange(n // 2)
        age = 8 + unit % 40
        data = {"region": ("SE", "ES", "NO")[unit % 3], "gender": "fm"[unit % 2], "old": {"age": max(0.0, age + rng.gauss(1, 3))},
                "action": rng.choice(["allow", "block", "check_id", "warned"])}  # fmt: skip
        if rng.random() > 0.03:
            data["new"] = {"age": max(0.0, age + rng.gauss(0, 2))}
        common = {"specversion": "1.0", "type": "age"}
        event = {**common, "id": f"e{k}", "source": "app", "subject": f"u{unit}", "time": at.isoformat(), "data": data}
        events.append(json.dumps(event).encode())
        if rng.random() < 0.7:
            known = (at + timedelta(hours=rng.uniform(0, 20))).isoformat()
            label = {**common, "id": f"o{k}", "source": "desk", "time": known, "data": {"event_id": f"e{k}", "age": age}}
            labels.append(json.dumps(label).encode())
    return events, labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a rollout left behind, and what it was made of."""

    folder: Path
    rollout: Rollout
    wiring: Wiring
    journal: RedisJournal
    verdict: Mapping[str, Any]

    @property
    def records(self) -> Path:
        """Its chain as JSON lines."""
        return self.folder / "records.jsonl"

    @property
    def archive(self) -> Path:
        """The folder of its archives."""
        return self.folder / "archive"

    @property
    def links(self) -> Sequence[Link]:
        """Its chain in the store."""
        return self.journal.read()


def chain(links: Sequence[Link]) -> list[tuple[Record, str]]:
    """(record, hash) of a chain."""
    return [(json.loads(link.body), link.hash) for link in links]


def decide(folder: Path, redis_url: str, *, n: int = 400, shards: int = 2, moves: bool = True, **changes: Any) -> Decided:
    """Runs the stream through every role on this Redis, registers, approves, seals and enters the canary; then is paused and resumed."""
    rollout = config.parse({**CONFIG, **changes}, source="test", folder=folder)
    clock = ManualClock()
    wiring = Wiring(rollout, redis_url, redis_url, shards=shards, clock=clock, trust_stated=True)
    journal = RedisJournal(redis_url, rollout.name, keep_s=3_600.0)
    registry.register(
        rollout, shards=shards, default_shards=shards, directory=open_directory(redis_url), journal=journal,
        by=Author(name="ada", via="cli"), clock=clock, code_version="1.0",
    )  # fmt: skip
    logs = [wiring.pair_log(shard) for shard in range(shards)]
    analyst = Analyst(
        rollout, wiring.topology, pair_logs=logs, intake=wiring.intake, ledger=wiring.ledger, clock=clock, code_version="1.0"
    )
    events, labels = stream(n)
    parts = replay.Parts(
        rollout=rollout, topology=wiring.topology, bus=wiring.bus, clock=clock, router=wiring.router(),
        lanes=[wiring.lane(lane) for lane in rollout.lanes], joiners=[wiring.joiner(shard) for shard in range(shards)],
        analyst=analyst, pair_logs=logs,
    )  # fmt: skip
    verdict = {"stage_index": 0, "since": None, **replay.replay(parts, events, labels, progress=lambda _: None).verdict}
    found = Decided(folder=folder, rollout=rollout, wiring=wiring, journal=journal, verdict=verdict)
    if moves:
        _move(found, journal, logs, clock)
    found.records.write_bytes(b"".join(map(recordsfile.line, journal.read())))
    return found


def _move(found: Decided, journal: RedisJournal, logs: Sequence[Any], clock: ManualClock) -> None:
    def add(kind: str, by: Author, reason: str, **more: Any) -> None:
        record = body(kind, rollout=found.rollout.name, at=clock.now(), by=by, reason=reason, **more)
        journal.append(record, after=journal.read()[-1].hash)

    bea = Author(name="bea", via="cli", role="policy")
    add("approved", bea, "fewer minors get in", stage=1)
    sealer = Sealer(found.rollout, pair_logs=logs, archive=FileArchive(found.archive), code_version="1.0")
    evident = sealer.evidence(found.verdict, chain(journal.read()))
    assert evident.agrees, evident.differs
    add("entered", CONTROLLER, "every counted gate passed", stage=1, since=found.verdict["as_of"], **evident.parts)
    add("paused", bea, "a holiday")
    add("resumed", bea, "back again")
