"""What must come of a stream: read from its files by slow plain Python that knows nothing of the product.

No hash, shard, frame or fold: dictionaries, loops and the rules as the contract states them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import yaml

DOOR = ("allow", "check", "block")


@dataclass
class Pair:
    """One event with what both lanes said and what turned out to be true."""

    unit: str
    region: str
    status: dict[str, str] = field(default_factory=dict)
    age: dict[str, float] = field(default_factory=dict)
    truth: float | None = None
    truth_time: datetime | None = None

    @property
    def both(self) -> bool:
        """Whether both lanes answered."""
        return all(status == "answered" for status in self.status.values())


@dataclass
class Expected:
    """Everything that the verdict must say in numbers; `rows` by (gate, region or None)."""

    counts: dict[str, Any]
    lanes: dict[str, dict[str, int]]
    outcomes: dict[str, int]
    flips: dict[str, dict[str, int]]
    rows: dict[tuple[str, str | None], dict[str, Any]]


def _nothing(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _strict(line: bytes) -> Any:
    """The record of a line, None if it is none (a record that says null is none either)."""
    try:
        return json.loads(line.decode(), parse_constant=_nothing)
    except ValueError:
        return None


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value.replace("Z", "+00:00"))
    except (AttributeError, ValueError):
        return False
    return True


def _is_cloud_event(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    if any(not isinstance(record.get(name), str) or not record[name] for name in ("id", "source", "type", "specversion")):
        return False
    return all(_is_time(record[name]) for name in ("time", "recordedtime") if name in record)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _answers(path: Path, timeout_ms: float) -> dict[str, tuple[str, float | None]]:
    """Event id -> (status, age) by the first readable line of each."""
    found: dict[str, tuple[str, float | None]] = {}
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line.decode())
        except ValueError:
            continue
        if not isinstance(record, dict) or not isinstance(record.get("event_id"), str) or record["event_id"] in found:
            continue
        latency, output = _number(record.get("latency_ms")), record.get("output")
        age = _number(output.get("age")) if isinstance(output, dict) else None
        if record.get("error"):
            found[record["event_id"]] = ("error", None)
        elif latency is not None and latency > timeout_ms:
            found[record["event_id"]] = ("timeout", None)
        elif age is None or not 0 <= age <= 120:
            found[record["event_id"]] = ("bad_output", None)
        else:
            found[record["event_id"]] = ("answered", age)
    return found


def expect(folder: Path) -> Expected:
    """Reads a stream's folder."""
    config = yaml.safe_load((folder / "rollout.yaml").read_text())
    timeouts = {lane: float(model["timeout"].removesuffix("ms")) for lane, model in config["models"].items()}
    said = {lane: _answers(folder / f"{lane}.jsonl", timeout) for lane, timeout in timeouts.items()}
    counts: Counter[str] = Counter()
    pairs: dict[tuple[str, str], Pair] = {}
    first_of_id: dict[str, Pair] = {}
    for line in filter(None, (folder / "events.jsonl").read_bytes().split(b"\n")):
        counts["read"] += 1
        record = _strict(line)
        if not _is_cloud_event(record):
            counts["invalid"] += 1
            continue
        key = record["source"], record["id"]
        if key in pairs:
            counts["duplicates"] += 1
            continue
        pair = pairs[key] = Pair(unit=record["subject"], region=_region(record["data"]["region"]))
        first_of_id.setdefault(record["id"], pair)
        for lane, answers in said.items():
            status, age = answers.get(record["id"], ("no_answer", None))
            pair.status[lane] = status
            if age is not None:
                pair.age[lane] = age
    outcomes = _outcomes(folder, first_of_id)
    return _expected(config, counts, list(pairs.values()), outcomes)


def _region(value: Any) -> str:
    return "unknown" if value is None else value if value in ("SE", "DE", "ES") else "other"


def _outcomes(folder: Path, events: dict[str, Pair]) -> dict[str, int]:
    tally = dict.fromkeys(("joined", "waiting", "orphaned", "revised", "invalid"), 0)
    for line in filter(None, (folder / "outcomes.jsonl").read_bytes().split(b"\n")):
        record = _strict(line)
        data = record.get("data", {}) if _is_cloud_event(record) else {}
        truth = data.get("age")
        truth = float(truth) if isinstance(truth, bool) else _number(truth)
        if truth is None or not isinstance(data.get("event_id"), str):
            tally["invalid"] += 1
            continue
        pair = events.get(data["event_id"])
        if pair is None:
            tally["orphaned"] += 1
            continue
        tally["joined" if pair.truth_time is None else "revised"] += 1
        when = datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
        if pair.truth_time is None or when > pair.truth_time:
            pair.truth, pair.truth_time = truth, when
    return tally


def _expected(config: dict[str, Any], counts: Counter[str], pairs: list[Pair], outcomes: dict[str, int]) -> Expected:
    lanes = {lane: dict(Counter(pair.status[lane] for pair in pairs)) for lane in config["models"]}
    missing: dict[str, Counter[str]] = {}
    for pair in pairs:
        blamed = next((lane for lane in ("incumbent", "challenger") if pair.status[lane] != "answered"), None)
        if blamed is not None:
            missing.setdefault(blamed, Counter())[pair.status[blamed]] += 1
    both = [pair for pair in pairs if pair.both]
    return Expected(
        counts={
            "read": counts["read"], "duplicates": counts["duplicates"], "unsampled": 0, "mirrored": counts["invalid"] + len(pairs),
            "paired": len(both), "missing": {lane: dict(by) for lane, by in missing.items()}, "shed": 0, "invalid": counts["invalid"],
            "in_flight": 0,
        },
        lanes=lanes,
        outcomes=outcomes,
        flips={"adult": _flips(both, lambda age: str(age >= 18).lower(), ("false", "true")), "door": _flips(both, _door, DOOR)},
        rows=_rows(pairs, both),
    )  # fmt: skip


def _door(age: float) -> str:
    return "allow" if age >= 25 else "check" if age >= 18 else "block"


def _flips(both: list[Pair], decide: Callable[[float], str], words: Iterable[str]) -> dict[str, int]:
    changed = Counter((decide(pair.age["incumbent"]), decide(pair.age["challenger"])) for pair in both)
    return {"pairs": len(both), **{f"{a}->{b}": changed[a, b] for a, b in permutations(words, 2)}}


def _rows(pairs: list[Pair], both: list[Pair]) -> dict[tuple[str, str | None], dict[str, Any]]:
    labelled = [pair for pair in both if pair.truth is not None]
    minors = [pair for pair in labelled if (pair.truth or 0.0) < 18]

    def let_in(pair: Pair) -> float:
        return float(pair.age["incumbent"] >= 18) - float(pair.age["challenger"] >= 18)

    def closer(pair: Pair) -> float:
        truth = pair.truth or 0.0
        return abs(pair.age["incumbent"] - truth) - abs(pair.age["challenger"] - truth)

    rows = {
        ("minors", None): _row(minors, let_in),
        ("error", None): _row(labelled, closer),
        ("flips", None): _row(both, lambda pair: float(_door(pair.age["incumbent"]) != _door(pair.age["challenger"]))),
        ("answers", None): _row(pairs, lambda pair: float(pair.status["challenger"] != "answered")),
    }
    for region in ("SE", "DE", "ES", "other", "unknown"):
        rows["minors", region] = _row([pair for pair in minors if pair.region == region], let_in)
    return rows


def _row(pairs: list[Pair], value: Callable[[Pair], float]) -> dict[str, Any]:
    firsts: dict[str, Pair] = {}
    for pair in pairs:
        firsts.setdefault(pair.unit, pair)
    return {
        "n_events": len(pairs), "n_units": len(firsts),
        "estimate_events": math.fsum(map(value, pairs)) / len(pairs), "estimate": math.fsum(map(value, firsts.values())) / len(firsts),
    }  # fmt: skip
