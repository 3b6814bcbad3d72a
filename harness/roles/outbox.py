"""Tells the records of a rollout to whoever listens: each a structured CloudEvent on `<rollout>.records`, and a line of a file.

In order, each at least once: the position is saved after the bus has the record, so a crash in between tells it again, with the same id.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from harness.core.errors import HeadMoved
from harness.core.records import parse
from harness.ports.bus import Bus, Partition
from harness.ports.intake import Intake
from harness.ports.journal import Journal, Link
from harness.roles.anchoring import Anchoring

SOURCE = "records"  # under which the intake keeps how far the chain was told
TYPE = "io.shadow-harness.record"


class Outbox:
    """The records of one rollout that were not told yet.

    partition: where they go. keep: brings a file up to the chain, given whole; None without a file. Raises OSError. anchor: is told the
    chain's head; never waits, never raises.
    """

    def __init__(
        self, rollout: str, partition: Partition, *, journal: Journal, bus: Bus, intake: Intake,
        keep: Callable[[Sequence[Link]], None] | None = None, anchor: Anchoring | None = None,
    ) -> None:  # fmt: skip
        self._rollout, self._partition = rollout, partition
        self._journal, self._bus, self._intake, self._keep = journal, bus, intake, keep
        self._taken = intake.load(SOURCE)
        self._anchor = anchor
        self._chain: list[Link] = []
        self._n_kept = 0

    def tell(self) -> int:
        """Returns how many records it told.

        1 read what is new of the chain   2 bring the file up to it   3 append to the bus, acknowledged   4 compare-and-set the position.
        Raises BusUnavailable; StoreUnavailable; RecordError.
        """
        self._chain += self._journal.read(len(self._chain))
        if self._keep is not None and self._n_kept < len(self._chain):
            self._write(self._keep)
        if self._anchor is not None and self._chain:
            self._anchor.tell(len(self._chain) - 1, self._chain[-1].hash)
        start = self._taken.position + 1
        new = [event(self._rollout, link, number) for number, link in enumerate(self._chain[start:], start=start)]
        if not new:
            return 0
        self._bus.append(self._partition, new)
        told = replace(self._taken, position=start + len(new) - 1, read=start + len(new))
        try:
            self._intake.save(SOURCE, told, after=self._taken)
            self._taken = told
        except HeadMoved:  # another controller told them too
            self._taken = self._intake.load(SOURCE)
        return len(new)

    def _write(self, keep: Callable[[Sequence[Link]], None]) -> None:
        """The file is a copy: when it cannot be written that is said, and it is caught up with the next record."""
        self._n_kept = len(self._chain)
        try:
            keep(self._chain)
        except OSError as error:
            structlog.get_logger().warning("records.unwritten", rollout=self._rollout, error=str(error))


def event(rollout: str, link: Link, number: int) -> bytes:
    """A record as a structured CloudEvent: its id is the record's hash, its data the record, byte for byte, `previous` the hash before."""
    record = parse(link.body)
    attributes = {
        "specversion": "1.0", "id": link.hash, "source": f"/rollouts/{rollout}", "type": f"{TYPE}.{record['kind']}", "time": record["at"],
        "subject": rollout, "datacontenttype": "application/json", "sequence": str(number), "previous": link.previous,
    }  # fmt: skip
    return json.dumps(attributes, ensure_ascii=False).encode()[:-1] + b', "data": ' + link.body + b"}"
