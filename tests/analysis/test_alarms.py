"""Change detectors in the fold: what they count, what an alarm does to a row, and that a restart moves none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan
from analysis.simulate import HOUR_US
from analysis.types import Gate, GateResult, Metric, PairTable, Status

FLIP = Metric(kind="flip", policy="over_18")
GATE = Gate(name="flips", metric=FLIP, word="below", limit=0.1)
N = 12_000
DAY_US = 24 * HOUR_US


def stream(flips: np.ndarray, *, n_units: int | None = None, regions: int = 1) -> PairTable:
    """A table of the policy alone, a row each minute; units in turn, each row its own unit without `n_units`."""
    n = len(flips)
    columns = {
        "event_id": np.arange(n), "unit_id": (np.arange(n) % (n_units or n)).astype(np.uint64), "arrived": np.arange(n) * 60_000_000,
        "segment.region": (np.arange(n) % regions).astype(np.int32), "over_18.incumbent": np.zeros(n, np.int32),
        "over_18.challenger": flips.astype(np.int32),
        **{f"missing.{lane}": np.full(n, -1, np.int32) for lane in ("incumbent", "challenger")},
        "over_18.truth": np.where(np.arange(n) % 2 == 0, 0, -1).astype(np.int32),
    }
    return PairTable(columns, {"segment.region": ("SE", "ES", "PT"), "over_18": ("false", "true"), "missing": ("timeout",)})


def worse_midway(seed: int = 3, before: float = 0.02, after: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.random(N * 5 // 6) < before, rng.random(N // 6) < after])


def folded(table: PairTable, plan: Plan, *, labelled: bool = False, cuts: int = 1) -> Evidence:
    looks = np.arange(1, int(table["arrived"][-1]) // HOUR_US + 2) * HOUR_US
    evidence = Evidence(plan, labelled)
    start = -1
    for chosen in np.array_split(looks, cuts):
        evidence.fold(table.take((table["arrived"] > start) & (table["arrived"] <= chosen[-1])), chosen)
        evidence = Evidence.from_bytes(plan, labelled, evidence.to_bytes())
        start = int(chosen[-1])
    return evidence


def plan(*gates: Gate, **changed: object) -> Plan:
    return replace(Plan(gates, alpha=0.05, n_stages=1, listed={"region": ("SE", "ES", "PT")}, detect_units=N), **changed)  # type: ignore[arg-type]


def whole(evidence: Evidence, name: str = "flips") -> GateResult:
    return next(row for row in evidence.results() if row.name == name and row.segment is None)


def test_a_model_that_gets_worse_midway_is_stopped_though_its_average_is_good():
    """The cumulative gate still passes; the alarm makes it a fail, after the change and for good."""
    flips = worse_midway()
    assert flips.mean() < 0.1
    evidence = folded(stream(flips), plan(GATE))
    row = whole(evidence)
    assert row.log_e_pass > np.log(20) and row.upper < row.limit  # the average alone would promote
    assert (row.status, row.reason, row.alarm) == (Status.FAIL, None, True)
    assert N * 5 // 6 * 60_000_000 < row.alarmed_at == evidence.alarmed_at("flips") < N * 60_000_000
    assert row.alarmed_at % HOUR_US == 0 and evidence.failed_at("flips") is None
    evidence.fold(stream(np.zeros(0)), np.array([10**15]))
    assert whole(evidence) == row


def test_a_model_that_stays_as_it_is_raises_no_alarm():
    """The same stream without the change."""
    assert not whole(folded(stream(worse_midway(after=0.02)), plan(GATE))).alarm


@pytest.mark.parametrize("cuts", [2, 7, 60])
def test_a_restart_moves_no_alarm_and_no_byte(cuts):
    """Windows, waiting contributions and levels go through bytes, for units that come again and for unlisted values."""
    gates = (GATE, replace(GATE, name="by region", each=(("region",),)))
    fixed = plan(*gates, listed={"region": None}, window_us=DAY_US)
    table = stream(worse_midway(), n_units=700, regions=3)
    one, many = folded(table, fixed), folded(table, fixed, cuts=cuts)
    assert one.to_bytes() == many.to_bytes() and one.results() == many.results()
    assert {row.alarm for row in one.results()} == {True}


def test_known_units_that_degrade_are_seen_in_the_next_window():
    """Each unit has spoken in the good time: the cumulative gate hears none of it again, the detector once a window."""
    table = stream(worse_midway(), n_units=N // 6)
    assert whole(folded(table, plan(GATE, window_us=DAY_US))).alarm
    blind = whole(folded(table, plan(GATE, window_us=10**15)))
    assert not blind.alarm and blind.status is Status.PASS


def test_a_unit_counts_once_in_a_window():
    """Copies of bad units within a window are one voice: 40 units of which 8 flip a thousand times raise no alarm, 12,000 units do."""
    flips = np.arange(N) % 5 == 0
    assert not whole(folded(stream(flips, n_units=40), plan(GATE, window_us=10**15))).alarm
    assert whole(folded(stream(flips), plan(GATE, window_us=10**15))).alarm


def test_the_alarm_of_a_segment_is_that_of_the_gate():
    """With `each` the listed values are watched, not the whole; the whole row has their first alarm."""
    flips = worse_midway(after=0.02)
    flips[np.arange(N) % 3 == 0] |= np.arange(N)[np.arange(N) % 3 == 0] > N * 5 // 6  # SE alone
    evidence = folded(stream(flips, regions=3), plan(replace(GATE, each=(("region",),))))
    alarms = {row.segment["region"]: row.alarmed_at for row in evidence.results() if row.segment}
    assert alarms["SE"] is not None and alarms["ES"] is alarms["PT"] is None
    assert (whole(evidence).status, whole(evidence).alarmed_at) == (Status.FAIL, alarms["SE"])


def test_unlisted_values_are_watched_at_a_level_that_rises_with_their_number():
    """The k-th at K N k(k+1) / alpha; a value outside a closed list never alarms."""
    flips = np.arange(N) % 6 == 0
    gates = (replace(GATE, each=(("region",),)),)
    table = stream(np.repeat(flips[: N // 3], 3), regions=3)
    free = folded(table, plan(*gates, listed={"region": None}))
    at = [free.alarmed_at("flips", {"region": name}) for name in ("SE", "ES", "PT")]
    assert None not in at and at[0] <= at[1] <= at[2] and at[0] < at[2]
    closed = folded(table, plan(*gates, listed={"region": ("SE",)}))
    assert closed.alarmed_at("flips", {"region": "SE"}) is not None and closed.alarmed_at("flips", {"region": "ES"}) is None


@pytest.mark.parametrize("changed", [{"dry_run": True}, {"on_fail": "report"}])
def test_gates_that_are_not_counted_are_not_watched(changed):
    """They are no members of K, so no level is kept for them."""
    row = whole(folded(stream(worse_midway()), plan(replace(GATE, **changed))))
    assert not row.alarm and row.status is not Status.FAIL


def test_labelled_gates_are_watched_too():
    """In their own prefix, on the rows of their class."""
    gate = Gate(name="harm", metric=Metric(kind="harm", policy="over_18", truth=False, decisions=("true",)), word="below", limit=0.1)
    assert whole(folded(stream(worse_midway(after=0.5)), plan(gate), labelled=True), "harm").alarm


def test_other_detectors_cannot_continue_an_old_state():
    """Window and units are part of the design."""
    evidence = folded(stream(worse_midway()[:100]), plan(GATE))
    for changed in ({"window_us": 1}, {"detect_units": 1}):
        with pytest.raises(ValueError, match="another plan"):
            Evidence.from_bytes(plan(GATE, **changed), False, evidence.to_bytes())
    with pytest.raises(ValueError, match="at least 1"):
        plan(GATE, window_us=0)
