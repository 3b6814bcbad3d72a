"""Peers beside us: runs `peers/quix.py` and `peers/faststream_kafka.py`, each in an environment of its own, made once in a cache folder.

    python benchmarks/peer.py quix --bus kafka://127.0.0.1:9092 --store redis://127.0.0.1:6379/0

They take events of one record each with the event's id as key, the same bytes as ours, and need Kafka.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import redis
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from measure import Measured, events, measure

ROLES = ("old", "new", "joiner")
DATABASE = 9  # of the store: emptied before each run
PEERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "quix": ("quix.py", ("quixstreams==3.28.1", "redis")),
    "faststream": ("faststream_kafka.py", ("faststream[kafka]==0.7.8", "redis")),
}


def environment(name: str) -> Path:
    """The Python of a peer's environment, made when it is not there. Raises SystemExit when its packages cannot be installed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "shadow-harness", f"peer-{name}")
    python, packages = folder / "bin" / "python", PEERS[name][1]
    installed = folder / "installed"
    if not installed.is_file() or installed.read_text() != " ".join(packages):
        venv.create(folder, with_pip=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {' '.join(packages)} cannot be installed here:\n{done.stderr[-1_000:]}")
        installed.write_text(" ".join(packages))
    return python


def _fill(broker: str, topic: str, body: Sequence[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker, linger_ms=50, batch_size=512 << 10)
    for value in body:
        producer.send(topic, key=json.loads(value)["id"].encode(), value=value, partition=0)
    producer.close()


def run(name: str, n: int, bus_url: str, store_url: str) -> Measured:
    """One run of a peer on fresh topics."""
    python, script = environment(name), Path(__file__).parent / "peers" / PEERS[name][0]
    broker, port = bus_url.removeprefix("kafka://"), urlsplit(store_url).port or 6379
    store = redis.Redis(port=port, db=DATABASE)
    store.flushdb()
    topic = f"{name}-{int(time.time() * 1000)}"
    with KafkaAdminClient(bootstrap_servers=broker) as admin:
        names = [f"{topic}.{what}" for what in ("events", "old", "new")]
        admin.create_topics({each: {"num_partitions": 1, "replication_factor": 1} for each in names})
        admin.wait_for_topics(names, timeout_ms=10_000)
    body = list(events(n))
    commands = {role: [str(python), str(script), role, broker, str(port), str(DATABASE), topic] for role in ROLES}
    up = time.monotonic() + 15.0

    def done() -> int:
        return int(store.get("complete") or 0) if name == "faststream" else store.dbsize()

    return measure(
        name, n, commands, ready=lambda: time.monotonic() > up, fill=lambda: _fill(broker, f"{topic}.events", body), done=done,
        hold=("old", "new"),
    )  # fmt: skip


def main() -> None:
    """One run of one peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--bus", required=True)
    parser.add_argument("--store", required=True)
    parser.add_argument("--events", type=int, default=20_000)
    args = parser.parse_args()
    found = run(args.peer, args.events, args.bus, args.store)
    sys.stdout.write(f"{found.name}: {found.per_second:,.0f} pairs/s, {found.cpu_us:.1f} us of processor a pair\n")


if __name__ == "__main__":
    main()
