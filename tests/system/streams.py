"""A seeded stream of production traffic with everything wrong that we could think of, written from scratch.

Nothing here knows the product: files in, files out. `reference.py` says what must come of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

START = datetime(2026, 1, 5, tzinfo=UTC)
SPAN = timedelta(days=3)
END = START + timedelta(days=9, hours=3)  # record time after every wait is over, and far from the next look
MARKER = "SECRET-0f9d"  # stands in every payload, subject, id and label; may stand in nothing that is written
TIMEOUT_MS = 300
REGIONS = ("SE", "DE", "ES")

CONFIG: dict[str, Any] = {
    "rollout": "proof",
    "events": {"topic": "proof.events", "unit": "subject", "segments": {"region": {"field": "/region", "values": list(REGIONS)}}},
    "models": {
        "incumbent": {"uri": "recorded:incumbent.jsonl", "timeout": f"{TIMEOUT_MS}ms"},
        "challenger": {"uri": "recorded:challenger.jsonl", "timeout": f"{TIMEOUT_MS}ms"},
    },
    "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
    "policies": {
        "adult": {"output": "age", "at_least": 18},
        "door": {"output": "age", "at_least": 18, "decide": [{"allow": {"at_least": 25}}, {"check": {"at_least": 18}}, "block"]},
    },
    "harms": {"minor_let_in": {"policy": "adult", "truth": False, "decision": True}},
    "outcomes": {"topic": "proof.outcomes", "event": "/event_id", "truth": {"age": "/age"}, "matures": "2d"},
    "sample": {"percent": 100},
    "pairing": {"window": "600s"},
    "looks": "6h",
    "gates": [
        {"name": "minors", "metric": {"harm": "minor_let_in"}, "worse_by_at_most": 0.1, "each": ["region"], "on_fail": "hold"},
        {"name": "error", "metric": {"loss": "absolute_error", "output": "age"}, "worse_by_at_most": 4},
        {"name": "flips", "metric": {"flip": "door"}, "below": 0.9},
        {"name": "answers", "metric": {"missing": "challenger"}, "below": 0.9},
    ],
    "stages": [{"shadow": {"percent": 100}}],
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream's files, and its records as producers would send them, in the order of arrival."""

    folder: Path
    config: Path
    events: Path
    outcomes: Path
    records: tuple[tuple[str, bytes], ...]

    @property
    def n_events(self) -> int:
        """Lines of the events file."""
        return sum(topic == CONFIG["events"]["topic"] for topic, _ in self.records)

    @property
    def n_outcomes(self) -> int:
        """Lines of the outcomes file."""
        return len(self.records) - self.n_events


def stated(when: datetime) -> str:
    """RFC 3339 with microseconds."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def watermark(topic: str) -> tuple[str, bytes]:
    """What a producer says when nothing older will follow."""
    mark = {"specversion": "1.0", "id": "end", "source": "/test", "type": "io.shadow-harness.watermark", "time": stated(END)}
    return topic, json.dumps(mark).encode()


def build(folder: Path, *, seed: int, n_events: int, **changes: Any) -> Stream:
    """Writes config, events, outcomes and both models' recorded answers. `changes` replace top-level keys of the config."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    people = {f"{MARKER}-person-{n}": rng.uniform(9, 60) for n in range(max(3, n_events // 3))}
    events = list(_events(rng, people, n_events))
    outcomes = list(_outcomes(rng, people, events))
    known = {event["id"]: people[event["subject"]] for _, _, event in events if event is not None}
    _write(folder / "incumbent.jsonl", _predictions(rng, known, noise=6.0, bad=0.06))
    _write(folder / "challenger.jsonl", _predictions(rng, known, noise=3.0, bad=0.25))
    _write(folder / "events.jsonl", (line for _, line, _ in events))
    _write(folder / "outcomes.jsonl", (line for _, line in outcomes))
    (folder / "rollout.yaml").write_text(yaml.safe_dump({**CONFIG, **changes}, sort_keys=False))
    timed = [(when, 0, n, line) for n, (when, line, _) in enumerate(events)] + [
        (when, 1, n, line) for n, (when, line) in enumerate(outcomes)
    ]
    topics = (CONFIG["events"]["topic"], CONFIG["outcomes"]["topic"])
    return Stream(
        folder=folder, config=folder / "rollout.yaml", events=folder / "events.jsonl", outcomes=folder / "outcomes.jsonl",
        records=tuple((topics[kind], line) for _, kind, _, line in sorted(timed)),
    )  # fmt: skip


def _write(path: Path, lines: Iterable[bytes]) -> None:
    path.write_bytes(b"".join(line + b"\n" for line in lines))


# ---------------------------------------------------------------------------------------------------------------------- events
def _events(rng: random.Random, people: dict[str, float], n_events: int) -> Iterator[tuple[datetime, bytes, dict[str, Any] | None]]:
    """(arrival, line, the event if it is one)."""
    names = list(people)
    sent: list[dict[str, Any]] = []
    for n in range(n_events):
        when = START + SPAN * (n / n_events)
        event = {
            "specversion": "1.0", "id": f"{MARKER}-e{n}", "source": rng.choice(("/web", "/app")), "type": "selfie",
            "subject": rng.choice(names), "time": stated(when - timedelta(seconds=rng.uniform(0, 3600))), "recordedtime": stated(when),
            "data": {"region": rng.choice((*REGIONS, MARKER, 7, None)), "note": f"{MARKER}-payload-{n}"},
        }  # fmt: skip
        kind = rng.random()
        if kind < 0.05:
            yield when, _bad_event(rng, event), None
        elif kind < 0.10 and sent:
            again = {**rng.choice(sent), "recordedtime": stated(when)}
            if rng.random() < 0.5:  # the same identity with other content: the first counts
                again["data"] = {"region": "DE", "note": f"{MARKER}-other"}
            yield when, json.dumps(again).encode(), None
        elif kind < 0.11 and sent:  # another source's event of the same id is another event
            twin = {**event, "id": rng.choice(sent)["id"], "source": "/other"}
            yield when, json.dumps(twin).encode(), None
        else:
            sent.append(event)
            yield when, json.dumps(event).encode(), event


def _bad_event(rng: random.Random, event: dict[str, Any]) -> bytes:
    """A line that is no event, in one of the ways production finds."""
    good = json.dumps(event).encode()
    return rng.choice((
        b"\xff\xfe\x00" + MARKER.encode(), good[: len(good) // 2], good.replace(b'"', b"'"), b"null", b"[" + good + b"]", b"{}",
        b'"' + MARKER.encode() + b'"',
        json.dumps({k: v for k, v in event.items() if k != "id"}).encode(), json.dumps({**event, "id": 7}).encode(),
        json.dumps({**event, "id": ""}).encode(), json.dumps({**event, "source": None}).encode(),
        json.dumps({**event, "time": "yesterday"}).encode(),
        json.dumps({**event, "recordedtime": 12}).encode(), json.dumps({**event, "specversion": 1.0}).encode(),
        json.dumps({**event, "data": {"x": float("nan")}}).encode(), good + good,
    ))  # fmt: skip


# -------------------------------------------------------------------------------------------------------------------- outcomes
def _outcomes(
    rng: random.Random, people: dict[str, float], events: list[tuple[datetime, bytes, dict[str, Any] | None]]
) -> Iterator[tuple[datetime, bytes]]:
    """(when it comes, line), not sorted: early, late, revised, for nobody, and no outcomes at all."""
    n = 0
    for when, _, event in events:
        if event is None or rng.random() > 0.6:
            continue
        age = people[event["subject"]]
        delay = rng.choice((-0.5, 1.0, 12.0, 40.0, 47.9, 70.0))  # hours; negative: before its event; above 48: after it matured
        for again in range(1 + (rng.random() < 0.2) + (rng.random() < 0.05)):
            n += 1
            at = when + timedelta(hours=delay * (1 if again == 0 else rng.uniform(0.2, 1.4)), microseconds=n)
            yield at, _outcome(n, event["id"], at, age + 3 * again)
        if rng.random() < 0.06:
            n += 1
            yield when, _bad_outcome(rng, n, event["id"], when)
        if rng.random() < 0.05:
            n += 1
            yield when, _outcome(n, f"{MARKER}-nobody-{n}", when, 20.0)


def _outcome(n: int, event_id: Any, at: datetime, age: Any, **changes: Any) -> bytes:
    record = {
        "specversion": "1.0", "id": f"{MARKER}-o{n}", "source": "/review", "type": "age.verified", "time": stated(at),
        "data": {"event_id": event_id, "age": age, "reviewer": f"{MARKER}-reviewer"}, **changes,
    }  # fmt: skip
    return json.dumps(record).encode()


def _bad_outcome(rng: random.Random, n: int, event_id: str, at: datetime) -> bytes:
    return rng.choice((
        b"\xfe" + MARKER.encode(), b"[]", _outcome(n, event_id, at, "17"), _outcome(n, event_id, at, None), _outcome(n, 5, at, 17.0),
        _outcome(n, event_id, at, float("inf")), _outcome(n, event_id, at, 17.0, time="soon"), _outcome(n, event_id, at, 17.0, id=None),
        _outcome(n, event_id, at, [17.0]), _outcome(n, event_id, at, 17.0)[:-3],
    ))  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- predictions
def _predictions(rng: random.Random, known: dict[str, float], *, noise: float, bad: float) -> Iterator[bytes]:
    """Lines of recorded answers in no order, a share `bad` of them wrong in some way."""
    lines: list[bytes] = []
    for event_id, age in known.items():
        said = min(119.0, max(0.5, age + rng.gauss(0, noise)))
        good = {"event_id": event_id, "output": {"age": said}, "latency_ms": rng.uniform(5, TIMEOUT_MS), "model_version": "7"}
        if rng.random() < bad:
            lines += _bad_prediction(rng, good)
        else:
            lines.append(json.dumps(good).encode())
    rng.shuffle(lines)
    lines += [json.dumps({"event_id": f"{MARKER}-nobody", "output": {"age": 1}}).encode()] * 3  # answers on events that never were
    again = [json.dumps({"event_id": id, "output": {"age": 1.0}}).encode() for id in rng.sample(sorted(known), len(known) // 20)]
    yield from (*lines, *again)  # an answer twice: the first readable one counts


def _bad_prediction(rng: random.Random, good: dict[str, Any]) -> list[bytes]:
    line = json.dumps(good).encode()

    def of(age: object) -> bytes:
        return json.dumps({**good, "output": {"age": age}}).encode()

    return rng.choice((
        [], [b"\xff\x00garbage\xfe" + MARKER.encode()], [line[:-5]], [b"[" + line + b"]"], [line.replace(b'"event_id"', b'"id"')],
        [json.dumps({**good, "event_id": 5}).encode()], [of("17")], [of(None)], [of(True)], [of([17])], [of({})], [of(float("nan"))],
        [of(float("inf"))], [of(float("-inf"))], [line.replace(b'"age": ', b'"age": 1e999, "b": ')], [of(120.5)], [of(-1)], [of(10**400)],
        [json.dumps({**good, "output": 17}).encode()], [json.dumps({**good, "output": {"years": 17}}).encode()],
        [json.dumps({**good, "error": f"{MARKER} boom"}).encode()], [json.dumps({**good, "latency_ms": TIMEOUT_MS + 0.5}).encode()],
        [json.dumps({**good, "latency_ms": "fast", "error": ""}).encode()], [json.dumps({**good, "latency_ms": -4}).encode()],
        [line[:-5], line, of("late")],
    ))  # fmt: skip
