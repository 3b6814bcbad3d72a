"""`make bench`: starts its own Kafka and Redis, measures everything in one go, prints the tables and writes `benchmarks/results.json`.

    python benchmarks/run.py [--events 100000] [--repeat 3] [--only throughput,scale,shards,freshness,recovery,store]

Throughput is a median of `--repeat` runs, floors, pipeline and peers taking turns, so that a busy minute of the machine hits all of them.
Absolute numbers mean nothing elsewhere: compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import floor
import freshness
import peer
import recovery
import store_bytes
from measure import Measured, table
from pipeline import pipeline
from servers import private_kafka, private_redis

RESULTS = Path(__file__).parent / "results.json"
PEER_SHARE = 5  # peers get so many times fewer events: they take that much longer
PARTS = ("throughput", "scale", "shards", "freshness", "recovery", "store")


def say(text: str) -> None:
    """To whoever watches."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def median(runs: list[Measured]) -> Measured:
    """Medians over runs of the same thing."""
    parts = {name: statistics.median(run.cpu_s[name] for run in runs) for name in runs[0].cpu_s}
    return Measured(name=runs[0].name, n=runs[0].n, wall_s=statistics.median(run.wall_s for run in runs), cpu_s=parts)


def described(row: Measured) -> dict[str, Any]:
    """A run as JSON."""
    return {**asdict(row), "pairs_per_second": round(row.per_second), "cpu_us_a_pair": round(row.cpu_us, 1)}


class Bench:
    """One go on one broker and one Redis."""

    def __init__(self, kafka: str, redis: str, n: int, repeat: int) -> None:
        self.kafka, self.redis, self.n, self.repeat = kafka, redis, n, repeat

    def throughput(self) -> list[dict[str, Any]]:
        """Floors, the pipeline on each bus, and the peers."""
        n_peer = max(self.n // PEER_SHARE, 1_000)
        things: dict[str, Callable[[], Measured]] = {
            "floor frames": lambda: floor.run("frames", self.n, self.kafka, self.redis),
            "floor records": lambda: floor.run("records", self.n, self.kafka, self.redis),
            "shadow kafka": lambda: pipeline(self.n, self.kafka, self.redis, 1)[0],
            "shadow confluent": lambda: pipeline(self.n, f"confluent+{self.kafka}", self.redis, 1)[0],
            "shadow redis": lambda: pipeline(self.n, self.redis, self.redis, 1)[0],
            **{name: lambda name=name: peer.run(name, n_peer, self.kafka, self.redis) for name in peer.PEERS},  # type: ignore[misc]
        }  # fmt: skip
        runs: dict[str, list[Measured]] = {name: [] for name in things}
        for _ in range(self.repeat):
            for name, measure in things.items():
                try:
                    runs[name].append(measure())
                except SystemExit as error:
                    say(f"{name}: not measured: {error}")
        rows = [median(found) for found in runs.values() if found]
        say(table(rows, rows[0]))
        return [described(row) for row in rows]

    def scale(self) -> list[dict[str, Any]]:
        """Cost an event from a tenth of the events to all of them; `--only scale --events 1000000` for a million."""
        rows = [pipeline(n, self.kafka, self.redis, 1)[0] for n in (self.n // 10, self.n)]
        say(table(rows, rows[0]))
        return [described(row) for row in rows]

    def shards(self) -> list[dict[str, Any]]:
        """1, 2 and 4 shards, one worker a role."""
        rows = [pipeline(self.n, self.kafka, self.redis, shards)[0] for shards in (1, 2, 4)]
        say(table(rows, rows[0]))
        return [described(row) for row in rows]

    def freshness(self) -> Mapping[str, Any]:
        """From sent to included in a verdict, at 1,000 events a second."""
        found = asdict(freshness.run(self.kafka, self.redis, 1_000, 20.0))
        say(f"freshness at 1,000 events/s: {found}")
        return found

    def recovery(self) -> Mapping[str, Any]:
        """Seconds from kill -9 of a role until nothing is behind."""
        found = recovery.run(self.kafka, self.redis, 200)
        say(f"recovery, seconds: {found}")
        return found

    def store(self) -> Mapping[str, Any]:
        """Bytes a pair and rows a second, on a Redis of its own."""
        with private_redis() as url:
            found = asdict(store_bytes.measured(self.n, url))
        say(f"store: {found}")
        return found


def main() -> None:
    """Everything, or the parts named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    found: dict[str, Any] = {"events": args.events, "processors": os.cpu_count()}
    with private_kafka() as kafka, private_redis() as redis:
        bench = Bench(kafka, redis, args.events, args.repeat)
        for part in args.only.split(","):
            if part not in PARTS:
                raise SystemExit(f"--only {part}: expected some of {', '.join(PARTS)}")
            say(f"\n{part} (load {os.getloadavg()[0]:.1f})")
            found[part] = {"load": round(os.getloadavg()[0], 1), "found": getattr(bench, part)()}
            args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
