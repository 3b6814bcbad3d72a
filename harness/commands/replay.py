"""Replay: recorded events through the very same roles, in one process, with time taken from the records."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from analysis.types import PairTable
from harness.core.errors import UsageError
from harness.core.reading import WATERMARK, microseconds, timestamp
from harness.core.rollout import Rollout
from harness.core.table import TableBuilder
from harness.ports.bus import Bus, Partition
from harness.ports.clock import ManualClock
from harness.ports.pairlog import PairLog
from harness.ports.plainids import PlainIds
from harness.roles.analyst import Analyst
from harness.roles.joiner import Joiner
from harness.roles.lane import Lane
from harness.roles.router import Router
from harness.roles.topology import Topology

BOM = b"\xef\xbb\xbf"  # what some editors put before the first line
CHUNK = 2_048
LAST_TIME = 253_402_300_799_000_000  # the end of the year 9999, microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The roles of one rollout, on one bus and store that nobody else uses."""

    rollout: Rollout
    topology: Topology
    bus: Bus
    clock: ManualClock
    router: Router
    lanes: Sequence[Lane]
    joiners: Sequence[Joiner]
    analyst: Analyst
    pair_logs: Sequence[PairLog]
    plain_ids: Sequence[PlainIds] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay found: the verdict object, the whole pair table, and the plain ids that the config keeps, if any, by key."""

    verdict: dict[str, Any]
    table: PairTable
    plain_ids: Mapping[bytes, str] | None = None


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a .jsonl or .jsonl.gz file, without their ends and a byte order mark; empty ones are left out.

    Raises UsageError naming the file.
    """
    try:
        with _open(path) as file:
            for n, line in enumerate(file):
                text = (line if n else line.removeprefix(BOM)).rstrip(b"\r\n")
                if text:
                    yield text
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def replay(
    parts: Parts, events: Iterable[bytes], outcomes: Iterable[bytes], *, until: int | None = None, progress: Callable[[int], None]
) -> Replayed:
    """Feeds everything, then reads the verdict; see `feed`."""
    feed(parts, events, outcomes, until=until, progress=progress)
    return judged(parts)


def judged(parts: Parts) -> Replayed:
    """The verdict on everything that was fed, and the pairs."""
    parts.analyst.step()
    table = whole_table(parts.rollout, parts.pair_logs)
    ids = kept_ids(parts.rollout, parts.pair_logs, parts.plain_ids) if parts.plain_ids else None
    return Replayed(verdict=parts.analyst.publish(), table=table, plain_ids=ids)


def together(several: Sequence[Parts]) -> Parts:
    """The parts of several challengers on one mirror, to be fed once: one router, and the lanes and joiners of all."""
    lanes = [lane for parts in several for lane in parts.lanes]
    return replace(several[0], lanes=lanes, joiners=[joiner for parts in several for joiner in parts.joiners])


def feed(
    parts: Parts, events: Iterable[bytes], outcomes: Iterable[bytes], *, until: int | None = None, progress: Callable[[int], None]
) -> None:
    """Feeds events, then outcomes, then lets time run on until every wait is over (or to `until`, microseconds).

    Time is that of the records, so that a fortnight takes seconds. `progress` is called with the number of events taken.
    """
    topology = parts.topology
    event_source = topology.sources["events/0"]
    n = 0
    for chunk in _chunks(_before(events, until)):
        parts.bus.append(event_source, chunk)
        _drain(parts)
        n += len(chunk)
        progress(n)
    end = last = parts.router.arrived
    if "outcomes/0" in topology.sources:
        for chunk in _chunks(_before(outcomes, until)):
            parts.bus.append(topology.sources["outcomes/0"], chunk)
            _drain(parts)
            last = max([last, *filter(None, map(_stated, chunk))])
    if end:
        _run_on(parts, until if until is not None else last + _longest_wait(parts.rollout), event_source)


def _chunks(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(items)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk


def _before(items: Iterable[bytes], until: int | None) -> Iterator[bytes]:
    """The records of which none says that it came after `until`; unreadable ones stay in."""
    for line in items:
        if until is None or (_stated(line) or 0) <= until:
            yield line


def _stated(line: bytes) -> int | None:
    """The time a record states, without reading the rest of it; None when it states none."""
    match = re.search(rb'"recordedtime"\s*:\s*"([^"]*)"', line) or re.search(rb'"time"\s*:\s*"([^"]*)"', line)
    return microseconds(match[1].decode(errors="replace")) if match else None


def _drain(parts: Parts) -> None:
    """Steps the roles until each has nothing left to do; only then does the clock follow the newest arrival."""
    while parts.router.step():
        for lane in parts.lanes:
            while lane.step():
                pass
        for joiner in parts.joiners:
            while joiner.step():
                pass
    parts.clock.move_to(parts.router.arrived)
    for partition in parts.topology.sources.values():
        parts.bus.trim(partition, parts.bus.ends([partition])[partition])


def _run_on(parts: Parts, until: int, source: Partition) -> None:
    until = min(until, LAST_TIME)
    mark = {"specversion": "1.0", "id": "end", "source": "replay", "type": WATERMARK, "time": timestamp(until)}
    parts.bus.append(source, [json.dumps(mark).encode()])
    _drain(parts)


def _longest_wait(rollout: Rollout) -> int:
    """Microseconds after the last record until every window and label is over and a look has passed."""
    matures = rollout.outcomes.matures_s if rollout.outcomes else 0.0
    return int((matures + rollout.window_s + rollout.looks_s) * 1e6) + 1


def whole_table(rollout: Rollout, pair_logs: Sequence[PairLog]) -> PairTable:
    """Every resolved pair of a rollout as one table."""
    builder = TableBuilder(rollout)
    runs = []
    for log in pair_logs:
        resolved = log.snapshot().head.resolved
        if resolved:
            runs.append((builder.layout.records(log.rows(0, resolved)), log.words()))
    return builder.build(runs)


def kept_ids(rollout: Rollout, pair_logs: Sequence[PairLog], plain_ids: Sequence[PlainIds]) -> Mapping[bytes, str] | None:
    """Key -> plain id of every event of which one is kept, shard by shard; None where the config keeps none."""
    if rollout.keep.ids == "none":
        return None
    logs = zip(pair_logs, plain_ids, strict=True)
    return {key: id for log, ids in logs for key, id in ids.between(0, log.snapshot().head.resolved).items()}
