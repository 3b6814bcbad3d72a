"""The fold of whole runs beside the fold of single events: on any history they have the same effects, bit by bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.bulk import BulkFold
from harness.core.columns import A_LABEL, A_NUMBER, STATUSES, AnswerRun, EventRun
from harness.core.events import Answer, AnswerFrame, Event, Frame, Invalid
from harness.core.held import refs_of
from harness.core.pairing import Fold
from harness.core.rollout import Output, Policy
from harness.core.table import RowLayout
from harness.testing.doubles import MemoryPairLog
from harness.testing.samples import SECOND, START, answer, event, outcome, rollout

SOURCE = "events/0"
LANES = ("incumbent", "challenger", "replica")


def numbers_only(sample):
    """The sample with one number as its only output, and nothing that needs another one."""
    lines = {**sample.policies["over_18"].lines}
    age = Output(name="age", type="number", readers=sample.outputs["age"].readers)
    policies = {"over_18": Policy(name="over_18", output="age", lines=lines)}
    return replace(sample, outputs={"age": age}, policies=policies, harms={}, gates=())


ROLLOUTS = {
    "of everything": rollout(replica_percent=50.0), "everybody asked": rollout(replica_percent=100.0),
    "without a replica": replace(rollout(), models={lane: rollout().models[lane] for lane in LANES[:2]}),
    "of one number": numbers_only(rollout(replica_percent=30.0)),
}  # fmt: skip

ids = st.integers(0, 40).map(str)
kinds = st.sampled_from(["event"] * 12 + ["outcome", "invalid", "elsewhere", "stale"])
entries = st.tuples(kinds, ids, st.sampled_from(["SE", "ES", "NO", "FI"]))
frames = st.tuples(st.just("mirror"), st.lists(entries, max_size=8), st.sampled_from([0] * 6 + [1]))
labels = st.tuples(st.just("labels"), st.lists(ids, max_size=3))
said = st.tuples(
    st.just("answers"), st.sampled_from(LANES), st.integers(0, 3),
    st.sampled_from(["all"] * 12 + ["some", "turned", "other", "alien", "twice"]),
    st.sampled_from(["answered"] * 5 + ["mixed", "bad", "huge"]), st.booleans(),
)  # fmt: skip
wholly = st.tuples(st.sampled_from(["all"] * 9 + ["twice", "some"]), st.sampled_from(["answered", "answered", "mixed", "huge"]))
rounds = st.tuples(  # a frame of new events, and what each lane says of it, in some order; some lanes twice, some not yet
    st.just("round"), st.lists(st.sampled_from(["SE", "ES", "NO", "FI"]), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(LANES), wholly), max_size=2) | st.permutations(LANES).flatmap(
        lambda lanes: st.tuples(*(st.tuples(st.just(lane), wholly) for lane in lanes)).map(list)
    ),
)  # fmt: skip
steps = st.lists(st.lists(st.one_of(frames, rounds, rounds, labels, said, said), max_size=8), min_size=1, max_size=7)


class Pair:
    """The same records folded both ways, each with a store of its own."""

    def __init__(self, sample):
        self.rollout, self.layout = sample, RowLayout(sample)
        self.stores = [MemoryPairLog(self.layout), MemoryPairLog(self.layout)]
        self.position = self.n_mirror = self.n_predictions = 0
        self.mirrored = []  # (mirror position, its events) so far
        self.load()

    def load(self):
        self.folds = [kind(self.rollout, self.layout, *store.load()) for kind, store in zip((Fold, BulkFold), self.stores, strict=True)]

    def step(self, frames, answers, due=()):
        """One batch; returns the effects, which must be the same."""
        found = []
        for fold, store, plain in zip(self.folds, self.stores, (True, False), strict=True):
            its = [(p, replace(f, entries=tuple(f.entries)) if plain else f) for p, f in frames]
            said = [(p, replace(f, answers=tuple(f.answers)) if plain else f) for p, f in answers]
            fold.know(store.find(list(fold.unknown_keys((f for _, f in its), (f for _, f in said)) | set(due))))
            for position, frame in its:
                fold.mirror(position, frame)
            for position, frame in said:
                fold.predictions(position, frame)
            fold.give_up(due)
            assert fold.n_open == self.folds[0].n_open
            found.append(fold.effects(1))
        slow, fast = found
        late = [fold.overdue(2 * SECOND) for fold in self.folds]
        assert late[0] == late[1]
        assert slow == expanded(fast)
        return found

    def commit(self, found):
        for fold, store, effects in zip(self.folds, self.stores, found, strict=True):
            store.apply(effects, after=fold.head)
            fold.applied(effects)
        assert self.stores[0].load() == self.stores[1].load()
        assert self.stores[0].rows(0, self.folds[0].head.resolved) == self.stores[1].rows(0, self.folds[1].head.resolved)

    def frame(self, entries, again):
        """A mirror frame of new positions, or with the same ones again."""
        made = []
        for kind, id, region in entries:
            self.position += 1
            match kind:
                case "outcome":
                    made.append(outcome(self.position, id, time=START + self.position, number=self.position))
                case "invalid":
                    made.append(Invalid(position=self.position, reason="no JSON"))
                case _:
                    at = START + (0 if kind == "stale" else self.position * SECOND)
                    its = event(self.position, id, source="there" if kind == "elsewhere" else "here", region=region, arrived=at)
                    made.append(its._replace(decisions=its.decisions[: len(self.layout.recorded)]))
        self.n_mirror += 1
        now = START + self.position * SECOND
        run = EventRun.of(made) if made and all(isinstance(each, Event) for each in made) else tuple(made)
        frame = Frame(config="c", source=SOURCE, sent=now, upto=now, entries=run)
        self.mirrored.append((self.n_mirror, [each for each in made if isinstance(each, Event)]))
        found = [(self.n_mirror, frame)]
        if again:
            self.n_mirror += 1
            found.append((self.n_mirror, frame))
        return found

    def answers(self, lane, back, which, how, versioned):
        """An answer frame on one of the last mirror frames."""
        if not self.mirrored:
            return []
        mirror, events = self.mirrored[-1 - back % len(self.mirrored)]
        keys = [each.key for each in events if lane != "replica" or lane in self.folds[0].asked(each.key) or which == "alien"]
        match which:
            case "some":
                keys = keys[:-1]
            case "turned":
                keys = keys[::-1]
            case "other":
                mirror = self.n_mirror
            case "twice":
                keys = keys + keys[:1]
        made = [self.answer(n, key, how) for n, key in enumerate(keys)]
        self.n_predictions += 1
        run = AnswerRun.of(made, self.layout.kinds) if made and how != "bad" else tuple(made)
        return [(self.n_predictions, AnswerFrame(lane=lane, mirror=mirror, answers=run, version="v1" if versioned else None))]

    def answer(self, n, key, how):
        status = STATUSES[(n + len(key)) % len(STATUSES)] if how == "mixed" else "answered"
        full = answer("x", age=10.0 + n, kind=("ham", "spam", "eggs")[n % 3], toxic=0.25)
        values = [full.outputs[k] for k, name in enumerate(("age", "kind", "scores")) if name in self.rollout.outputs]
        if how == "huge":
            values = [tuple(1e39 for _ in each) if isinstance(each, tuple) else each for each in values]
        outputs = () if status != "answered" else ("x",) if how == "bad" and n % 2 else tuple(values)
        return Answer(key=key, status=status, outputs=outputs, latency_ms=(None, 1.5, 1e300, 0.1)[n % 4])


def expanded(effects):
    """Effects with new events one by one, as the fold of single events has them."""
    ids = dict(effects.ids)
    for first, keys in effects.fresh:
        ids |= refs_of(first, keys)
    return replace(effects, ids=ids, fresh=())


@pytest.mark.parametrize("name", ROLLOUTS)
@settings(deadline=None, max_examples=250)
@given(history=steps, crashes=st.sets(st.integers(0, 6)), restarts=st.sets(st.integers(0, 6)))
def test_whole_runs_have_the_effects_of_their_single_events(name, history, crashes, restarts):
    """Speed may change nothing: counts, rows, open events, ids, words and heads are the same at every step, whatever happened before."""
    both = Pair(ROLLOUTS[name])
    for n, batch in enumerate(history):
        frames, answers = [], []
        for kind, *rest in batch:
            match kind:
                case "mirror":
                    frames += both.frame(*rest)
                case "labels":
                    frames += both.frame([("outcome", id, "SE") for id in rest[0]], 0)
                case "round":
                    frames += both.frame([("event", f"new {both.position} {k}", region) for k, region in enumerate(rest[0])], 0)
                    for lane, (which, how) in rest[1]:
                        answers += both.answers(lane, 0, which, how, True) if lane in both.rollout.models else []
                case _:
                    if rest[0] in both.rollout.models or rest[2] == "alien":
                        answers += both.answers(*rest)
        due = list(both.stores[0].due(START + both.position // 2, 3)) if n % 3 == 2 else []
        found = both.step(frames, answers, due)
        if n in crashes:  # before it applied
            both.load()
            again = both.step(frames, answers, due)
            assert [expanded(each) for each in again] == [expanded(each) for each in found]
            found = again
        both.commit(found)
        if n in restarts:
            both.load()


def test_frames_of_new_events_and_all_their_answers_are_never_taken_apart(monkeypatch):
    """The usual case must stay the fast one: no object is made of any event."""
    both = Pair(ROLLOUTS["of everything"])
    frames = both.frame([("event", str(n), "SE") for n in range(40)], 0)
    warm = [each for lane in LANES for each in both.answers(lane, 0, "all", "answered", True)]
    both.commit(both.step(frames, warm))  # the shard's words are known from here on
    frames = both.frame([("event", str(n), "SE") for n in range(40, 80)], 0)
    answers = [each for lane in LANES for each in both.answers(lane, 0, "all", "mixed", True)]
    monkeypatch.setattr(BulkFold, "_open_up", lambda self, block: pytest.fail("a block was taken apart"))
    effects = both.step(frames, answers)[1]
    assert (effects.head.resolved, len(effects.fresh), dict(effects.ids), dict(effects.open)) == (80, 1, {}, {})
    assert A_LABEL in both.layout.kinds and A_NUMBER in both.layout.kinds


def test_no_payload_and_no_plain_id_is_held_while_events_wait():
    """A lane that hangs for the whole pairing window must not fill the joiner's memory with what the bus holds anyway."""
    both = Pair(ROLLOUTS["of everything"])
    frames = both.frame([("event", str(n), "SE") for n in range(40)], 0)
    both.commit(both.step(frames, []))
    (block,) = both.folds[1]._blocks.values()
    assert len(block.run) == 40 and not block.run.payloads.content and not block.run.ids.content
    assert frames[0][1].entries.payloads.content
