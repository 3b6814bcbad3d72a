"""The counts of a rollout and their identity. Counts add up over shards; nothing here is found by subtraction.

    read     = duplicates + unsampled + mirrored
    mirrored = invalid + shed + in_flight + missing + paired
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast


def _merged(a: Mapping[str, Mapping[str, int]], b: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {lane: {word: a.get(lane, {}).get(word, 0) + b.get(lane, {}).get(word, 0) for word in {**a.get(lane, {}), **b.get(lane, {})}}
            for lane in {**a, **b}}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What has become of the entries of one shard, or of all of them.

    missing: an event charged once, lane -> reason -> count. lanes: every lane's full tally, lane -> "answered" or reason -> count,
    and "late" for an answer after `no_answer`. versions: lane -> model version -> answer frames. `unknown` counts answers that
    nobody asked for: on events that never were or have expired, or by a lane that was not asked. requests: for a label, joined to
    their event, each one that came; they are no outcomes, and neither are those that wait for their event or never found it.
    """

    duplicates: int = 0
    mirrored: int = 0
    invalid: int = 0
    shed: int = 0
    paired: int = 0
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lanes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    versions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    joined: int = 0
    waiting: int = 0
    orphaned: int = 0
    revised: int = 0
    invalid_outcomes: int = 0
    unknown: int = 0
    overrun: int = 0
    requests: int = 0
    requests_waiting: int = 0
    requests_orphaned: int = 0

    def __add__(self, other: Counts) -> Counts:
        numbers = ("duplicates", "mirrored", "invalid", "shed", "paired", "joined", "waiting", "orphaned", "revised", "invalid_outcomes",
                   "unknown", "overrun", "requests", "requests_waiting", "requests_orphaned")  # fmt: skip
        return replace(
            self,
            **{name: getattr(self, name) + getattr(other, name) for name in numbers},
            missing=_merged(self.missing, other.missing),
            lanes=_merged(self.lanes, other.lanes),
            versions=_merged(self.versions, other.versions),
        )

    @property
    def outcomes(self) -> int:
        """Outcomes, and requests for them, of which something has become."""
        requests = self.requests + self.requests_waiting + self.requests_orphaned
        return self.joined + self.waiting + self.orphaned + self.revised + self.invalid_outcomes + requests

    @property
    def early(self) -> int:
        """Outcomes and requests that wait for their event."""
        return self.waiting + self.requests_waiting

    @property
    def missing_events(self) -> int:
        """Events charged to a lane."""
        return sum(n for by in self.missing.values() for n in by.values())


class Tally:
    """Counts that are being changed; frozen again at the end of a fold."""

    def __init__(self, counts: Counts) -> None:
        values = {name: getattr(counts, name) for name in Counts.__dataclass_fields__}
        self.numbers: dict[str, int] = {name: value for name, value in values.items() if isinstance(value, int)}
        self.nested: dict[str, dict[str, dict[str, int]]] = {
            name: {lane: dict(by) for lane, by in value.items()} for name, value in values.items() if name not in self.numbers
        }

    def add(self, name: str, n: int = 1) -> None:
        """n more of a plain count."""
        self.numbers[name] += n

    def lane(self, name: str, lane: str, word: str, n: int = 1) -> None:
        """n more of a lane's word, in `missing`, `lanes` or `versions`."""
        by = self.nested[name].setdefault(lane, {})
        by[word] = by.get(word, 0) + n

    def counts(self) -> Counts:
        """The counts as they are now."""
        return Counts(**cast(Any, {**self.numbers, **self.nested}))


def identity_problems(counts: Counts, *, read: int, unsampled: int, in_flight: int) -> list[str]:
    """What does not add up, in words; empty when the identity holds. The three numbers are counted elsewhere, each on its own."""
    problems = []
    if read != counts.duplicates + unsampled + counts.mirrored:
        problems.append(f"read {read} != duplicates {counts.duplicates} + unsampled {unsampled} + mirrored {counts.mirrored}")
    settled = counts.invalid + counts.shed + in_flight + counts.missing_events + counts.paired
    if counts.mirrored != settled:
        problems.append(
            f"mirrored {counts.mirrored} != invalid {counts.invalid} + shed {counts.shed} + in_flight {in_flight}"
            f" + missing {counts.missing_events} + paired {counts.paired}"
        )
    return problems
