"""Fold the two logs of a shard, close pairs, name the missing: pure, so that the same records always give the same counts.

The joiner hands in decoded frames, in log order, and what the store knows of the events they name; it takes out `Effects`, which the
store applies with the new head or not at all. Nothing here reads a clock: a timeout is a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.accounting import Counts, Tally
from harness.core.events import ANSWERED, Answer, AnswerFrame, Event, Frame, Invalid, InvalidOutcome, Outcome, stamped
from harness.core.held import NOTHING, Known, Live, Open
from harness.core.labels import count, count_apart, count_orphaned, merged
from harness.core.rollout import Rollout
from harness.core.routing import ID_BYTES, replicated
from harness.core.table import Dictionary, RowLayout

NO_ANSWER = "no_answer"
NEVER = -(1 << 62)
_WITH_KEY = (Event, Outcome)
CHARGED = ("incumbent", "challenger")  # the lanes that a missing event may be charged to, in this order


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How far a shard was folded, and what it counted on the way.

    mirror, predictions: positions read. ordinal: the next event's; resolved: rows below it are written. seen: source -> highest source
    position folded. upto: source -> no later entry has an arrival time at or before it. watermark: every event that arrived at or
    before it is resolved (NEVER until all sources spoke). bus_time: the newest frame's. late_labels: labels put on rows that a
    labelled gate may have folded already.
    """

    version: int = 0
    mirror: int = -1
    predictions: int = -1
    ordinal: int = 0
    resolved: int = 0
    seen: Mapping[str, int] = field(default_factory=dict)
    upto: Mapping[str, int] = field(default_factory=dict)
    watermark: int = NEVER
    bus_time: int = 0
    late_labels: int = 0
    counts: Counts = field(default_factory=Counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Everything one fold changes. `open` and `settled` are written, `gone` is removed from both; `ids` are new events, and so is
    `fresh`: runs of them, (first ordinal, keys); `rows` follow the old `resolved`; `labels` replace the label part of rows; an empty tuple
    in `early` removes the key."""

    head: Head
    open: Mapping[int, Open] = field(default_factory=dict)
    settled: Mapping[int, Open] = field(default_factory=dict)
    gone: tuple[int, ...] = ()
    ids: Mapping[bytes, tuple[tuple[bytes, int], ...]] = field(default_factory=dict)
    fresh: tuple[tuple[int, bytes], ...] = ()
    rows: bytes = b""
    labels: Mapping[int, bytes] = field(default_factory=dict)
    early: Mapping[bytes, tuple[Outcome, ...]] = field(default_factory=dict)
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A head with the number of open events, counted in the store at the same moment."""

    head: Head
    in_flight: int


class Fold:
    """The joins of one shard in memory: feed it records, take the effects, apply them; after a refusal throw it away and load again."""

    def __init__(self, rollout: Rollout, layout: RowLayout, head: Head, opens: Mapping[int, Open], words: Sequence[str]) -> None:
        self.rollout, self.layout = rollout, layout
        self.head = head
        self._replica = rollout.models.get("replica")
        self._lanes, self._without_replica = rollout.lanes, tuple(lane for lane in rollout.lanes if lane != "replica")
        self._matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
        self._requests = rollout.outcomes is not None and rollout.outcomes.requested is not None
        self._opens = {n: Live(n, o.event, o.mirror, o.sent, self.asked(o.event.key)) for n, o in opens.items()}
        for n, opened in opens.items():
            self._opens[n].answers, self._opens[n].outcome = dict(opened.answers), opened.outcome
        self._by_key = {opened.event.key: opened for opened in self._opens.values()}
        self._stored = set(self._opens)  # what the store holds as open or settled: mostly an event is paired before it had to be written
        self._words = Dictionary(words)
        self._begin()

    def _begin(self) -> None:
        """Starts a new set of changes on top of the head."""
        head = self.head
        self._tally = Tally(head.counts)
        self._seen, self._upto = dict(head.seen), dict(head.upto)
        self._mirror, self._predictions, self._bus_time = head.mirror, head.predictions, head.bus_time
        self._ordinal, self._late_labels, self._n_words = head.ordinal, head.late_labels, len(self._words.words)
        self._changed: set[int] = set()
        self._known: dict[bytes, Known] = {}
        self._ids: dict[bytes, tuple[tuple[bytes, int], ...]] = {}
        self._early: dict[bytes, tuple[Outcome, ...]] = {}
        self._labels: dict[int, bytes] = {}

    # ---------------------------------------------------------------------------------------------------- what must be looked up
    def unknown_keys(self, frames: Iterable[Frame], answers: Iterable[AnswerFrame]) -> set[bytes]:
        """The id hashes in these records of which the store must be asked."""
        wanted: set[bytes] = set()
        for frame in frames:
            seen = self._seen.get(frame.source, -1)
            for entry in frame.entries:
                if entry.position > seen and isinstance(entry, _WITH_KEY):
                    wanted.add(entry.key[:ID_BYTES])
        held = self._by_key
        for answered in answers:
            wanted.update([answer.key[:ID_BYTES] for answer in answered.answers if answer.key not in held])
        return wanted

    def know(self, found: Mapping[bytes, Known]) -> None:
        """Takes in what the store has of them."""
        self._known.update(found)

    # -------------------------------------------------------------------------------------------------------------- the mirror
    def mirror(self, position: int, frame: Frame) -> None:
        """Folds one mirror frame. An entry at or below the highest position seen of its source is a redelivery and changes nothing.

        A frame of a router that was refused may have older stamps than the time that its rival told meanwhile: its events arrive after
        that, because looks up to it may be closed. Events open at bus time: once a router's clock was ahead, `sent` is overdue as it comes.
        """
        self._mirror = max(self._mirror, position)
        self._bus_time = max(self._bus_time, frame.sent)
        told = self._upto.get(frame.source, NEVER)
        seen = self._seen.get(frame.source, -1)
        n_new = 0
        for entry in frame.entries:
            if entry.position <= seen:
                continue
            seen = entry.position
            match entry:
                case Event():
                    if entry.arrived <= told:
                        told += 1
                        entry = stamped(entry, told)
                    n_new += self._event(entry, position, self._bus_time)
                case Invalid():
                    self._tally.add("mirrored")
                    self._tally.add("invalid")
                case Outcome():
                    self._outcome(entry)
                case InvalidOutcome():
                    self._tally.add("invalid_outcomes")
        self._tally.add("mirrored", n_new)
        self._seen[frame.source] = seen
        self._upto[frame.source] = max(told, frame.upto)

    def _event(self, event: Event, mirror: int, sent: int) -> bool:
        """Opens an event; False for a duplicate."""
        key = event.key
        id, source = key[:ID_BYTES], key[ID_BYTES:]
        known = self._known.get(id, NOTHING)
        others = self._ids.get(id) or known.events
        if others and any(other == source for other, _ in others):
            self._tally.add("duplicates")
            return False
        ordinal = self._ordinal
        self._ordinal = ordinal + 1
        self._ids[id] = (*others, (source, ordinal)) if others else ((source, ordinal),)
        lanes = self._lanes if self._replica is None else self.asked(key)
        self._opens[ordinal] = self._by_key[key] = Live(ordinal, event, mirror, sent, lanes)
        self._changed.add(ordinal)
        if known.early or id in self._early:
            self._welcome(id)
        return True

    def _welcome(self, id: bytes) -> None:
        """Joins the outcomes that came before their event."""
        early, self._early[id] = self._early_of(id), ()
        for outcome in early:
            count_apart(self._tally, "waiting", outcome, -1)
            self._outcome(outcome)

    # ----------------------------------------------------------------------------------------------------------------- outcomes
    def _early_of(self, id: bytes) -> tuple[Outcome, ...]:
        return self._early[id] if id in self._early else self._known.get(id, NOTHING).early

    def _outcome(self, outcome: Outcome) -> None:
        """Joins an outcome, or a request for one, to the first event of its id; `labels.merged` says what its records come to."""
        id = outcome.key[:ID_BYTES]
        events = self._ids.get(id) or self._known.get(id, NOTHING).events
        if not events:
            self._early[id] = (*self._early_of(id), outcome)
            count_apart(self._tally, "waiting", outcome)
            return
        ordinal = min(ordinal for _, ordinal in events)
        opened = self._opens.get(ordinal)
        if opened is not None:
            count(self._tally, opened.outcome, outcome)
            known = merged(opened.outcome, outcome, requests=self._requests)
            if known is not opened.outcome:
                opened.outcome = known
                self._changed.add(ordinal)
            return
        row = self._row(id, ordinal)
        if row is None:  # its pair has expired
            count_apart(self._tally, "orphaned", outcome)
            return
        count(self._tally, before := self.layout.label_of(row), outcome)
        label = self.layout.pack_label(merged(before, outcome, requests=self._requests))
        if label != row[self.layout.label_at :]:
            self._labels[ordinal] = row[: self.layout.label_at] + label
            if self.layout.facts(row)[0] <= self.low_water() - self._matures:
                self._late_labels += 1

    def _row(self, id: bytes, ordinal: int) -> bytes | None:
        return self._labels[ordinal] if ordinal in self._labels else self._known.get(id, NOTHING).rows.get(ordinal)

    def give_up(self, keys: Iterable[bytes]) -> None:
        """Early outcomes whose event never came within the time to live are orphaned; the store must have been asked for these keys."""
        for id in keys:
            early = self._early_of(id)
            if early and id not in self._ids:
                self._early[id] = ()
                for outcome in early:
                    count_orphaned(self._tally, outcome)

    # ------------------------------------------------------------------------------------------------------------------ answers
    def predictions(self, position: int, frame: AnswerFrame) -> None:
        """Folds one answer frame: the first answer per (event, lane) in log order wins; one after `no_answer` is `late`."""
        self._predictions = max(self._predictions, position)
        if frame.version is not None:
            self._tally.lane("versions", frame.lane, frame.version)
        lane, fits, held = frame.lane, self.layout.fits, self._by_key
        n_answered = n_paired = 0
        for answer in frame.answers:
            opened = held.get(answer.key)
            if opened is None:
                self._answer_too_late(lane, answer)
                continue
            answers = opened.answers
            if answer.status != ANSWERED or lane in answers or lane not in opened.lanes or not fits(answer.outputs):
                self._answer(opened, lane, answer)
                continue
            answers[lane] = answer
            self._changed.add(opened.ordinal)
            n_answered += 1
            if len(answers) == len(opened.lanes):
                n_paired += self._settle(opened)
        if n_answered:
            self._tally.lane("lanes", lane, ANSWERED, n_answered)
        self._tally.add("paired", n_paired)

    def _answer_too_late(self, lane: str, answer: Answer) -> None:
        """An answer on an event that is no longer, or never was, held."""
        source, known = answer.key[ID_BYTES:], self._known.get(answer.key[:ID_BYTES], NOTHING)
        row = next((known.rows[o] for s, o in known.events if s == source and o in known.rows), None)
        first = None if row is None else self.layout.facts(row)[1].get(lane)
        if first is None:
            self._tally.add("unknown")
        elif answer.status == ANSWERED and first == NO_ANSWER:
            self._tally.lane("lanes", lane, "late")

    def _answer(self, opened: Live, lane: str, answer: Answer) -> None:
        """An answer that is not simply the first of its lane: of a lane that was not asked, another one, a bad one, or none."""
        if lane not in opened.lanes:
            self._tally.add("unknown")
            return
        if answer.status == ANSWERED and not self.layout.fits(answer.outputs):  # of another config, or none of ours
            answer = Answer(key=answer.key, status="bad_output", latency_ms=answer.latency_ms)
        answers = opened.answers
        first = answers.get(lane)
        if first is not None:
            if first.status == NO_ANSWER and answer.status == ANSWERED:
                self._tally.lane("lanes", lane, "late")
            return
        answers[lane] = answer
        self._changed.add(opened.ordinal)
        self._tally.lane("lanes", lane, answer.status)
        if len(answers) == len(opened.lanes):
            self._tally.add("paired", self._settle(opened))

    def _settle(self, opened: Live) -> bool:
        """Whether an event that has all its answers is a pair; one that is missing is charged to one lane."""
        for lane in CHARGED:
            if (status := opened.answers[lane].status) != ANSWERED:
                self._tally.lane("missing", lane, status)
                return False
        return True

    def asked(self, key: bytes) -> tuple[str, ...]:
        """The lanes that are asked about an event."""
        asked_all = self._replica is None or replicated(key, self._replica.percent)
        return self._lanes if asked_all else self._without_replica

    def overdue(self, window: int) -> list[tuple[int, str, tuple[bytes, ...]]]:
        """(mirror position, lane, keys) of the answers still missing when bus time has passed the pairing window (microseconds)."""
        late: dict[tuple[int, str], list[bytes]] = {}
        for opened in self._opens.values():
            if opened.sent + window < self._bus_time:
                for lane in opened.lanes:
                    if lane not in opened.answers:
                        late.setdefault((opened.mirror, lane), []).append(opened.event.key)
        return [(mirror, lane, tuple(keys)) for (mirror, lane), keys in sorted(late.items())]

    # ------------------------------------------------------------------------------------------------------------------ effects
    def low_water(self) -> int:
        """No later event of any source that has spoken arrives at or before this."""
        return min((upto for source, upto in self._upto.items() if source.startswith("events/")), default=NEVER)

    def effects(self, n_sources: int) -> Effects:
        """What has changed since the head, for one apply; call `applied` when it succeeded.

        n_sources: partitions of the events topic; until each has spoken the watermark is NEVER.
        """
        rows, resolved = self._resolve()
        kept = self._kept(resolved)
        settled = {n: opened for n, opened in kept.items() if len(opened.answers) == len(self.asked(opened.event.key))}
        n_spoken = sum(source.startswith("events/") for source in self._upto)
        unresolved = self._oldest(resolved)
        low = self.low_water() if n_spoken >= n_sources else NEVER
        head = Head(
            version=self.head.version + 1, mirror=self._mirror, predictions=self._predictions, ordinal=self._ordinal, resolved=resolved,
            seen=dict(self._seen), upto=dict(self._upto), bus_time=self._bus_time, late_labels=self._late_labels,
            watermark=low if unresolved is None else min(low, unresolved - 1), counts=self._tally.counts(),
        )  # fmt: skip
        labels = {ordinal: row[self.layout.label_at :] for ordinal, row in self._labels.items()}
        return Effects(
            head=head, open={n: o for n, o in kept.items() if n not in settled}, settled=settled, ids=dict(self._ids),
            fresh=self._fresh_ids(), gone=tuple(sorted(n for n in self._stored if n < resolved)), rows=rows, labels=labels,
            early=dict(self._early), words=tuple(self._words.words[self._n_words :]),
        )  # fmt: skip

    def _resolve(self) -> tuple[bytes, int]:
        """(rows of the events that have all their answers, up to the first that has not; that one's ordinal)."""
        resolved, rows = self.head.resolved, bytearray()
        while (ready := self._opens.get(resolved)) is not None and len(ready.answers) == len(ready.lanes):
            rows += self.layout.pack(ready.event, ready.answers, ready.outcome, self._words)
            resolved += 1
        return bytes(rows), resolved

    def _kept(self, resolved: int) -> dict[int, Open]:
        """What has changed of the events that wait, from this ordinal on."""
        return {ordinal: self._opens[ordinal].frozen() for ordinal in sorted([n for n in self._changed if n >= resolved])}

    def _oldest(self, resolved: int) -> int | None:
        """When the first of the events arrived that wait, from this ordinal on."""
        return min((opened.event.arrived for n, opened in self._opens.items() if n >= resolved), default=None)

    def _fresh_ids(self) -> tuple[tuple[int, bytes], ...]:
        """The new events that are not in `ids`."""
        return ()

    def overran(self) -> None:
        """Records of the mirror were lost before they were read, or cannot be read: counted, so that the verdict holds."""
        self._tally.add("overrun")

    def skip(self, *, mirror: int = -1, predictions: int = -1) -> None:
        """A record that is none of ours, by its position in one of the logs. In the mirror events may have been in it: an overrun."""
        self._mirror, self._predictions = max(self._mirror, mirror), max(self._predictions, predictions)
        if mirror >= 0:
            self.overran()
        else:
            self._tally.add("unknown")

    def applied(self, effects: Effects) -> None:
        """The effects are stored: go on from their head."""
        self._drop(effects.head.resolved)
        self._stored.difference_update(effects.gone)
        self._stored.update(effects.open, effects.settled)
        self.head = effects.head
        self._begin()

    def _drop(self, resolved: int) -> None:
        """Lets go of the events before this ordinal."""
        for ordinal in range(self.head.resolved, resolved) if self._opens else ():
            opened = self._opens.pop(ordinal, None)
            if opened is not None:
                self._by_key.pop(opened.event.key, None)

    @property
    def n_open(self) -> int:
        """Events held in memory: in flight, or settled behind one that is."""
        return len(self._opens)
