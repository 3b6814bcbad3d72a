"""Where the records went that did not become a pair, and what is wrong with the first that could not be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.commands.replay import lines
from harness.core.errors import RecordError
from harness.core.events import Event, Invalid, InvalidOutcome, Outcome
from harness.core.reading import Reader
from harness.core.rollout import Rollout
from harness.core.routing import Hasher

_SETTLED = ("unsampled", "invalid", "shed", "in_flight")
_UNJOINED = ("waiting", "orphaned", "invalid")


def accounts(verdict: Mapping[str, Any]) -> Iterator[str]:
    """A line about the events, one about the outcomes and one about the requests of a verdict, in its own words; none where all were
    paired, or joined."""
    counts, outcomes = verdict["counts"], verdict["outcomes"]
    parts = [f"{counts['duplicates']:,} duplicate"] if counts["duplicates"] else []
    parts += [f"{counts[name]:,} {name}" for name in _SETTLED if counts[name]]
    parts += [
        f"{n:,} without an answer of the {lane} ({reason})"
        for lane, by in counts["missing"].items() for reason, n in by.items() if n
    ]  # fmt: skip
    if parts:
        yield f"events: {counts['paired']:,} paired, {', '.join(parts)}"
    parts = [f"{outcomes[name]:,} {name}" for name in _UNJOINED if outcomes[name]]
    if parts:
        yield f"outcomes: {outcomes['joined']:,} joined, {', '.join(parts)}"
    requests = verdict.get("requests") or {}
    parts = [f"{requests[name]:,} {name}" for name in _UNJOINED if requests.get(name)]
    if parts:
        yield f"requests for labels: {requests['joined']:,} joined, {', '.join(parts)}"


def unreadable(rollout: Rollout, verdict: Mapping[str, Any], events: Path, outcomes: Path | None) -> Iterator[str]:
    """What is wrong with the first event and the first outcome that the router counted as invalid. Never repeats what they say."""
    reader = Reader(rollout, Hasher(rollout.mirror))
    if verdict["counts"]["invalid"]:
        yield from _first(events, "event", lambda document: reader.event(document, position=0, payload=b"")[0])
    if outcomes is not None and verdict["outcomes"]["invalid"]:
        yield from _first(outcomes, "outcome", lambda document: reader.outcome(document, position=0, time=0))


def _first(path: Path, what: str, read: Callable[[Any], Event | Invalid | Outcome | InvalidOutcome]) -> Iterator[str]:
    codec = MsgpackCodec()
    for number, line in enumerate(lines(path), 1):
        try:
            entry = read(codec.json(line))
            reason = entry.reason if isinstance(entry, Invalid | InvalidOutcome) else ""
        except RecordError as error:
            reason = str(error)
        if reason:
            yield f"{path}: {what} {number:,} is the first that is invalid: {reason}"
            return
