"""One shard of the sample rollout, folded in memory: what a joiner does, without a bus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.core.accounting import Counts
from harness.core.events import Answer, AnswerFrame, Entry, Frame
from harness.core.pairing import Fold, Head
from harness.core.table import RowLayout
from harness.testing import samples
from harness.testing.doubles import MemoryPairLog

BOTH = ("incumbent", "challenger")
SOURCE = "events/0"


class Shard:
    """Each call is one fold, applied; `crash` throws the memory away and loads again. Only the two models, unless asked for more."""

    def __init__(self, *, matures_s: float = 3_600.0, replica_percent: float = 0.0, requests: bool = False) -> None:
        self.rollout = samples.rollout(matures_s=matures_s, replica_percent=replica_percent, requests=requests)
        self.layout = RowLayout(self.rollout)
        self.store = MemoryPairLog(self.layout)
        self.n_mirror = self.n_predictions = 0
        self.crash()

    def crash(self) -> None:
        """A new worker takes over."""
        self.fold = Fold(self.rollout, self.layout, *self.store.load())

    def commit(
        self, frames: Sequence[tuple[int, Frame]] = (), answers: Sequence[tuple[int, AnswerFrame]] = (), *, due: Sequence[bytes] = (),
        n_sources: int = 1, lost: bool = False,
    ) -> None:  # fmt: skip
        """Folds these records and applies what follows; `lost`: dies just before."""
        fold = self.fold
        fold.know(self.store.find(sorted(fold.unknown_keys([f for _, f in frames], [a for _, a in answers]) | set(due))))
        for position, frame in frames:
            fold.mirror(position, frame)
        for position, answered in answers:
            fold.predictions(position, answered)
        fold.give_up(due)
        effects = fold.effects(n_sources)
        if lost:
            self.crash()
        else:
            self.store.apply(effects, after=fold.head)
            fold.applied(effects)

    def read(
        self, *entries: Entry, source: str = SOURCE, upto: int | None = None, sent: int | None = None, due: Sequence[bytes] = (),
        n_sources: int = 1,
    ) -> None:  # fmt: skip
        """One mirror frame; sent, and read up to, at the time of its newest position unless said otherwise."""
        self.n_mirror += 1
        newest = samples.START + max((entry.position for entry in entries), default=0) * samples.SECOND
        times = (newest if sent is None else sent, newest if upto is None else upto)
        frame = Frame(config="c", source=source, sent=times[0], upto=times[1], entries=entries)
        self.commit([(self.n_mirror, frame)], due=due, n_sources=n_sources)

    def say(self, lane: str, *answers: Answer, version: str | None = None) -> None:
        """One answer frame."""
        self.n_predictions += 1
        self.commit([], [(self.n_predictions, AnswerFrame(lane=lane, mirror=self.n_mirror, answers=answers, version=version))])

    def pair(self, *ids: str) -> None:
        """Both models answer."""
        for lane in BOTH:
            self.say(lane, *map(samples.answer, ids))

    @property
    def head(self) -> Head:
        """The stored head."""
        return self.store.snapshot().head

    @property
    def counts(self) -> Counts:
        """The stored counts."""
        return self.head.counts

    @property
    def in_flight(self) -> int:
        """Open events, counted in the store."""
        return self.store.snapshot().in_flight

    def row(self, ordinal: int) -> Any:
        """One written row, as a NumPy record."""
        return self.layout.records(self.store.rows(ordinal, ordinal + 1))[0]
