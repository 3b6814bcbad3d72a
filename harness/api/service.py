"""The rollouts of one store and one bus, opened once each. Thread-safe: handlers run in a thread pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.api.errors import ApiError
from harness.api.probe import Probe
from harness.commands import registry
from harness.commands.status import Watched
from harness.core.errors import RecordError
from harness.core.reading import Reader
from harness.core.routing import Hasher
from harness.core.stages import superseded
from harness.ports.bus import Bus, Partition
from harness.ports.clock import Clock, SystemClock
from harness.ports.codec import Codec
from harness.ports.journal import Journal
from harness.roles.standing import Follower
from harness.wiring import open_bus, open_directory, open_journal, open_tokens, reopen, secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One rollout: what is read to look at it, its journal, what judges an event as the router will, and where events go.

    arms: hashes units with the secret, as production does.
    """

    watched: Watched
    journal: Journal
    follower: Follower
    arms: Hasher
    reader: Reader
    hasher: Hasher
    codec: Codec

    def partitions(self, kind: str) -> list[Partition]:
        """Of the source topic of events or outcomes; empty if the rollout has no such topic."""
        return [partition for source, partition in self.watched.topology.sources.items() if source.startswith(f"{kind}/")]


class Service:
    """What the handlers work on.

    topic: one that exists on the bus; readiness asks where it ends.
    """

    def __init__(self, *, bus: str, store: str, topic: str, clock: Clock | None = None) -> None:
        self.bus_url, self.store_url, self.clock = bus, store, clock or SystemClock()
        self._ends_of = [Partition(topic, 0)]
        self._directory = open_directory(store)
        self.tokens = open_tokens(store)
        self._served: dict[str, Served] = {}
        self._families: dict[str, Sequence[str]] = {}
        self.probes = {"bus": Probe(lambda: self._bus.ends(self._ends_of)), "store": Probe(self._directory.all)}

    @cached_property
    def _bus(self) -> Bus:
        return open_bus(self.bus_url)

    def names(self) -> Sequence[str]:
        """The rollouts of the store. Raises StoreUnavailable."""
        return registry.names(self._directory)

    def get(self, name: str) -> Served:
        """A rollout by name. Raises ApiError 404 that lists what there is; Unavailable."""
        served = self._served.get(name)
        if served is None:
            names = self.names()
            several = registry.family(name, self._directory)
            if several:
                raise ApiError(404, f"this name has several challengers, each a rollout: ask for one of {', '.join(several)}")
            if name not in names:
                raise ApiError(404, f"no such rollout; this store has {', '.join(names) or 'none'}")
            served = self._served.setdefault(name, self._open(name))
        return served

    def asked(self, name: str) -> Served:
        """The same with the question that is asked now: opened again when it was amended. Raises also StoreUnavailable."""
        served = self.get(name)
        if _amended(served):
            served = self._served[name] = self._open(name)
        return served

    def several(self, name: str) -> Sequence[str]:
        """The rollouts of the challengers that share this name; empty when it is no such name. Raises StoreUnavailable."""
        if name in self._served:
            return ()
        if name not in self._families and (found := registry.family(name, self._directory)):
            self._families[name] = found
        return self._families.get(name, ())

    def _open(self, name: str) -> Served:
        wiring = reopen(name, self.bus_url, self.store_url)
        hasher = Hasher(wiring.rollout.mirror)
        journal = open_journal(self.store_url, wiring.rollout)
        return Served(
            watched=wiring.watched(), journal=journal, follower=Follower(journal), arms=Hasher(name, secret()),
            reader=Reader(wiring.rollout, hasher), hasher=hasher, codec=wiring.codec,
        )  # fmt: skip


def _amended(served: Served) -> bool:
    """Whether the rollout asks another question than the one it was opened with: its stages and gates are others now."""
    try:
        return superseded(served.watched.rollout, served.follower.now()) is not None
    except RecordError:  # whoever asks where it stands finds the same
        return False
