"""The whole pipeline beside its floor: event in, two lanes with a trivial model, pair in Redis, gates updated.

    python benchmarks/pipeline.py --store redis://127.0.0.1:6379/0 [--bus kafka://127.0.0.1:9092] [--events 100000] [--shards 1]

Needs an empty store; every run uses names of its own. Prints pairs a second and processor microseconds a pair, as ratios to the floor
with frames of the same call.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import floor
import yaml
from measure import Measured, events, fill, measure, save, table

from harness import config
from harness.commands.status import status
from harness.wiring import Wiring, create, open_bus


def rollout_document(name: str) -> dict[str, object]:
    """A rollout of ordinary size: four segments' values, two policies, four gates, no labels."""
    both = {lane: {"field": "/age"} for lane in ("incumbent", "challenger")}
    return {
        "rollout": name,
        "events": {"topic": f"{name}.events", "unit": "subject", "segments": {"region": "/region"}},
        "models": {"incumbent": {"uri": "recorded:event:/old"}, "challenger": {"uri": "recorded:event:/new"}},
        "outputs": {"age": {"type": "number", "range": [0, 120], **both}},
        "policies": {"over_13": {"output": "age", "at_least": 13}, "over_18": {"output": "age", "at_least": 18}},
        "sample": {"percent": 100},
        "pairing": {"window": "300s"},
        "gates": [
            {"name": "few decisions change", "metric": {"flip": "over_18"}, "below": 0.05, "each": ["region"]},
            {"name": "few at 13", "metric": {"flip": "over_13"}, "below": 0.05},
            {"name": "it answers", "metric": {"missing": "challenger"}, "below": 0.001},
            {"name": "close", "metric": {"difference": "mean", "output": "age"}, "within": 1.0},
        ],
    }


def ready(wiring: Wiring) -> bool:
    """Whether each role has taken up its parts."""
    shares = wiring.shares()
    return all(any(shares.workers(role).values()) for role in wiring.role_names() if role != "api")


def pipeline(n: int, bus_url: str, store_url: str, shards: int) -> tuple[Measured, Wiring]:
    """One run of the product on fresh names."""
    name = f"bench-{int(time.time() * 1000)}"
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    path = folder / "rollout.yaml"
    path.write_text(yaml.safe_dump(rollout_document(name)))
    wiring = create(config.load(path), bus_url, store_url, shards=shards)
    topology = wiring.topology  # makes the topics
    logs = [wiring.pair_log(shard) for shard in range(shards)]
    body = list(events(n))
    bus = open_bus(bus_url)

    def done() -> int:
        return sum(log.snapshot().head.counts.paired for log in logs)

    roles = [role for role in wiring.role_names() if role != "api"]
    os.environ.update(wiring.environment)
    measured = measure(
        f"shadow, {bus_url.partition('://')[0]}, {shards} shard{'s'[: shards > 1]}", n, wiring.commands(path, roles),
        ready=lambda: ready(wiring), fill=lambda: fill(bus, f"{name}.events", body), done=done, environment=wiring.environment,
    )  # fmt: skip
    found = status(topology, bus=wiring.bus, intake=wiring.intake, pair_logs=logs)
    if found.identity or found.counts.paired != n:
        raise SystemExit(f"the run does not add up: {found}")
    return measured, wiring


def main() -> None:
    """Floor, then the pipeline, in one call."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--bus")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--shards", type=int, nargs="+", default=[1])
    parser.add_argument("--no-floor", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    bus = args.bus or args.store
    rows = [] if args.no_floor else [floor.run(kind, args.events, bus, args.store) for kind in ("frames", "records")]
    rows += [pipeline(args.events, bus, args.store, shards)[0] for shards in args.shards]
    sys.stdout.write(table(rows, rows[0]) + "\n")
    if args.out:
        save(rows, args.out)
        sys.stdout.write(json.dumps({"written": str(args.out)}) + "\n")


if __name__ == "__main__":
    main()
