"""A lane: an independent reader of the mirror that calls one model and appends its answers. Its lag is its queue: it holds no more than
one read, and what it cannot ask in time is answered `shed` without a call. Calls run in a bounded pool of threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import structlog

from harness.core.columns import FEWEST, AnswerRun, EventRun
from harness.core.errors import Overrun, RecordError
from harness.core.events import ANSWERED, Answer, AnswerFrame, Event
from harness.core.outputs import all_outputs_reader, bad_output, outputs_reader
from harness.core.rollout import Rollout
from harness.core.routing import KEY_BYTES, replicated
from harness.core.table import RowLayout
from harness.ports.bus import BEFORE_ALL, Bus, Partition, Record
from harness.ports.clock import Clock
from harness.ports.codec import Codec
from harness.ports.model import AllAnswered, Calls, ModelPort, Reply
from harness.roles.topology import Topology

READ_FRAMES, MOST_FRAMES = 16, 64  # in one read: fewest allowed, and most for a lane of many calls at once
MOST_CAUSES = 32
_log = structlog.get_logger()
SHED = Reply(status="shed")

class _Asked(NamedTuple):
    """The events of a frame that a lane is asked about: their keys, one behind the other, ids and payloads. sent: when the frame was."""

    record: Record
    sent: int
    keys: bytes
    ids: Sequence[str]
    payloads: Sequence[bytes]


class _Said(NamedTuple):
    """What came of events, in their order: status, outputs, latency and version of each."""

    statuses: list[str]
    outputs: list[tuple[Any, ...]]
    latencies: list[float | None]
    versions: list[str | None]


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
        self._kinds = RowLayout(rollout).kinds
        self._outputs, self._all_outputs = outputs_reader(rollout.outputs, lane), all_outputs_reader(rollout.outputs, lane)
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
        asked = [each for record in records if (each := self._asked(record)) is not None]
        for shard, frames in self._answered(asked).items():
            self._bus.append(self.topology.predictions(shard), [self._codec.encode_answers(frame) for frame in frames])
        if records:
            self._bus.commit(self._group, {record.partition: record.position for record in records})
        return len(records)

    def _asked(self, record: Record) -> _Asked | None:
        """The events of a frame that this lane is asked about; None without any."""
        try:
            frame = self._codec.decode_frame(record.value)
        except RecordError:  # none of ours; the joiner counts it
            return None
        if frame.config != self.rollout.version:  # the joiner counts this one too
            return None
        run = frame.entries
        if self._spec.of is None and isinstance(run, EventRun):
            return _Asked(record, frame.sent, run.keys, run.ids.texts(), run.payloads.parts())
        events = [entry for entry in run if isinstance(entry, Event)]
        if self._spec.of is not None:
            events = [event for event in events if replicated(event.key, self._spec.percent)]
        keys = b"".join([event.key for event in events])
        return _Asked(record, frame.sent, keys, [event.id for event in events], [event.payload for event in events]) if events else None

    def _answered(self, asked: Sequence[_Asked]) -> dict[int, list[AnswerFrame]]:
        """Shard -> answer frames, one for each mirror frame that holds events, in the order of the mirror."""
        said = self._called(asked)
        some_versions = any(said.versions)
        frames: dict[int, list[AnswerFrame]] = {}
        start = 0
        for record, _, keys, ids, _ in asked:
            its = slice(start, start := start + len(ids))
            statuses, outputs, latencies = said.statuses[its], said.outputs[its], said.latencies[its]
            version = next((each for each in reversed(said.versions[its]) if each), None) if some_versions else None
            answers: Sequence[Answer] = AnswerRun.made(keys, statuses, outputs, latencies, self._kinds) if len(ids) >= FEWEST else ()
            if not answers:
                each_key = [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
                answers = tuple(map(Answer, each_key, statuses, outputs, latencies))
            frame = AnswerFrame(lane=self._spoken, mirror=record.position, answers=answers, version=version)
            frames.setdefault(self._shard_of[record.partition], []).append(frame)
        return frames

    def _called(self, asked: Sequence[_Asked]) -> _Said:
        """What one read gave, cut into calls; as many at once as the config allows. The order is that of `asked`."""
        size = self._spec.events_a_call
        ids = [id for each in asked for id in each.ids]
        payloads = [payload for each in asked for payload in each.payloads]
        sent = [each.sent for each in asked for _ in each.ids]
        cuts = [slice(start, start + size) for start in range(0, len(ids), size)]
        batches = [(ids[cut], payloads[cut], sent[cut]) for cut in cuts]
        found = _Said([], [], [], [])
        called = map(self._call, batches) if self._threads is None else self._threads.map(self._call, batches)
        for statuses, outputs, latencies, versions in called:
            found.statuses.extend(statuses)
            found.outputs.extend(outputs)
            found.latencies.extend(latencies)
            found.versions.extend(versions)
        return found

    def _call(self, batch: tuple[Sequence[str], Sequence[bytes], Sequence[int]]) -> _Said:
        """One call. Answers become outputs here, so that a model with long answers fills no memory."""
        ids, payloads, sent = batch
        oldest = self._clock.now() - self._window  # events of older frames are closed, or will be before an answer could come
        if min(sent) < oldest:
            in_time = [n for n, time in enumerate(sent) if time >= oldest]
            found = self._replies([ids[n] for n in in_time], [payloads[n] for n in in_time]) if in_time else ()
            rest = iter(found)
            replies: Sequence[Reply] = [next(rest) if time >= oldest else SHED for time in sent]
        else:
            replies = self._replies(ids, payloads)
        n = len(ids)
        if len(replies) != n:
            raise ValueError(f"{len(replies)} replies to {n} calls")
        if isinstance(replies, AllAnswered) and (outputs := self._all_outputs(replies.answers)) is not None:
            return _Said([ANSWERED] * n, outputs, [None] * n, [None] * n)
        read = [self._read(reply) for reply in replies]
        return _Said([status for status, _ in read], [said for _, said in read], [reply.latency_ms for reply in replies],
                     [reply.version for reply in replies])  # fmt: skip

    def _replies(self, ids: Sequence[str], payloads: Sequence[bytes]) -> Sequence[Reply]:
        return self._model.call(Calls(ids, payloads, self._codec.json), timeout_s=self._spec.timeout_s)

    def _read(self, reply: Reply) -> tuple[str, tuple[Any, ...]]:
        """(status, outputs) of a raw reply: what is no answer is named."""
        if reply.status != ANSWERED:
            return reply.status, ()
        outputs = self._outputs(reply.answer)
        if outputs is None:
            self._say(bad_output(self.rollout.outputs, self.lane, reply.answer))
            return "bad_output", ()
        return ANSWERED, outputs

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
