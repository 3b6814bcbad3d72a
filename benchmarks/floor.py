"""The floor: the same client calls as the pipeline's, and no logic. Nothing that does this job can be faster on these clients.

(a) `records`: one record an event, a topic a lane. (b) `frames`: 256 events a record, one mirror for both lanes. Four processes, as in
the pipeline: router, two lanes, joiner; the joiner writes one row a pair to Redis. Bodies have the sizes that the pipeline's have.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import redis
from measure import Measured, events, measure, python

from harness.ports.bus import BEFORE_ALL, Partition
from harness.wiring import open_bus

FRAME = 256
ANSWER, ROW = b"a" * 32, b"r" * 80
TOPICS = ("floor.events", "floor.mirror0", "floor.mirror1", "floor.answers0", "floor.answers1")


def router(bus_url: str, framed: bool) -> None:
    """Reads events; appends them to the mirror, or to one topic a lane."""
    bus = open_bus(bus_url)
    reader = bus.reader({Partition("floor.events", 0): BEFORE_ALL})
    lanes = [Partition("floor.mirror0", 0)] if framed else [Partition("floor.mirror0", 0), Partition("floor.mirror1", 0)]
    while True:
        values = [record.value for record in reader.read(limit=1_024, wait_s=0.2)]
        if framed:
            runs = [values[start : start + FRAME] for start in range(0, len(values), FRAME)]
            values = [len(run).to_bytes(4, "big") + b"".join(run) for run in runs]
        for lane in lanes if values else ():
            bus.append(lane, values)


def lane(bus_url: str, framed: bool, number: int) -> None:
    """Reads the mirror; appends one answer a record, or a frame of answers."""
    bus = open_bus(bus_url)
    reader = bus.reader({Partition("floor.mirror0" if framed else f"floor.mirror{number}", 0): BEFORE_ALL})
    answers = Partition(f"floor.answers{number}", 0)
    while True:
        records = reader.read(limit=16 if framed else 1_024, wait_s=0.2)
        if records:
            bus.append(answers, [ANSWER * int.from_bytes(r.value[:4], "big") if framed else ANSWER for r in records])
            bus.commit(f"floor:{number}", {records[-1].partition: records[-1].position})


def joiner(bus_url: str, store_url: str, framed: bool) -> None:
    """Reads the mirror and both lanes' answers; writes a row a pair, and how many there are."""
    bus, store = open_bus(bus_url), redis.Redis.from_url(store_url)
    mirror = bus.reader({Partition("floor.mirror0", 0): BEFORE_ALL})
    answers = bus.reader({Partition("floor.answers0", 0): BEFORE_ALL, Partition("floor.answers1", 0): BEFORE_ALL})
    n = 0
    while True:
        mirror.read(limit=32 if framed else 2_048, wait_s=0.0)
        records = answers.read(limit=64 if framed else 4_096, wait_s=0.2)
        pairs = sum(len(r.value) // len(ANSWER) for r in records if r.partition.topic == "floor.answers1")
        if pairs:
            pipeline = store.pipeline()
            pipeline.append("floor:rows", ROW * pairs)
            if not framed:
                for k in range(n, n + pairs):
                    pipeline.hset(f"floor:pair:{k // 256}", str(k), ROW)
            pipeline.set("floor:n", n + pairs)
            pipeline.execute()
            n += pairs


def run(kind: str, n: int, bus_url: str, store_url: str) -> Measured:
    """One floor, "records" or "frames", on fresh topics."""
    bus, store = open_bus(bus_url), redis.Redis.from_url(store_url)
    for key in store.scan_iter("floor:*"):
        store.delete(key)
    for topic in TOPICS:
        bus.ensure(topic, 1)
    script, store_args = Path(__file__), [bus_url, store_url]
    commands = {
        "router": python(script, "router", kind, *store_args),
        "lane0": python(script, "lane0", kind, *store_args),
        "lane1": python(script, "lane1", kind, *store_args),
        "joiner": python(script, "joiner", kind, *store_args),
    }
    body = list(events(n))

    def fill() -> None:
        for start in range(0, n, 4_096):
            bus.append(Partition("floor.events", 0), body[start : start + 4_096])

    up = time.monotonic() + 4.0
    return measure(
        f"floor {kind}", n, commands, ready=lambda: time.monotonic() > up, fill=fill, done=lambda: int(store.get("floor:n") or 0)
    )


if __name__ == "__main__":
    role, kind, bus_url, store_url = sys.argv[1:5]
    match role:
        case "router":
            router(bus_url, kind == "frames")
        case "joiner":
            joiner(bus_url, store_url, kind == "frames")
        case _:
            lane(bus_url, kind == "frames", int(role[-1]))
