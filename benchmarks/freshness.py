"""How fresh a verdict is: from the sending of an event to the publishing of the first verdict that includes it, at a steady rate.

    python benchmarks/freshness.py --bus kafka://127.0.0.1:9092 --store redis://127.0.0.1:6379/0 [--rate 1000] [--seconds 20]

Looks are taken on a grid of one second; a verdict includes what arrived up to its `as_of`. The models answer at once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import yaml
from measure import Processes, events
from pipeline import ready, rollout_document

from harness import config
from harness.core.reading import microseconds
from harness.ports.bus import Partition
from harness.wiring import Wiring, create, open_bus

BATCH_S = 0.05
WARM_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """Seconds from sent to included, over the events of a run."""

    n: int
    p50_s: float
    p99_s: float
    most_s: float


def started(bus_url: str, store_url: str, looks: str) -> tuple[Wiring, Path]:
    """A fresh rollout that takes its looks on this grid, and its config file."""
    document = {**rollout_document(f"fresh-{int(time.time() * 1000)}"), "looks": looks}
    path = Path(tempfile.mkdtemp(prefix="bench-")) / "rollout.yaml"
    path.write_text(yaml.safe_dump(document))
    wiring = create(config.load(path), bus_url, store_url, shards=1)
    _ = wiring.topology  # makes the topics
    return wiring, path


def now_stamped(body: list[bytes]) -> list[bytes]:
    """The events, as of this moment."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return [json.dumps({**json.loads(each), "time": now}).encode() for each in body]


def run(bus_url: str, store_url: str, rate: int, seconds: float) -> Fresh:
    """One run."""
    wiring, path = started(bus_url, store_url, "1s")
    roles = [role for role in wiring.role_names() if role != "api"]
    with Processes(wiring.commands(path, roles), wiring.environment) as processes:
        processes.wait(lambda: ready(wiring), 180.0, "freshness: not ready")
        sent, looked = _observed(wiring, bus_url, rate, seconds)
    return _summary(sent, looked)


def _observed(wiring: Wiring, bus_url: str, rate: int, seconds: float) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """((when, how many) sent, (when, as of) published) in seconds since 1970."""
    bus, ledger, size = open_bus(bus_url), wiring.ledger, int(rate * BATCH_S)
    sent: list[tuple[float, int]] = []
    looked: list[tuple[float, int]] = []
    topic = Partition(wiring.rollout.events.topic, 0)
    begun = time.monotonic()
    n = 0
    while (passed := time.monotonic() - begun) < seconds + WARM_S:
        if passed < seconds and passed >= len(sent) * BATCH_S:
            sent.append((time.time(), size))
            bus.append(topic, now_stamped(list(events(size, first=n))))
            n += size
        published = ledger.published()
        as_of = microseconds(json.loads(published.verdict)["as_of"]) if published else None
        if as_of is not None and (not looked or as_of > looked[-1][1]):
            looked.append((time.time(), as_of))
        time.sleep(0.005)
    return sent, looked


def _summary(sent: list[tuple[float, int]], looked: list[tuple[float, int]]) -> Fresh:
    """Events of the first seconds, while processes warm up, and of the last, which no look has reached, are left out."""
    if not looked:
        raise SystemExit("freshness: no verdict was published")
    last = looked[-1][1] / 1e6
    waits: list[float] = []
    for when, size in sent:
        if sent[0][0] + WARM_S <= when <= last:
            waits += [next(at for at, as_of in looked if as_of / 1e6 >= when) - when] * size
    p50, p99, most = np.percentile(waits, [50, 99, 100])
    return Fresh(n=len(waits), p50_s=round(float(p50), 3), p99_s=round(float(p99), 3), most_s=round(float(most), 3))


def main() -> None:
    """One run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", required=True)
    parser.add_argument("--bus")
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    sys.stdout.write(json.dumps(asdict(run(args.bus or args.store, args.store, args.rate, args.seconds))) + "\n")


if __name__ == "__main__":
    main()
