"""The joiner: the only part that classifies and counts. One object a shard; the rules are `core.pairing`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.core.errors import HeadMoved, Overrun, Unavailable
from harness.core.events import Answer, AnswerFrame, Frame
from harness.core.pairing import NEVER, NO_ANSWER, Fold
from harness.core.rollout import Rollout
from harness.core.table import RowLayout
from harness.ports.bus import BEFORE_ALL, Bus, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.pairlog import PairLog
from harness.roles.lane import lane_group
from harness.roles.topology import Topology

READ_FRAMES = 32
DUE_LIMIT = 256
TRIM_EVERY = 5_000_000  # microseconds


class Joiner:
    """The joins of one shard of one rollout."""

    def __init__(
        self, rollout: Rollout, topology: Topology, shard: int, *, bus: Bus, pair_log: PairLog, codec: Codec, clock: Clock
    ) -> None:
        self.rollout, self.topology, self.shard = rollout, topology, shard
        self._bus, self._pair_log, self._codec, self._clock = bus, pair_log, codec, clock
        self._layout = RowLayout(rollout)
        self._mirror, self._predictions = topology.mirror(shard), topology.predictions(shard)
        self._window = int(rollout.window_s * 1e6)
        self._matures = int(rollout.outcomes.matures_s * 1e6) if rollout.outcomes else 0
        self._mirror_reader = bus.reader({self._mirror: BEFORE_ALL})
        self._answer_reader = bus.reader({self._predictions: BEFORE_ALL})
        self._trimmed = clock.now()
        self._load()

    def _load(self) -> None:
        """Loads the head and seeks both logs to it."""
        head, opens, words = self._pair_log.load()
        self._fold = Fold(self.rollout, self._layout, head, opens, words)
        self._mirror_reader.seek(self._mirror, head.mirror)
        self._answer_reader.seek(self._predictions, head.predictions)

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it took.

        1 read both logs; before an answer, the mirror up to the position it names   2 ask the store what it knows of them   3 fold
        4 apply effects and head together, or nothing: then load again   5 append `no_answer` for lanes that stayed silent.
        """
        try:
            mirrored, answered, at_end = self._read(wait_s)
        except Overrun:
            return self._overrun()
        frames = [(record.position, self._codec.decode_frame(record.value)) for record in mirrored]
        answers = [(record.position, self._codec.decode_answers(record.value)) for record in answered]
        try:
            due = self._due()
            if frames or answers or due:
                self._commit(frames, answers, due)
        except (HeadMoved, Unavailable):
            self._load()
            raise
        if at_end:
            self._name_the_silent()
        self._trim()
        return len(frames) + len(answers) + len(due)

    def _read(self, wait_s: float) -> tuple[list[Record], list[Record], bool]:
        """(mirror records, answer records, whether the answers were read to their end after the mirror was)."""
        mirrored = list(self._mirror_reader.read(limit=READ_FRAMES, wait_s=0.0))
        answered = list(self._answer_reader.read(limit=READ_FRAMES * 2, wait_s=0.0 if mirrored else wait_s))
        at_end = len(answered) < READ_FRAMES * 2
        named = max((self._codec.decode_answers(record.value).mirror for record in answered), default=-1)
        while named > max([self._fold.head.mirror, *(record.position for record in mirrored)]):
            more = self._mirror_reader.read(limit=READ_FRAMES, wait_s=1.0)
            if not more:
                break
            mirrored += more
        return mirrored, answered, at_end

    def _due(self) -> Sequence[bytes]:
        """Early outcomes that waited for their event as long as a label takes to mature."""
        low = self._fold.low_water()
        return self._pair_log.due(low - self._matures, DUE_LIMIT) if low > NEVER and self._fold.head.counts.waiting else ()

    def _commit(
        self, frames: Sequence[tuple[int, Frame]], answers: Sequence[tuple[int, AnswerFrame]], due: Sequence[bytes]
    ) -> None:
        fold = self._fold
        unknown = fold.unknown_keys((frame for _, frame in frames), (frame for _, frame in answers)) | set(due)
        fold.know(self._pair_log.find(sorted(unknown)))
        for position, frame in frames:
            fold.mirror(position, frame)
        for position, answer_frame in answers:
            fold.predictions(position, answer_frame)
        fold.give_up(due)
        effects = fold.effects(self.topology.n_event_sources)
        self._pair_log.apply(effects, after=fold.head)  # counts, pairs and positions together: a crash before it means nothing happened
        fold.applied(effects)

    def _name_the_silent(self) -> None:
        """Writes `no_answer` into the log for lanes that are silent past the pairing window: log order decides, no clock does."""
        frames = [
            AnswerFrame(lane=lane, mirror=mirror, answers=tuple(Answer(key=key, status=NO_ANSWER) for key in keys))
            for mirror, lane, keys in self._fold.overdue(self._window)
        ]
        if frames:
            self._bus.append(self._predictions, [self._codec.encode_answers(frame) for frame in frames])

    def _overrun(self) -> int:
        """Records were gone before they were read: counted, so that the verdict holds, and the logs are read from where they start."""
        effects = self._fold.overran(self.topology.n_event_sources)
        self._pair_log.apply(effects, after=self._fold.head)
        self._fold.applied(effects)
        self._mirror_reader.seek(self._mirror, BEFORE_ALL)
        self._answer_reader.seek(self._predictions, BEFORE_ALL)
        return 0

    def _trim(self) -> None:
        """Now and then lets the bus drop what every reader of this shard has behind it."""
        now = self._clock.now()
        if now - self._trimmed < TRIM_EVERY:
            return
        self._trimmed = now
        lanes = [self._bus.committed(lane_group(self.rollout.name, lane), [self._mirror])[self._mirror] for lane in self.rollout.lanes]
        self._bus.trim(self._mirror, min(self._fold.head.mirror, *lanes))
        self._bus.trim(self._predictions, self._fold.head.predictions)

    @property
    def n_open(self) -> int:
        """Events that wait for answers, or behind one that does."""
        return self._fold.n_open

    def close(self) -> None:
        """Lets go of the connections."""
        self._mirror_reader.close()
        self._answer_reader.close()


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
