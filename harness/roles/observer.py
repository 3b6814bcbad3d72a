"""The observer: reads what production reports of a canary, exposures and measurements, and stores it in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from harness.core.errors import Overrun, RecordError
from harness.core.observations import OTHERS, Observation, ObservationReader
from harness.core.reading import watermark
from harness.core.rollout import Rollout
from harness.core.routing import Hasher
from harness.ports.bus import BEFORE_ALL, Bus, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.intake import Intake
from harness.ports.observations import ObservationLog, Observed
from harness.roles.topology import Topology

READ_LIMIT = 4_096
HEARTBEAT = 500_000  # microseconds between two runs on of a silent source
GRACE = 5_000_000  # a source that is silent for so long lets time run on


class Observer:
    """One rollout's observer. Its sources are `topology.observed`: "exposures/0", or a measure's "appeals/3".

    Arrival times are given out as the router gives them: the stated one, not later than now, and always later than the one before.
    """

    def __init__(
        self, rollout: Rollout, topology: Topology, *, bus: Bus, log: ObservationLog, intake: Intake, codec: Codec, clock: Clock,
        secret: bytes = b"",
    ) -> None:  # fmt: skip
        self.topology = topology
        self._bus, self._log, self._intake, self._codec, self._clock = bus, log, intake, codec, clock
        hasher = Hasher(rollout.mirror, secret)
        names = {source.rpartition("/")[0] for source in topology.observed}
        self._read = {name: ObservationReader(rollout, hasher, name) for name in names}
        self._source_of = {partition: source for source, partition in topology.observed.items()}
        self._observed: dict[str, Observed] = {}
        self._heard: dict[str, int] = {}
        self._ran_on: dict[str, int] = {}
        self._reader = bus.reader({})
        self._warned: set[tuple[str, str]] = set()

    def hold(self, sources: tuple[str, ...]) -> None:
        """From now on these sources are this observer's, from their stored positions."""
        self._reader.close()
        now = self._clock.now()
        self._heard = {source: self._heard.get(source, now) for source in sources}
        self._ran_on = {source: now for source in sources}
        self._observed = {source: self._log.load(source) for source in sources}
        self._reader = self._bus.reader({self.topology.observed[source]: seen.position for source, seen in self._observed.items()})

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it took.

        1 read from the stored positions   2 store rows and position of each source in one script. A crash before 2 reads them again.
        """
        records = self._records(wait_s)
        now = self._clock.now()
        by_source: dict[str, list[Record]] = {}
        for record in records:
            by_source.setdefault(self._source_of[record.partition], []).append(record)
        for source, its in by_source.items():
            self._take(source, its, now)
        for source in self._observed.keys() - by_source.keys():
            self._run_on(source, now)
        return len(records)

    def _records(self, wait_s: float) -> Sequence[Record]:
        try:
            return self._reader.read(limit=READ_LIMIT, wait_s=wait_s)
        except Overrun:
            for source, before in list(self._observed.items()):
                self._save(source, [], replace(before, overrun=before.overrun + 1))
                self._reader.seek(self.topology.observed[source], BEFORE_ALL)
            return []

    def _take(self, source: str, records: Sequence[Record], now: int) -> None:
        observed, rows = self._observed[source], list[Observation]()
        read = self._read[source.rpartition("/")[0]]
        position, arrived, n, invalid, n_others = observed.position, observed.arrived, observed.read, observed.invalid, 0
        for record in records:
            if record.position <= position:  # read again after an overrun
                continue
            position = record.position
            found: Observation | str
            try:
                document = self._codec.json(record.value)
            except RecordError as error:
                found = str(error)
            else:
                until = watermark(document)
                if until is not None:
                    arrived = max(arrived, until)
                    continue
                found = read.read(document)
            n += 1
            if found == OTHERS:  # an exposure of a sibling's canary is well said, and none of ours
                n_others += 1
                continue
            if isinstance(found, str):
                invalid += 1
                self._warn(source, found)
                continue
            came = record.time if 0 < record.time < now else now
            stated = came if found.arrived < 0 else min(found.arrived, came)
            arrived = max(stated, arrived + 1)
            rows.append(found._replace(arrived=arrived))
        self._save(source, rows, replace(observed, position=position, arrived=arrived, read=n, invalid=invalid))
        if n_others < len(records):  # else the source is silent for us
            self._heard[source] = self._ran_on[source] = now

    def _save(self, source: str, rows: Sequence[Observation], observed: Observed) -> None:
        self._log.append(source, rows, observed, after=self._observed[source])
        self._observed[source] = observed

    def _run_on(self, source: str, now: int) -> None:
        """Behind a silent source record time runs on: as the wall clock does, and not behind the rollout's events."""
        self._heard[source] = min(self._heard[source], now)
        if now - self._heard[source] < GRACE or 0 <= now - self._ran_on[source] < HEARTBEAT:
            return
        observed, ran = self._observed[source], now - self._ran_on[source]
        own = observed.arrived + max(ran, 0) if observed.arrived else 0
        events = max((self._intake.load(name).arrived for name in self.topology.sources if name.startswith("events/")), default=0)
        self._ran_on[source] = now
        if max(own, events) > observed.arrived:
            self._save(source, [], replace(observed, arrived=max(own, events)))

    def _warn(self, source: str, reason: str) -> None:
        """One log line for each reason."""
        if (source, reason) not in self._warned and len(self._warned) < 100:
            self._warned.add((source, reason))
            structlog.get_logger().warning("observation.invalid", source=source, reason=reason)

    def close(self) -> None:
        """Lets go of the connections."""
        self._reader.close()
