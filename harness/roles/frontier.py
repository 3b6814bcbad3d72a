"""How far production had come at a moment: which events were there before a stage began, read or not.

After a downtime events wait in their topic, with times of their own. They came before the stage, and nobody was served by it then.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.ports.bus import Bus, Partition
from harness.ports.intake import Intake
from harness.roles.topology import Topology


class Frontier:
    """The events of one rollout that were there when it was first asked."""

    def __init__(self, topology: Topology, bus: Bus, intake: Intake) -> None:
        self._bus, self._intake = bus, intake
        self._sources = {name: partition for name, partition in topology.sources.items() if name.startswith("events/")}
        self._ends: Mapping[Partition, int] | None = None

    def passed(self) -> int | None:
        """The record time, microseconds, at or before which all of them arrived; None while the router has not read them all.

        Raises BusUnavailable; StoreUnavailable.
        """
        if self._ends is None:
            self._ends = self._bus.ends(list(self._sources.values()))
        taken = {name: self._intake.load(name) for name in self._sources}
        if any(taken[name].position < self._ends[partition] for name, partition in self._sources.items()):
            return None
        return max(each.arrived for each in taken.values())
