"""`shadow explain` and `shadow forget` over real pairs in a real Redis."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from decided import Decided, chain, decide, stream

from harness.adapters.archive import FileArchive
from harness.commands.audit import verify
from harness.commands.explain import explain, lines
from harness.commands.forget import forget
from harness.commands.replay import whole_table
from harness.core.errors import HeadMoved, UsageError
from harness.core.observations import Observation
from harness.core.pairing import Effects
from harness.core.reading import microseconds, timestamp
from harness.core.records import Author, body
from harness.core.routing import Hasher, shard_of
from harness.core.stages import folded
from harness.ports.clock import ManualClock
from harness.ports.journal import Link
from harness.ports.observations import Observed
from harness.testing import samples
from harness.testing.doubles import MemoryJournal
from harness.testing.plainids import MemoryPlainIds
from harness.testing.shard import Shard

N = 400
EVENTS = [json.loads(line) for line in stream(N)[0]]
ADA = Author(name="ada", via="cli")


@pytest.fixture
def decided(tmp_path: Path, redis_db: redis.Redis, redis_url: str) -> Decided:
    return decide(tmp_path, redis_url, n=N)


def logs(decided: Decided) -> list[Any]:
    return [decided.wiring.pair_log(shard) for shard in range(2)]


def ids(decided: Decided) -> list[Any]:
    return decided.wiring.all_plain_ids()


def explained(decided: Decided, id: str, *, secret: bytes = b"", **words: Any) -> dict[str, Any]:
    hasher = Hasher(decided.rollout.name, secret)
    return explain(decided.rollout, id, hasher=hasher, pair_logs=logs(decided), plain_ids=ids(decided), journal=decided.journal, **words)


def forgotten(decided: Decided, unit: str, reason: str = "a request") -> dict[str, Any]:
    return forget(
        decided.rollout, unit, reason=reason, hasher=Hasher(decided.rollout.name), pair_logs=logs(decided), plain_ids=ids(decided),
        journal=decided.journal, observations=decided.wiring.observations, by=ADA, clock=ManualClock(1),
    )  # fmt: skip


def answered() -> dict[str, Any]:
    """An event in the region with a line of its own that both models answered."""
    return next(event for event in EVENTS if "new" in event["data"] and event["data"]["region"] == "ES")


def test_an_event_is_explained_with_what_both_models_said_and_the_line_of_its_segment(decided: Decided):
    """Whoever asks why gets outputs, decisions, the threshold that was theirs, the stage and the config."""
    event = answered()
    found = explained(decided, event["id"])
    (fact,) = found["events"]
    assert (found["status"], found["config_sha256"]) == ("found", decided.rollout.sha256)
    assert fact["lanes"]["incumbent"]["outputs"]["age"] == event["data"]["old"]["age"]
    assert fact["lanes"]["challenger"]["outputs"]["age"] == event["data"]["new"]["age"]
    policy = fact["policies"]["over_18"]
    assert policy["thresholds"] == {"incumbent": 16.0, "challenger": 16.0}
    assert policy["by"] == {"region": "ES"}
    assert policy["decisions"]["challenger"] == ("true" if event["data"]["new"]["age"] >= 16 else "false")
    assert fact["policies"]["adult"]["decisions"]["incumbent"] == event["data"]["action"]
    assert fact["segments"]["gender"] == event["data"]["gender"]
    shadow = {"index": 0, "kind": "shadow", "percent": 0.0, "record": decided.links[0].hash, "arm": "incumbent"}
    assert fact["stage"] == shadow
    text = "\n".join(lines(found))
    assert "line 16.0 for region ES" in text and "challenger serves 0 %: arm incumbent" in text


def test_an_event_of_a_later_stage_is_explained_with_the_percent_of_that_stage(decided: Decided):
    """Which model may have decided about somebody changes from stage to stage; the chain says when."""
    event = EVENTS[-1]
    since = timestamp(microseconds(event["time"]) - 1)
    entered = body("entered", rollout=decided.rollout.name, at=1, by=ADA, reason="as a test", stage=1, since=since)

    class Chain:
        def read(self, start: int = 0) -> Any:
            return [decided.links[0], Link(hash="f" * 64, previous=decided.links[0].hash, body=entered)]

    words = {"hasher": Hasher(decided.rollout.name), "pair_logs": logs(decided), "plain_ids": ids(decided), "journal": Chain()}
    (late,) = explain(decided.rollout, event["id"], **words)["events"]
    (early,) = explain(decided.rollout, EVENTS[0]["id"], **words)["events"]
    assert (late["stage"]["index"], late["stage"]["percent"], late["stage"]["record"]) == (1, 1.0, "f" * 64)
    assert late["stage"]["arm"] == "as production reported its exposure"
    assert (early["stage"]["index"], early["stage"]["arm"]) == (0, "incumbent")


def test_a_missing_answer_is_explained_by_its_reason(decided: Decided):
    """No output is no decision."""
    event = next(event for event in EVENTS if "new" not in event["data"])
    (fact,) = explained(decided, event["id"])["events"]
    assert fact["lanes"]["challenger"]["missing"] == "no_answer"
    assert fact["lanes"]["challenger"]["outputs"] == {"age": None}
    assert fact["policies"]["over_18"]["decisions"]["challenger"] is None


def test_an_id_that_is_not_there_is_told_why_as_far_as_that_is_known(decided: Decided, redis_db: redis.Redis):
    """Unknown, under another secret, in flight, expired, a label alone, not sampled: each its own word."""
    assert explained(decided, "no such id")["status"] == "unknown"
    assert "SHADOW_SECRET" in explained(decided, EVENTS[0]["id"], secret=b"another")["says"]
    hasher, log = Hasher(decided.rollout.name), logs(decided)[0]
    here = [id for id in map(str, range(99)) if shard_of(hasher.event_id(id) + bytes(4), 2) == 0][:2]
    waits, early = map(hasher.event_id, here)
    head, _, _ = log.load()
    effects = Effects(
        head=replace(head, version=head.version + 1, ordinal=head.ordinal + 1), ids={waits: ((b"here", head.ordinal),)},
        early={early: (samples.outcome(1, "x"),)},
    )  # fmt: skip
    log.apply(effects, after=head)
    assert [explained(decided, id)["status"] for id in here] == ["in_flight", "label_only"]
    for key in [*redis_db.keys("*:pairs:*"), *redis_db.keys("*:tail")]:
        redis_db.delete(key)
    assert explained(decided, EVENTS[0]["id"])["status"] == "expired"


def test_a_unit_outside_the_sample_is_told_so(decided: Decided):
    """Only the unit decides what is sampled, so only who names it is told."""
    rollout, hasher = replace(decided.rollout, sample_percent=10.0), Hasher(decided.rollout.name)
    outside = next(f"u{n}" for n in range(99) if not hasher.sampled(f"u{n}", 10.0))
    words = {"hasher": hasher, "pair_logs": logs(decided), "plain_ids": ids(decided), "journal": decided.journal}
    assert explain(rollout, "none", unit=outside, **words)["status"] == "unsampled"
    assert "--unit" in explain(rollout, "none", **words)["says"]


# ------------------------------------------------------------------------------------------------------------------------- forget
def test_a_forgotten_unit_is_in_no_table_and_cannot_be_explained(decided: Decided):
    """Its rows go from the store in full and in growing chunks; those of others stay, and so do the counts."""
    unit = EVENTS[0]["subject"]
    theirs = [event["id"] for event in EVENTS if event["subject"] == unit]
    counts = [log.snapshot().head.counts for log in logs(decided)]
    found = forgotten(decided, unit)
    assert (found["rows"], found["in_flight"]) == (len(theirs), 0)
    table = whole_table(decided.rollout, logs(decided))
    assert len(table) == N - len(theirs)
    assert Hasher(decided.rollout.name).unit(unit) not in table["unit_id"]
    assert {explained(decided, id)["status"] for id in theirs} == {"unknown"}
    assert explained(decided, next(event["id"] for event in EVENTS if event["subject"] != unit))["status"] == "found"
    assert [log.snapshot().head.counts for log in logs(decided)] == counts
    assert forgotten(decided, unit)["rows"] == 0


def test_nothing_in_the_store_holds_the_hash_of_a_forgotten_unit_but_the_analysts_sums(decided: Decided, redis_db: redis.Redis):
    """Searched key by key, in either order of bytes; packed chunks through their rows, which the table showed."""
    unit = EVENTS[3]["subject"]
    forgotten(decided, unit)
    hashed = Hasher(decided.rollout.name).unit(unit)
    needles = [hashed.to_bytes(8, order) for order in ("little", "big")] + [unit.encode() + b'"', f"{hashed:016x}".encode()]
    for key in redis_db.keys("*"):
        if redis_db.type(key) == b"string" and b":ledger" not in key:
            value = redis_db.get(key)
            assert not any(needle in value for needle in needles), key


def test_what_was_observed_of_a_forgotten_unit_in_a_canary_goes_too(decided: Decided):
    """Exposures and measurements are of people as well."""
    log, hashed = decided.wiring.observations, Hasher(decided.rollout.name).unit(EVENTS[0]["subject"])
    rows = [Observation(bytes([n]) * 14, unit, n, 1.0, 1.0) for n, unit in enumerate((hashed, 7, hashed))]
    log.append("exposures/0", rows, Observed(position=2), after=Observed())
    assert forgotten(decided, EVENTS[0]["subject"])["observed"] == 2
    assert log.rows("exposures/0", 0)[0]["unit"].tolist() == [7]


def test_the_record_says_how_many_rows_and_never_whose(decided: Decided):
    """It stays for years; the chain is whole, and the rollout stands where it stood."""
    unit, before = EVENTS[0]["subject"], folded(chain(decided.links))
    found = forgotten(decided, unit)
    record, head = chain(decided.links)[-1]
    assert (record["kind"], record["rows"], record["reason"], head) == ("forgot", found["rows"], "a request", found["record"])
    text = decided.links[-1].body.decode()
    assert unit not in text and f"{Hasher(decided.rollout.name).unit(unit):x}" not in text
    after = folded(chain(decided.links))
    assert (after.standing, after.stage, after.approvals) == (before.standing, before.stage, before.approvals)


def test_a_decision_can_still_be_computed_again_after_somebody_was_forgotten(decided: Decided):
    """The archive holds nobody's hash, so nothing has to be taken out of it."""
    forgotten(decided, EVENTS[0]["subject"])
    audit = verify(decided.links, FileArchive(decided.archive))
    assert (audit.exit_code, audit.level, audit.records) == (0, "pairs", 6)


def test_a_reason_is_needed_and_must_not_name_the_unit(decided: Decided):
    """The record would hold for years what was to be forgotten."""
    for reason in (" ", f"{EVENTS[0]['subject']} asked for it"):
        with pytest.raises(UsageError, match="--reason"):
            forgotten(decided, EVENTS[0]["subject"], reason)
    assert len(whole_table(decided.rollout, logs(decided))) == N


def test_a_record_that_somebody_added_at_the_same_moment_is_no_obstacle(decided: Decided):
    """The chain refuses what does not follow its head; the next try does."""

    class Busy:
        n = 0

        def read(self, start: int = 0) -> Any:
            return decided.journal.read(start)

        def append(self, body: bytes, *, after: str) -> Any:
            self.n += 1
            if self.n < 3:
                raise HeadMoved("somebody else was faster")
            return decided.journal.append(body, after=after)

    found = forget(
        decided.rollout, EVENTS[0]["subject"], reason="a request", hasher=Hasher(decided.rollout.name), pair_logs=logs(decided),
        plain_ids=ids(decided), observations=decided.wiring.observations, journal=Busy(), by=ADA, clock=ManualClock(1),
    )  # fmt: skip
    assert decided.links[-1].hash == found["record"]


def test_an_event_whose_label_was_asked_for_says_that_it_waits():
    """Who asks why a gate waits must find the events that it waits for."""
    shard = Shard(requests=True)
    shard.read(samples.event(1, "a"), samples.request(2, "b"))
    shard.pair("a")

    def told(id: str) -> list[str]:
        words = {"hasher": Hasher("sample"), "pair_logs": [shard.store], "plain_ids": [MemoryPlainIds()], "journal": MemoryJournal()}
        return lines(explain(shard.rollout, id, **words))

    assert not any("asked for" in line for line in told("a"))
    assert "a request for one, came for it, and no event yet" in told("b")[0]
    shard.read(samples.request(3, "a", propensity=0.25))
    assert "a label was asked for, drawn with chance 0.25, and has not come" in told("a")
    shard.read(samples.outcome(4, "a"))
    assert not any("asked for" in line for line in told("a"))
