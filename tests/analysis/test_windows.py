"""`unit: ever` and `unit: mean`: one number a unit over its window, against a loop over the rows, whatever the cut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.evidence import Evidence, Plan
from analysis.simulate import HOUR_US, World, ages, hours
from analysis.types import Gate, GateResult, Metric, PairTable, Status

WINDOW = 2 * HOUR_US
FLIP = Metric(kind="flip", policy="over_18")
HARM = Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
YEARS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
EVER = Gate(name="ever", metric=FLIP, word="below", limit=0.5, unit="ever", unit_window_us=WINDOW)
GATES = (
    EVER,
    Gate(name="mean", metric=FLIP, word="below", limit=0.4, unit="mean", unit_window_us=WINDOW),
    Gate(name="by region", metric=FLIP, word="below", limit=0.4, unit="mean", unit_window_us=HOUR_US, each=(("region",),)),
    Gate(name="first", metric=FLIP, word="below", limit=0.4),
    Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=0.2, unit="mean", unit_window_us=WINDOW),
    Gate(name="years", metric=YEARS, word="worse_by_at_most", limit=3.0, unit="mean", unit_window_us=WINDOW, each=(("gender",),)),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=1, listed={"region": None, "gender": ("female", "male")})


def stream(n: int = 1_200, seed: int = 6) -> PairTable:
    return ages(np.random.default_rng(seed), n, World(events_a_unit=6.0, missing=0.05))


def folded(table: PairTable, *, labelled: bool = False, cuts: int = 1, plan: Plan = PLAN) -> Evidence:
    evidence, start, looks = Evidence(plan, labelled), -1, hours(table, beyond=1)
    for chosen in np.array_split(looks, cuts):
        evidence.fold(table.take((table["arrived"] > start) & (table["arrived"] <= chosen[-1])), chosen)
        evidence = Evidence.from_bytes(plan, labelled, evidence.to_bytes())
        start = int(chosen[-1])
    return evidence


def row(evidence: Evidence, name: str) -> GateResult:
    return next(r for r in evidence.results() if r.name == name and r.segment is None)


def told(table: PairTable, gate: Gate, until: int) -> tuple[list[float], int]:
    """(the number of each unit whose window is over, all events), a row at a time."""
    windows: dict[int, tuple[int, list[float]]] = {}
    events = 0
    for k in range(len(table)):
        if table["missing.challenger"][k] >= 0 or (gate.metric.labelled and table["over_18.truth"][k] < 0):
            continue
        a, b, truth = table["over_18.incumbent"][k], table["over_18.challenger"][k], table["truth.age"][k]
        if gate.metric is FLIP:
            x = float(a != b)
        elif gate.metric is HARM:
            if truth >= 18:
                continue
            x = float(a == 1) - float(b == 1)
        else:
            x = abs(table["age.incumbent"][k] - truth) - abs(table["age.challenger"][k] - truth)
        events += 1
        at = int(table["arrived"][k])
        opened, numbers = windows.setdefault(int(table["unit_id"][k]), (at, []))
        if at < opened + (gate.unit_window_us or 0):
            numbers.append(x)
    closed = [numbers for opened, numbers in windows.values() if opened + (gate.unit_window_us or 0) <= until]
    return [max(numbers) if gate.unit == "ever" else float(np.mean(numbers)) for numbers in closed], events


@pytest.mark.parametrize("name", ["ever", "mean", "harm", "years"])
def test_each_unit_tells_one_number_when_its_window_is_over(name):
    """Counts, mean over units and mean over events, against the loop."""
    table = stream()
    gate = next(gate for gate in GATES if gate.name == name)
    evidence = folded(table, labelled=gate.metric.labelled)
    numbers, events = told(table, gate, evidence.last_look)
    found = row(evidence, name)
    assert not evidence.broken
    assert (found.n_units, found.n_events) == (len(numbers), events) and len(numbers) > 50
    assert found.estimate == pytest.approx(np.mean(numbers), abs=1e-9)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("cuts", [2, 5])
def test_a_restart_moves_no_window(cuts, labelled):
    """Open windows go through bytes; so do the order in which they close and the detectors behind them."""
    table = stream()
    one, many = folded(table, labelled=labelled), folded(table, labelled=labelled, cuts=cuts)
    assert one.to_bytes() == many.to_bytes() and one.results() == many.results()


def test_an_open_window_tells_nothing_and_closes_without_further_events():
    """Record time goes on by itself: an hour without events closes what is due."""
    table = stream(60)
    plan = Plan((EVER,), alpha=0.05, n_stages=1, listed={})
    evidence = Evidence(plan, False)
    last = int(table["arrived"][-1])
    evidence.fold(table, np.array([last]))
    before = row(evidence, "ever")
    evidence.fold(table.take(slice(0)), np.array([last + WINDOW]))
    after = row(evidence, "ever")
    assert (before.n_units, before.reason) == (0, "insufficient") and before.n_events == after.n_events
    assert after.n_units == len(np.unique(table["unit_id"][table["missing.challenger"] < 0]))


def test_a_busy_unit_that_is_rarely_wrong_was_ever_wrong_but_not_on_average():
    """The three ways of counting a unit answer three questions."""
    table = stream(6_000)
    first, ever, mean = (row(folded(table), name).estimate for name in ("first", "ever", "mean"))
    assert ever > 1.1 * mean and mean == pytest.approx(first, abs=0.05)


def test_a_gate_on_windows_passes_fails_and_alarms_like_any_other():
    """Its interval agrees with its status."""
    table = stream(6_000)
    good = row(folded(table), "mean")
    assert good.status is Status.PASS and good.upper < good.limit
    strict = Plan((replace(EVER, limit=0.02),), alpha=0.05, n_stages=1, listed={}, detect_units=500)
    bad = row(folded(table, plan=strict), "ever")
    assert bad.status is Status.FAIL and bad.lower > 0.02 and bad.alarm


@pytest.mark.parametrize("changed", [
    {"unit_window_us": None}, {"metric": Metric(kind="latency", quantile=0.9)},
    {"metric": HARM, "word": "worse_by_at_most"}, {"metric": replace(HARM, least=0.5)}])
def test_what_cannot_be_counted_so_is_a_compute_error(changed):
    """It holds; nothing is counted in another way without a word."""
    plan = Plan((replace(EVER, **changed),), alpha=0.05, n_stages=1, listed={})
    evidence = Evidence(plan, plan.gates[0].metric.labelled)
    assert evidence.results()[0].reason == "compute_error" and "InputError" in evidence.broken["ever"]
