"""Two challengers on one mirror, on the in-memory doubles: what they share, and what the one never sees of the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.config import parse_all
from harness.core.observations import ObservationReader
from harness.core.pairing import NO_ANSWER
from harness.core.reading import timestamp
from harness.core.routing import Hasher
from harness.core.table import RowLayout
from harness.ports.bus import BEFORE_ALL
from harness.roles import joiner, topology
from harness.testing.doubles import MemoryPairLog

START, SECOND = 1_767_571_200_000_000, 1_000_000
NAMES = ("fast", "exact")


class Pair:
    """Two crews on the bus of the first, which runs what they share."""

    def __init__(self, crew: Callable[..., Any], **changes: Any) -> None:
        plain = crew(shards=1, **changes)
        document = dict(plain.rollout.document)
        models = document["models"]
        document["models"] = {"incumbent": models["incumbent"], **dict.fromkeys(NAMES, models["challenger"])}
        self.rollouts = parse_all(document, source="test", folder=Path())
        self.bus, self.clock, self.codec = plain.bus, plain.clock, plain.codec
        self.crews: dict[str, Any] = {}
        for name, rollout in zip(NAMES, self.rollouts, strict=True):
            one = self.crews[name] = plain if not self.crews else crew(shards=1, **changes)
            one.rollout, one.bus, one.clock, one.intake = rollout, plain.bus, plain.clock, plain.intake
            one.topology = topology.create(rollout, 1, plain.bus)
            one.logs = [MemoryPairLog(RowLayout(rollout))]
            one.silent = {"controller"} if one is plain else {"controller", "router", "lane:incumbent"}

    def settle(self) -> None:
        for _ in range(4):
            for one in self.crews.values():
                one.settle()

    def send(self, n: int, first: int = 0) -> None:
        one = self.crews["fast"]
        one.send("events", [one.event(f"e{k}", (k + 1) * SECOND) for k in range(first, first + n)])

    def counts(self, name: str) -> Any:
        return self.crews[name].logs[0].snapshot().head.counts


@pytest.fixture
def pair(crew: Callable[..., Any]) -> Pair:
    return Pair(crew)


def test_an_event_is_mirrored_once_and_the_incumbent_is_asked_once(pair: Pair):
    """However many challengers there are: production pays for one mirror."""
    pair.send(20)
    pair.settle()
    fast, exact = pair.crews["fast"], pair.crews["exact"]
    assert sorted(fast.models["incumbent"].calls) == sorted(f"e{k}" for k in range(20))
    assert exact.models["incumbent"].calls == []
    assert [len(one.models["challenger"].calls) for one in (fast, exact)] == [20, 20]
    assert fast.topology.mirror(0) == exact.topology.mirror(0) and fast.topology.mirror(0).topic == "small.mirror"
    assert fast.topology.records.topic != exact.topology.records.topic
    lanes = [pair.codec.lane_of(record.value) for record in pair.bus.after(fast.topology.predictions(0), -1, 1_000)]
    assert set(lanes) == {"incumbent", "fast", "exact"}
    for name in NAMES:
        counts = pair.counts(name)
        assert (counts.paired, counts.unknown, set(counts.lanes)) == (20, 0, {"incumbent", "challenger"})


def test_each_has_the_answers_of_its_own_lane(pair: Pair):
    """Their versions too: a changed model of the one begins no new attempt of the other."""
    pair.crews["fast"].models["challenger"].version, pair.crews["exact"].models["challenger"].version = "f1", "e7"
    pair.crews["exact"].models["challenger"]._name = "old"
    one = pair.crews["fast"]
    one.send("events", [one.event("e1", SECOND, old=15.0, new=30.0)])
    pair.settle()
    assert [dict(pair.counts(name).versions)["challenger"] for name in NAMES] == [{"f1": 1}, {"e7": 1}]
    rows = [pair.crews[name].logs[0] for name in NAMES]
    ages = [RowLayout(r).records(log.rows(0, 1))["age.challenger"].tolist() for r, log in zip(pair.rollouts, rows, strict=True)]
    assert ages == [[30.0], [15.0]]


def test_a_silent_one_is_named_by_its_own_joiner_while_the_other_goes_on(pair: Pair):
    """Its sibling's answers keep coming: they must neither stand for its own, nor keep its joiner from reading the mirror."""
    pair.crews["exact"].silent |= {"lane:challenger", "lane:incumbent"}
    pair.send(20)
    pair.settle()
    assert (pair.counts("fast").paired, pair.counts("exact").paired) == (20, 0)
    pair.clock.move_to(pair.clock.now() + 60 * SECOND)
    pair.send(1, first=20)
    pair.settle()
    counts = pair.counts("exact")
    assert counts.lanes["challenger"][NO_ANSWER] == 20 and counts.missing["challenger"][NO_ANSWER] == 20
    assert pair.counts("fast").paired == 21 and NO_ANSWER not in pair.counts("fast").lanes["challenger"]
    frames = [pair.codec.decode_answers(r.value) for r in pair.bus.after(pair.crews["fast"].topology.predictions(0), -1, 1_000)]
    assert {frame.lane for frame in frames if any(answer.status == NO_ANSWER for answer in frame.answers)} == {"exact"}


def test_a_sibling_that_never_stops_answering_keeps_nobody_from_the_mirror(pair: Pair):
    """Each read may find answers of others: frames are read all the same, or events of a silent lane would never be opened."""
    exact = pair.crews["exact"]
    exact.silent |= {"lane:challenger", "joiner:0"}
    pair.crews["fast"].silent |= {"lane:incumbent"}
    for k in range(joiner.READ_FRAMES * 4):
        pair.send(1, first=k)
        for name in ("router", "lane:challenger"):
            pair.crews["fast"].step(name)
    exact.step("joiner:0")
    assert pair.counts("exact").mirrored > 0


def test_what_another_challenger_still_needs_is_not_trimmed(pair: Pair):
    """Every joiner and every lane of every challenger must have it behind it."""
    fast, exact = pair.crews["fast"], pair.crews["exact"]
    mirror, predictions = fast.topology.mirror(0), fast.topology.predictions(0)
    exact.silent |= {"lane:challenger"}
    def left_after(rounds: range) -> int:
        for k in rounds:
            pair.send(5, first=5 * k)
            pair.clock.move_to(pair.clock.now() + 6 * SECOND)
            pair.settle()
        assert pair.bus.after(predictions, -1, 1_000)
        return len(pair.bus.after(mirror, -1, 1_000))

    assert left_after(range(4)) >= 4
    assert pair.bus.committed("small:exact", [mirror])[mirror] == BEFORE_ALL
    frames = pair.bus.ends([mirror])[mirror] + 1
    exact.silent -= {"lane:challenger"}
    assert left_after(range(4, 8)) < frames
    for name in NAMES:
        assert (pair.counts(name).overrun, pair.counts(name).paired) == (0, 40)


@pytest.mark.parametrize(("arm", "found"), [("fast", 1.0), ("incumbent", 0.0), ("exact", None), ("challenger", None), ("slow", None)])
def test_an_exposure_names_the_challenger(crew: Callable[..., Any], arm: str, found: float | None):
    """Production knows it by its name. Another one's exposure is none of ours, and no garbage either; one that only says `challenger` is
    garbage: each of them would tell of the people whom another one served as of its own."""
    exposures = {"exposures": {"topic": "small.exposures", "unit": "subject", "arm": "/arm"}}
    rollout = Pair(crew, **exposures).rollouts[0]
    read = ObservationReader(rollout, Hasher(rollout.mirror), "exposures").read
    record = {
        "specversion": "1.0", "id": "x", "source": "/s", "type": "t", "subject": "u", "time": timestamp(START), "data": {"arm": arm},
    }  # fmt: skip
    said = read(record)
    if found is None:
        assert ("another challenger" in str(said)) is (arm == "exact")
        assert ("incumbent, or the name of one of several challengers" in str(said)) is (arm in ("challenger", "slow"))
    else:
        assert not isinstance(said, str)
        assert said.value == found
        assert said.unit == Hasher("small").unit("u")
