"""What a pair costs in the store, and how fast pairs come back out.

    python benchmarks/store_bytes.py --store redis://127.0.0.1:6379/0 [--events 100000] [--ids none]

Bytes: the rise of Redis's `used_memory` over all keys, divided by the pairs, for the age config (`configs/age-regression.yaml`, its
models' answers standing in the events; one pair in ten has a label), once all is read; the bus is another Redis database, and its
topics are deleted first. Rows a second: from the store to a pandas data frame of the whole pair table, beside a floor that reads the
same chunks, unpacks them and makes a frame of columns that are there already; medians of pairs of runs. Needs an empty server.
--ids is the config's `keep.ids` (its models disagree on almost every event, so `disagreements` keeps almost all ids).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import redis
import yaml
from measure import CHUNK, fill, stamp

from harness import config
from harness.adapters.redis.chunks import CHUNK_ROWS
from harness.commands.replay import whole_table
from harness.core.rollout import Rollout
from harness.core.routing import ID_BYTES
from harness.ports.bus import Partition
from harness.ports.clock import ManualClock
from harness.ports.pairlog import PairLog
from harness.wiring import Wiring

CONFIG = Path(__file__).parent.parent / "configs" / "age-regression.yaml"
LABELLED = 10  # one event in so many
REPEAT = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Bytes of Redis's memory a pair, and pairs a second into a data frame."""

    n: int
    bytes_a_pair: float
    row_bytes: int
    rows_per_second: float
    floor_rows_per_second: float


def age_events(n: int) -> Iterator[bytes]:
    """Events for the age config: bands for the incumbent, an age for the challenger."""
    for k in range(n):
        bands = [0.05] * 6
        bands[k % 6] = 0.75
        data = {
            "region": ("SE", "DE", "ES", "FR")[k % 4], "gender": ("female", "male")[k % 2], "action": ("allow", "block")[k % 2],
            "old": {"bands": bands}, "new": {"age": 8 + k * 7919 % 70 + 0.5},
        }  # fmt: skip
        yield _cloudevent(f"e-{k}", k, data)


def labels(n: int) -> Iterator[bytes]:
    """A verified age for one event in ten."""
    for k in range(0, n, LABELLED):
        yield _cloudevent(f"l-{k}", n, {"event_id": f"e-{k}", "verified_age": 8 + k % 60, "sampling_prob": 0.5})


def _cloudevent(id: str, k: int, data: dict[str, Any]) -> bytes:
    head = {"specversion": "1.0", "id": id, "source": "/bench", "type": "age.scored", "subject": f"u-{k // 2}", "time": stamp(k)}
    return json.dumps({**head, "data": data}).encode()


def measured(n: int, store_url: str, ids: str = "none") -> Stored:
    """Runs every role in this process, on databases 1 (bus) and 2 (store) of the server."""
    base = store_url.rpartition("/")[0]
    bus_url, store_url, client = f"{base}/1", f"{base}/2", redis.Redis.from_url(store_url)
    document = yaml.safe_load(CONFIG.read_text())
    document["models"] |= {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}}
    document["keep"]["ids"] = ids
    rollout = config.parse(document, source=str(CONFIG), folder=CONFIG.parent)
    before = client.info("memory")["used_memory"]
    wiring = Wiring(rollout, bus_url, store_url, 1, clock=ManualClock(), trust_stated=True)
    _ = wiring.topology
    _run(wiring, n)
    redis.Redis.from_url(bus_url).flushdb()
    used = client.info("memory")["used_memory"] - before
    log = wiring.pair_log(0)
    if log.snapshot().head.counts.paired != n:
        raise SystemExit(f"not all pairs are there: {log.snapshot()}")
    rows, floor = _loaded(rollout, log, redis.Redis.from_url(store_url), n)
    return Stored(
        n=n, bytes_a_pair=used / n, row_bytes=len(log.rows(0, 1)), rows_per_second=rows, floor_rows_per_second=floor
    )  # fmt: skip


def _loaded(rollout: Rollout, log: PairLog, store: redis.Redis, n: int) -> tuple[float, float]:
    """Rows a second into a data frame, and the floor's."""
    table = whole_table(rollout, [log])
    ready = {name: column for name, column in table.columns.items() if column.dtype.kind != "V"}
    keys = [f"shadow:{{{rollout.name}:0}}:pairs:{chunk}" for chunk in range(n // CHUNK_ROWS)]

    def ours() -> None:
        pd.DataFrame({name: column for name, column in whole_table(rollout, [log]).columns.items() if column.dtype.kind != "V"})

    def floor() -> None:
        for start in range(0, len(keys), 64):
            for chunk in store.mget(keys[start : start + 64]):
                zlib.decompress(chunk[1 + ID_BYTES * CHUNK_ROWS :])
        pd.DataFrame(ready)

    runs = [(_seconds(ours), _seconds(floor)) for _ in range(REPEAT)]
    return n / statistics.median(a for a, _ in runs), n / statistics.median(b for _, b in runs)


def _seconds(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _run(wiring: Wiring, n: int) -> None:
    rollout = wiring.rollout
    assert rollout.outcomes is not None
    steps = [wiring.router().step, *(wiring.lane(lane).step for lane in rollout.lanes), wiring.joiner(0).step]
    for topic, body in ((rollout.events.topic, list(age_events(n))), (rollout.outcomes.topic, list(labels(n)))):
        for start in range(0, len(body), CHUNK):
            fill(wiring.bus, topic, body[start : start + CHUNK])
            while sum([step() for step in steps]):
                pass
            _forget(wiring)


def _forget(wiring: Wiring) -> None:
    """Lets the bus drop what has been read, as the joiner does every few seconds."""
    for topic in (wiring.topology.mirror(0), wiring.topology.predictions(0)):
        wiring.bus.trim(topic, wiring.bus.ends([topic])[Partition(topic.topic, 0)])


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--ids", choices=("none", "disagreements", "all"), default="none")
    args = parser.parse_args()
    sys.stdout.write(json.dumps(asdict(measured(args.events, args.store, args.ids))) + "\n")


if __name__ == "__main__":
    main()
