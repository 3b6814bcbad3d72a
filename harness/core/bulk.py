"""The fold of `pairing` for whole runs: frames of plain new events and answers on all of them cost no work an event.

A run of new events is one `_Block` until it is paired or something happens to one of its events that is not the same for all (a label, a
second answer, an answer out of line): then it becomes single events, for which the rules are written. Both ways have the same effects,
bit by bit; a property test compares them on any history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from harness.core.columns import STATUSES, AnswerRun, EventRun
from harness.core.events import ANSWERED, AnswerFrame, Event, Frame, Outcome
from harness.core.held import NOTHING, Live, Open
from harness.core.pairing import CHARGED, NEVER, Fold, Head
from harness.core.rollout import Rollout
from harness.core.routing import ID_BYTES, KEY_BYTES
from harness.core.rows import Mask, RunPacker
from harness.core.table import RowLayout


class _Block:
    """Events that were opened by one frame and have the same answers. masks: lane -> which of them it is asked about, None for all."""

    __slots__ = ("answers", "first", "masks", "mirror", "new", "run", "said", "sent")

    def __init__(self, first: int, run: EventRun, mirror: int, sent: int, masks: Mapping[str, Mask | None]) -> None:
        self.first, self.run, self.mirror, self.sent, self.masks = first, run, mirror, sent, masks
        self.answers: dict[str, AnswerRun] = {}
        self.new = True  # opened since the head
        self.said: set[str] = set()  # the lanes that answered since the head

    def keys_of(self, lane: str) -> bytes:
        """The keys of the events that a lane is asked about."""
        mask = self.masks[lane]
        if mask is None:
            return self.run.keys
        return np.frombuffer(self.run.keys, np.uint8).reshape(-1, KEY_BYTES)[mask].tobytes()

    def settled(self, n: int) -> bool:
        """Whether one event has all its answers."""
        return all(lane in self.answers for lane, mask in self.masks.items() if mask is None or mask[n])

    def events(self) -> Iterable[tuple[int, Open, bool]]:
        """(ordinal, event with its answers, whether it has changed since the head) of each."""
        said = {lane: iter(run) for lane, run in self.answers.items()}
        for n in range(len(self.run)):
            asked = [lane for lane, mask in self.masks.items() if mask is None or mask[n]]
            answers = {lane: next(said[lane]) for lane in asked if lane in said}
            opened = Open(ordinal=self.first + n, event=self.run.bare_event(n), mirror=self.mirror, sent=self.sent, answers=answers)
            yield self.first + n, opened, self.new or not self.said.isdisjoint(asked)


class BulkFold(Fold):
    """`pairing.Fold`, faster."""

    def __init__(self, rollout: Rollout, layout: RowLayout, head: Head, opens: Mapping[int, Open], words: Sequence[str]) -> None:
        self._blocks: dict[int, _Block] = {}  # by mirror position, in the order of their ordinals
        self._packer = RunPacker(layout)
        super().__init__(rollout, layout, head, opens, words)

    def _begin(self) -> None:
        super()._begin()
        self._new: set[bytes] = set()  # ids of the blocks opened since the head
        for block in self._blocks.values():
            block.new = False
            block.said.clear()

    # ---------------------------------------------------------------------------------------------------- what must be looked up
    def unknown_keys(self, frames: Iterable[Frame], answers: Iterable[AnswerFrame]) -> set[bytes]:
        """The id hashes in these records of which the store must be asked."""
        wanted: set[bytes] = set()
        whole: set[bytes] = set()
        single: list[Frame] = []
        for frame in frames:
            run = frame.entries
            if isinstance(run, EventRun) and run.positions[0] > self._seen.get(frame.source, -1):
                wanted.update(run.id_hashes)
                whole.add(run.keys)
            else:
                single.append(frame)
        rest = [frame for frame in answers if not (isinstance(frame.answers, AnswerRun) and self._is_on(frame, frame.answers, whole))]
        return wanted | super().unknown_keys(single, rest)

    def _is_on(self, frame: AnswerFrame, said: AnswerRun, whole: set[bytes]) -> bool:
        """Whether these are answers on all events of a frame that is known."""
        block = self._blocks.get(frame.mirror)
        return said.keys in whole or (block is not None and frame.lane in block.masks and block.keys_of(frame.lane) == said.keys)

    # -------------------------------------------------------------------------------------------------------------- the mirror
    def mirror(self, position: int, frame: Frame) -> None:
        """Folds one mirror frame (`Fold.mirror`)."""
        run = frame.entries
        if not isinstance(run, EventRun) or position in self._blocks or not self._is_plain(frame.source, run):
            self._single({entry.key[:ID_BYTES] for entry in frame.entries if isinstance(entry, Event | Outcome)})
            super().mirror(position, frame)
            return
        self._mirror, self._bus_time = max(self._mirror, position), max(self._bus_time, frame.sent)
        self._blocks[position] = _Block(self._ordinal, run.bare(), position, self._bus_time, self._masks(run))
        self._new.update(run.id_hashes)
        self._ordinal += len(run)
        self._tally.add("mirrored", len(run))
        self._seen[frame.source] = int(run.positions[-1])
        self._upto[frame.source] = max(self._upto.get(frame.source, NEVER), frame.upto)

    def _is_plain(self, source: str, run: EventRun) -> bool:
        """Whether these are new events, each once, in order, of which nothing is known."""
        if run.positions[0] <= self._seen.get(source, -1) or run.arrived.min() <= self._upto.get(source, NEVER):
            return False
        ids = set(run.id_hashes)
        if len(ids) != len(run) or not (run.positions[1:] > run.positions[:-1]).all():
            return False
        return all(map(ids.isdisjoint, (self._new, self._ids, self._known, self._early)))

    def _masks(self, run: EventRun) -> dict[str, Mask | None]:
        """Lane -> which events it is asked about (`Fold.asked`), None for all; without the lanes that are asked about none."""
        masks: dict[str, Mask | None] = dict.fromkeys(self._lanes)
        if self._replica is not None:
            bits = np.frombuffer(run.keys, np.uint8).reshape(-1, KEY_BYTES)[:, 8:ID_BYTES].astype(np.float64)
            asked = (bits[:, 0] * 256.0 + bits[:, 1]) * 100.0 < self._replica.percent * (1 << 16)
            if not asked.any():
                del masks["replica"]
            elif not asked.all():
                masks["replica"] = asked
        return masks

    # ------------------------------------------------------------------------------------------------------------------ answers
    def predictions(self, position: int, frame: AnswerFrame) -> None:
        """Folds one answer frame (`Fold.predictions`)."""
        run, block = frame.answers, self._blocks.get(frame.mirror)
        if not isinstance(run, AnswerRun) or block is None or not self._is_first(block, frame.lane, run):
            if self._blocks:
                self._single({answer.key[:ID_BYTES] for answer in run}, near=block)
            super().predictions(position, frame)
            return
        self._predictions = max(self._predictions, position)
        if frame.version is not None:
            self._tally.lane("versions", frame.lane, frame.version)
        block.answers[frame.lane] = run
        block.said.add(frame.lane)
        for status, n in _counted(np.frombuffer(run.statuses, np.uint8)):
            self._tally.lane("lanes", frame.lane, status, n)
        self._settle_all(block, frame.lane)

    def _is_first(self, block: _Block, lane: str, run: AnswerRun) -> bool:
        """Whether this is a lane's first answer on each event of a block that it is asked about."""
        if lane not in block.masks or lane in block.answers:
            return False
        return run.keys == block.keys_of(lane) and self._packer.fits(run)

    def _settle_all(self, block: _Block, lane: str) -> None:
        """Counts the events that have all their answers by this lane's; one that is missing is charged to one lane (`Fold._settle`)."""
        mask = block.masks.get("replica")
        groups = [("replica", mask)] if mask is None else [("replica", mask), ("", ~mask)]
        for extra, its in groups:
            lanes = [name for name in block.masks if name != "replica" or extra]
            if lane not in lanes or any(name not in block.answers for name in lanes):
                continue
            open_ = np.ones(len(block.run), bool) if its is None else its.copy()
            for charged in CHARGED:
                codes = np.frombuffer(block.answers[charged].statuses, np.uint8)
                for status, n in _counted(codes[open_]):
                    if status != ANSWERED:
                        self._tally.lane("missing", charged, status, n)
                open_ &= codes == 0
            self._tally.add("paired", int(open_.sum()))

    # --------------------------------------------------------------------------------------------------------- one by one again
    def _single(self, ids: Iterable[bytes], near: _Block | None = None) -> None:
        """Blocks that hold one of these events become single events. near: one that does."""
        if near is not None:
            self._open_up(near)
        for id in ids if self._blocks else ():
            if id in self._new:
                for block in [each for each in self._blocks.values() if each.new and id in each.run.id_hashes]:
                    self._open_up(block)
            for _, ordinal in self._known.get(id, NOTHING).events:
                if ordinal >= self.head.resolved:
                    for block in [each for each in self._blocks.values() if 0 <= ordinal - each.first < len(each.run)]:
                        self._open_up(block)

    def _open_up(self, block: _Block) -> None:
        del self._blocks[block.mirror]
        if block.new:
            self._new.difference_update(block.run.id_hashes)
        for ordinal, opened, changed in block.events():
            key = opened.event.key
            live = Live(ordinal, opened.event, block.mirror, block.sent, self.asked(key))
            live.answers = dict(opened.answers)
            self._opens[ordinal] = self._by_key[key] = live
            if changed:
                self._changed.add(ordinal)
            if block.new:
                self._ids[key[:ID_BYTES]] = ((key[ID_BYTES:], ordinal),)

    def overdue(self, window: int) -> list[tuple[int, str, tuple[bytes, ...]]]:
        """(mirror position, lane, keys) of the answers still missing when bus time has passed the pairing window (microseconds)."""
        late = [
            (block.mirror, lane, tuple(np.frombuffer(block.keys_of(lane), f"V{KEY_BYTES}").tolist()))
            for block in self._blocks.values() if block.sent + window < self._bus_time
            for lane in block.masks if lane not in block.answers
        ]  # fmt: skip
        return sorted([*super().overdue(window), *late])

    # ------------------------------------------------------------------------------------------------------------------ effects
    def _resolve(self) -> tuple[bytes, int]:
        rows, resolved = bytearray(), self.head.resolved
        blocks = {block.first: block for block in self._blocks.values()}
        while True:
            block = blocks.get(resolved)
            done = block is not None and len(block.answers) == len(block.masks)
            if block is not None and done and self._packer.can_pack(block.answers, block.run, self._words):
                rows += self._packer.pack(block.run, block.answers, block.masks, self._words)
                resolved += len(block.run)
                continue
            if block is not None and block.settled(0):
                self._open_up(block)
            ready = self._opens.get(resolved)
            if ready is None or len(ready.answers) != len(ready.lanes):
                return bytes(rows), resolved
            rows += self.layout.pack(ready.event, ready.answers, ready.outcome, self._words)
            resolved += 1

    def _kept(self, resolved: int) -> dict[int, Open]:
        kept = super()._kept(resolved)
        for block in self._blocks.values():
            if block.first >= resolved and (block.new or block.said):
                kept.update({ordinal: opened for ordinal, opened, changed in block.events() if changed})
        return kept

    def _oldest(self, resolved: int) -> int | None:
        oldest = [super()._oldest(resolved), *(int(b.run.arrived.min()) for b in self._blocks.values() if b.first >= resolved)]
        return min((each for each in oldest if each is not None), default=None)

    def _fresh_ids(self) -> tuple[tuple[int, bytes], ...]:
        return tuple((block.first, block.run.keys) for block in self._blocks.values() if block.new)

    def _drop(self, resolved: int) -> None:
        super()._drop(resolved)
        for block in [each for each in self._blocks.values() if each.first < resolved]:
            del self._blocks[block.mirror]

    @property
    def n_open(self) -> int:
        """Events held in memory: in flight, or settled behind one that is."""
        return super().n_open + sum(len(block.run) for block in self._blocks.values())


def _counted(codes: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> list[tuple[str, int]]:
    """(status, how often) of the statuses that occur."""
    return [(STATUSES[code], n) for code, n in enumerate(np.bincount(codes).tolist()) if n]
