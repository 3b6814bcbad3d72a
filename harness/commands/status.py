"""What a rollout is doing: its counts, what does not add up, whether its roles are at work and everything that came has been dealt with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.commands import decide
from harness.commands.health import role_health
from harness.core.accounting import Counts, identity_problems
from harness.core.errors import BusUnavailable
from harness.core.pairing import NEVER, Snapshot
from harness.core.rollout import Rollout
from harness.core.stages import State
from harness.core.verdicts import counts_document, outcomes_document, requests_document
from harness.ports.bus import Bus, Partition
from harness.ports.clock import Clock
from harness.ports.intake import Intake
from harness.ports.ledger import Ledger
from harness.ports.pairlog import PairLog
from harness.ports.presence import Presence
from harness.roles.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look at a rollout.

    read: events that joiner and router have classified; routed: events the router has taken from its sources. identity: what does not
    add up, empty when all does. waiting_sources: those with records that the router has not taken, None while the bus is away.
    in_flight_age_s: no event in flight is older; 0 when none is, None while it cannot be told (a source has not spoken yet).
    """

    read: int
    routed: int
    unsampled: int
    counts: Counts
    in_flight: int
    identity: Sequence[str]
    waiting_sources: Sequence[str] | None
    outcomes_behind: int
    in_flight_age_s: float | None

    @property
    def idle(self) -> bool:
        """Whether every record of every source has been routed, answered and joined."""
        return self.waiting_sources == [] and self.read == self.routed and self.in_flight == 0 and self.outcomes_behind == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A rollout and everything that is read to look at it. roles: those that are expected to run. where: asks where the rollout stands."""

    rollout: Rollout
    topology: Topology
    roles: Sequence[str]
    bus: Bus
    intake: Intake
    pair_logs: Sequence[PairLog]
    ledger: Ledger
    where: Callable[[], State]
    presence: Presence
    clock: Clock
    code_version: str
    beside: decide.Beside = decide.nobody

    def verdict(self) -> dict[str, Any]:
        """The object of verdict.json at this moment."""
        return decide.verdict(self.rollout, self.ledger, self.where, self.clock, code_version=self.code_version, beside=self.beside)

    def waits_for(self) -> list[str]:
        """What the rollout's next move waits for, in words."""
        return decide.waits_for(self.rollout, self.ledger, self.where, self.clock, beside=self.beside)

    def status(self) -> Status:
        """Its counts and what waits."""
        return status(self.topology, bus=self.bus, intake=self.intake, pair_logs=self.pair_logs)


def document(watched: Watched) -> dict[str, Any]:
    """What a rollout is doing, for machines: the document of `shadow status --json`. Raises StoreUnavailable."""
    found, verdict = watched.status(), watched.verdict()
    counts = found.counts
    return {
        "rollout": watched.rollout.name,
        "shards": watched.topology.shards,
        "stage": verdict["stage"],
        "stage_index": verdict["stage_index"],
        "since": verdict["since"],
        "standing": verdict["standing"],
        "percent": verdict["percent"],
        "waits_for": watched.waits_for(),
        "verdict": verdict["verdict"],
        "as_of": verdict["as_of"],
        "reasons": verdict["reasons"],
        "exposed": verdict.get("exposed"),
        "exposed_harms": verdict.get("exposed_harms", {}),
        "counts": counts_document(counts, read=found.read, unsampled=found.unsampled, in_flight=found.in_flight),
        "lanes": counts.lanes,
        "outcomes": outcomes_document(counts),
        "requests": requests_document(watched.rollout, counts),
        "routed": found.routed,
        "lag": {
            "sources": None if found.waiting_sources is None else list(found.waiting_sources),
            "events": found.routed - found.read, "outcomes": found.outcomes_behind, "in_flight_age_s": found.in_flight_age_s,
        },
        "identity": list(found.identity),
        "idle": found.idle,
        "bus": "away" if found.waiting_sources is None else "answers",
        "roles": {health.role: {"ready": health.ready, "says": health.says} for health in role_health(watched.roles, watched.presence)},
    }  # fmt: skip


def status(topology: Topology, *, bus: Bus, intake: Intake, pair_logs: Sequence[PairLog]) -> Status:
    """Reads heads, positions and ends; changes nothing. Raises StoreUnavailable; counts are in the store, so the bus may be away."""
    snapshots = [log.snapshot() for log in pair_logs]
    counts = sum((snapshot.head.counts for snapshot in snapshots), start=Counts())
    in_flight = sum(snapshot.in_flight for snapshot in snapshots)
    taken = {source: intake.load(source) for source in topology.sources}
    events = [t for source, t in taken.items() if source.startswith("events/")]
    outcomes = sum(t.read for source, t in taken.items() if not source.startswith("events/"))
    unsampled = sum(t.unsampled for t in events)
    read = counts.duplicates + counts.mirrored + unsampled
    ends = _ends(bus, list(topology.sources.values()))
    waiting = None
    if ends is not None:
        waiting = [source for source, partition in topology.sources.items() if ends[partition] > taken[source].position]
    return Status(
        read=read,
        routed=sum(t.read for t in events),
        unsampled=unsampled,
        counts=counts,
        in_flight=in_flight,
        identity=identity_problems(counts, read=read, unsampled=unsampled, in_flight=in_flight),
        waiting_sources=waiting,
        outcomes_behind=outcomes - counts.outcomes,
        in_flight_age_s=_in_flight_age_s(snapshots),
    )


def _ends(bus: Bus, partitions: Sequence[Partition]) -> Mapping[Partition, int] | None:
    try:
        return bus.ends(partitions)
    except BusUnavailable:
        return None


def _in_flight_age_s(snapshots: Sequence[Snapshot]) -> float | None:
    """How far the shards with something in flight are behind their own newest frame, at most."""
    busy = [snapshot.head for snapshot in snapshots if snapshot.in_flight]
    if any(head.watermark == NEVER for head in busy):
        return None
    return max((max(0, head.bus_time - head.watermark) / 1e6 for head in busy), default=0.0)
