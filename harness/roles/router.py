"""The router: reads events and outcomes, decides who is sampled, stamps, and appends frames to the mirror, its only writer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from harness.core.columns import FEWEST, EventRun
from harness.core.errors import Overrun, RecordError, TooLarge
from harness.core.events import Entry, Event, Frame, Invalid, InvalidOutcome, Outcome
from harness.core.reading import Reader, watermark
from harness.core.rollout import Rollout
from harness.core.routing import Hasher, shard_of
from harness.ports.bus import BEFORE_ALL, Bus, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.intake import Intake, Taken
from harness.roles.topology import Topology

_log = structlog.get_logger()
FRAME_ENTRIES = 256
FRAME_BYTES = 512 * 1024
READ_LIMIT = 1_024
HEARTBEAT = 500_000  # microseconds after which the shards hear of a source that had no record
_new = tuple.__new__  # a named tuple's own takes twice as long
GRACE = 5_000_000  # a source that is silent for so long lets time run on


class _Reading:
    """A source's state while a batch of it is read."""

    __slots__ = ("arrived", "now", "overrun", "position", "read", "unsampled")

    def __init__(self, taken: Taken, now: int) -> None:
        self.now = now
        self.position, self.arrived, self.read = taken.position, taken.arrived, taken.read
        self.unsampled, self.overrun = taken.unsampled, taken.overrun

    def taken(self) -> Taken:
        return Taken(
            position=self.position, arrived=self.arrived, read=self.read, unsampled=self.unsampled, overrun=self.overrun
        )  # fmt: skip


class Router:
    """One rollout's router.

    An event's arrival time is the one it states (`recordedtime`, else `time`), not later than the bus took it or the router read it
    (on a Kafka topic of others the first of these is a producer's claim), and always later than the one before on its source: so the
    order of arrival is that of the source, whatever clocks said. `trust_stated` leaves out these bounds, and lets no time run on: in a
    replay the file alone says when things were.
    """

    def __init__(
        self, rollout: Rollout, topology: Topology, *, bus: Bus, intake: Intake, codec: Codec, clock: Clock, secret: bytes = b"",
        trust_stated: bool = False,
    ) -> None:  # fmt: skip
        self.rollout, self.topology = rollout, topology
        self._bus, self._intake, self._codec, self._clock = bus, intake, codec, clock
        hasher = Hasher(rollout.mirror, secret)
        self._read, self._hasher, self._trust_stated = Reader(rollout, hasher), hasher, trust_stated
        self._version, self._percent = rollout.version, rollout.sample_percent
        self._source_of = {partition: source for source, partition in topology.sources.items()}
        self._taken: dict[str, Taken] = {}
        self._heard: dict[str, int] = {}  # source held -> when it last had a record, or came to this router; steady time
        self._told: dict[str, int] = {}  # source held -> when the shards last heard of it; steady time
        self._reader = bus.reader({})
        self.hold(tuple(topology.sources))

    def hold(self, sources: tuple[str, ...]) -> None:
        """From now on these sources are this router's, from their stored positions."""
        self._reader.close()
        now = self._clock.steady()
        self._heard = {source: self._heard.get(source, now) for source in sources}
        self._told = {source: self._told.get(source, now) for source in sources}
        self._taken = {source: self._intake.load(source) for source in sources}
        self._reader = self._bus.reader({self.topology.sources[source]: taken.position for source, taken in self._taken.items()})

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it took.

        1 read from the stored positions   2 append the frames of each shard, acknowledged   3 compare-and-set the positions with their
        counts. A crash before 3 sends the frames again: the joiner knows their positions and ignores them.
        """
        records = self._records(wait_s)
        now = self._clock.now()
        by_source: dict[str, list[Record]] = {}
        for record in records:
            by_source.setdefault(self._source_of[record.partition], []).append(record)
        for source, its in by_source.items():
            self._take(source, its, now)
        self._heartbeat(now)
        return len(records)

    def _records(self, wait_s: float) -> Sequence[Record]:
        try:
            return self._reader.read(limit=READ_LIMIT, wait_s=wait_s)
        except Overrun:
            for source, before in list(self._taken.items()):
                self._save(source, replace(before, overrun=before.overrun + 1), before)
                self._reader.seek(self.topology.sources[source], BEFORE_ALL)
            return []

    def _take(self, source: str, records: Sequence[Record], now: int) -> None:
        before = self._taken[source]
        read = _Reading(before, now)
        take = self._event if source.startswith("events/") else self._outcome
        n_shards = self.topology.shards
        shards: list[list[Entry]] = [[] for _ in range(n_shards)]
        for record in records:
            if record.position <= read.position:  # read again after an overrun
                continue
            read.position = record.position
            entry = take(record, read)
            if entry is None:
                continue
            if n_shards == 1:
                shards[0].append(entry)
                continue
            key = entry.key if isinstance(entry, Event | Outcome) else self._hasher.event_id(f"{source}@{record.position}")
            shards[shard_of(key, n_shards)].append(entry)
        for shard, entries in enumerate(shards):
            frames = self._frames(source, entries, sent=now, upto=read.arrived)
            self._append(shard, frames)
        self._save(source, read.taken(), before)
        self._heard[source] = self._told[source] = self._clock.steady()

    def _append(self, shard: int, frames: Sequence[Frame]) -> None:
        """Writes frames to the mirror. An event that its topic does not take is invalid: one of them must not stop all others."""
        mirror = self.topology.mirror(shard)
        try:
            self._bus.append(mirror, [self._codec.encode_frame(frame) for frame in frames])
            return
        except TooLarge:
            if len(frames) == 1 and len(frames[0].entries) == 0:
                raise
        for frame in frames:  # what is there already is known by its position, and ignored
            self._append_each(shard, frame)

    def _append_each(self, shard: int, frame: Frame) -> None:
        mirror, entries = self.topology.mirror(shard), frame.entries
        try:
            self._bus.append(mirror, [self._codec.encode_frame(frame)])
        except TooLarge:
            if len(entries) > 1:
                for n, entry in enumerate(entries):
                    upto = frame.upto if n == len(entries) - 1 else _arrived(entries[: n + 1])
                    self._append_each(shard, replace(frame, entries=(entry,), upto=upto))
                return
            (entry,) = entries
            if not isinstance(entry, Event):
                raise
            size = len(entry.payload)
            found = Invalid(position=entry.position, reason=f"{size} bytes, more than the mirror takes")
            self._bus.append(mirror, [self._codec.encode_frame(replace(frame, entries=(found,)))])
            _log.warning(
                "event.too_large", topic=mirror.topic, bytes=size, position=entry.position,
                now="counted as invalid; raise max.message.bytes of that topic for events of this size",
            )  # fmt: skip

    def _save(self, source: str, taken: Taken, before: Taken) -> None:
        self._intake.save(source, taken, after=before)
        self._taken[source] = taken

    def _event(self, record: Record, read: _Reading) -> Entry | None:
        try:
            document = self._codec.json(record.value)
        except RecordError as error:
            read.read += 1
            return Invalid(position=record.position, reason=str(error))
        until = watermark(document)
        if until is not None:
            read.arrived = max(read.arrived, until)
            return None
        read.read += 1
        facts = self._read.facts(document)
        if isinstance(facts, str):
            return Invalid(position=record.position, reason=facts)
        id, key, hashed, segments, decisions, unit, stated = facts
        if self._percent < 100.0 and not self._hasher.sampled(unit, self._percent):
            read.unsampled += 1
            return None
        if not self._trust_stated or stated is None:
            came = record.time if 0 < record.time < read.now else read.now
            stated = came if stated is None or stated > came else stated
        arrived = read.arrived = stated if stated > read.arrived else read.arrived + 1
        return _new(Event, (record.position, key, hashed, id, arrived, segments, decisions, record.value))

    def _outcome(self, record: Record, read: _Reading) -> Entry | None:
        try:
            document = self._codec.json(record.value)
        except RecordError as error:
            read.read += 1
            return InvalidOutcome(position=record.position, reason=str(error))
        if watermark(document) is not None:
            return None
        read.read += 1
        return self._read.outcome(document, position=record.position, time=record.time)

    def _frames(self, source: str, entries: Sequence[Entry], *, sent: int, upto: int) -> list[Frame]:
        """Entries cut into frames; at least one, so that every shard hears how far this source has come."""
        sizes = [len(entry.payload) if isinstance(entry, Event) else 64 for entry in entries]
        runs: list[Sequence[Entry]] = []
        start, stop = 0, 0
        while start < len(entries) or not runs:
            stop = min(start + FRAME_ENTRIES, len(entries))
            while stop > start + 1 and sum(sizes[start:stop]) > FRAME_BYTES:
                stop -= 1
            runs.append(entries[start:stop])
            start = stop
        last = len(runs) - 1
        return [
            Frame(config=self._version, source=source, sent=sent, upto=upto if n == last else _arrived(run), entries=_together(run))
            for n, run in enumerate(runs)
        ]

    def _heartbeat(self, now: int) -> None:
        """Tells every shard the bus time, of each source of which none has heard lately, whatever the others had."""
        steady = self._clock.steady()
        due = [source for source, told in self._told.items() if steady - told >= HEARTBEAT]
        frames = []
        for source in due:
            before, taken = self._taken[source], self._run_on(source, steady)
            if taken != before:  # stored before it is told: another router may have the source by now, and know of older events
                self._save(source, taken, before)
            frames.append(self._codec.encode_frame(Frame(config=self._version, source=source, sent=now, upto=taken.arrived)))
            self._told[source] = steady
        if frames:
            for shard in range(self.topology.shards):
                self._bus.append(self.topology.mirror(shard), frames)

    def _run_on(self, source: str, steady: int) -> Taken:
        """Behind a source that has long been silent, record time runs on as steady time does, and is not behind that of any other
        source: so neither an idle partition nor one that never had an event holds the watermark up. A wall clock that is set ahead is
        no silence."""
        taken = self._taken[source]
        silent = steady - self._heard[source] - GRACE
        if self._trust_stated or silent <= 0 or not source.startswith("events/"):
            return taken
        others = (self._taken.get(name) or self._intake.load(name) for name in self.topology.sources if name.startswith("events/"))
        newest = max(other.arrived for other in others)
        own = taken.arrived + min(silent, steady - self._told[source]) if taken.arrived else 0
        return replace(taken, arrived=max(own, newest))

    @property
    def arrived(self) -> int:
        """The newest arrival time given out, microseconds; 0 before the first event."""
        return max((taken.arrived for source, taken in self._taken.items() if source.startswith("events/")), default=0)

    def close(self) -> None:
        """Lets go of the connections."""
        self._reader.close()


def _together(entries: Sequence[Entry]) -> Sequence[Entry]:
    """A run, if these are many and all of them events."""
    events = [entry for entry in entries if isinstance(entry, Event)]
    return EventRun.of(events) if len(events) == len(entries) >= FEWEST else tuple(entries)


def _arrived(entries: Sequence[Entry]) -> int:
    """The newest arrival time among entries; 0 without an event."""
    return max((entry.arrived for entry in entries if isinstance(entry, Event)), default=0)
