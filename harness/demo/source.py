"""The demo's producer, a process of its own: puts recorded events and outcomes on the bus in the order of time, as production would."""

from __future__ import annotations

import argparse
import gzip
import heapq
import json
import time
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path

from harness import config
from harness.core.reading import WATERMARK, timestamp
from harness.demo import traffic
from harness.demo.prepare import CONFIG, STREAM, end_of
from harness.ports.bus import Partition
from harness.wiring import open_bus

CHUNK = 256


def timed(path: Path, topic: str) -> Iterator[tuple[str, str, bytes]]:
    """(when it comes, topic, record) of each line; a record comes when it was recorded, else at its time."""
    with gzip.open(path, "rb") as lines:
        for line in lines:
            record = json.loads(line)
            yield record.get("recordedtime", record["time"]), topic, line.rstrip()


def send(bus_url: str, folder: Path, *, per_second: float) -> None:
    """Appends the prepared stream to the rollout's topics, merged by time, then says that nothing older than its end will follow."""
    rollout = config.load(folder / CONFIG)
    topics = [rollout.events.topic, rollout.outcomes.topic if rollout.outcomes else ""]
    files = [folder / STREAM / traffic.EVENTS, folder / STREAM / traffic.OUTCOMES]
    bus = open_bus(bus_url)
    merged = heapq.merge(*(timed(file, topic) for file, topic in zip(files, topics, strict=True)), key=lambda item: item[0])
    began, n = time.monotonic(), 0
    while chunk := list(islice(merged, CHUNK)):
        for topic, items in groupby(chunk, key=lambda item: item[1]):
            bus.append(Partition(topic, 0), [record for _, _, record in items])
        n += len(chunk)
        time.sleep(max(0.0, began + n / per_second - time.monotonic()))
    mark = {"specversion": "1.0", "id": "end", "source": "/demo", "type": WATERMARK, "time": timestamp(end_of(rollout))}
    bus.append(Partition(topics[0], 0), [json.dumps(mark).encode()])
    bus.close()


def main() -> None:
    """`python -m harness.demo.source --bus URL --folder FOLDER`: what `shadow demo` starts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bus", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--per-second", type=float, required=True)
    args = parser.parse_args()
    send(args.bus, args.folder, per_second=args.per_second)


if __name__ == "__main__":
    main()
