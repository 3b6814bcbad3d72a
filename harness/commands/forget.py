"""Forget: takes a unit's rows out of the store, and writes into the chain that it was done, never whose they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.core.errors import HeadMoved, UsageError
from harness.core.records import Author, body
from harness.core.rollout import Rollout
from harness.core.routing import Hasher
from harness.ports.clock import Clock
from harness.ports.journal import Journal
from harness.ports.observations import ObservationLog
from harness.ports.pairlog import PairLog
from harness.ports.plainids import PlainIds

TRIES = 20


def forget(
    rollout: Rollout, unit: str, *, reason: str, hasher: Hasher, pair_logs: Sequence[PairLog], plain_ids: Sequence[PlainIds],
    observations: ObservationLog, journal: Journal, by: Author, clock: Clock,
) -> dict[str, Any]:  # fmt: skip
    """Takes every row of a unit out of the store and writes that so many were taken, never whose.

    1 plain ids, then pairs, shard by shard   2 what was observed of it in a canary   3 the record `forgot`. A crash in between leaves a
    record unwritten; done again it says 0 rows.

    Raises UsageError without a reason; StoreUnavailable: done again it does the rest.
    """
    if not reason.strip():
        raise UsageError("--reason: say why, as in --reason 'request of 2026-03-02'; do not name the unit")
    if unit in reason:
        raise UsageError("--reason: names the unit, which the record would then hold for years; say it without")
    hashed = hasher.unit(unit)
    for log, ids in zip(pair_logs, plain_ids, strict=True):  # whatever the config keeps today: it may have kept more before
        ids.forget(hashed, before=log.snapshot().head.resolved)
    rows = sum(log.forget(hashed) for log in pair_logs)
    observed = observations.forget(hashed)
    waiting = sum(opened.event.unit == hashed for log in pair_logs for opened in log.load()[1].values())
    for _ in range(TRIES):
        links = journal.read()
        if not links:
            raise UsageError(f"rollout {rollout.name}: has no records; was it created by this release?")
        record = body("forgot", rollout=rollout.name, at=clock.now(), by=by, reason=reason, rows=rows, observed=observed)
        try:
            link = journal.append(record, after=links[-1].hash)
        except HeadMoved:
            continue
        return {"rollout": rollout.name, "rows": rows, "observed": observed, "in_flight": waiting, "record": link.hash}
    raise UsageError(f"rollout {rollout.name}: {rows} rows are gone, but others kept adding records; run it again to have it recorded")
