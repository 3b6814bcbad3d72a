"""The analyst: folds the resolved prefix into statistics, in the one order, and writes the verdict. Reads pairs, never the bus.

Labelled gates fold the same order with a second prefix that lags by `matures`. A label that comes after its event was folded makes
the labelled statistics be folded anew, so that the verdict is a function of the pairs and labels alone, never of when it looked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.evidence import Evidence, Plan, combine
from analysis.types import InputError, PairTable
from harness.core.accounting import Counts
from harness.core.errors import Overrun
from harness.core.pairing import Snapshot
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.core.table import TableBuilder, flips
from harness.core.verdicts import verdict_document
from harness.ports.clock import Clock
from harness.ports.intake import Intake
from harness.ports.ledger import Folded, Ledger, Published
from harness.ports.pairlog import PairLog
from harness.roles.topology import Topology

BATCH_ROWS = 32_768
REPUBLISH = 1_000_000  # microseconds between verdicts when nothing was folded
PUBLISH = 200_000  # at least, when a look was taken
SAVE_EVERY = 10_000_000
ANEW_SHARE = 20  # folding anew, where it is not cheap, takes at most one part in so many of the time
CHEAP = 1_000_000


def plan_of(rollout: Rollout) -> Plan:
    """What a stage of the rollout tests: its gates, the members of the closed test, and its change detectors."""
    listed = {segment.name: segment.listed for segment in rollout.events.segments}
    return Plan(
        rollout.gates, alpha=rollout.alpha, n_stages=len(rollout.stages), listed=listed,
        window_us=max(int(rollout.detect.window_s * 1e6), 1), detect_units=rollout.detect.units,
    )  # fmt: skip


@dataclass(slots=True)
class Prefix:
    """Rows read but not folded yet, by arrival; how far each shard was read; and the last look folded (-1: none)."""

    lag: int
    look: int = -1
    read_to: dict[int, int] = field(default_factory=dict)
    arrived: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    shard: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    ordinal: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def add(self, shard: int, start: int, arrived: NDArray[np.int64]) -> None:
        """Rows of a shard from ordinal `start` on; those at or before the last look were folded before."""
        ordinals = np.arange(start, start + len(arrived))
        new = arrived > self.look - self.lag if self.look >= 0 else np.ones(len(arrived), bool)
        self.arrived = np.concatenate([self.arrived, arrived[new]])
        self.shard = np.concatenate([self.shard, np.full(int(new.sum()), shard)])
        self.ordinal = np.concatenate([self.ordinal, ordinals[new]])

    def needed(self) -> dict[int, int]:
        """Shard -> its first row that is not folded: those before it may expire."""
        return {shard: int(self.ordinal[self.shard == shard].min(initial=read_to)) for shard, read_to in self.read_to.items()}

    def take(self, upto: int) -> list[tuple[int, NDArray[np.int64]]]:
        """(shard, ordinals) of the rows that arrived at or before `upto`, which leave the prefix's buffer."""
        ready = self.arrived <= upto
        taken = [(int(s), np.sort(self.ordinal[ready & (self.shard == s)])) for s in np.unique(self.shard[ready])]
        self.arrived, self.shard, self.ordinal = self.arrived[~ready], self.shard[~ready], self.ordinal[~ready]
        return taken


class Analyst:
    """The statistics and the verdict of one rollout."""

    def __init__(
        self, rollout: Rollout, topology: Topology, *, pair_logs: Sequence[PairLog], intake: Intake, ledger: Ledger, clock: Clock,
        code_version: str, stage: int = 0,
    ) -> None:  # fmt: skip
        self.rollout, self.topology, self._stage = rollout, topology, stage
        self._pair_logs, self._intake, self._ledger, self._clock = pair_logs, intake, ledger, clock
        self._code_version = code_version
        self._grid = int(rollout.looks_s * 1e6)
        self._matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
        self._plan = plan_of(rollout)
        self._builder = TableBuilder(rollout)
        self._folded = ledger.load()
        self._late_labels, self._anew_at = -1, 0
        self._flips: dict[str, dict[str, int]] = {}
        self._published_at = self._saved_at = 0
        self._published_look = -1
        self._restore()

    # -------------------------------------------------------------------------------------------------------------------- state
    def _restore(self) -> None:
        """Statistics from the ledger, if they are of this design; else everything is folded again from the pairs."""
        self._fresh()
        if not self._folded.state:
            return
        head, _, blobs = self._folded.state.partition(b"\n")
        try:
            saved = json.loads(head)
            cut = saved["unlabelled_bytes"]
            unlabelled = Evidence.from_bytes(self._plan, False, blobs[:cut])
            labelled = Evidence.from_bytes(self._plan, True, blobs[cut:])
        except (InputError, ValueError, KeyError):
            return
        self._evidence = {False: unlabelled, True: labelled}
        self._prefixes[False].look, self._prefixes[True].look = saved["look"], saved["labelled_look"]
        for prefix, needed in zip(self._prefixes.values(), saved.get("needed", ()), strict=False):
            prefix.read_to = {int(shard): ordinal for shard, ordinal in needed.items()}
        self._flips, self._late_labels = saved["flips"], saved["late_labels"]

    def _fresh(self) -> None:
        self._evidence = {labelled: Evidence(self._plan, labelled) for labelled in (False, True)}
        self._prefixes = {False: Prefix(lag=0), True: Prefix(lag=self._matures)}
        self._flips = {}

    def _save(self) -> None:
        unlabelled, labelled = (self._evidence[kind].to_bytes() for kind in (False, True))
        head = {
            "look": self._prefixes[False].look, "labelled_look": self._prefixes[True].look, "flips": self._flips,
            "late_labels": self._late_labels, "unlabelled_bytes": len(unlabelled),
            "needed": [prefix.needed() for prefix in self._prefixes.values()],
        }  # fmt: skip
        folded = Folded(version=self._folded.version + 1, state=json.dumps(head).encode() + b"\n" + unlabelled + labelled)
        self._ledger.save(folded, after=self._folded)
        self._folded = folded
        self._saved_at = self._clock.now()

    # --------------------------------------------------------------------------------------------------------------------- step
    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many events it folded. `wait_s` is not used: the caller paces an analyst.

        1 read the heads, and from them the last look that every shard has passed   2 fold both prefixes up to it   3 save the statistics
        with their cursor   4 publish the verdict. A crash before 3 folds again from the pairs.
        """
        snapshots = [log.snapshot() for log in self._pair_logs]
        low = min(snapshot.head.watermark for snapshot in snapshots)
        look = low // self._grid * self._grid if low > 0 else -1  # 0: no source has had an event yet
        began = self._clock.now()
        anew = self._unfold_labelled(sum(snapshot.head.late_labels for snapshot in snapshots), began)
        moved = look > min(prefix.look for prefix in self._prefixes.values())
        n = 0
        if moved:
            self._index(snapshots)
            n = sum(self._advance(labelled, look) for labelled in (False, True))
        now = self._clock.now()
        if anew and now - began > CHEAP:
            self._anew_at = now + ANEW_SHARE * (now - began)
        if n and not 0 <= now - self._saved_at < SAVE_EVERY:
            self._save()
        new = self._prefixes[False].look > self._published_look
        if not 0 <= now - self._published_at < (PUBLISH if new else REPUBLISH):  # below 0 the clock was set back
            self.publish()
        return n

    def _unfold_labelled(self, late: int, now: int) -> bool:
        """Throws the labelled statistics away when labels came that they may not hold; not again before it has cost a small share of
        the time since, however late labels trickle in; and not when pairs have expired, which leaves these labels behind."""
        if late == self._late_labels or (self._late_labels >= 0 and now < self._anew_at):
            return False
        if self._late_labels >= 0 and not self._all_stored():
            self._anew_at = now + SAVE_EVERY
            return False
        first, self._late_labels = self._late_labels < 0, late
        if first:
            return False
        self._evidence[True] = Evidence(self._plan, True)
        self._prefixes[True] = Prefix(lag=self._matures)
        return True

    def _all_stored(self) -> bool:
        """Whether no pair has expired yet."""
        try:
            for log in self._pair_logs:
                log.rows(0, min(1, log.snapshot().head.resolved))
        except Overrun:
            return False
        return True

    def _index(self, snapshots: Sequence[Snapshot]) -> None:
        """Notes ordinal and arrival of every row that was resolved since the last time."""
        for shard, snapshot in enumerate(snapshots):
            for prefix in self._prefixes.values():
                start = prefix.read_to.get(shard, 0)
                while start < snapshot.head.resolved:
                    stop = min(start + BATCH_ROWS, snapshot.head.resolved)
                    records = self._builder.layout.records(self._pair_logs[shard].rows(start, stop))
                    prefix.add(shard, start, records["arrived"].astype(np.int64))
                    start = prefix.read_to[shard] = stop

    def _advance(self, labelled: bool, look: int) -> int:
        """Folds one prefix up to a look, in the order (arrival time, event) over all shards."""
        prefix = self._prefixes[labelled]
        if look <= prefix.look:
            return 0
        table = self._table(prefix.take(look - prefix.lag))
        seen = np.unique(-(-(table["arrived"] + prefix.lag) // self._grid)) * self._grid
        looks = np.union1d(seen, [look]).astype(np.int64)
        self._evidence[labelled].fold(table, looks - prefix.lag)
        if not labelled:
            self._count_flips(flips(table, self.rollout.policies))
        prefix.look = look
        return len(table)

    def _table(self, taken: Sequence[tuple[int, NDArray[np.int64]]]) -> PairTable:
        runs = []
        for shard, ordinals in taken:
            words = self._pair_logs[shard].words()
            for run in np.split(ordinals, np.flatnonzero(np.diff(ordinals) != 1) + 1):
                data = self._pair_logs[shard].rows(int(run[0]), int(run[-1]) + 1)
                runs.append((self._builder.layout.records(data), words))
        return self._builder.build(runs)

    def _count_flips(self, more: Mapping[str, Mapping[str, int]]) -> None:
        for policy, counts in more.items():
            mine = self._flips.setdefault(policy, {})
            for word, n in counts.items():
                mine[word] = mine.get(word, 0) + n

    # ------------------------------------------------------------------------------------------------------------------ verdict
    def publish(self) -> dict[str, Any]:
        """Writes the verdict at the last look, with the counts of this moment, and returns it. It is as old as what was read for it."""
        self._published_at, self._published_look = self._clock.now(), self._prefixes[False].look
        verdict = self._verdict([log.snapshot() for log in self._pair_logs])
        self._ledger.publish(Published(verdict=canonical(verdict), looked=self._published_at))
        return verdict

    def _verdict(self, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
        counts = sum((snapshot.head.counts for snapshot in snapshots), start=Counts())
        taken = {source: self._intake.load(source) for source in self.topology.sources}
        events = [t for source, t in taken.items() if source.startswith("events/")]
        unsampled = sum(t.unsampled for t in events)
        overrun = sum(t.overrun for t in taken.values())
        look = self._prefixes[False].look
        return verdict_document(
            self.rollout,
            rows=combine(self._plan, self._evidence[False], self._evidence[True]),
            counts=counts + Counts(overrun=overrun),
            read=counts.duplicates + counts.mirrored + unsampled,
            unsampled=unsampled,
            in_flight=sum(snapshot.in_flight for snapshot in snapshots),
            flips=self._flips or {policy: {"pairs": 0} for policy in self.rollout.policies},
            watermark=self._watermark(snapshots),
            as_of=look if look >= 0 else None,
            labels_behind=self._labels_behind(snapshots),
            labelled_wait=self._labelled_wait(),
            code_version=self._code_version,
            stage=self._stage,
        )

    def _watermark(self, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
        """How far the shards are resolved: a record time, and the events resolved in each. Positions of the bus are left out: they are
        not the same in two replays."""
        low = min(snapshot.head.watermark for snapshot in snapshots)
        return {
            "resolved": timestamp(low) if low > 0 else None,
            "shards": [s.head.resolved for s in snapshots],
            "labels_behind": self._labels_behind(snapshots),
        }

    def _labels_behind(self, snapshots: Sequence[Snapshot]) -> int:
        """Labels that came for events folded before, and that the statistics do not hold yet."""
        return sum(snapshot.head.late_labels for snapshot in snapshots) - self._late_labels if self._late_labels >= 0 else 0

    def _labelled_wait(self) -> str | None:
        """Until when labels of events already seen may still come, in words."""
        if self.rollout.outcomes is None:
            return None
        waiting = self._prefixes[True].arrived
        if not len(waiting):
            return None
        return f"labels mature until {timestamp(int(waiting.max()) + self._matures)}"

    def close(self) -> None:
        """Saves the statistics and the verdict."""
        self._save()
        self.publish()


class Analysts:
    """The analyst of a rollout while this worker holds it; another one stands by. `make` opens it, from what is stored."""

    def __init__(self, make: Callable[[], Analyst]) -> None:
        self._make = make
        self._held: Analyst | None = None

    def hold(self, parts: tuple[str, ...]) -> None:
        """Takes up or lays down the verdict."""
        if not parts:
            self.close()
        elif self._held is None:
            self._held = self._make()

    def step(self, wait_s: float = 0.0) -> int:
        """One step, if it is this worker's."""
        return self._held.step(wait_s) if self._held is not None else 0

    def close(self) -> None:
        """Saves and lays down the verdict."""
        if self._held is not None:
            held, self._held = self._held, None
            held.close()


def canonical(verdict: Mapping[str, Any]) -> bytes:
    """verdict.json: the same object gives the same bytes. Raises ValueError for NaN, which JSON does not have."""
    return json.dumps(verdict, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"
