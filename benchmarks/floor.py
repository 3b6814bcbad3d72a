"""The floor: the same client calls as the pipeline's, and no logic. Nothing that does this job can be faster on these clients.

(a) `records`: one record an event, a topic a lane. (b) `frames`: 256 events a record, one mirror for both lanes. Four processes, as in
the pipeline: router, two lanes, joiner; the joiner writes one row a pair to Redis, all rows of a read at once. Bodies have the sizes
that the pipeline's have.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import redis
from measure import Measured, events, fill, measure, python

from harness.core.errors import BusUnavailable
from harness.ports.bus import BEFORE_ALL, Bus, Partition, Reader, Record
from harness.wiring import open_bus

FRAME = 256
ANSWER, ROW = b"a" * 32, b"r" * 80


def _topic(name: str, what: str) -> Partition:
    return Partition(f"{name}.{what}", 0)


def _read(reader: Reader, limit: int, wait_s: float = 0.2) -> Sequence[Record]:
    """The next records; a connection that grew old while its process was held at the gate is made anew."""
    try:
        return reader.read(limit=limit, wait_s=wait_s)
    except BusUnavailable:
        return []


def router(bus: Bus, name: str, framed: bool) -> None:
    """Reads events; appends them to the mirror, or to one topic a lane."""
    reader = bus.reader({_topic(name, "events"): BEFORE_ALL})
    lanes = [_topic(name, "mirror0")] if framed else [_topic(name, "mirror0"), _topic(name, "mirror1")]
    while True:
        values: Sequence[bytes] = [record.value for record in _read(reader, 1_024)]
        if framed:
            runs = [values[start : start + FRAME] for start in range(0, len(values), FRAME)]
            values = [len(run).to_bytes(4, "big") + b"".join(run) for run in runs]
        for lane in lanes if values else ():
            bus.append(lane, values)


def lane(bus: Bus, name: str, framed: bool, number: int) -> None:
    """Reads the mirror; appends one answer a record, or a frame of answers."""
    reader = bus.reader({_topic(name, "mirror0" if framed else f"mirror{number}"): BEFORE_ALL})
    answers = _topic(name, f"answers{number}")
    while True:
        records = _read(reader, 16 if framed else 1_024)
        if records:
            bus.append(answers, [ANSWER * int.from_bytes(r.value[:4], "big") if framed else ANSWER for r in records])
            bus.commit(f"{name}:{number}", {records[-1].partition: records[-1].position})


def joiner(bus: Bus, store_url: str, name: str, framed: bool) -> None:
    """Reads the mirror and both lanes' answers; writes a row a pair, and how many there are."""
    store = redis.Redis.from_url(store_url)
    mirror = bus.reader({_topic(name, "mirror0"): BEFORE_ALL})
    lanes = [_topic(name, "answers0"), _topic(name, "answers1")]
    answers = bus.reader(dict.fromkeys(lanes, BEFORE_ALL))
    n_answers = dict.fromkeys(lanes, 0)
    n_written = 0
    while True:
        _read(mirror, 32 if framed else 2_048, 0.0)
        for record in _read(answers, 64 if framed else 4_096):
            n_answers[record.partition] += len(record.value) // len(ANSWER)
        new = min(n_answers.values()) - n_written
        if new:
            n_written += new
            pipeline = store.pipeline()
            pipeline.append(f"{name}:rows", ROW * new)
            pipeline.set(f"{name}:n", n_written)
            pipeline.execute()


def run(kind: str, n: int, bus_url: str, store_url: str) -> Measured:
    """One floor, "records" or "frames", on fresh topics."""
    bus, store = open_bus(bus_url), redis.Redis.from_url(store_url)
    name = f"floor-{int(time.time() * 1000)}"
    for what in ("warm", "events", "mirror0", "mirror1", "answers0", "answers1"):
        bus.ensure(f"{name}.{what}", 1)
    args = (kind, bus_url, store_url, name)
    commands = {role: python(Path(__file__), role, *args) for role in ("router", "lane0", "lane1", "joiner")}
    body = list(events(n))
    return measure(
        f"floor {kind}", n, commands, ready=lambda: int(store.get(f"{name}:up") or 0) >= 4, fill=lambda: fill(bus, f"{name}.events", body),
        done=lambda: int(store.get(f"{name}:n") or 0),
    )  # fmt: skip


def main() -> None:
    """One of the four processes."""
    role, kind, bus_url, store_url, name = sys.argv[1:]
    bus, framed = open_bus(bus_url), kind == "frames"
    bus.append(_topic(name, "warm"), [b""])  # the pipeline's producers are connected too when its clock starts
    redis.Redis.from_url(store_url).incr(f"{name}:up")
    match role:
        case "router":
            router(bus, name, framed)
        case "joiner":
            joiner(bus, store_url, name, framed)
        case _:
            lane(bus, name, framed, int(role[-1]))


if __name__ == "__main__":
    main()
