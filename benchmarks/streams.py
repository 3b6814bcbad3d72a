"""Recorded streams through rollouts that run: on Kafka and on Redis, in one shard and in four, each must say what the replay says.

    python benchmarks/streams.py --data DIR [--only NAME ...] [--buses kafka redis] [--shards 1 4]

DIR has a folder for each stream, and in it what `shadow replay` takes: rollout.yaml, events.jsonl.gz, outcomes.jsonl.gz, and the files of
recorded answers that the config names. Of verdict.json every key is compared but `watermark`, which tells the shards apart. Nobody moves
these rollouts (there is no controller), so that all of a stream is judged in its first stage, as in a replay.

Exit code 1 when one differs; 2 when there are no streams.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from kafka.admin import KafkaAdminClient
from measure import Processes, fill
from servers import private_kafka, private_redis

from harness import config
from harness.core.rollout import Rollout
from harness.wiring import Wiring, create, open_bus

NEEDED = ("rollout.yaml", "events.jsonl.gz", "outcomes.jsonl.gz")
APART = ("watermark",)
MOST_S = 300.0
EXIT_MISSING = 2


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded stream: its folder, its config, and the verdict of its replay."""

    folder: Path
    rollout: Rollout
    replayed: Mapping[str, Any]

    def lines(self, name: str) -> list[bytes]:
        """The records of one of its files."""
        return gzip.decompress((self.folder / f"{name}.jsonl.gz").read_bytes()).splitlines()


def folders(data: Path, only: Sequence[str]) -> list[Path]:
    """The streams' folders. Ends the command when there are none, or when one that was named is not there."""
    found = {each.name: each for each in sorted(data.glob("*")) if all((each / name).is_file() for name in NEEDED)}
    missing = [name for name in only if name not in found]
    if not found or missing:
        what = f"no stream {', '.join(missing)} there" if found else "no streams there"
        sys.stderr.write(f"--data {data}: {what}; expected folders with {', '.join(NEEDED)} (they are not in this repository)\n")
        raise SystemExit(EXIT_MISSING)
    return [found[name] for name in (only or found)]


def replayed(folder: Path) -> Stream:
    """The stream with what a replay of it says."""
    command = ["replay", "rollout.yaml", "--events", "events.jsonl.gz", "--outcomes", "outcomes.jsonl.gz", "--json"]
    done = subprocess.run([sys.executable, "-m", "harness", *command], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3, 4):
        raise SystemExit(f"{folder}: {done.stderr}")
    return Stream(folder, config.load(folder / "rollout.yaml"), json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def running(stream: Stream, bus: str, store: str, shards: int) -> Iterator[tuple[Wiring, Processes]]:
    """`shadow up` on a store and a bus that hold nothing."""
    redis.Redis.from_url(store).flushall()
    if bus.startswith("kafka"):
        with KafkaAdminClient(bootstrap_servers=bus.removeprefix("kafka://")) as admin:
            old = [topic for topic in admin.list_topics() if not topic.startswith("__")]
            if old:
                admin.delete_topics(old)
    wiring = create(stream.rollout, bus, store, shards=shards)
    roles = [role for role in wiring.role_names() if role not in ("api", "controller")]
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "harness", "up", str(stream.folder / "rollout.yaml"), "--bus", bus, "--store", store]
        with Processes({"up": [*command, "--data", data, "--roles", ",".join(roles), "--listen", ""]}) as processes:
            shares = wiring.shares()
            processes.wait(lambda: all(any(shares.workers(role).values()) for role in roles), 180.0, "not ready")
            yield wiring, processes


def settled(wiring: Wiring, expected: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The verdict, once it has seen all events, labels and looks that the replay saw; None before."""
    published = wiring.ledger.published()
    if published is None:
        return None
    found: Mapping[str, Any] = json.loads(published.verdict)
    counts, outcomes = found["counts"], found["outcomes"]
    seen = counts["read"] == expected["counts"]["read"] and sum(outcomes.values()) == sum(expected["outcomes"].values())
    waits = counts["in_flight"] or outcomes["waiting"] != expected["outcomes"]["waiting"] or found["watermark"]["labels_behind"]
    return found if seen and not waits and found["as_of"] == expected["as_of"] else None


def lived(stream: Stream, bus: str, store: str, shards: int) -> tuple[Mapping[str, Any], float]:
    """(verdict of the running rollout, seconds from the first event to it)."""
    events, outcomes = stream.lines("events"), stream.lines("outcomes")
    mark = {"specversion": "1.0", "id": "end", "source": "/streams", "type": "io.shadow-harness.watermark"}
    end = json.dumps({**mark, "time": stream.replayed["watermark"]["resolved"]}).encode()
    with running(stream, bus, store, shards) as (wiring, processes):
        began, producer = time.monotonic(), open_bus(bus)
        fill(producer, stream.rollout.events.topic, events)
        assert stream.rollout.outcomes is not None
        fill(producer, stream.rollout.outcomes.topic, outcomes)
        fill(producer, stream.rollout.events.topic, [end])
        processes.wait(lambda: settled(wiring, stream.replayed) is not None, MOST_S, f"{stream.folder.name}: it did not see all")
        found = settled(wiring, stream.replayed)
        assert found is not None
        return found, time.monotonic() - began


def differing(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """The keys of two verdicts that are not the same."""
    return sorted(key for key in found.keys() | expected.keys() if key not in APART and found.get(key) != expected.get(key))


def main() -> int:
    """Every stream on every bus in every number of shards; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--buses", nargs="+", choices=("kafka", "redis"), default=["kafka", "redis"])
    parser.add_argument("--shards", nargs="+", type=int, default=[1, 4])
    args = parser.parse_args()
    streams, wrong = [replayed(folder) for folder in folders(args.data, args.only)], 0
    sys.stdout.write(f"{'stream':24} {'bus':6} {'shards':>6} {'events':>7} {'labels':>7} {'seconds':>8}  verdict.json\n")
    with ExitStack() as servers:
        store = servers.enter_context(private_redis())
        buses = {name: servers.enter_context(private_kafka()) if name == "kafka" else store for name in args.buses}
        for stream, (name, bus), shards in [(s, b, n) for s in streams for b in buses.items() for n in args.shards]:
            found, took_s = lived(stream, bus, store, shards)
            keys = differing(found, stream.replayed)
            wrong += bool(keys)
            says = f"DIFFERS in {', '.join(keys)}" if keys else f"as replayed ({found['verdict']}, {len(found) - len(APART)} keys)"
            n, labels = found["counts"]["read"], sum(found["outcomes"].values())
            sys.stdout.write(f"{stream.folder.name:24} {name:6} {shards:6} {n:7,} {labels:7,} {took_s:8.1f}  {says}\n")
            sys.stdout.flush()
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
