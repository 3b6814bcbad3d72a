"""The observer, on the in-memory doubles: what is stored of exposures and measurements, and that nothing is lost or counted twice."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from harness.adapters.codec import MsgpackCodec
from harness.core.errors import HeadMoved
from harness.core.observations import segment_codes
from harness.core.reading import WATERMARK, timestamp
from harness.core.rollout import Exposures, Family, Measure, Rollout, Segment
from harness.core.routing import Hasher
from harness.ports.clock import ManualClock
from harness.ports.intake import Taken
from harness.roles import topology
from harness.roles.observer import Observer
from harness.testing.doubles import MemoryBus, MemoryIntake, MemoryObservationLog
from harness.testing.samples import rollout

NOW = 1_800_000_000_000_000
ROLLOUT = replace(
    rollout(),
    exposures=Exposures(topic="exposures", unit="subject", arm="/arm", percent="/percent"),
    online={"spend": Measure(name="spend", topic="spend", unit="/user", type="mean", value="/much", window_s=60.0, better="higher")},
)


class Canary:
    """An observer with everything around it."""

    def __init__(self) -> None:
        self.clock, self.log, self.intake = ManualClock(NOW), MemoryObservationLog(), MemoryIntake()
        self.bus = MemoryBus(clock=self.clock)
        self.topology = topology.create(ROLLOUT, 1, self.bus)
        self.observer = self.made()

    def made(self, of: Rollout = ROLLOUT) -> Observer:
        made = Observer(
            of, self.topology, bus=self.bus, log=self.log, intake=self.intake, codec=MsgpackCodec(), clock=self.clock
        )
        made.hold(("exposures/0", "spend/0"))
        return made

    def send(self, source: str, *documents: Any) -> None:
        values = [document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents]
        self.bus.append(self.topology.observed[source], values)

    def rows(self, source: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.log.rows(source, 0)[0].tolist()]


@pytest.fixture
def canary() -> Canary:
    return Canary()


def exposed(n: int, arm: object = "challenger", time: int = NOW - 1_000, **data: object) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": f"x{n}", "source": "gateway", "type": "exposure", "subject": f"u{n}", "time": timestamp(time),
        "data": {"arm": arm, **data},
    }  # fmt: skip


def spent(n: int, much: object, user: object = "u1") -> dict[str, Any]:
    return {"specversion": "1.0", "id": f"s{n}", "source": "shop", "type": "spent", "data": {"user": user, "much": much}}


def test_arms_units_and_numbers_are_kept_in_rising_order_of_arrival(canary: Canary):
    """The unit's hash is that of the rollout's events, so that arms and pairs speak of the same people."""
    canary.send("exposures/0", exposed(1, percent=1), exposed(2, "incumbent", time=NOW - 2_000, percent=10.0))
    canary.send("spend/0", spent(1, 2.5))
    assert canary.observer.step() == 3
    unit = Hasher(ROLLOUT.name).unit
    assert canary.rows("exposures/0") == [(unit("u1"), NOW - 1_000, 1.0, 1.0, 0), (unit("u2"), NOW - 999, 0.0, 10.0, 0)]
    ((user, _, value, _, _),) = canary.rows("spend/0")
    assert (user, value) == (unit("u1"), 2.5)


def test_what_cannot_be_read_is_counted_and_the_rest_goes_on(canary: Canary):
    """Garbage, a third arm, a percent that is none, a number that is none, no unit: each is one invalid record."""
    canary.send("exposures/0", b"\xff", exposed(1, "both"), exposed(2, percent=101), exposed(3, percent=None), exposed(4, percent=5))
    canary.send("spend/0", spent(1, True), spent(2, "5"), spent(3, 1, user=None), [], spent(4, 1))
    canary.observer.step()
    assert [len(canary.rows(source)) for source in ("exposures/0", "spend/0")] == [1, 1]
    seen = canary.log.load("exposures/0")
    assert (seen.read, seen.invalid) == (5, 4)
    assert canary.log.load("spend/0").invalid == 4


def test_an_exposure_without_a_percent_says_so(canary: Canary):
    """The stage's is taken then; no pointer in the config means nobody expects one."""
    canary.observer = Observer(
        replace(ROLLOUT, exposures=Exposures(topic="exposures", unit="subject", arm="/arm")), canary.topology, bus=canary.bus,
        log=canary.log, intake=canary.intake, codec=MsgpackCodec(), clock=canary.clock,
    )  # fmt: skip
    canary.observer.hold(("exposures/0",))
    canary.send("exposures/0", exposed(1))
    canary.observer.step()
    assert math.isnan(canary.rows("exposures/0")[0][3])


def test_of_a_segment_only_which_value_of_the_list_it_is_is_kept(canary: Canary):
    """Two segments in one number; a value outside a list is its `other`, none its `missing`: no word of production's is stored."""
    region = Segment(name="region", field="/events/r", values=("SE", "ES"), other="elsewhere", missing="nowhere")
    age = Segment(name="age", field="age", values=("young", "old"))
    both = replace(
        ROLLOUT, events=replace(ROLLOUT.events, segments=(region, age)),
        exposures=Exposures(topic="exposures", unit="subject", arm="/arm", segments={"region": "/where", "age": "/age"}),
    )  # fmt: skip
    canary.observer = Observer(
        both, canary.topology, bus=canary.bus, log=canary.log, intake=canary.intake, codec=MsgpackCodec(), clock=canary.clock
    )
    canary.observer.hold(("exposures/0",))
    said = [("ES", "old"), ("SE", "young"), ("secret", "42"), (None, None), ("ES", None)]
    canary.send("exposures/0", *(exposed(n, where=where, age=of) for n, (where, of) in enumerate(said)))
    canary.observer.step()
    codes = segment_codes(both, canary.log.rows("exposures/0", 0)[0]["segments"])
    told = [tuple(each.words[code] for each, code in zip((age, region), pair, strict=True)) for pair in zip(*codes.values(), strict=True)]
    assert list(codes) == ["age", "region"]
    assert told == [("old", "ES"), ("young", "SE"), ("other", "elsewhere"), ("unknown", "nowhere"), ("unknown", "ES")]


def test_a_second_copy_and_a_restart_add_nothing(canary: Canary):
    """Producers repeat and observers die; an appeal is an appeal once."""
    canary.send("spend/0", spent(1, 1), spent(1, 1), spent(2, 2))
    canary.observer.step()
    again = canary.made()
    canary.send("spend/0", spent(2, 2), spent(3, 3))
    again.step()
    assert [row[2] for row in canary.rows("spend/0")] == [1.0, 2.0, 3.0]
    assert canary.log.load("spend/0").read == 5


def test_a_zombie_is_refused_and_changes_nothing(canary: Canary):
    """Another observer took the source over while this one slept."""
    canary.send("spend/0", spent(1, 1))
    other = canary.made()
    other.step()
    with pytest.raises(HeadMoved):
        canary.observer.step()
    assert len(canary.rows("spend/0")) == 1


def test_a_claim_to_come_from_the_future_is_bounded_by_the_clock(canary: Canary):
    """One wrong clock of a producer must not close everybody's window."""
    canary.send("exposures/0", exposed(1, time=NOW + 10**12, percent=1))
    canary.observer.step()
    assert canary.rows("exposures/0")[0][1] <= NOW
    assert canary.log.load("exposures/0").arrived <= NOW


def test_time_runs_on_behind_a_silent_source_and_on_a_watermark(canary: Canary):
    """No appeals for a week is good news, not a reason to wait; a watermark says so at once."""
    canary.send("spend/0", spent(1, 1))
    canary.observer.step()
    before = canary.log.load("spend/0").arrived
    canary.intake.save("events/0", Taken(position=3, arrived=NOW + 77), after=Taken())
    canary.clock.move_to(NOW + 4_000_000)
    canary.observer.step()
    assert canary.log.load("spend/0").arrived == before
    canary.clock.move_to(NOW + 6_000_000)
    canary.observer.step()
    assert canary.log.load("spend/0").arrived == before + 6_000_000
    assert canary.log.load("exposures/0").arrived == NOW + 77, "one that never had a record is as far as the events"
    canary.send("spend/0", {**spent(9, 1), "type": WATERMARK, "time": timestamp(NOW + 10**9)})
    canary.observer.step()
    assert (canary.log.load("spend/0").arrived, len(canary.rows("spend/0"))) == (NOW + 10**9, 1)


def test_time_runs_on_behind_a_source_in_which_only_another_challenger_speaks(canary: Canary):
    """A sibling's exposures are none of ours: who is in canary must not wait for its own while theirs keep coming."""
    canary.observer = canary.made(replace(ROLLOUT, family=Family(name="sample", challengers=("fast", "exact"), challenger="exact")))
    canary.send("exposures/0", exposed(1, "exact", percent=1))
    canary.observer.step()
    before = canary.log.load("exposures/0").arrived
    for n in range(2, 10):
        canary.clock.move_to(canary.clock.now() + 1_000_000)
        canary.send("exposures/0", exposed(n, "fast", time=NOW, percent=1))
        canary.observer.step()
        canary.observer.step()
    seen = canary.log.load("exposures/0")
    assert (seen.position, seen.read, seen.invalid, len(canary.rows("exposures/0"))) == (8, 9, 0, 1)
    assert seen.arrived >= before + 5_000_000
