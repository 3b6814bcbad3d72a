"""The promotion decision: the verdict last written, unless it has grown old, and where the rollout stands, which outweighs it.

Nothing here can promote on its own: either every gate passed at a fresh look at this very stage, or the chain says that it was promoted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.evidence import Evidence, combine
from harness.core.accounting import Counts
from harness.core.errors import RecordError, UsageError
from harness.core.rollout import Rollout
from harness.core.stages import (
    FORWARD,
    NOT_BEGUN,
    Standing,
    State,
    Wait,
    is_of,
    named,
    next_move,
    read_by,
    serves,
    since_text,
    standpoint,
)
from harness.core.verdicts import HOLD, PROMOTE, ROLLBACK, damaged, staleness, verdict_document
from harness.ports.clock import Clock
from harness.ports.ledger import Ledger, Published
from harness.roles.analyst import plan_of

KEPT = ("counts", "lanes", "versions", "outcomes", "exposed", "watermark")  # of a stage before: what speaks of the whole rollout
NO_LOOK = "no look yet: the analyst has not looked at this rollout; is it running?"


Beside = Callable[[], Sequence[str]]
"""Asks why a challenger must not begin to serve beside others, in words; see `roles.seating.beside`."""


def nobody() -> Sequence[str]:
    """A challenger that is alone."""
    return ()


def parsed(published: Published) -> dict[str, Any]:
    """The object of verdict.json."""
    found: dict[str, Any] = json.loads(published.verdict)
    return found


def verdict(
    rollout: Rollout, ledger: Ledger, where: Callable[[], State], clock: Clock, *, code_version: str, beside: Beside = nobody
) -> dict[str, Any]:
    """The verdict of this moment: that of the analyst's last look at the stage in which the rollout is now.

    Evidence that is stale, expired or of another stage is a hold, never a pass, and so is a pause; a rollout that was rolled back says
    rollback, one that expired hold, one that was promoted promote, whatever the gates say since. Before the first look it is a hold
    with every key and gate in it. where: asks where the rollout stands; a chain that is damaged is a hold. code_version: goes into a
    verdict at which nobody has looked. beside: why it must not begin to serve now: another challenger does.
    """
    published = ledger.published()
    found = parsed(published) if published is not None else None
    try:
        state = read_by(rollout, where())
    except RecordError as error:
        return damaged(found or unlooked(rollout, State(), code_version=code_version), str(error))
    old = [] if published is None or found is None else staleness(published.looked, found["expires"], clock.now())
    if found is None:
        found = unlooked(rollout, state, code_version=code_version)
    elif not is_of(found, state):
        counted: dict[str, Any] = {name: found[name] for name in KEPT if name in found}
        found = {**unlooked(rollout, state, code_version=code_version), **counted, "reasons": [NOT_BEGUN]}
    others = () if state.final or serves(state) or found["verdict"] == ROLLBACK else beside()
    return _in_force({**found, **_standing(rollout, state)}, state, [*old, *others])


def _standing(rollout: Rollout, state: State) -> dict[str, Any]:
    """Where the rollout stands now, which the analyst may have learnt a moment ago."""
    at = standpoint(rollout, state)
    return {
        "stage": rollout.stages[at.stage].kind, "stage_index": at.stage, "since": since_text(state), "standing": at.standing,
        "percent": at.percent,
    }  # fmt: skip


def _in_force(found: dict[str, Any], state: State, old: Sequence[str]) -> dict[str, Any]:
    """The verdict, with what the rollout's standing and its age make of it."""
    ended = [state.latest.words] if state.latest is not None else []
    match state.standing:
        case Standing.PROMOTED:
            return {**found, "verdict": PROMOTE, "reasons": [*ended, *found["reasons"]]}
        case Standing.ROLLED_BACK:
            return {**found, "verdict": ROLLBACK, "reasons": [*ended, *found["reasons"]]}
        case Standing.EXPIRED:
            return {**found, "verdict": HOLD, "reasons": [*ended, *found["reasons"]]}
        case Standing.PAUSED:
            old = [*old, *ended]
    held = HOLD if old and found["verdict"] == PROMOTE else found["verdict"]
    return {**found, "verdict": held, "reasons": [*old, *found["reasons"]]}


def waits_for(rollout: Rollout, ledger: Ledger, where: Callable[[], State], clock: Clock, *, beside: Beside = nobody) -> list[str]:
    """What the next move of the rollout waits for, in words; empty when it is about to be made."""
    published = ledger.published()
    try:
        state = read_by(rollout, where())
    except RecordError as error:
        return [str(error)]
    if published is None:
        return [NO_LOOK]
    found = parsed(published)
    move = next_move(rollout, state, found, stale=staleness(published.looked, found["expires"], clock.now()))
    if not isinstance(move, Wait) and move.kind not in FORWARD:
        return []
    others = [] if state.final or serves(state) else list(beside())
    return [*move.reasons, *others] if isinstance(move, Wait) else others


def unlooked(rollout: Rollout, state: State, *, code_version: str) -> dict[str, Any]:
    """The verdict of a stage at which no analyst has looked yet: nothing is counted, every gate is undecided, and it holds."""
    plan = plan_of(rollout, state.stage, state.attempt)
    document = verdict_document(
        rollout, rows=combine(plan, Evidence(plan, False), Evidence(plan, True)), counts=Counts(), read=0, unsampled=0, in_flight=0,
        flips={policy: {"pairs": 0} for policy in rollout.policies}, watermark={"resolved": None, "shards": []}, as_of=None,
        labelled_wait=None, code_version=code_version, at=standpoint(rollout, state),
    )  # fmt: skip
    return {**document, "verdict": HOLD, "reasons": [NO_LOOK, *document["reasons"]]}


def ends(rollout: Rollout) -> None:
    """Whether this rollout can ever be promoted. Raises UsageError when its stages end before."""
    if rollout.stages[-1].kind != "promote":
        end = named(rollout, len(rollout.stages) - 1)
        raise UsageError(f"--final: the last stage of {rollout.name} is {end}, so it is never promoted; ask without --final")


def ended(found: Mapping[str, Any]) -> str:
    """What has become of the rollout of a verdict, as a verdict: promote once it was promoted, which is after its last bake; rollback once
    it was rolled back; hold while it runs, also at a stage whose gates pass, and when it expired or nobody can tell."""
    return {Standing.PROMOTED.value: PROMOTE, Standing.ROLLED_BACK.value: ROLLBACK}.get(found["standing"], HOLD)


def is_over(found: Mapping[str, Any]) -> bool:
    """Whether the rollout of a verdict has ended, in whichever way."""
    return ended(found) != HOLD or found["standing"] == Standing.EXPIRED.value


def is_said(found: Mapping[str, Any]) -> bool:
    """Whether a verdict is no hold."""
    return bool(found["verdict"] != HOLD)


def wait_for(
    look: Callable[[], dict[str, Any]], *, timeout_s: float, progress: Callable[[dict[str, Any]], None],
    until: Callable[[Mapping[str, Any]], bool] = is_said,
) -> dict[str, Any]:  # fmt: skip
    """Calls `look` (a `verdict`) until that is so, at most `timeout_s`; then what it is."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if until(found) or time.monotonic() >= deadline:
            return found
        progress(found)
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
