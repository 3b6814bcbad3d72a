"""In-memory doubles of the ports: plain, for tests. They pass the contract suites of `harness.testing.contracts` and have no URL,
because the product has no second implementation. Use them to test a role without a server, or beside an adapter of your own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import HeadMoved, Overrun, UsageError
from harness.core.events import Outcome
from harness.core.held import Known, Open, refs_of
from harness.core.observations import Observation
from harness.core.pairing import Effects, Head, Snapshot
from harness.core.table import RowLayout
from harness.ports.bus import BEFORE_ALL, Partition, Record
from harness.ports.clock import Clock, SystemClock
from harness.ports.intake import Taken
from harness.ports.journal import ROOT, Link
from harness.ports.ledger import Folded, Published
from harness.ports.observations import ROW, Observed
from harness.ports.presence import Seen, State


class MemoryReader:
    """`ports.bus.Reader` over a `MemoryBus`."""

    def __init__(self, bus: MemoryBus, after: Mapping[Partition, int]) -> None:
        self._bus, self._after = bus, dict(after)

    def read(self, *, limit: int, wait_s: float) -> Sequence[Record]:
        """Up to `limit` further records; waits at most `wait_s` for the first."""
        with self._bus.changed:
            self._bus.changed.wait_for(lambda: any(self._bus.after(p, n, 1) for p, n in self._after.items()), timeout=max(0.0, wait_s))
            records: list[Record] = []
            for partition, position in list(self._after.items()):
                new = self._bus.after(partition, position, limit - len(records))
                if new:
                    records += new
                    del self._after[partition]
                    self._after[partition] = new[-1].position  # to the back of the queue
            return records

    def seek(self, partition: Partition, after: int) -> None:
        """Reads on after this position."""
        self._after[partition] = after

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryBus:
    """`ports.bus.Bus` in lists; positions are 0, 1, 2. Thread-safe; `clock` gives the times of records."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._clock = clock or SystemClock()
        self._topics: dict[str, int] = {}
        self._logs: dict[Partition, list[Record]] = {}
        self._first: dict[Partition, int] = {}
        self._commits: dict[tuple[str, Partition], int] = {}

    def ensure(self, topic: str, partitions: int | None = None, *, keep_s: float = 0.0) -> int:
        """Creates the topic if it is not there and returns how many partitions it has. Records stay until they are trimmed."""
        if partitions is not None and partitions < 1:
            raise UsageError(f"topic {topic}: {partitions} partitions, must be 1 or more")
        with self.changed:
            found = self._topics.setdefault(topic, partitions or 1)
        if partitions not in (None, found):
            raise UsageError(f"topic {topic}: has {found} partitions, not {partitions}")
        return found

    def append(self, partition: Partition, values: Sequence[bytes]) -> None:
        """Appends in order."""
        with self.changed:
            log = self._logs.setdefault(partition, [])
            log += [Record(partition, len(log) + n, self._clock.now(), value) for n, value in enumerate(values)]
            self.changed.notify_all()

    def after(self, partition: Partition, position: int, limit: int) -> list[Record]:
        """Up to `limit` records after a position. Raises Overrun when some of them were trimmed."""
        with self.changed:
            first, log = self._first.get(partition, 0), self._logs.get(partition, [])
            if BEFORE_ALL < position < first - 1 and limit > 0:
                raise Overrun(f"{partition.topic}:{partition.number}: records after {position} were trimmed before they were read")
            start = max(position + 1, first)
            return log[start : start + limit]

    def reader(self, after: Mapping[Partition, int]) -> MemoryReader:
        """A reader of these partitions, each after its position."""
        return MemoryReader(self, after)

    def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The position of the last record of each."""
        with self.changed:
            return {partition: len(self._logs.get(partition, ())) - 1 for partition in partitions}

    def commit(self, group: str, positions: Mapping[Partition, int]) -> None:
        """Notes that `group` needs nothing at or before these positions."""
        with self.changed:
            self._commits.update({(group, partition): position for partition, position in positions.items()})

    def committed(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """What `group` committed."""
        with self.changed:
            return {partition: self._commits.get((group, partition), BEFORE_ALL) for partition in partitions}

    def trim(self, partition: Partition, upto: int) -> None:
        """Drops the records at or before this position."""
        with self.changed:
            first = min(upto + 1, len(self._logs.get(partition, ())))
            self._first[partition] = max(self._first.get(partition, 0), first)

    def close(self) -> None:
        """Nothing to let go of."""


class MemoryPairLog:
    """`ports.pairlog.PairLog` in dictionaries. Rows never expire by themselves; `expire` forgets them."""

    def __init__(self, layout: RowLayout) -> None:
        self._layout = layout
        self._head = Head()
        self._open: dict[int, Open] = {}
        self._settled: dict[int, Open] = {}
        self._ids: dict[bytes, tuple[tuple[bytes, int], ...]] = {}
        self._rows: dict[int, bytes] = {}
        self._early: dict[bytes, tuple[Outcome, ...]] = {}
        self._words: list[str] = []

    def load(self) -> tuple[Head, Mapping[int, Open], Sequence[str]]:
        """The head, the open and settled events by ordinal, and the words."""
        return self._head, dict(sorted({**self._open, **self._settled}.items())), tuple(self._words)

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Known]:
        """What is stored of these events."""
        found = {}
        for id in keys:
            events, early = self._ids.get(id, ()), self._early.get(id, ())
            if events or early:
                rows = {ordinal: self._rows[ordinal] for _, ordinal in events if ordinal in self._rows}
                found[id] = Known(events=events, rows=rows, early=early)
        return found

    def due(self, before: int, limit: int) -> Sequence[bytes]:
        """Keys whose earliest outcome has a time before `before`, oldest first."""
        times = sorted((min(outcome.time for outcome in outcomes), id) for id, outcomes in self._early.items())
        return [id for time, id in times if time < before][:limit]

    def apply(self, effects: Effects, *, after: Head) -> None:
        """All effects and their new head, or nothing."""
        if after != self._head:
            raise HeadMoved(f"the stored head is version {self._head.version}, not {after.version} as loaded")
        width, at = self._layout.width, self._layout.label_at
        for ordinal, opened in effects.settled.items():
            self._open.pop(ordinal, None)
            self._settled[ordinal] = opened
        self._open.update(effects.open)
        for ordinal in effects.gone:
            self._open.pop(ordinal, None)
            self._settled.pop(ordinal, None)
        self._ids.update(effects.ids)
        for first, keys in effects.fresh:
            self._ids.update(refs_of(first, keys))
        for n in range(len(effects.rows) // width):
            self._rows[self._head.resolved + n] = effects.rows[n * width : (n + 1) * width]
        self._rows.update({n: self._rows[n][:at] + label for n, label in effects.labels.items() if n in self._rows})
        self._early.update(effects.early)
        self._early = {id: outcomes for id, outcomes in self._early.items() if outcomes}
        self._words += effects.words
        self._head = effects.head

    def snapshot(self) -> Snapshot:
        """Head and number of open events."""
        return Snapshot(head=self._head, in_flight=len(self._open))

    def rows(self, start: int, stop: int) -> bytes:
        """The packed rows of these ordinals. Raises Overrun when some have expired."""
        if any(ordinal not in self._rows for ordinal in range(start, stop)):
            raise Overrun(f"rows of the ordinals {start} to {stop} have expired, or were never written")
        return b"".join(self._rows[ordinal] for ordinal in range(start, stop))

    def words(self) -> Sequence[str]:
        """The dictionary."""
        return tuple(self._words)

    def forget(self, unit: int) -> int:
        """Leaves nothing of a unit's rows but when they arrived."""
        found = {}
        for ordinal, row in self._rows.items():
            records = self._layout.records(row)
            if int(records["unit"][0]) == unit:
                found[ordinal] = self._layout.forgotten(records).tobytes()[: self._layout.label_at] + self._layout.pack_label(None)
        self._rows |= found
        left = {id: tuple(ref for ref in refs if ref[1] not in found) for id, refs in self._ids.items()}
        self._ids = {id: refs for id, refs in left.items() if refs}
        if found:
            self._head = replace(self._head, version=self._head.version + 1)
        return len(found)

    def expire(self, stop: int) -> None:
        """Forgets the rows below this ordinal, as time does elsewhere."""
        self._rows = {ordinal: row for ordinal, row in self._rows.items() if ordinal >= stop}


class MemoryIntake:
    """`ports.intake.Intake` in a dictionary."""

    def __init__(self) -> None:
        self._taken: dict[str, Taken] = {}

    def load(self, source: str) -> Taken:
        """The state of a source."""
        return self._taken.get(source, Taken())

    def save(self, source: str, taken: Taken, *, after: Taken) -> None:
        """Replaces the state."""
        if self.load(source) != after:
            raise HeadMoved(f"{source}: the stored state is not that of position {after.position}")
        self._taken[source] = taken


class MemoryObservationLog:
    """`ports.observations.ObservationLog` in lists."""

    def __init__(self) -> None:
        self._observed: dict[str, Observed] = {}
        self._rows: dict[str, list[tuple[int, int, float, float] | None]] = {}
        self._keys: set[tuple[str, bytes]] = set()

    def load(self, source: str) -> Observed:
        """The state of a source."""
        return self._observed.get(source, Observed())

    def append(self, source: str, observations: Sequence[Observation], observed: Observed, *, after: Observed) -> None:
        """Adds the rows whose key is new, and replaces the state."""
        if self.load(source) != after:
            raise HeadMoved(f"{source}: the stored state is not that of position {after.position}")
        for row in observations:
            if (source, row.key) not in self._keys:
                self._keys.add((source, row.key))
                self._rows.setdefault(source, []).append(row[1:])
        self._observed[source] = observed

    def rows(self, source: str, start: int) -> tuple[NDArray[Any], int]:
        """Rows from `start` on."""
        rows = self._rows.get(source, [])
        return np.array([row for row in rows[start:] if row is not None], ROW), len(rows)

    def sources(self) -> Sequence[str]:
        """The sources that have rows."""
        return sorted(self._rows)

    def forget(self, unit: int) -> int:
        """Takes the rows of a unit out of every source; their places stay."""
        n = 0
        for source, rows in self._rows.items():
            self._rows[source] = [None if row is not None and row[0] == unit else row for row in rows]
            n += sum(old is not new for old, new in zip(rows, self._rows[source], strict=True))
        return n


class MemoryLedger:
    """`ports.ledger.Ledger` in two values."""

    def __init__(self) -> None:
        self._folded = Folded()
        self._published: Published | None = None

    def load(self) -> Folded:
        """The statistics last saved."""
        return self._folded

    def save(self, folded: Folded, *, after: Folded) -> None:
        """Replaces them."""
        if self._folded.version != after.version:
            raise HeadMoved(f"the stored statistics are not version {after.version}")
        self._folded = folded

    def publish(self, published: Published, *, after: Published | None) -> None:
        """Replaces the verdict."""
        if (after.version if after else 0) != (self._published.version if self._published else 0):
            raise HeadMoved("another analyst has published")
        self._published = published

    def published(self) -> Published | None:
        """The verdict last written."""
        return self._published


class MemoryJournal:
    """`ports.journal.Journal` in a list."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def append(self, body: bytes, *, after: str) -> Link:
        """Adds a record."""
        head = self._links[-1].hash if self._links else ROOT
        if head != after:
            raise HeadMoved(f"the chain no longer ends with {after[:12]}")
        link = Link(hash=sha256(after.encode() + body).hexdigest(), previous=after, body=body)
        self._links.append(link)
        return link

    def read(self, start: int = 0) -> Sequence[Link]:
        """The chain from record `start` on."""
        return tuple(self._links[start:])


class MemoryDirectory:
    """`ports.directory.Directory` in a dictionary."""

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def register(self, name: str, entry: bytes) -> bytes:
        """Writes the entry if the name is new; returns the entry that stands there now."""
        return self._entries.setdefault(name, entry)

    def replace(self, name: str, entry: bytes) -> None:
        """Writes the entry."""
        self._entries[name] = entry

    def all(self) -> Mapping[str, bytes]:
        """Every rollout's entry, by name."""
        return dict(sorted(self._entries.items()))


class MemoryPresence:
    """`ports.presence.Presence` in a dictionary; `clock` is the store's."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._notes: dict[str, tuple[int, State, str]] = {}

    def note(self, role: str, state: State, why: str = "") -> None:
        """Replaces the role's last word."""
        self._notes[role] = (self._clock.now(), state, why)

    def all(self) -> Mapping[str, Seen]:
        """The last word of every role that spoke within the last day."""
        now = self._clock.now()
        seen = {role: Seen(state=state, why=why, age_s=(now - at) / 1e6) for role, (at, state, why) in sorted(self._notes.items())}
        return {role: last for role, last in seen.items() if last.age_s < 86_400}


class MemoryShares:
    """`ports.shares.Shares` in memory, by the process's own clock."""

    def __init__(self) -> None:
        self._dead_at: dict[tuple[str, str], float] = {}
        self._owner: dict[tuple[str, str], str] = {}

    def _living(self, role: str) -> list[str]:
        now = time.monotonic()
        self._dead_at = {key: dead for key, dead in self._dead_at.items() if dead > now}
        return sorted(worker for its, worker in self._dead_at if its == role)

    def take(self, role: str, worker: str, parts: Sequence[str], *, ttl_s: float) -> tuple[str, ...]:
        """Renews, takes and gives back; returns what the worker holds."""
        self._dead_at[role, worker] = time.monotonic() + ttl_s
        living = self._living(role)
        share = -(-len(parts) // len(living))
        mine = [part for part in parts if self._owner.get((role, part)) == worker]
        for part in mine[share:]:
            del self._owner[role, part]
        held = mine[:share]
        for part in parts:
            if len(held) < share and part not in held and self._owner.get((role, part)) not in living:
                self._owner[role, part] = worker
                held.append(part)
        return tuple(part for part in parts if part in held)

    def leave(self, role: str, worker: str) -> None:
        """Gives everything back at once."""
        self._dead_at.pop((role, worker), None)
        self._owner = {key: owner for key, owner in self._owner.items() if (key[0], owner) != (role, worker)}

    def workers(self, role: str) -> Mapping[str, Sequence[str]]:
        """Living workers of a role, each with the parts it holds."""
        living = self._living(role)
        return {w: sorted(part for (its, part), owner in self._owner.items() if (its, owner) == (role, w)) for w in living}
