"""The joiner: the only part that classifies and counts. One object a shard; the rules are `core.pairing`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from harness.core.bulk import BulkFold
from harness.core.errors import HeadMoved, Overrun, RecordError, StoreFull, Unavailable
from harness.core.events import Answer, AnswerFrame, Frame
from harness.core.pairing import NEVER, NO_ANSWER
from harness.core.rollout import CHALLENGER, Family, Rollout
from harness.core.table import RowLayout
from harness.ports.bus import BEFORE_ALL, Bus, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.pairlog import PairLog
from harness.roles.lane import lane_group
from harness.roles.plainids import IdKeeper
from harness.roles.topology import Topology

_log = structlog.get_logger()
T = TypeVar("T")
Mirrored = list[tuple[int, Frame | None]]
Answered = list[tuple[int, AnswerFrame | None]]
READ_FRAMES = 32
DUE_LIMIT = 256
PATIENCE_S = 0.02  # how long the answers of some lanes wait for those of the others, before their events are stored as open
MOST_HOLDS = 8  # reads
FEW_ASKED = 8
MOST_WAITING = 200_000  # early outcomes of a shard, some 30 MB
LAST = 1 << 62  # later than any time
MIRROR_WAIT_S = 1.0
TRIM_EVERY = 5_000_000  # microseconds


class Joiner:
    """The joins of one shard of one rollout.

    patience_s: how long answers may wait for those of other lanes before they are folded; 0: not at all.
    """

    def __init__(
        self, rollout: Rollout, topology: Topology, shard: int, *, bus: Bus, pair_log: PairLog, codec: Codec, clock: Clock,
        most_waiting: int = MOST_WAITING, patience_s: float = 0.0, ids: IdKeeper | None = None,
    ) -> None:  # fmt: skip
        self.rollout, self.topology, self.shard = rollout, topology, shard
        self._bus, self._pair_log, self._codec, self._clock = bus, pair_log, codec, clock
        self._layout, self._version, self._spoken = RowLayout(rollout), rollout.version, rollout.spoken(CHALLENGER)
        self._mirror, self._predictions = topology.mirror(shard), topology.predictions(shard)
        self._window = int(rollout.window_s * 1e6)
        self._others = frozenset(rollout.family.siblings) if rollout.family is not None else frozenset()
        self._matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
        self._mirror_reader = bus.reader({self._mirror: BEFORE_ALL})
        self._answer_reader = bus.reader({self._predictions: BEFORE_ALL})
        self._most_waiting, self._patience_s, self._ids = most_waiting, patience_s, ids
        self._trimmed = clock.now()
        self._load()
        self._done = self._fold.head.mirror, self._fold.head.predictions

    def _load(self) -> None:
        """Loads the head and seeks both logs to it."""
        head, opens, words = self._pair_log.load()
        self._held: Answered = []  # answers that were read and wait for those of other lanes
        self._n_holds = 0
        self._ahead: list[Record] = []  # of the mirror: read, and beyond what the answers read so far are on
        self._fold = BulkFold(self.rollout, self._layout, head, opens, words)
        if self._ids is not None:
            self._ids.loaded(opens.values(), words)
        self._mirror_reader.seek(self._mirror, head.mirror)
        self._answer_reader.seek(self._predictions, head.predictions)

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it took.

        1 read both logs; before an answer, the mirror up to the position it names   2 ask the store what it knows of them   3 fold
        4 apply effects and head together, or nothing: then load again   5 append `no_answer` for lanes that stayed silent.
        """
        try:
            frames, answers, at_end = self._read(wait_s)
        except Overrun:
            return self._overrun()
        try:
            due = self._due()
            if frames or answers or due:
                self._commit(frames, answers, due)
        except (HeadMoved, Unavailable, StoreFull):
            self._load()
            raise
        if at_end:
            self._name_the_silent()
        self._trim()
        return len(frames) + len(answers) + len(due) + len(self._held)

    def _read(self, wait_s: float) -> tuple[Mirrored, Answered, bool]:
        """(mirror frames, answer frames, whether the answers were read to their end).

        While answers come, they lead, and the mirror follows them no further than they name; those that other lanes are still to join
        wait a moment for them. So most events find all their answers in the fold that opens them, and need not be stored as open.
        """
        frames: Mirrored = []
        records = self._answer_reader.read(limit=READ_FRAMES * 2, wait_s=0.0)
        if all(map(self._of_others, records)):  # none, or such as must not lead: our own lane may be silent
            self._read_ahead(0.0)
            if self._patience_s and (self._ahead or self._held):
                records = [*records, *self._answer_reader.read(limit=READ_FRAMES * 2, wait_s=self._patience_s)]
        leads = not all(map(self._of_others, records))
        if not leads:
            frames = self._taken(None)
            if not records:
                records = self._answer_reader.read(limit=READ_FRAMES * 2, wait_s=0.0 if frames or self._held else wait_s)
        answers = self._held + [(record.position, self._answer(record)) for record in records]
        n_answers, answers = len(answers), self._without_held(answers, leads and self._patience_s > 0)
        named = max((answered.mirror for _, answered in answers if answered is not None), default=-1)
        while named > (reached := self._reached(frames)):
            if not self._read_ahead(MIRROR_WAIT_S):
                answers = self._not_early(answers, reached)
                break
        return frames + self._taken(named), answers, len(records) < READ_FRAMES * 2 and len(answers) == n_answers

    def _without_held(self, answers: Answered, waits: bool) -> Answered:
        """The answers before the first on a frame that other lanes are still to answer; the others are held, for a few reads and while
        there is more to read. Nothing depends on it but how much is stored as open."""
        n = self._n_joined(answers) if waits and self._n_holds < MOST_HOLDS and len(answers) < READ_FRAMES * 4 else len(answers)
        self._n_holds = self._n_holds + 1 if n == 0 and answers else 0
        self._held = answers[n:]
        return answers[:n]

    def _n_joined(self, answers: Answered) -> int:
        """How many answers, from the first on, are on frames that every lane has answered, or that are folded already."""
        said: dict[int, int] = {}
        for _, answered in answers:
            if answered is not None:
                said[answered.mirror] = said.get(answered.mirror, 0) + 1
        reached = self._fold.head.mirror
        open_ = (
            n for n, (_, answered) in enumerate(answers)
            if answered is not None and answered.mirror > reached and said[answered.mirror] < self._n_lanes(answered)
        )  # fmt: skip
        return next(open_, len(answers))

    def _n_lanes(self, answered: AnswerFrame) -> int:
        """How many lanes answer a frame like this one; a replica that is asked about few events may have none of it."""
        replica, n_lanes = self.rollout.models.get("replica"), len(self.rollout.lanes)
        return n_lanes - (replica is not None and len(answered.answers) * replica.percent < FEW_ASKED * 100)

    def _of_others(self, record: Record) -> bool:
        """Whether it holds answers of another challenger, which are no concern of this rollout."""
        return bool(self._others) and _decoded(self._codec.lane_of, record) in self._others

    def _answer(self, record: Record) -> AnswerFrame | None:
        """An answer frame with the lane as the rules know it; one of another challenger without its answers; None for none of ours."""
        if self._of_others(record):
            return AnswerFrame(lane=CHALLENGER, mirror=BEFORE_ALL, answers=())
        frame = _decoded(self._codec.decode_answers, record)
        if frame is None or self.rollout.family is None or frame.lane not in (self._spoken, CHALLENGER):
            return frame
        return replace(frame, lane=CHALLENGER) if frame.lane == self._spoken else None

    def _reached(self, frames: Mirrored) -> int:
        """The newest position of the mirror that was read."""
        return max(self._fold.head.mirror, self._ahead[-1].position if self._ahead else -1, frames[-1][0] if frames else -1)

    def _not_early(self, answers: Answered, reached: int) -> Answered:
        """The answers before the first one on a frame that is in the mirror and could not be read yet: the bus is slow. That one and
        those behind it are read again, because an answer on an event that is not known is dropped."""
        end = self._bus.ends([self._mirror])[self._mirror]
        early = (n for n, (_, answered) in enumerate(answers) if answered is not None and reached < answered.mirror <= end)
        n = next(early, len(answers))
        if n < len(answers):
            self._held = []
            self._answer_reader.seek(self._predictions, answers[n - 1][0] if n else self._fold.head.predictions)
        return answers[:n]

    def _read_ahead(self, wait_s: float) -> bool:
        """Reads mirror records, to be taken later; whether there were any."""
        records = self._mirror_reader.read(limit=READ_FRAMES, wait_s=wait_s)
        self._ahead += records
        return bool(records)

    def _taken(self, upto: int | None) -> Mirrored:
        """The mirror frames read ahead, up to a position (None: all of them)."""
        n = len(self._ahead) if upto is None else sum(record.position <= upto for record in self._ahead)
        taken, self._ahead = self._ahead[:n], self._ahead[n:]
        return [(record.position, self._ours(_decoded(self._codec.decode_frame, record), record.position)) for record in taken]

    def _ours(self, frame: Frame | None, position: int) -> Frame | None:
        """The frame, if it is one of this config; any other would be folded as what it is not. The loss is counted and said."""
        found = "no frame of this release"
        if frame is not None:
            if frame.config == self._version and self._layout.takes(frame.entries):
                return frame
            another = frame.config != self._version
            found = f"a frame of config {frame.config[:16]!r}, not {self._version!r}" if another else "entries of another shape"
        _log.warning(
            "mirror.foreign", topic=self._mirror.topic, partition=self._mirror.number, position=position, found=found,
            now="left out and counted as an overrun: the verdict holds; something else writes to this topic",
        )  # fmt: skip
        return None

    def _due(self) -> Sequence[bytes]:
        """Early outcomes to give up: those that waited for their event as long as a label takes to mature, by the time of every source;
        and the oldest where more wait than a shard keeps, because an event need never come, nor any event at all."""
        head = self._fold.head
        too_many = head.counts.early - self._most_waiting
        if too_many > 0:
            return self._pair_log.due(LAST, max(too_many, DUE_LIMIT))
        return self._pair_log.due(head.watermark - self._matures, DUE_LIMIT) if head.watermark > NEVER and head.counts.early else ()

    def _commit(self, frames: Mirrored, answers: Answered, due: Sequence[bytes]) -> None:
        fold = self._fold
        unknown = fold.unknown_keys((f for _, f in frames if f is not None), (f for _, f in answers if f is not None)) | set(due)
        fold.know(self._pair_log.find(list(unknown)))
        for position, frame in frames:
            if frame is None:
                fold.skip(mirror=position)
            else:
                fold.mirror(position, frame)
        for position, answered in answers:
            if answered is None:
                fold.skip(predictions=position)
            else:
                fold.predictions(position, answered)
        fold.give_up(due)
        if self._ids is not None:
            self._ids.read(frame for _, frame in frames if frame is not None)
        self._apply()

    def _apply(self) -> None:
        effects = self._fold.effects(self.topology.n_event_sources)
        if self._ids is not None:
            effects = self._ids.kept(effects, resolved=self._fold.head.resolved)
        self._pair_log.apply(effects, after=self._fold.head)  # counts, pairs and positions together: before it nothing has happened
        self._fold.applied(effects)
        if self._ids is not None:
            self._ids.applied(effects)

    def _name_the_silent(self) -> None:
        """Writes `no_answer` into the log for lanes that are silent past the pairing window: log order decides, no clock does."""
        frames = [
            AnswerFrame(lane=self.rollout.spoken(lane), mirror=mirror, answers=tuple(Answer(key=key, status=NO_ANSWER) for key in keys))
            for mirror, lane, keys in self._fold.overdue(self._window)
        ]
        if frames:
            self._bus.append(self._predictions, [self._codec.encode_answers(frame) for frame in frames])

    def _overrun(self) -> int:
        """Records were gone before they were read: counted, so that the verdict holds, and the logs are read from where they start."""
        self._fold.overran()
        self._apply()
        self._ahead, self._held = [], []
        self._mirror_reader.seek(self._mirror, BEFORE_ALL)
        self._answer_reader.seek(self._predictions, BEFORE_ALL)
        return 0

    def _trim(self) -> None:
        """Now and then lets the bus drop what every reader of this shard had behind it the last time: a store that comes back without
        its last second must find it again."""
        now = self._clock.now()
        if 0 <= now - self._trimmed < TRIM_EVERY:
            return
        self._trimmed = now
        (mirror, predictions), self._done = self._done, (self._fold.head.mirror, self._fold.head.predictions)
        lanes = [self._bus.committed(lane_group(self.rollout, lane), [self._mirror])[self._mirror] for lane in self.rollout.lanes]
        mirror = min(mirror, *lanes)
        if self.rollout.family is not None:
            mirror, predictions = self._with_others(self.rollout.family, mirror, predictions)
        self._bus.trim(self._mirror, mirror)
        self._bus.trim(self._predictions, predictions)

    def _with_others(self, family: Family, mirror: int, predictions: int) -> tuple[int, int]:
        """What no challenger of the family needs any more: each joiner notes what it and its lane have behind them, and trims for all."""
        both = [self._mirror, self._predictions]
        self._bus.commit(joiner_group(family, family.challenger), {self._mirror: mirror, self._predictions: predictions})
        noted = [self._bus.committed(joiner_group(family, name), both) for name in family.challengers]
        return min(note[self._mirror] for note in noted), min(note[self._predictions] for note in noted)

    @property
    def n_open(self) -> int:
        """Events that wait for answers, or behind one that does."""
        return self._fold.n_open

    def close(self) -> None:
        """Lets go of the connections."""
        self._mirror_reader.close()
        self._answer_reader.close()


def joiner_group(family: Family, challenger: str) -> str:
    """The name under which the joiner of one of several challengers notes what it has behind it."""
    return f"{family.name}:joiner:{challenger}"


def _decoded(decode: Callable[[bytes], T], record: Record) -> T | None:
    """A record as a frame; None for one that is none of ours: anybody can write to a topic, and no record may stop a shard."""
    try:
        return decode(record.value)
    except RecordError:
        return None


class Joiners:
    """The joiners of the shards that one worker holds; `make` opens one."""

    def __init__(self, make: Callable[[int], Joiner]) -> None:
        self._make = make
        self._held: dict[int, Joiner] = {}

    def hold(self, shards: Iterable[int]) -> None:
        """From now on these shards are this worker's; those that it keeps go on as they are."""
        wanted = set(shards)
        for shard in set(self._held) - wanted:
            self._held.pop(shard).close()
        for shard in sorted(wanted - set(self._held)):
            self._held[shard] = self._make(shard)

    def step(self, wait_s: float = 0.0) -> int:
        """One step of each; returns how many records they took."""
        return sum(joiner.step(wait_s / len(self._held)) for joiner in self._held.values())

    def busy(self) -> bool:
        """Whether an event waits for answers, or behind one that does."""
        return any(joiner.n_open for joiner in self._held.values())

    def close(self) -> None:
        """Closes all of them."""
        self.hold(())
