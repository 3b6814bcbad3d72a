"""The Redis pair log beside the in-memory one, under the same random records, crashes and zombies: they must never differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from harness.adapters.redis.connection import connect
from harness.adapters.redis.pairlog import RedisPairLog
from harness.core.errors import HeadMoved
from harness.core.events import Answer, AnswerFrame, Frame, Invalid, InvalidOutcome
from harness.core.pairing import Fold
from harness.core.table import RowLayout
from harness.testing import samples
from harness.testing.doubles import MemoryPairLog

ROLLOUT = samples.rollout(matures_s=40.0)
LAYOUT = RowLayout(ROLLOUT)
IDS = [f"e{n}" for n in range(12)]
STATUSES = ("answered", "answered", "answered", "timeout", "bad_output", "no_answer")

ids = st.sampled_from(IDS)
happenings = st.one_of(
    st.tuples(st.just("event"), ids, st.sampled_from(["here", "there"]), st.sampled_from(["SE", "ES", "NO"])),
    st.tuples(st.just("event"), st.integers(100, 10_000).map(str), st.just("here"), st.just("SE")),
    st.tuples(st.just("outcome"), ids, st.integers(0, 60), st.integers(0, 2)),
    st.tuples(st.just("invalid")),
    st.tuples(st.just("invalid_outcome")),
)
said = st.tuples(ids, st.sampled_from(["here", "there"]), st.sampled_from(STATUSES), st.sampled_from([17.0, 30.0]))
spoken = st.tuples(st.sampled_from(ROLLOUT.lanes), st.lists(said, max_size=12))


class Shards(RuleBasedStateMachine):
    """Two pair logs that are fed the same; each rule is one step of a joiner."""

    url = ""

    @initialize()
    def start(self):
        connect(self.url).flushdb()
        self.stores = [MemoryPairLog(LAYOUT), self.open()]
        self.load()
        self.position = self.mirror = self.predictions = 0
        self.zombie = None

    def open(self):
        return RedisPairLog(self.url, "sample", 0, layout=LAYOUT, keep_s=600.0)

    def load(self):
        self.folds = [Fold(ROLLOUT, LAYOUT, *store.load()) for store in self.stores]

    def step(self, frames, answers, due=()):
        effects = []
        for store, fold in zip(self.stores, self.folds, strict=True):
            fold.know(store.find(sorted(fold.unknown_keys([f for _, f in frames], [a for _, a in answers]) | set(due))))
            for position, frame in frames:
                fold.mirror(position, frame)
            for position, frame in answers:
                fold.predictions(position, frame)
            fold.give_up(due)
            effects.append(fold.effects(1))
        assert effects[0] == effects[1]
        return effects

    def commit(self, effects):
        for store, fold, its in zip(self.stores, self.folds, effects, strict=True):
            store.apply(its, after=fold.head)
            fold.applied(its)

    def frames(self, batch):
        entries = []
        for kind, *rest in batch:
            self.position += 1
            match kind, rest:
                case "event", [id, source, region]:
                    entries.append(samples.event(self.position, id, source=source, region=region))
                case "outcome", [id, second, number]:
                    entries.append(samples.outcome(self.position, id, time=samples.START + second * samples.SECOND, number=number))
                case "invalid", _:
                    entries.append(Invalid(position=self.position, reason="no JSON"))
                case _:
                    entries.append(InvalidOutcome(position=self.position, reason="no JSON"))
        now = samples.START + self.position * samples.SECOND
        return Frame(config="c", source="events/0", sent=now, upto=now, entries=tuple(entries))

    def answers(self, spoken):
        lane, said = spoken
        found = tuple(samples.answer(id, source=source, status=status, age=age) for id, source, status, age in said)
        return AnswerFrame(lane=lane, mirror=self.mirror, answers=found, version="v1")

    @rule(batch=st.lists(happenings, max_size=30), spoken=st.lists(spoken, max_size=4), crash=st.booleans(), again=st.booleans())
    def read(self, batch, spoken, crash, again):
        """A step over some frames; the worker may die before it applies and do it again, and the router may have sent a frame twice."""
        frame = self.frames(batch)
        frames = [(self.mirror + 1 + n, frame) for n in range(1 + again)]
        answers = [(self.predictions + 1 + n, self.answers(one)) for n, one in enumerate(spoken)]
        effects = self.step(frames, answers)
        if crash:
            self.stores[1] = self.open()
            self.load()
            assert self.step(frames, answers) == effects
        self.commit(effects)
        self.mirror, self.predictions = frames[-1][0], self.predictions + len(answers)

    @rule(lane=st.sampled_from(ROLLOUT.lanes))
    def everybody_answers(self, lane):
        """A lane catches up with all that is open, so that rows are resolved."""
        keys = [opened.event.key for opened in self.stores[0].load()[1].values()]
        said = tuple(Answer(key=key, status="answered", outputs=(20.0, "ham", (0.5, 0.5)), latency_ms=1.0) for key in keys)
        self.predictions += 1
        self.commit(self.step([], [(self.predictions, AnswerFrame(lane=lane, mirror=self.mirror, answers=said))]))

    @rule(before=st.integers(0, 60))
    def give_up(self, before):
        """Outcomes whose event never came."""
        due = [store.due(samples.START + before * samples.SECOND, 3) for store in self.stores]
        assert sorted(due[0]) == sorted(due[1]) or len(due[0]) == 3
        self.commit(self.step([], [], due[0]))

    @rule()
    def a_zombie_wakes(self):
        """A worker that holds an older head is refused by both."""
        if self.zombie is not None and self.zombie != self.folds[0].head:
            effects = replace(self.folds[0].effects(1), rows=b"", words=("zombie",))
            for store in (self.stores[0], self.open()):
                with pytest.raises(HeadMoved):
                    store.apply(effects, after=self.zombie)
        self.zombie = self.folds[0].head

    @invariant()
    def they_are_the_same(self):
        memory, real = self.stores
        assert memory.load()[0] == real.load()[0]
        assert (dict(memory.load()[1]), list(memory.load()[2])) == (dict(real.load()[1]), list(real.load()[2]))
        assert memory.snapshot() == real.snapshot()
        keys = [samples.key(id)[:10] for id in IDS]
        assert dict(memory.find(keys)) == dict(real.find(keys))
        assert memory.rows(0, memory.load()[0].resolved) == real.rows(0, memory.load()[0].resolved)
        assert set(memory.due(1 << 60, 99)) == set(real.due(1 << 60, 99))

    @invariant()
    def the_identity_holds(self):
        counts, in_flight = self.stores[1].snapshot().head.counts, self.stores[1].snapshot().in_flight
        assert counts.mirrored == counts.invalid + in_flight + counts.missing_events + counts.paired


def test_redis_and_memory_never_differ(redis_url, redis_db):
    """The double is plain enough to be believed; the scripts are not, so every step of a random history is compared."""
    Shards.url = redis_url
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    phases = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking takes minutes here; turn it on to look for a cause
    how = settings(max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=checks, phases=phases)
    run_state_machine_as_test(Shards, settings=how)
