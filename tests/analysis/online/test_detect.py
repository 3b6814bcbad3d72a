"""Change detectors on two arms: a challenger that does harm from the middle of a canary on is stopped, and a good one is not."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.online.detect import PART, BatchWatch, PairWatch
from analysis.online.evidence import OnlineEvidence
from analysis.online.judge import prepare
from analysis.online.units import Exposures, Measurements
from analysis.plan import Plan
from analysis.types import Gate, Metric, Status

HARM = Metric(kind="online", measure="harm", type="binary", window_us=60, better="lower")
COUNT = Metric(kind="online", measure="harm", type="count", window_us=60, better="lower")
GATE = Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=0.02)
COUNTED = replace(GATE, metric=COUNT, limit=0.1)
SEQUENCE = replace(COUNTED, method="asymptotic", decide_at=20_000)


def midway(n, *, before, after, seed=0, hours=80, count=False):
    """Units over some hours; from the middle on the challenger's rate, or mean count, is another. (exposures, measurements, looks)."""
    rng = np.random.default_rng(seed)
    at, arm = np.sort(rng.integers(1, hours * 3_600, n)), rng.integers(0, 2, n)
    rate = np.where((arm == 1) & (at > hours * 1_800), after, before)
    times = rng.poisson(rate) if count else (rng.random(n) < rate).astype(int)
    found = np.repeat(np.arange(n), times)
    told = Measurements(measure=0 * found, unit=found, at=at[found] + 5, value=np.ones(len(found)))
    seen = Exposures(unit=np.arange(n), at=at, arm=arm, period=0 * arm, segments={"region": rng.integers(0, 2, n)})
    return seen, told, np.arange(1, hours + 2) * 3_600


def judged(gate, world, **words) -> OnlineEvidence:
    more = {"detect_units": 20_000} | words
    evidence = OnlineEvidence(Plan((gate,), alpha=0.05, n_stages=1, listed={"region": ("SE", "ES")}, **more), {0: 0.5})
    evidence.fold(*world)
    return evidence


def until(world, look):
    """What is known at a look."""
    seen, told, looks = world
    a, b = seen.at <= look, told.at <= look
    return (Exposures(unit=seen.unit[a], at=seen.at[a], arm=seen.arm[a], period=seen.period[a]),
            Measurements(measure=told.measure[b], unit=told.unit[b], at=told.at[b], value=told.value[b]), looks[looks <= look])


@pytest.mark.parametrize(("gate", "before", "after"), [(GATE, 0.03, 0.075), (COUNTED, 1.0, 1.25), (SEQUENCE, 1.0, 1.25)],
                         ids=["pairs", "batches", "asymptotic"])
def test_a_harm_that_begins_midway_stops_a_canary_whose_difference_still_looks_fine(gate, before, after):
    """At the look of the alarm the cumulative gate still passes; the alarm is a fail, it says when, and is remembered through bytes."""
    world = midway(80_000, before=before, after=after, count=gate.metric.type == "count", seed=6)
    evidence = judged(gate, world)
    (row,) = evidence.results()
    assert (row.status, row.reason, row.alarm) == (Status.FAIL, None, True)
    assert row.alarmed_at == evidence.alarmed_at("harm") and row.alarmed_at > 40 * 3_600
    assert evidence.failed_at("harm") is None or evidence.failed_at("harm") > row.alarmed_at
    kept = OnlineEvidence.from_bytes(evidence.plan, {0: 0.5}, evidence.to_bytes())
    assert kept.results() == evidence.results() and kept.to_bytes() == evidence.to_bytes()
    (alone,) = judged(replace(gate, on_fail="report"), until(world, row.alarmed_at)).results()
    assert (alone.status, alone.alarmed_at) == (Status.PASS, None) and alone.log_e_fail < 0.0


@pytest.mark.parametrize(("gate", "rate"), [(GATE, 0.03), (COUNTED, 1.0)], ids=["pairs", "batches"])
def test_an_equal_challenger_raises_no_alarm(gate, rate):
    """Eight canaries of 40,000 units."""
    for seed in range(8):
        evidence = judged(gate, midway(40_000, before=rate, after=rate, seed=seed, count=gate.metric.type == "count"))
        assert evidence.alarmed_at("harm") is None and evidence.results()[0].status is not Status.FAIL


def test_a_promise_over_fewer_units_than_a_batch_has_is_one_over_a_batch():
    """No line lies lower than that of a single batch: one under 1 would be reached by whatever comes first."""
    evidence = judged(COUNTED, midway(6_000, before=1.0, after=1.0, count=True), detect_units=10)
    assert int(evidence._watches["harm", ()].n[0]) > 0 and evidence.alarmed_at("harm") is None


def test_a_harm_in_one_region_is_found_there():
    """With each every listed value has a detector of its own, of its own units, at the level of a member."""
    seen, told, looks = midway(120_000, before=0.03, after=0.09, seed=2)
    there = seen.segments["region"][told.unit.astype(int)] == 0
    early = told.at < 40 * 3_600
    kept = there | early | (np.random.default_rng(1).random(len(there)) < 0.03 / 0.09) | (seen.arm[told.unit.astype(int)] == 0)
    mine = Measurements(measure=told.measure[kept], unit=told.unit[kept], at=told.at[kept], value=told.value[kept])
    evidence = judged(replace(GATE, each=(("region",),)), (seen, mine, looks))
    whole, *rows = evidence.results()
    assert {row.segment["region"]: row.alarm for row in rows} == {"SE": True, "ES": False}
    assert whole.alarm and whole.alarmed_at == rows[0].alarmed_at and whole.status is Status.FAIL


def test_arms_that_are_not_comparable_raise_no_alarm():
    """Where the split is found wrong, whoever is missing may be those without harm."""
    seen, told, looks = midway(40_000, before=0.03, after=0.09, seed=3)
    kept = (seen.arm == 1) | (np.random.default_rng(0).random(40_000) < 0.8)
    part = Exposures(unit=seen.unit[kept], at=seen.at[kept], arm=seen.arm[kept], period=seen.period[kept])
    evidence = judged(GATE, (part, told, looks))
    assert evidence.split_fired_at is not None and evidence.alarmed_at("harm") is None
    assert evidence.results()[0].reason == "sample_ratio"


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 39), max_size=4, unique=True), st.sampled_from([GATE, COUNTED]), st.integers(0, 9))
def test_cuts_bytes_and_orders_move_no_bit_of_a_detector(cuts, gate, seed):
    """Restarts and shards: the same levels after the same units."""
    seen, told, looks = midway(6_000, before=0.3, after=0.3, hours=40, count=gate.metric.type == "count")
    once = judged(gate, (seen, told, looks))
    again, after = OnlineEvidence(once.plan, {0: 0.5}), 0
    mixed = np.random.default_rng(seed).permutation(6_000)
    for cut in np.unique([*cuts, 41]).tolist():
        a, b = mixed[(seen.at[mixed] > after) & (seen.at[mixed] <= cut * 3_600)], (told.at > after) & (told.at <= cut * 3_600)
        mine = Exposures(unit=seen.unit[a], at=seen.at[a], arm=seen.arm[a], period=seen.period[a])
        again.fold(mine, Measurements(measure=told.measure[b], unit=told.unit[b], at=told.at[b], value=told.value[b]),
                   looks[(looks > after) & (looks <= cut * 3_600)])
        again, after = OnlineEvidence.from_bytes(once.plan, {0: 0.5}, again.to_bytes()), cut * 3_600
    one, other = (evidence._watches["harm", ()].arrays() for evidence in (once, again))
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    assert int(one["n"][0]) > 0


def test_pairs_are_taken_by_the_recursion_of_shiryaev_and_roberts():
    """One bet after the other, in plain Python, for a measure of which less is better."""
    (process,) = prepare(GATE).watch
    watch, pairs = PairWatch((process,), 1, -1.0), np.random.default_rng(3).choice([-1.0, 0.0, 1.0], 64, p=[0.1, 0.7, 0.2])
    assert not watch.take(0, (), pairs, 1e9)
    weights, levels = np.exp(process.bets.log_weights), [0.0] * len(process.bets.fractions)
    for d in -pairs:
        for k, fraction in enumerate(process.bets.fractions):
            bet = fraction / (1.0 - process.limit if process.proves == "below" else process.limit + 1.0)
            away = process.limit - d if process.proves == "below" else d - process.limit
            levels[k] = (1.0 + bet * away) * (levels[k] + 1.0)
    assert float(watch.within.levels[0] @ weights) == pytest.approx(float(np.dot(levels, weights)), rel=1e-9)


def test_batches_are_taken_by_the_same_recursion_from_their_own_sums():
    """1,024 units of each arm make the first batch in which both have a thousand; each batch speaks of its own units only."""
    test = prepare(COUNTED)
    watch, rng = test.detector(1), np.random.default_rng(4)
    assert isinstance(watch, BatchWatch)
    arm = np.arange(8 * 1_024) % 2
    value = rng.poisson(1.0 + 0.3 * arm).astype(float)
    rows = value, np.ones(len(arm)), np.zeros(len(arm)), arm, 0 * arm
    watch.take(0, rows, np.zeros(0), np.inf)
    (lift,) = test.watch
    levels = np.zeros(len(lift.shifts.sizes))
    for start in range(0, len(arm), 2_048):
        a, b = (value[start : start + 2_048][arm[start : start + 2_048] == k] for k in (0, 1))
        variance = a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)
        away = -0.1 - (a.mean() - b.mean())
        levels = np.array([exp((d * away - d * d / 2.0) / variance) for d in lift.shifts.sizes]) * (levels + 1.0)
    assert (int(watch.n[0]), PART) == (4, 256) and watch.levels[0] == pytest.approx(levels, rel=1e-9)
    assert watch.take(0, tuple(row[:2_048] for row in rows), np.zeros(0), 1.0) and watch.stopped[0] == 1
    assert not watch.take(0, rows, np.zeros(0), 1e9), "it has raised its alarm"


def test_periods_of_a_ramp_are_batches_of_their_own():
    """Units of 10 % and of 50 % are not compared with each other, in whatever order they come."""
    watch, rng = prepare(COUNTED).detector(1), np.random.default_rng(5)
    n = 8_000
    arm, period = rng.integers(0, 2, n), rng.integers(0, 2, n)
    value = 5.0 * period + rng.poisson(1.0, n) + 0.1 * arm
    rows = value, np.ones(n), np.zeros(n), arm, period
    watch.take(0, rows, np.zeros(0), 1e9)
    assert watch.n[0] == 2 and (watch.levels[0] < 100.0).all()
