"""A new attempt: a changed question, or a changed model, under the name of a rollout. It begins in the first stage with no evidence.

The first attempt runs at alpha, its v-th retry at alpha/(v(v+1)): looking again and again at changed gates promotes no bad challenger
with more than twice the chance of looking once. What was decided before stays in the chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.commands import registry
from harness.commands.moves import Moved, Refused, checked_reason
from harness.core.errors import HeadMoved, UsageError
from harness.core.reading import microseconds
from harness.core.records import Author, body, parse
from harness.core.rollout import AMENDABLE, CHALLENGER, Family, Rollout
from harness.core.stages import Standing, alpha_share, fold
from harness.ports.clock import Clock
from harness.ports.directory import Directory
from harness.ports.journal import Journal
from harness.roles.standing import Follower


def amend(
    rollout: Rollout, journal: Journal, directory: Directory, clock: Clock, *, by: Author, reason: str, verdict: Mapping[str, Any],
) -> Moved:  # fmt: skip
    """Begins a new attempt with this config. by: its author now, whose approval will not count. verdict: the last one, of the rollout as it
    stands.

    1 append the record `amended`   2 write the config to the directory. A crash between them is mended by the next `shadow up` with the
    new config. The same config again, with nothing decided on it yet, adds nothing.

    Raises Refused when the rollout is promoted; UsageError when what shapes what is read or stored was changed, and for an empty reason.
    """
    reason = checked_reason(reason)
    old = registry.find(rollout.name, directory)
    _same_shape(old.document, rollout, family=old.family)
    state = Follower(journal).now()
    if state.standing is Standing.PROMOTED:
        raise Refused(f"{rollout.name} is promoted, which is for good; a rollout of another name asks the next question")
    if state.config_sha256 == rollout.sha256 and verdict["as_of"] is None and not state.final:
        registry.replaced(rollout, shards=old.shards, directory=directory)
        says = f"{rollout.name}: this is its config already, and no look was taken; nothing was recorded"
        return Moved(added=False, says=says, state=state)
    attempt = state.attempt + 1
    record = body(
        "amended", rollout=rollout.name, at=clock.now(), by=by, reason=reason, attempt=attempt, stage=0, since=_since(verdict, state.since),
        percent=0.0, changed=_changed(old.document, rollout.document), alpha=rollout.alpha * alpha_share(attempt),
        **registry.entry_of(rollout, shards=old.shards),
    )  # fmt: skip
    try:
        link = journal.append(record, after=state.head)
    except HeadMoved:
        raise Refused(f"{rollout.name}: another record came between; nothing was recorded, look and try again") from None
    registry.replaced(rollout, shards=old.shards, directory=directory)
    alpha = f"{rollout.alpha * alpha_share(attempt):.3g}"
    says = f"attempt {attempt} begins in shadow at alpha {alpha}; start `shadow up` again with this config"
    return Moved(added=True, says=f"{rollout.name}: {says}", state=fold(state, parse(record), head=link.hash))


def changed(rollouts: Sequence[Rollout], directory: Directory) -> tuple[Rollout, ...]:
    """Those of several challengers whose config is not the stored one. Raises UsageError when that is none: a model that changed behind
    its address is nowhere to be seen, and must be named."""
    found = tuple(rollout for rollout in rollouts if registry.find(rollout.name, directory).sha256 != rollout.sha256)
    if not found:
        names = ", ".join(rollout.spoken(CHALLENGER) for rollout in rollouts)
        raise UsageError(f"nothing changed in the config; a changed model is amended with --challenger, one of {names}")
    return found


def _since(verdict: Mapping[str, Any], before: int) -> str | None:
    """The record time after which events count: no event that both models, as they were, have answered, looked at or not. Without any
    that of the stage."""
    found: str | None = verdict["as_of"] if verdict["as_of"] is not None or before < 0 else verdict["since"]
    known = {microseconds(text): text for text in (found, verdict.get("watermark", {}).get("resolved")) if text is not None}
    return known[max(known, key=lambda time: time or 0)] if known else None


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The parts of the config that are not what they were; empty when a model changed behind its address."""
    return sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))


def _same_shape(before: Mapping[str, Any], after: Rollout, *, family: Family | None) -> None:
    fixed = [key for key in _changed(before, after.document) if key not in AMENDABLE]
    if _lanes(before) != _lanes(after.document) or _beside(family) != _beside(after.family):
        fixed.append("models (other lanes)")
    if fixed:
        raise UsageError(
            f"{after.name}: {', '.join(fixed)} changed, which shapes what is read and stored; an attempt may change "
            f"{', '.join(AMENDABLE)}: give the config another name"
        )


def _lanes(document: Mapping[str, Any]) -> list[str]:
    return sorted(document["models"])


def _beside(family: Family | None) -> tuple[str, ...]:
    """Who shares a mirror; the order in which a config has them is no part of it."""
    return () if family is None else (family.name, family.challenger, *sorted(family.challengers))
