"""Which topics and partitions a rollout has: names only, the same in every role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.rollout import Rollout
from harness.ports.bus import Bus, Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The partitions of one rollout. sources: "events/0" or "outcomes/0" -> its partition; shards: fixed when the rollout is created.

    observed: "exposures/0", or the name of a measure as in "appeals/0" -> its partition; empty without exposures. reads: the rollout
    whose mirror and predictions it reads, if that is another name than its own.
    """

    rollout: str
    shards: int
    sources: Mapping[str, Partition]
    observed: Mapping[str, Partition] = field(default_factory=dict)
    reads: str | None = None

    def mirror(self, shard: int) -> Partition:
        """Where the router writes, and lanes and joiner read."""
        return Partition(f"{self.reads or self.rollout}.mirror", shard)

    def predictions(self, shard: int) -> Partition:
        """Where lanes write, and the joiner reads."""
        return Partition(f"{self.reads or self.rollout}.predictions", shard)

    @property
    def records(self) -> Partition:
        """Where the controller writes what was decided."""
        return Partition(f"{self.rollout}.records", 0)

    @property
    def n_event_sources(self) -> int:
        """Partitions of the events topic."""
        return sum(source.startswith("events/") for source in self.sources)


def create(rollout: Rollout, shards: int, bus: Bus) -> Topology:
    """Creates the rollout's topics where they are missing. Raises UsageError when one has another number of partitions."""
    keep_s = 2 * rollout.window_s  # an answer may come a window after its event, and who reads it may be as late
    sources = {f"events/{n}": Partition(rollout.events.topic, n) for n in range(bus.ensure(rollout.events.topic, keep_s=keep_s))}
    if rollout.outcomes is not None:
        topic = rollout.outcomes.topic
        sources |= {f"outcomes/{n}": Partition(topic, n) for n in range(bus.ensure(topic, keep_s=keep_s))}
    bus.ensure(f"{rollout.mirror}.mirror", shards, keep_s=keep_s)
    bus.ensure(f"{rollout.mirror}.predictions", shards, keep_s=keep_s)
    bus.ensure(f"{rollout.name}.records")
    topics = {"exposures": rollout.exposures.topic} if rollout.exposures else {}
    topics |= {name: measure.topic for name, measure in rollout.online.items()}
    observed = {f"{name}/{n}": Partition(topic, n) for name, topic in topics.items() for n in range(bus.ensure(topic))}
    return Topology(rollout=rollout.name, shards=shards, sources=sources, observed=observed, reads=rollout.mirror)
