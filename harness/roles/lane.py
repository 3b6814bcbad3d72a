"""A lane: an independent reader of the mirror that calls one model and appends its answers. Its lag is its queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.core.errors import Overrun
from harness.core.events import ANSWERED, Answer, AnswerFrame, Event
from harness.core.outputs import read_outputs
from harness.core.rollout import Rollout
from harness.core.routing import replicated
from harness.ports.bus import BEFORE_ALL, Bus, Partition, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.model import Call, ModelPort, Reply
from harness.roles.topology import Topology

READ_FRAMES = 16


class Lane:
    """One lane of one rollout."""

    def __init__(
        self, lane: str, rollout: Rollout, topology: Topology, *, bus: Bus, codec: Codec, clock: Clock, model: ModelPort
    ) -> None:
        self.lane, self.rollout, self.topology = lane, rollout, topology
        self._spec = rollout.models[lane]
        self._bus, self._codec, self._clock, self._model = bus, codec, clock, model
        self._group = lane_group(rollout.name, lane)
        self._shard_of: dict[Partition, int] = {}
        self._reader = bus.reader({})
        self._window = int(rollout.window_s * 1e6)
        self.hold(range(topology.shards))

    def hold(self, shards: Iterable[int]) -> None:
        """From now on these shards are this lane's, from the positions that were committed."""
        self._reader.close()
        self._shard_of = {self.topology.mirror(shard): shard for shard in shards}
        self._reader = self._bus.reader(self._bus.committed(self._group, list(self._shard_of)))

    def step(self, wait_s: float = 0.0) -> int:
        """Returns how many records it took.

        1 read mirror frames   2 call the model   3 append the answers, acknowledged   4 commit the positions answered. A crash before 4
        calls the model again (the event's id goes along as idempotency key); the first answer wins.
        """
        try:
            records = self._reader.read(limit=READ_FRAMES, wait_s=wait_s)
        except Overrun:  # the joiner has closed those events without this lane
            for partition in self._shard_of:
                self._reader.seek(partition, BEFORE_ALL)
            return 0
        asked = [(record, self._asked(record)) for record in records]
        for shard, frames in self._answered(asked).items():
            self._bus.append(self.topology.predictions(shard), [self._codec.encode_answers(frame) for frame in frames])
        if records:
            self._bus.commit(self._group, {record.partition: record.position for record in records})
        return len(records)

    def _asked(self, record: Record) -> tuple[list[Event], bool]:
        """The events of a frame that this lane is asked about, and whether the frame is too old to be worth a call."""
        frame = self._codec.decode_frame(record.value)
        events = [entry for entry in frame.entries if isinstance(entry, Event)]
        if self._spec.of is not None:
            events = [event for event in events if replicated(event.key, self._spec.percent)]
        return events, frame.sent + self._window < self._clock.now()

    def _answered(self, asked: Sequence[tuple[Record, tuple[list[Event], bool]]]) -> dict[int, list[AnswerFrame]]:
        """Shard -> answer frames, one for each mirror frame that holds events."""
        fresh = [event for _, (events, old) in asked for event in events if not old]
        replies = iter(self._call(fresh))
        frames: dict[int, list[AnswerFrame]] = {}
        for record, (events, old) in asked:
            if not events:
                continue
            version = None
            answers = []
            for event in events:
                reply = Reply(status="shed") if old else next(replies)
                version = reply.version or version
                answers.append(self._answer(event, reply))
            frame = AnswerFrame(lane=self.lane, mirror=record.position, answers=tuple(answers), version=version)
            frames.setdefault(self._shard_of[record.partition], []).append(frame)
        return frames

    def _call(self, events: Sequence[Event]) -> list[Reply]:
        replies: list[Reply] = []
        for start in range(0, len(events), self._spec.batch):
            batch = events[start : start + self._spec.batch]
            calls = [Call(event_id=event.id, event=self._document(event)) for event in batch]
            replies += self._model.call(calls, timeout_s=self._spec.timeout_s)
        return replies

    def _document(self, event: Event) -> dict[str, Any]:
        found: dict[str, Any] = self._codec.json(event.payload)
        return found

    def _answer(self, event: Event, reply: Reply) -> Answer:
        """A raw reply as an answer: outputs read, and what is no answer named."""
        if reply.status != ANSWERED:
            return Answer(key=event.key, status=reply.status, latency_ms=reply.latency_ms)
        outputs = read_outputs(self.rollout.outputs, self.lane, reply.answer)
        if outputs is None:
            return Answer(key=event.key, status="bad_output", latency_ms=reply.latency_ms)
        return Answer(key=event.key, status=ANSWERED, outputs=outputs, latency_ms=reply.latency_ms)

    def close(self) -> None:
        """Lets go of the connections and stops the model."""
        self._reader.close()
        self._model.close()


def lane_group(rollout: str, lane: str) -> str:
    """The name under which a lane commits its positions."""
    return f"{rollout}:{lane}"
