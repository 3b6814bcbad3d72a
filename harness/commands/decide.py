"""The promotion decision: the verdict last written, unless it has grown old. Nothing here can promote on its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from harness.core.errors import UsageError
from harness.core.reading import microseconds, timestamp
from harness.core.verdicts import HOLD, PROMOTE
from harness.ports.clock import Clock
from harness.ports.ledger import Ledger, Published

STALE_AFTER = 60_000_000  # microseconds since the analyst last looked


def parsed(published: Published) -> dict[str, Any]:
    """The object of verdict.json."""
    found: dict[str, Any] = json.loads(published.verdict)
    return found


def verdict(ledger: Ledger, clock: Clock) -> dict[str, Any]:
    """The verdict of this moment: that of the analyst's last look; evidence that is stale or has expired is a hold, never a pass.

    Raises UsageError when no verdict was ever written.
    """
    published = ledger.published()
    if published is None:
        raise UsageError("this rollout has no verdict yet: is its analyst running?")
    found = parsed(published)
    now = clock.now()
    old = []
    if now - published.looked > STALE_AFTER:
        old.append(f"stale: the analyst last looked at {timestamp(published.looked)}")
    expires = microseconds(found["expires"])
    if expires is not None and now > expires:
        old.append(f"stale: the evidence expired at {found['expires']}")
    if old and found["verdict"] == PROMOTE:
        return {**found, "verdict": HOLD, "reasons": [*old, *found["reasons"]]}
    return {**found, "reasons": [*old, *found["reasons"]]} if old else found


def wait_for(ledger: Ledger, clock: Clock, *, timeout_s: float, progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Waits until the verdict is no hold, at most `timeout_s`; then what it is."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = verdict(ledger, clock)
        if found["verdict"] != HOLD or time.monotonic() >= deadline:
            return found
        progress(found)
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
