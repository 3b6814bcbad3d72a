"""What a shard holds of events while they wait, and what its store knows of their ids. `Effects` change it (`pairing`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.events import Answer, Event, Outcome
from harness.core.routing import ID_BYTES, KEY_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An event that waits for answers, or (settled) for the events before it. The payload is left behind. sent: its frame's bus time."""

    ordinal: int
    event: Event
    mirror: int
    sent: int
    answers: Mapping[str, Answer] = field(default_factory=dict)
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store has of an event id: (source hash, ordinal) of each event that has it, their rows once written, early outcomes."""

    events: tuple[tuple[bytes, int], ...] = ()
    rows: Mapping[int, bytes] = field(default_factory=dict)
    early: tuple[Outcome, ...] = ()


NOTHING = Known()


def refs_of(first: int, keys: bytes) -> dict[bytes, tuple[tuple[bytes, int], ...]]:
    """Id hash -> its event, of a run of new events: each has an id of its own, and the first has this ordinal."""
    each = (keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES))
    return {key[:ID_BYTES]: ((key[ID_BYTES:], ordinal),) for ordinal, key in enumerate(each, first)}


class Live:
    """An `Open` while it is being folded: what changes is changed in place, a hundred thousand times a minute."""

    __slots__ = ("answers", "event", "lanes", "mirror", "ordinal", "outcome", "sent")

    def __init__(self, ordinal: int, event: Event, mirror: int, sent: int, lanes: tuple[str, ...]) -> None:
        self.ordinal, self.event, self.mirror, self.sent, self.lanes = ordinal, event, mirror, sent, lanes
        self.answers: dict[str, Answer] = {}
        self.outcome: Outcome | None = None

    def frozen(self) -> Open:
        """What is stored of it: everything but the payload and the plain id."""
        return Open(
            ordinal=self.ordinal, event=self.event._replace(payload=b"", id=""), mirror=self.mirror, sent=self.sent,
            answers=dict(self.answers), outcome=self.outcome,
        )  # fmt: skip
