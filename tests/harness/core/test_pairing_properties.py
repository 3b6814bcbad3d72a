"""The fold under random histories: batches, crashes and repeats change nothing, and the identity holds at every step."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.accounting import identity_problems
from harness.core.events import AnswerFrame, Frame, Invalid, InvalidOutcome
from harness.testing.samples import SECOND, START, answer, event, outcome, request
from harness.testing.shard import SOURCE, Shard

ids = st.sampled_from(["a", "b", "c", "d", "e"])
events = st.tuples(st.just("event"), ids, st.sampled_from(["here", "there"]))
labels = st.tuples(st.just("outcome"), ids, st.integers(0, 20))
requests = st.tuples(st.just("request"), ids, st.sampled_from([0.25, 0.5, 1.0]))
others = st.sampled_from([("invalid",), ("invalid_outcome",)])
answers = st.tuples(
    st.just("answer"), st.sampled_from(("incumbent", "challenger", "replica")), ids, st.sampled_from(["here", "there"]),
    st.sampled_from(["answered", "answered", "timeout", "no_answer"]), st.sampled_from([10.0, 30.0]),
)  # fmt: skip


def entry_of(position, kind, *rest):
    match kind:
        case "event":
            return event(position, rest[0], source=rest[1])
        case "outcome":
            return outcome(position, rest[0], time=START + rest[1], number=position)
        case "request":
            return request(position, rest[0], propensity=rest[1])
        case "invalid":
            return Invalid(position=position, reason="no JSON")
        case _:
            return InvalidOutcome(position=position, reason="no JSON")


def as_records(history):
    """Mirror frames and answer frames of one entry each, in the order of the history."""
    records, mirror, predictions = [], 0, 0
    for n, (kind, *rest) in enumerate(history, 1):
        if kind == "answer":
            lane, id, source, status, age = rest
            predictions += 1
            said = (answer(id, source=source, status=status, age=age),)
            records.append(("answer", predictions, AnswerFrame(lane=lane, mirror=mirror, answers=said)))
            continue
        mirror += 1
        entry = entry_of(n, kind, *rest)
        now = START + n * SECOND
        records.append(("mirror", mirror, Frame(config="c", source=SOURCE, sent=now, upto=now, entries=(entry,))))
    return records


def run(history, cuts, crashes, repeats, asking=False):
    """The history folded in batches that end at `cuts`; those in `crashes` die before they apply; frames in `repeats` come twice."""
    shard, records, start = Shard(replica_percent=50.0, requests=asking), as_records(history), 0
    for n, stop in enumerate([*sorted(cuts), len(records)]):
        part, start = records[start:stop], stop
        frames = [(p, f) for kind, p, f in part if kind == "mirror"]
        frames += [frame for i, frame in enumerate(frames) if i in repeats]
        said = [(p, f) for kind, p, f in part if kind == "answer"]
        if n in crashes:
            shard.commit(frames, said, lost=True)
        shard.commit(frames, said)
        read = shard.counts.mirrored + shard.counts.duplicates
        assert read == sum(kind in ("event", "invalid") for kind, *_ in history[:stop])
        assert identity_problems(shard.counts, read=read, unsampled=0, in_flight=shard.in_flight) == []
        n_outcomes = sum(kind in ("outcome", "request", "invalid_outcome") for kind, *_ in history[:stop])
        assert shard.counts.outcomes == n_outcomes
    return shard


def answerable(history):
    """Without answers that come before their event: lanes give none, and the joiner reads the mirror first."""
    seen, kept = set(), []
    for kind, *rest in history:
        if kind == "event":
            seen.add(tuple(rest))
        if kind != "answer" or (rest[1], rest[2]) in seen:
            kept.append((kind, *rest))
    return kept


def pairs_of(shard):
    """The rows by key, and what is open."""
    _, opens, _ = shard.store.load()
    return shard.store.rows(0, shard.head.resolved), {n: replace(o, mirror=0) for n, o in opens.items()}


@settings(deadline=None, max_examples=400)
@given(
    history=st.lists(st.one_of(events, labels, others, answers, answers), min_size=10, max_size=60),
    cuts=st.sets(st.integers(0, 60), max_size=6),
    crashes=st.sets(st.integers(0, 6)),
    repeats=st.sets(st.integers(0, 20), max_size=3),
)
def test_counts_and_rows_do_not_depend_on_batches_crashes_or_repeats(history, cuts, crashes, repeats):
    """The same records give the same counts, rows and open events, and the identity holds at every step on the way."""
    history = answerable(history)
    cuts = {cut for cut in cuts if cut <= len(history)}
    whole, cut = run(history, set(), set(), set()), run(history, cuts, crashes, repeats)
    assert pairs_of(whole) == pairs_of(cut)
    assert whole.counts == cut.counts
    assert (whole.head.resolved, whole.head.ordinal, whole.head.watermark) == (cut.head.resolved, cut.head.ordinal, cut.head.watermark)


@settings(deadline=None, max_examples=200)
@given(
    history=st.lists(st.one_of(events, events, labels, requests, answers, answers), min_size=10, max_size=60),
    cuts=st.sets(st.integers(0, 60), max_size=6),
    crashes=st.sets(st.integers(0, 6)),
    repeats=st.sets(st.integers(0, 20), max_size=3),
)
def test_requests_do_not_depend_on_batches_crashes_or_repeats_either(history, cuts, crashes, repeats):
    """Before their event, after its label, twice, of an event that never comes: each is counted once, and the row is the same."""
    history = answerable(history)
    cuts = {cut for cut in cuts if cut <= len(history)}
    whole, cut = run(history, set(), set(), set(), asking=True), run(history, cuts, crashes, repeats, asking=True)
    assert pairs_of(whole) == pairs_of(cut)
    assert whole.counts == cut.counts


@settings(deadline=None, max_examples=200)
@given(records=st.lists(st.one_of(labels, requests), max_size=8), data=st.data())
def test_what_is_known_of_a_label_does_not_depend_on_the_order_of_its_records(records, data):
    """Labels and requests of an event come when they come, before it or long after; no replay may see another row."""
    records = [(kind, "a", *rest) for kind, _, *rest in records]

    def known(order, opened_at, paired_at):
        shard = Shard(requests=True)
        for place in range(len(order) + 1):
            if place == opened_at:
                shard.read(event(100, "a"))
            if place == paired_at:
                shard.pair("a")
            if place < len(order):
                shard.read(entry_of(order[place] + 1, *records[order[place]]), source=f"outcomes/{order[place]}")
        return shard.store.rows(0, 1), shard.counts

    order, n = data.draw(st.permutations(range(len(records)))), len(records)
    opened = data.draw(st.integers(0, n))
    paired = data.draw(st.integers(opened, n))
    found, counts = known(order, opened, paired)
    straight, _ = known(range(n), 0, 0)
    assert found == straight
    assert (counts.joined + counts.revised, counts.requests) == tuple(sum(r[0] == kind for r in records) for kind in ("outcome", "request"))
    assert (counts.waiting, counts.requests_waiting, counts.joined) == (0, 0, min(1, counts.joined + counts.revised))


@settings(deadline=None, max_examples=200)
@given(
    history=st.lists(st.one_of(events, labels, others, answers, answers), min_size=10, max_size=60),
    cuts=st.sets(st.integers(0, 60), max_size=6),
)
def test_the_identity_holds_for_any_interleaving(history, cuts):
    """Also for answers on events that come later: they are unknown, never an error, and every entry keeps exactly one class."""
    run(history, {cut for cut in cuts if cut <= len(history)}, set(), set())
