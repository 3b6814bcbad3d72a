"""What the store's scripts do beyond the contract: keys that expire, memory that runs out, stores that went back, workers that race."""

from __future__ import annotations

import threading

import pytest

from harness.adapters.redis.intake import RedisIntake
from harness.adapters.redis.journal import RedisJournal
from harness.adapters.redis.ledger import RedisLedger
from harness.adapters.redis.pairlog import RedisPairLog
from harness.core.errors import HeadMoved, Overrun, RecordError, StoreFull, UsageError
from harness.core.pairing import Effects, Head
from harness.core.table import Dictionary, RowLayout
from harness.ports.intake import Taken
from harness.ports.journal import ROOT
from harness.ports.ledger import Folded, Published
from harness.testing import samples
from harness.testing.contracts.pairlog import head, opened

LAYOUT = RowLayout(samples.rollout())
ID = samples.key("e0")[:10]
OUTCOME = samples.outcome(1, "e0")


def rows(start, stop):
    answers = {lane: samples.answer("x") for lane in ("incumbent", "challenger")}
    return b"".join(LAYOUT.pack(samples.event(n, f"e{n}"), answers, None, Dictionary()) for n in range(start, stop))


def resolved(version, stop):
    return head(version, ordinal=stop, resolved=stop)


def everything(version, start, stop):
    """Effects that touch every key of a shard."""
    return Effects(
        head=resolved(version, stop), open={9_000: opened(9_000)}, settled={9_001: opened(9_001)}, ids={ID: ((b"here", 0),)},
        rows=rows(start, stop), early={b"0123456789": (OUTCOME,)}, words=("SE",),
    )  # fmt: skip


@pytest.fixture
def pair_log(redis_db, redis_url):
    return RedisPairLog(redis_url, "sample", 0, layout=LAYOUT, keep_s=100.0)


def test_every_key_of_a_rollout_expires(pair_log, redis_db, redis_url):
    """Nobody cleans up behind a rollout that was switched off; what was kept of people must go by itself."""
    pair_log.apply(everything(1, 0, 300), after=Head())
    pair_log.apply(Effects(head=resolved(2, 300), labels={299: LAYOUT.pack_label(OUTCOME)}), after=resolved(1, 300))
    RedisIntake(redis_url, "sample", keep_s=100.0).save("events/0", Taken(position=1), after=Taken())
    ledger = RedisLedger(redis_url, "sample", keep_s=100.0)
    ledger.save(Folded(version=1), after=Folded())
    ledger.publish(Published(verdict=b"{}", looked=1), after=None)
    RedisJournal(redis_url, "sample", keep_s=100.0).append(b"{}", after=ROOT)
    left = {key.decode(): redis_db.pttl(key) for key in redis_db.keys("*")}
    names = {name.removeprefix("shadow:{sample:0}:") for name in left if name.startswith("shadow:{sample:0}:")}
    assert names == {"head", "open", "settled", "early", "due", "words", f"ids:{ID.hex()[:3]}", "pairs:0", "tail", "labels:1"}
    assert {name for name in left if name.startswith("shadow:{sample}:")} == {
        f"shadow:{{sample}}:{name}" for name in ("src:events/0", "ledger", "verdict", "journal")
    }
    assert all(60_000 < ttl <= 100_000 for ttl in left.values()), left


def labelled_at(pair_log, ordinal):
    """(time, number) of a row's label."""
    label = LAYOUT.label_of(pair_log.rows(ordinal, ordinal + 1))
    return label.time, label.number


def test_a_label_does_not_prolong_the_life_of_a_row(pair_log, redis_db):
    """`keep` is a promise about people's rows; a late label must not break it, and does not outlive its row."""
    pair_log.apply(everything(1, 0, 300), after=Head())
    for key in ("pairs:0", "tail"):
        redis_db.pexpire(f"shadow:{{sample:0}}:{key}", 50_000)
    label = LAYOUT.pack_label(OUTCOME)
    pair_log.apply(Effects(head=resolved(2, 300), labels={3: label, 299: label}), after=resolved(1, 300))
    for ordinal in (3, 299):
        assert labelled_at(pair_log, ordinal) == (OUTCOME.time, 0)
    assert all(redis_db.pttl(f"shadow:{{sample:0}}:{key}") <= 50_000 for key in ("pairs:0", "tail", "labels:0", "labels:1"))
    pair_log.apply(Effects(head=resolved(3, 512), rows=rows(300, 512)), after=resolved(2, 300))
    assert redis_db.pttl("shadow:{sample:0}:labels:1") > 60_000  # its rows are kept from their last one on
    assert labelled_at(pair_log, 299) == (OUTCOME.time, 0)


@pytest.mark.parametrize("stop", [302, 512, 600])
def test_rows_that_expired_are_an_overrun_and_never_zeros(pair_log, redis_db, stop):
    """A chunk that expires half-written is begun again at its middle; what was before must not read as rows of nothing."""
    pair_log.apply(everything(1, 0, 300), after=Head())
    redis_db.delete("shadow:{sample:0}:tail")
    pair_log.apply(Effects(head=resolved(2, stop), rows=rows(300, stop)), after=resolved(1, 300))
    assert pair_log.rows(300, stop) == rows(300, stop)
    for start in (0, 299):
        with pytest.raises(Overrun):
            pair_log.rows(start, stop)
    ids = {samples.key("x")[:10]: ((b"here", 299), (b"else", 301))}
    pair_log.apply(Effects(head=resolved(3, stop), ids=ids), after=resolved(2, stop))
    assert dict(pair_log.find([*ids])[samples.key("x")[:10]].rows) == {301: rows(301, 302)}


def test_a_full_chunk_that_expired_is_an_overrun(pair_log, redis_db):
    """Whatever is read beside it: the rows behind a gap must not move into it."""
    pair_log.apply(everything(1, 0, 800), after=Head())
    redis_db.delete("shadow:{sample:0}:pairs:1")
    for start, stop in ((0, 800), (0, 257), (511, 513), (300, 301)):
        with pytest.raises(Overrun):
            pair_log.rows(start, stop)
    assert (pair_log.rows(0, 256), pair_log.rows(512, 800)) == (rows(0, 256), rows(512, 800))


def test_a_chunk_that_expires_while_it_gets_full_is_written_anew(pair_log, redis_db, monkeypatch):
    """It is read before it is packed, and a script cannot pack: what was read must still be there, or the fold is done again."""
    pair_log.apply(everything(1, 0, 300), after=Head())
    get = pair_log._client.get
    monkeypatch.setattr(pair_log._client, "get", lambda key: (get(key), redis_db.delete(key))[0])
    effects = Effects(head=resolved(2, 512), rows=rows(300, 512))
    with pytest.raises(HeadMoved):
        pair_log.apply(effects, after=resolved(1, 300))
    monkeypatch.undo()
    assert pair_log.load()[0] == resolved(1, 300)
    pair_log.apply(effects, after=resolved(1, 300))
    assert pair_log.rows(300, 512) == rows(300, 512)


@pytest.mark.parametrize("key", ["pairs:0", "tail"])
def test_a_label_for_a_row_that_has_just_expired_writes_nothing(pair_log, redis_db, key):
    """The chunk may go between the look-up and the write; a label alone must not bring back a row."""
    pair_log.apply(everything(1, 0, 300), after=Head())
    redis_db.delete(f"shadow:{{sample:0}}:{key}")
    label = LAYOUT.pack_label(OUTCOME)
    pair_log.apply(Effects(head=resolved(2, 300), labels={3 if key == "pairs:0" else 299: label}), after=resolved(1, 300))
    assert not redis_db.keys("shadow:{sample:0}:labels:*")


def test_a_chunk_of_another_config_or_release_is_named(pair_log, redis_db):
    """Rows have no version of their own; a chunk that is none must not become rows of noise."""
    pair_log.apply(everything(1, 0, 256), after=Head())
    redis_db.set("shadow:{sample:0}:pairs:0", b"\x02" + redis_db.get("shadow:{sample:0}:pairs:0")[1:])
    with pytest.raises(RecordError, match="no chunk of pairs"):
        pair_log.rows(0, 256)


def test_a_store_without_memory_refuses_a_fold_whole_and_takes_it_later(pair_log, redis_db, redis_url):
    """A half-written fold would part counts from rows; the lag grows instead, and the verdict holds."""
    pair_log.apply(everything(1, 0, 5), after=Head())
    before = {key: redis_db.dump(key) for key in redis_db.keys("*")}
    later = Effects(head=resolved(2, 9), gone=(9_000, 9_001), rows=rows(5, 9), early={b"0123456789": ()}, words=("NO",))
    ledger, journal = RedisLedger(redis_url, "sample", keep_s=9.0), RedisJournal(redis_url, "sample", keep_s=9.0)
    intake = RedisIntake(redis_url, "sample", keep_s=9.0)
    redis_db.config_set("maxmemory", "1")
    try:
        for write in (
            lambda: pair_log.apply(later, after=resolved(1, 5)),
            lambda: intake.save("events/0", Taken(position=1), after=Taken()),
            lambda: ledger.save(Folded(version=1), after=Folded()),
            lambda: ledger.publish(Published(verdict=b"{}", looked=1), after=None),
            lambda: journal.append(b"{}", after=ROOT),
        ):
            with pytest.raises(StoreFull):
                write()
        assert (pair_log.snapshot().head, pair_log.rows(0, 5)) == (resolved(1, 5), rows(0, 5))
        assert {key: redis_db.dump(key) for key in redis_db.keys("*")} == before
    finally:
        redis_db.config_set("maxmemory", "0")
    pair_log.apply(later, after=resolved(1, 5))
    assert (pair_log.snapshot().in_flight, pair_log.rows(0, 9), list(pair_log.words())) == (0, rows(0, 9), ["SE", "NO"])


def test_a_store_that_went_back_refuses_the_head_it_lost_and_goes_on_from_its_own(pair_log, redis_db, redis_url):
    """A server that lost its last second holds an older head, whole; the joiner loads it and reads the logs again."""
    pair_log.apply(everything(1, 0, 5), after=Head())
    saved = {key: redis_db.dump(key) for key in redis_db.keys("*")}
    pair_log.apply(Effects(head=resolved(2, 9), rows=rows(5, 9)), after=resolved(1, 5))
    for key, value in saved.items():
        redis_db.restore(key, 0, value, replace=True)
    with pytest.raises(HeadMoved):
        pair_log.apply(Effects(head=resolved(3, 9)), after=resolved(2, 9))
    found, _, words = pair_log.load()
    pair_log.apply(Effects(head=resolved(2, 9), rows=rows(5, 9), words=("NO",)), after=found)
    assert (found, pair_log.rows(0, 9), list(words)) == (resolved(1, 5), rows(0, 9), ["SE"])


def test_of_many_joiners_that_fold_the_same_head_one_wins(redis_db, redis_url):
    """Ownership of a shard is a courtesy; that one write follows another is enforced by the store."""
    won, lost, start = [], [], threading.Barrier(6)

    def work(n):
        log = RedisPairLog(redis_url, "sample", 0, layout=LAYOUT, keep_s=100.0)
        for version in range(1, 21):
            start.wait()
            before = log.load()[0]
            start.wait()
            try:
                log.apply(Effects(head=head(version, late_labels=n), words=(f"{version}",)), after=before)
                won.append((version, n))
            except HeadMoved:
                lost.append((version, n))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = RedisPairLog(redis_url, "sample", 0, layout=LAYOUT, keep_s=100.0)
    assert (sorted(version for version, _ in won), len(lost)) == ([*range(1, 21)], 100)
    assert list(log.words()) == [str(version) for version in range(1, 21)]
    assert log.load()[0] == head(20, late_labels=dict(won)[20])


def test_ids_stay_in_the_compact_form(pair_log, redis_db):
    """Ids are what a store holds most of; Redis keeps small hashes in a third of the memory."""
    ids = {samples.key(f"{n}")[:10]: ((b"here", n),) for n in range(5_000)}
    pair_log.apply(Effects(head=head(1), ids=ids), after=Head())
    keys = redis_db.keys("shadow:{sample:0}:ids:*")
    assert len(keys) > 2_000
    assert {redis_db.object("ENCODING", key) for key in keys} <= {b"ziplist", b"listpack"}
    assert len(pair_log.find(list(ids))) == 5_000


def test_a_key_that_something_else_wrote_is_named_as_wrong_use(pair_log, redis_db):
    """Two systems in one database is a mistake of whoever configured it; waiting would not help."""
    redis_db.set("shadow:{sample:0}:head", "theirs")
    for call in (
        pair_log.load,
        pair_log.snapshot,
        lambda: pair_log.apply(Effects(head=head(1)), after=Head()),
        lambda: pair_log.find([ID]),
    ):
        with pytest.raises(UsageError, match="another type"):
            call()


def test_rows_that_came_one_by_one_are_kept_as_rows_that_came_at_once(redis_db, redis_url):
    """At a low rate a fold holds few pairs; a full chunk is packed all the same, and reads back as what was written."""
    stored = []
    answers = {lane: samples.answer("x") for lane in ("incumbent", "challenger")}
    labelled = LAYOUT.pack(samples.event(7, "e7"), answers, OUTCOME, Dictionary())
    for name, step in (("slow", 10), ("fast", 256)):
        log, version, done = RedisPairLog(redis_url, name, 0, layout=LAYOUT, keep_s=100.0), 0, 0
        while done < 256:
            stop = min(done + step, 256)
            after = resolved(version, done) if version else Head()
            new = b"".join(labelled if n == 7 else rows(n, n + 1) for n in range(done, stop))
            log.apply(Effects(head=resolved(version + 1, stop), rows=new), after=after)
            version, done = version + 1, stop
        stored.append(redis_db.get(f"shadow:{{{name}:0}}:pairs:0"))
        assert log.rows(0, 256) == rows(0, 7) + labelled + rows(8, 256)
        assert 60_000 < redis_db.pttl(f"shadow:{{{name}:0}}:pairs:0") <= 100_000
        assert redis_db.hkeys(f"shadow:{{{name}:0}}:labels:0") == [b"7"]
    assert stored[0] == stored[1] and len(stored[0]) < LAYOUT.label_at * 256 / 2
