"""What a rollout is doing: its counts, what does not add up, and whether everything that came has been dealt with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.accounting import Counts, identity_problems
from harness.ports.bus import Bus
from harness.ports.intake import Intake
from harness.ports.pairlog import PairLog
from harness.roles.topology import Topology


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look at a rollout.

    read: events that joiner and router have classified; routed: events the router has taken from its sources. lag: records that still
    stand in a source or in the mirror. identity: what does not add up, empty when all does.
    """

    read: int
    routed: int
    unsampled: int
    counts: Counts
    in_flight: int
    identity: Sequence[str]
    waiting_sources: Sequence[str]
    outcomes_behind: int

    @property
    def idle(self) -> bool:
        """Whether every record of every source has been routed, answered and joined."""
        return not self.waiting_sources and self.read == self.routed and self.in_flight == 0 and self.outcomes_behind == 0


def status(topology: Topology, *, bus: Bus, intake: Intake, pair_logs: Sequence[PairLog]) -> Status:
    """Reads heads, positions and ends; changes nothing."""
    snapshots = [log.snapshot() for log in pair_logs]
    counts = sum((snapshot.head.counts for snapshot in snapshots), start=Counts())
    in_flight = sum(snapshot.in_flight for snapshot in snapshots)
    taken = {source: intake.load(source) for source in topology.sources}
    events = [t for source, t in taken.items() if source.startswith("events/")]
    outcomes = sum(t.read for source, t in taken.items() if not source.startswith("events/"))
    unsampled = sum(t.unsampled for t in events)
    read = counts.duplicates + counts.mirrored + unsampled
    ends = bus.ends(list(topology.sources.values()))
    return Status(
        read=read,
        routed=sum(t.read for t in events),
        unsampled=unsampled,
        counts=counts,
        in_flight=in_flight,
        identity=identity_problems(counts, read=read, unsampled=unsampled, in_flight=in_flight),
        waiting_sources=[source for source, partition in topology.sources.items() if ends[partition] > taken[source].position],
        outcomes_behind=outcomes - counts.outcomes,
    )
