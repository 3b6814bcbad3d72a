"""Whose plain ids the joiner keeps, as `keep.ids` says: of every event, or of those whose decisions differ. Nobody's: it is not made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from analysis.metrics.contributions import paired_rows
from analysis.types import PairTable
from harness.core.events import Event, Frame
from harness.core.held import Open
from harness.core.pairing import Effects
from harness.core.rollout import Rollout
from harness.core.routing import KEY_BYTES
from harness.core.table import TableBuilder
from harness.ports.plainids import PlainId, PlainIds


class IdKeeper:
    """Holds the plain ids of a shard's open events, and keeps those that the config asks for when their rows are written.

    An event that must be stored as open takes its id along, so that a joiner that takes over has it. Before the rows: a crash in between
    leaves an id that is written once more.
    """

    def __init__(self, rollout: Rollout, ids: PlainIds) -> None:
        self._ids, self._all, self._policies = ids, rollout.keep.ids == "all", tuple(rollout.policies)
        self._builder = TableBuilder(rollout)
        self._held: dict[bytes, str] = {}
        self._read: dict[bytes, str] = {}
        self._words: list[str] = []

    def loaded(self, opens: Iterable[Open], words: Sequence[str]) -> None:
        """Begins anew, from what the store has."""
        self._held, self._read = {opened.event.key: opened.event.id for opened in opens}, {}
        self._words = list(words)

    def read(self, frames: Iterable[Frame]) -> None:
        """What comes next is folded out of these frames; those of other configs are not among them."""
        self._read = {entry.key: entry.id for frame in frames for entry in frame.entries if isinstance(entry, Event)}

    def kept(self, effects: Effects, *, resolved: int) -> Effects:
        """Keeps ids of the rows; returns the effects with the ids of what stays open. resolved: ordinals below it had rows before."""
        new = [id + source for id, refs in effects.ids.items() for source, ordinal in refs if ordinal >= resolved]
        new += [keys[at : at + KEY_BYTES] for _, keys in effects.fresh for at in range(0, len(keys), KEY_BYTES)]
        self._held |= {key: self._read[key] for key in new if key in self._read}
        if effects.rows:
            self._ids.keep(self._of_rows(effects, resolved))
        return replace(effects, open=self._named(effects.open), settled=self._named(effects.settled))

    def applied(self, effects: Effects) -> None:
        """The effects are stored: their rows' events are no longer open."""
        self._words += effects.words
        self._read = {}
        if effects.rows:
            for key in self._builder.layout.records(effects.rows)["key"].tolist():
                self._held.pop(bytes(key), None)

    def _of_rows(self, effects: Effects, resolved: int) -> list[PlainId]:
        records = self._builder.layout.records(effects.rows)
        chosen = None if self._all else differing(self._builder.build([(records, [*self._words, *effects.words])]), self._policies)
        facts = zip(records["key"].tolist(), records["unit"].tolist(), strict=True)
        return [
            PlainId(resolved + n, bytes(key), unit, self._held[bytes(key)])
            for n, (key, unit) in enumerate(facts)
            if self._held.get(bytes(key)) and (chosen is None or bytes(key) in chosen)
        ]

    def _named(self, opens: Mapping[int, Open]) -> Mapping[int, Open]:
        return {
            ordinal: replace(opened, event=opened.event._replace(id=self._held.get(opened.event.key, "")))
            for ordinal, opened in opens.items()
        }


def differing(table: PairTable, policies: Iterable[str]) -> set[bytes]:
    """The keys of the pairs on which at least one policy decides otherwise of the challenger than of the incumbent."""
    paired, found = paired_rows(table), set[bytes]()
    for name in policies:
        flipped = paired & (table[f"{name}.incumbent"] != table[f"{name}.challenger"])
        found.update(map(bytes, table["event_id"][flipped].tolist()))
    return found
