"""A lane: an independent reader of the mirror that calls one model and appends its answers. Its lag is its queue: it holds no more than
one read, and what it cannot ask in time is answered `shed` without a call. Calls run in a bounded pool of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import structlog

from harness.core.errors import Overrun, RecordError
from harness.core.events import ANSWERED, Answer, AnswerFrame, Event
from harness.core.outputs import bad_output, outputs_reader
from harness.core.rollout import Rollout
from harness.core.routing import replicated
from harness.ports.bus import BEFORE_ALL, Bus, Partition, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.model import Call, ModelPort, Reply
from harness.roles.topology import Topology

READ_FRAMES, MOST_FRAMES = 16, 64  # in one read: fewest allowed, and most for a lane of many calls at once
MOST_CAUSES = 32
_log = structlog.get_logger()
SHED = Reply(status="shed")

_Said = tuple[Answer, str | None]  # an answer, and the model's version


class _Asked(NamedTuple):
    """An event to call the model for, and when its frame was sent."""

    event: Event
    sent: int


class Lane:
    """One lane of one rollout."""

    def __init__(
        self, lane: str, rollout: Rollout, topology: Topology, *, bus: Bus, codec: Codec, clock: Clock, model: ModelPort
    ) -> None:
        self.lane, self.rollout, self.topology = lane, rollout, topology
        self._spoken = rollout.spoken(lane)
        self._spec = rollout.models[lane]
        self._bus, self._codec, self._clock, self._model = bus, codec, clock, model
        self._said: set[str] = set()
        self._outputs = outputs_reader(rollout.outputs, lane)
        self._group = lane_group(rollout, lane)
        self._shard_of: dict[Partition, int] = {}
        self._reader = bus.reader({})
        self._window = int(rollout.window_s * 1e6)
        self._limit = min(max(READ_FRAMES, self._spec.concurrency), MOST_FRAMES)  # at low rates a frame may hold one event
        several = self._spec.concurrency > 1
        self._threads = ThreadPoolExecutor(self._spec.concurrency, thread_name_prefix=f"lane-{lane}") if several else None
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
            records = self._reader.read(limit=self._limit, wait_s=wait_s)
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

    def _asked(self, record: Record) -> list[_Asked]:
        """The events of a frame that this lane is asked about."""
        try:
            frame = self._codec.decode_frame(record.value)
        except RecordError:  # none of ours; the joiner counts it
            return []
        if frame.config != self.rollout.version:  # the joiner counts this one too
            return []
        events = [entry for entry in frame.entries if isinstance(entry, Event)]
        if self._spec.of is not None:
            events = [event for event in events if replicated(event.key, self._spec.percent)]
        sent = frame.sent
        return [_Asked(event, sent) for event in events]

    def _answered(self, asked: Sequence[tuple[Record, Sequence[_Asked]]]) -> dict[int, list[AnswerFrame]]:
        """Shard -> answer frames, one for each mirror frame that holds events, in the order of the mirror."""
        found = iter(self._called([each for _, events in asked for each in events]))
        frames: dict[int, list[AnswerFrame]] = {}
        for record, events in asked:
            if not events:
                continue
            said = list(islice(found, len(events)))
            version = next((version for _, version in reversed(said) if version), None)
            frame = AnswerFrame(lane=self._spoken, mirror=record.position, answers=tuple(answer for answer, _ in said), version=version)
            frames.setdefault(self._shard_of[record.partition], []).append(frame)
        return frames

    def _called(self, asked: Sequence[_Asked]) -> list[_Said]:
        """What one read gave, cut into calls; as many at once as the config allows. The order is that of `asked`."""
        size = self._spec.events_a_call
        batches = [asked[start : start + size] for start in range(0, len(asked), size)]
        found = map(self._call, batches) if self._threads is None else self._threads.map(self._call, batches)
        return [said for batch in found for said in batch]

    def _call(self, asked: Sequence[_Asked]) -> list[_Said]:
        """One call. Answers become outputs here, so that a model with long answers fills no memory."""
        oldest = self._clock.now() - self._window  # events of older frames are closed, or will be before an answer could come
        decode = self._codec.json
        calls = [Call(event_id=event.id, payload=event.payload, decode=decode) for event, sent in asked if sent >= oldest]
        replies = self._model.call(calls, timeout_s=self._spec.timeout_s) if calls else ()
        if len(calls) < len(asked):
            rest = iter(replies)
            replies = [next(rest) if sent >= oldest else SHED for _, sent in asked]
        return [(self._answer(event, reply), reply.version) for (event, _), reply in zip(asked, replies, strict=True)]

    def _answer(self, event: Event, reply: Reply) -> Answer:
        """A raw reply as an answer: outputs read, and what is no answer named."""
        if reply.status != ANSWERED:
            return Answer(event.key, reply.status, (), reply.latency_ms)
        outputs = self._outputs(reply.answer)
        if outputs is None:
            self._say(bad_output(self.rollout.outputs, self.lane, reply.answer))
        return Answer(event.key, "bad_output" if outputs is None else ANSWERED, outputs or (), reply.latency_ms)

    def _say(self, cause: str) -> None:
        """A log line for each distinct reason why an answer was a bad output: a count alone mends no model."""
        if cause not in self._said and len(self._said) < MOST_CAUSES:
            self._said.add(cause)
            _log.warning("answer.bad_output", lane=self.lane, cause=cause, now="counted as bad_output; each cause is said once")

    def close(self) -> None:
        """Lets go of the connections and stops the model."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        self._reader.close()
        self._model.close()


def lane_group(rollout: Rollout, lane: str) -> str:
    """The name under which a lane commits its positions."""
    return f"{rollout.mirror}:{rollout.spoken(lane)}"
