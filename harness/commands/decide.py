"""The promotion decision: the verdict last written, unless it has grown old. Nothing here can promote on its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from analysis.evidence import Evidence, combine
from harness.core.accounting import Counts
from harness.core.reading import microseconds, timestamp
from harness.core.rollout import Rollout
from harness.core.verdicts import HOLD, PROMOTE, verdict_document
from harness.ports.clock import Clock
from harness.ports.ledger import Ledger, Published
from harness.roles.analyst import plan_of

STALE_AFTER = 60_000_000  # microseconds since the analyst last looked
NO_LOOK = "no look yet: the analyst has not looked at this rollout; is it running?"


def parsed(published: Published) -> dict[str, Any]:
    """The object of verdict.json."""
    found: dict[str, Any] = json.loads(published.verdict)
    return found


def verdict(rollout: Rollout, ledger: Ledger, clock: Clock, *, code_version: str) -> dict[str, Any]:
    """The verdict of this moment: that of the analyst's last look; evidence that is stale or has expired is a hold, never a pass.

    Before the first look it is a hold with every key and gate in it. code_version: goes into that one.
    """
    published = ledger.published()
    if published is None:
        return unlooked(rollout, code_version=code_version)
    found = parsed(published)
    old = staleness(published, found, clock.now())
    if old and found["verdict"] == PROMOTE:
        return {**found, "verdict": HOLD, "reasons": [*old, *found["reasons"]]}
    return {**found, "reasons": [*old, *found["reasons"]]} if old else found


def staleness(published: Published, found: Mapping[str, Any], now: int) -> list[str]:
    """Why a verdict is too old to act on, in words; empty when it is not. `now`: microseconds."""
    old = []
    if now - published.looked > STALE_AFTER:
        old.append(f"stale: the analyst last looked at {timestamp(published.looked)}")
    if published.looked - now > STALE_AFTER:
        old.append(f"stale: the analyst looked at {timestamp(published.looked)}, which is still to come; its clock or this one is wrong")
    expires = microseconds(found["expires"])
    if expires is not None and now > expires:
        old.append(f"stale: the evidence expired at {found['expires']}")
    return old


def unlooked(rollout: Rollout, *, code_version: str) -> dict[str, Any]:
    """The verdict of a rollout at which no analyst has looked yet: nothing is counted, every gate is undecided, and it holds."""
    plan = plan_of(rollout)
    document = verdict_document(
        rollout, rows=combine(plan, Evidence(plan, False), Evidence(plan, True)), counts=Counts(), read=0, unsampled=0, in_flight=0,
        flips={policy: {"pairs": 0} for policy in rollout.policies}, watermark={"resolved": None, "shards": []}, as_of=None,
        labelled_wait=None, code_version=code_version,
    )  # fmt: skip
    return {**document, "verdict": HOLD, "reasons": [NO_LOOK, *document["reasons"]]}


def wait_for(
    look: Callable[[], dict[str, Any]], *, timeout_s: float, progress: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Calls `look` (a `verdict`) until the verdict is no hold, at most `timeout_s`; then what it is."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found["verdict"] != HOLD or time.monotonic() >= deadline:
            return found
        progress(found)
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
