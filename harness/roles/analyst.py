"""The analyst: folds the resolved prefix into statistics, in the one order, and writes the verdict. Reads pairs, never the bus.

Labelled gates fold the same order with a second prefix that lags by `matures`. A label that comes after its event was folded makes
the labelled statistics be folded anew, so that the verdict is a function of the pairs and labels alone, never of when it looked.

It follows the journal: each stage is a new process, with no evidence of the one before, over the rows that arrived after the record
time that the record of its begin names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.evidence import Evidence, Plan, combine
from analysis.types import InputError, PairTable
from harness.core.accounting import Counts
from harness.core.errors import Overrun, RecordError
from harness.core.pairing import Snapshot
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.core.stages import State, alpha_share, read_by, standpoint, superseded
from harness.core.table import TableBuilder, flips
from harness.core.verdicts import damaged, verdict_document
from harness.ports.clock import Clock
from harness.ports.intake import Intake
from harness.ports.ledger import Folded, Ledger, Published
from harness.ports.observations import ObservationLog
from harness.ports.pairlog import PairLog
from harness.roles.arms import Arms, restored
from harness.roles.exposed import Served
from harness.roles.prefix import Prefix, first_stored
from harness.roles.topology import Topology

BATCH_ROWS = 32_768
REPUBLISH = 1_000_000  # microseconds between verdicts when nothing was folded
PUBLISH = 200_000  # at least, when a look was taken
SAVE_EVERY = 10_000_000
ANEW_SHARE = 20  # folding anew, where it is not cheap, takes at most one part in so many of the time
CHEAP = 1_000_000
FOLLOW = 500_000  # microseconds between two looks at the journal
EXPIRED = "pairs of this stage expired before they were folded (overrun)"


def plan_of(rollout: Rollout, stage: int = 0, attempt: int = 0) -> Plan:
    """What a stage of an attempt tests: its gates at their part of alpha, the members of the closed test, and its change detectors."""
    listed, share = {segment.name: segment.listed for segment in rollout.events.segments}, alpha_share(attempt)
    gates = tuple(gate if gate.alpha is None else replace(gate, alpha=gate.alpha * share) for gate in rollout.gates_of(stage))
    return Plan(
        gates, alpha=rollout.alpha * share, n_stages=len(rollout.stages), listed=listed,
        window_us=max(int(rollout.detect.window_s * 1e6), 1), detect_units=rollout.detect.units,
    )  # fmt: skip


class Analyst:
    """The statistics and the verdict of one rollout.

    where: asks where the rollout stands. Raises RecordError when that cannot be known: then nothing is folded or saved, and the verdict
    holds and says so.
    """

    def __init__(
        self, rollout: Rollout, topology: Topology, *, pair_logs: Sequence[PairLog], intake: Intake, ledger: Ledger, clock: Clock,
        code_version: str, where: Callable[[], State] = State, observations: ObservationLog | None = None,
    ) -> None:  # fmt: skip
        self.rollout, self.topology, self._where = rollout, topology, where
        self._pair_logs, self._intake, self._ledger, self._clock = pair_logs, intake, ledger, clock
        self._code_version = code_version
        self._grid = int(rollout.looks_s * 1e6)
        self._matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
        self._observations = observations
        self._served = Served(rollout, topology, pair_logs, observations, clock)
        self._plan = plan_of(rollout)
        self._builder = TableBuilder(rollout)
        self._folded = ledger.load()
        self._state, self._damage, self._news = State(), "", False
        self._published_at = self._saved_at = self._followed_at = 0
        self._published, self._published_look = ledger.published(), -1
        self._prefixes: dict[bool, Prefix] = {}
        self._fresh()
        self._known, self._whole = False, True
        self._follow(clock.now())

    # ------------------------------------------------------------------------------------------------------------------ its stage
    def _follow(self, now: int) -> None:
        """Asks where the rollout stands, and takes up a stage that has begun."""
        self._followed_at = now
        try:
            state = read_by(self.rollout, self._where())
        except RecordError as error:
            self._news, self._damage = self._news or str(error) != self._damage, str(error)
            return
        before, self._state, self._damage = self._state, state, ""
        self._news = self._news or state != before
        if not self._known:
            self._restore()
        elif (state.stage, state.since, state.attempt) != (before.stage, before.since, before.attempt):
            self._fresh()
        self._known = True

    def _fresh(self) -> None:
        """The statistics of a stage of which nothing was folded."""
        since, stage = self._state.since, self.rollout.stages[self._state.stage]
        start = self._start_of(since)
        self._plan = plan_of(self.rollout, self._state.stage, self._state.attempt)
        self._arms: Arms | None = None
        if stage.kind == "canary" and self._observations is not None and self.rollout.exposures is not None:
            self._arms = Arms(self.rollout, self.topology, self._plan, self._observations, percent=stage.percent, since=since)
        self._evidence = {labelled: Evidence(self._plan, labelled) for labelled in (False, True)}
        self._prefixes = {
            False: Prefix.of_stage(0, since, start), True: Prefix.of_stage(self._matures, since, start),
        }  # fmt: skip
        self._late_labels, self._anew_at = -1, 0
        self._flips: dict[str, dict[str, int]] = {}
        self._began: int | None = None
        self._last: int | None = None
        self._versions: dict[str, dict[str, int]] | None = None
        self._n_pairs, self._expired = 0, False
        self._served.begin(self._state)

    def _start_of(self, since: int) -> dict[int, int]:
        """Shard -> an ordinal before which no row of a stage lies: what the stage before had still to fold, where that reaches so far."""
        known = [prefix.needed() for prefix in self._prefixes.values() if since >= 0 and prefix.look - prefix.lag <= since]
        return max(known, key=lambda needed: sum(needed.values()), default={})

    def _restore(self) -> None:
        """Statistics from the ledger, if they are of this design and stage; else the stage is folded again from the pairs."""
        self._fresh()
        if not self._folded.state:
            return
        head, _, blobs = self._folded.state.partition(b"\n")
        try:
            saved = json.loads(head)
            where = saved.get("stage", 0), saved.get("since", -1), saved.get("attempt", 0)
            if where == (self._state.stage, self._state.since, self._state.attempt):
                self._versions = saved.get("versions")  # also when the rest is of another design, and is folded anew
            cut = saved["unlabelled_bytes"]
            end = saved.get("arms_at", len(blobs))
            unlabelled = Evidence.from_bytes(self._plan, False, blobs[:cut])
            labelled = Evidence.from_bytes(self._plan, True, blobs[cut:end])
        except (InputError, ValueError, KeyError):
            return
        looks, starts = (saved["look"], saved["labelled_look"]), saved.get("start", ({}, {}))
        for prefix, look, needed, start in zip(self._prefixes.values(), looks, saved.get("needed", ({}, {})), starts, strict=True):
            prefix.floor, prefix.look = where[1], look
            prefix.read_to, prefix.start = ({int(shard): ordinal for shard, ordinal in part.items()} for part in (needed, start))
        if where != (self._state.stage, self._state.since, self._state.attempt):
            self._fresh()
            return
        self._evidence = {False: unlabelled, True: labelled}
        self._flips, self._late_labels = saved["flips"], saved["late_labels"]
        self._began, self._last, self._n_pairs = saved.get("began"), saved.get("last"), saved.get("pairs", 0)
        self._expired = saved.get("expired", False)
        if self._arms is not None and end < len(blobs):
            self._arms = restored(self._arms, blobs[end:])

    def _save(self) -> None:
        unlabelled, labelled = (self._evidence[kind].to_bytes() for kind in (False, True))
        head = {
            "look": self._prefixes[False].look, "labelled_look": self._prefixes[True].look, "flips": self._flips,
            "late_labels": self._late_labels, "unlabelled_bytes": len(unlabelled),
            "needed": [prefix.needed() for prefix in self._prefixes.values()],
            "start": [prefix.start for prefix in self._prefixes.values()], "stage": self._state.stage, "since": self._state.since,
            "attempt": self._state.attempt, "versions": self._versions,
            "began": self._began, "last": self._last, "pairs": self._n_pairs, "expired": self._expired,
            "arms_at": len(unlabelled) + len(labelled),
        }  # fmt: skip
        arms = b"" if self._arms is None else self._arms.to_bytes()
        folded = Folded(version=self._folded.version + 1, state=json.dumps(head).encode() + b"\n" + unlabelled + labelled + arms)
        self._ledger.save(folded, after=self._folded)
        self._folded = folded
        self._saved_at = self._clock.now()

    # --------------------------------------------------------------------------------------------------------------------- step
    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many events it folded. `wait_s` is not used: the caller paces an analyst.

        1 read where the rollout stands; a new stage begins with nothing   2 read the heads, and from them the last look that every shard
        has passed   3 fold both prefixes up to it   4 save the statistics with their cursor   5 publish the verdict. A crash before 4 folds
        again from the pairs.
        """
        now = self._clock.now()
        if not 0 <= now - self._followed_at < FOLLOW:
            self._follow(now)
        n = 0 if self._damage or superseded(self.rollout, self._state) else self._fold()
        now = self._clock.now()
        if n and not 0 <= now - self._saved_at < SAVE_EVERY:
            self._save()
        new = self._prefixes[False].look > self._published_look
        if self._news or not 0 <= now - self._published_at < (PUBLISH if new else REPUBLISH):  # below 0 the clock was set back
            self.publish()
        return n

    def _fold(self) -> int:
        """Folds both prefixes up to the last look that every shard has passed; returns how many events that were."""
        snapshots, self._whole = [log.snapshot() for log in self._pair_logs], False
        low = min(snapshot.head.watermark for snapshot in snapshots)
        look = low // self._grid * self._grid if low > 0 else -1  # 0: no source has had an event yet
        began = self._clock.now()
        anew = self._unfold_labelled(sum(snapshot.head.late_labels for snapshot in snapshots), began)
        moved = look > min(prefix.look for prefix in self._prefixes.values())
        n = 0
        if moved:
            self._index(snapshots)
            n = sum(self._advance(labelled, look) for labelled in (False, True))
        if self._arms is not None and self._arms.advance():
            n, self._news = n + 1, True
        if self._served.advance(snapshots, self._prefixes[False].start):
            n, self._news = n + 1, True
        now = self._clock.now()
        if anew and now - began > CHEAP:
            self._anew_at = now + ANEW_SHARE * (now - began)
        self._whole = True
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
        self._prefixes[True] = Prefix.of_stage(self._matures, self._state.since, self._prefixes[True].start)
        return True

    def _all_stored(self) -> bool:
        """Whether no pair of this stage has expired yet."""
        try:
            for shard, log in enumerate(self._pair_logs):
                start = self._prefixes[True].start.get(shard, 0)
                log.rows(start, max(start, min(start + 1, log.snapshot().head.resolved)))
        except Overrun:
            return False
        return True

    def _index(self, snapshots: Sequence[Snapshot]) -> None:
        """Notes ordinal and arrival of every row that was resolved since the last time."""
        for shard, snapshot in enumerate(snapshots):
            for prefix in self._prefixes.values():
                self._pass_expired(prefix, shard, snapshot.head.resolved)
                start = prefix.read_to.get(shard, 0)
                while start < snapshot.head.resolved:
                    stop = min(start + BATCH_ROWS, snapshot.head.resolved)
                    records = self._builder.layout.records(self._pair_logs[shard].rows(start, stop))
                    prefix.add(shard, start, records["arrived"].astype(np.int64))
                    start = prefix.read_to[shard] = stop

    def _pass_expired(self, prefix: Prefix, shard: int, resolved: int) -> None:
        """Who has read nothing of a stage goes on behind the rows that have expired: they are of stages before, or the verdict says so."""
        start = prefix.read_to.get(shard, 0)
        if start >= resolved or start != prefix.start.get(shard, 0):
            return
        first = first_stored(self._pair_logs[shard], start, resolved)
        if first == start:
            return
        prefix.skip(shard, first)
        data = self._pair_logs[shard].rows(first, min(first + 1, resolved))
        self._expired = self._expired or not data or int(self._builder.layout.records(data)["arrived"][0]) > prefix.floor

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
            self._count(table)
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

    def _count(self, table: PairTable) -> None:
        """Counts the stage's pairs and flips, and notes when it began: with its first row, or the first behind a gap in which all
        evidence expires, as one record of a clock that was never set makes it."""
        if len(table):
            gaps = np.diff(table["arrived"], prepend=table["arrived"][0] if self._last is None else self._last)
            began = np.flatnonzero(gaps > self.rollout.expires_s * 1e6)
            if self._began is None or len(began):
                self._began = int(table["arrived"][began[-1] if len(began) else 0])
            self._last = int(table["arrived"][-1])
        self._n_pairs += int(((table["missing.incumbent"] < 0) & (table["missing.challenger"] < 0)).sum())
        for policy, counts in flips(table, self.rollout.policies).items():
            mine = self._flips.setdefault(policy, {})
            for word, n in counts.items():
                mine[word] = mine.get(word, 0) + n

    # ------------------------------------------------------------------------------------------------------------------ verdict
    def publish(self) -> dict[str, Any]:
        """Writes the verdict at the last look, with the counts of this moment, and returns it. It is as old as what was read for it."""
        self._published_at, self._published_look, self._news = self._clock.now(), self._prefixes[False].look, False
        verdict = self._verdict([log.snapshot() for log in self._pair_logs])
        version = self._published.version + 1 if self._published else 1
        published = Published(verdict=canonical(verdict), looked=self._published_at, version=version)
        self._ledger.publish(published, after=self._published)  # refused when another analyst has taken over meanwhile
        self._published = published
        return verdict

    def _verdict(self, snapshots: Sequence[Snapshot]) -> dict[str, Any]:
        counts = sum((snapshot.head.counts for snapshot in snapshots), start=Counts())
        taken = {source: self._intake.load(source) for source in self.topology.sources}
        events = [t for source, t in taken.items() if source.startswith("events/")]
        unsampled = sum(t.unsampled for t in events)
        overrun = sum(t.overrun for t in taken.values())
        if self._observations is not None and self._arms is not None:
            overrun += sum(self._observations.load(source).overrun for source in self.topology.observed)
        look = self._prefixes[False].look if self._prefixes[False].look >= 0 else None
        at = standpoint(self.rollout, self._state, look=look, began=self._began, pairs=self._n_pairs)
        found = verdict_document(
            self.rollout,
            rows=combine(self._plan, self._evidence[False], self._evidence[True], () if self._arms is None else self._arms.results()),
            counts=counts + Counts(overrun=overrun),
            read=counts.duplicates + counts.mirrored + unsampled,
            unsampled=unsampled,
            in_flight=sum(snapshot.in_flight for snapshot in snapshots),
            flips=self._flips or {policy: {"pairs": 0} for policy in self.rollout.policies},
            watermark=self._watermark(snapshots),
            as_of=look,
            labels_behind=self._labels_behind(snapshots),
            labelled_wait=self._labelled_wait(),
            code_version=self._code_version,
            at=at,
            against=[*([EXPIRED] if self._expired else ()), *filter(None, [superseded(self.rollout, self._state), self._mixed(counts)])],
            arms=None if self._arms is None else self._arms.document(),
            served=self._served.document(),
        )
        return damaged(found, self._damage) if self._damage else found

    def _mixed(self, counts: Counts) -> str | None:
        """Which model answered as more than one version since the stage began, in words: the evidence would speak of none of them."""
        if self._versions is None:
            self._versions = {lane: dict(seen) for lane, seen in counts.versions.items()} if self._state.since >= 0 else {}
        for lane in ("incumbent", "challenger"):
            before = self._versions.get(lane, {})
            since = sorted(version for version, n in counts.versions.get(lane, {}).items() if n > before.get(version, 0))
            if len(since) > 1:
                shown = ", ".join(repr(version[:40]) for version in since[:4])
                return f"changed: the {lane} answered as {shown} in one stage; `shadow amend CONFIG --reason TEXT` begins a new attempt"
        return None

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
        """Saves the statistics and the verdict, unless the last fold was cut off: then what is stored is right, and what is here is not."""
        if not self._whole:
            return
        if self._known:
            self._save()
        self.publish()


def canonical(verdict: Mapping[str, Any]) -> bytes:
    """verdict.json: the same object gives the same bytes. Raises ValueError for NaN, which JSON does not have."""
    return json.dumps(verdict, ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"
