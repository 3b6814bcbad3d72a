"""Change detectors: against a slow version, over any cut, at their promised rates, and as fast as their page says they find a change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.gates import prepare
from analysis.sequential.detector import BLOCK, Detectors
from analysis.types import Gate, Metric

FLIP = Gate(name="flips", metric=Metric(kind="flip", policy="p"), word="below", limit=0.02)
GATES = (
    FLIP,
    Gate(name="harm", metric=Metric(kind="harm", policy="p", truth=False, decisions=("true",)), word="worse_by_at_most", limit=0.01),
    Gate(name="equal", metric=Metric(kind="harm", policy="p", truth=False, decisions=("true",)), word="within", limit=0.02),
    Gate(name="age", metric=Metric(kind="difference", output="age", bound=120.0), word="within", limit=5.0),
)


def detectors(gate: Gate, n_slots: int = 1) -> Detectors:
    test = prepare(gate)
    made = Detectors(test.design.fail, test.support.kind != "numeric")
    made.grow(n_slots)
    return made


def rows(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=-1)


def slow(gate: Gate, values: np.ndarray) -> list[float]:
    """M after each contribution, from its definition: a bet at a time, a contribution at a time."""
    total = np.zeros(len(values))
    fails = prepare(gate).design.fail
    for process in fails:
        for fraction, log_weight in zip(process.bets.fractions, process.bets.log_weights, strict=True):
            room = process.high - process.limit if process.proves == "below" else process.limit - process.low
            m = 0.0
            for t, x in enumerate(values):
                gain = process.limit - x if process.proves == "below" else x - process.limit
                m = (1 + fraction / room * gain) * (m + 1)
                total[t] += np.exp(log_weight) * m / len(fails)
    return total.tolist()


def drawn(gate: Gate, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = prepare(gate).support.kind
    return {"rate": rng.binomial(1, 0.05, n), "sign": rng.choice([-1, 0, 1], n, p=[0.05, 0.92, 0.03]),
            "numeric": rng.normal(4.0, 9.0, n)}[kind].astype(float)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_the_level_is_that_of_the_slow_version(gate):
    """Blocks are an arrangement of the same recursion: equal to 1e-9 after 320 contributions, for every kind of support."""
    values = drawn(gate, 10 * BLOCK, 3)
    fast = detectors(gate)
    assert not fast.add(np.zeros(len(values), np.int64), rows(values), np.array([1e300]))
    level = (fast.levels[0] * fast._shares).sum()
    assert level == pytest.approx(slow(gate, values)[-1], rel=1e-9)


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_the_alarm_is_the_first_block_whose_level_is_enough(gate):
    """The contribution that it names is the last of that block."""
    values = drawn(gate, 40 * BLOCK, 5)
    levels = slow(gate, values)[BLOCK - 1 :: BLOCK]
    enough = max(levels) * 0.999
    found = detectors(gate).add(np.zeros(len(values), np.int64), rows(values), np.array([enough]))
    assert found == {0: (int(np.argmax(np.array(levels) >= enough)) + 1) * BLOCK - 1}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 1_500), max_size=6), st.sampled_from(GATES), st.integers(0, 99))
def test_however_the_contributions_are_cut_the_state_is_the_same(cuts, gate, seed):
    """To the bit, with and without an alarm on the way: a restart must not move a detector."""
    values = drawn(gate, 1_500, seed)
    slots = np.random.default_rng(seed).integers(0, 3, 1_500)
    enough = np.array([2e3, 1e300, np.inf])
    whole, parts = detectors(gate, 3), detectors(gate, 3)
    found = whole.add(slots, rows(values), enough)
    pieces = {}
    edges = [0, *sorted(cuts), 1_500]
    for start, stop in pairwise(edges):
        pieces |= {slot: start + at for slot, at in parts.add(slots[start:stop], rows(values[start:stop]), enough).items()}
    assert pieces == found
    for name in ("levels", "waiting", "n", "stopped"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
    assert whole.n[2] == 0  # nothing is watched where the level is infinite


def test_false_alarms_stay_under_alpha_over_the_units_that_the_config_names():
    """A rate at its limit, N contributions, A = N / 0.05: 0.035 expected, and at most the 0.999 quantile of 600 runs at 0.05."""
    n_runs, n = 600, 6_000
    values = np.random.default_rng(20240611).binomial(1, 0.02, (n, n_runs)).astype(float)
    slots = np.tile(np.arange(n_runs), n)
    found = detectors(FLIP, n_runs).add(slots, rows(values.ravel()), np.full(n_runs, n / 0.05))
    assert 2 <= len(found) <= 48


@pytest.mark.parametrize(("after", "published"), [(0.03, 4_800), (0.04, 1_400), (0.06, 490)])
def test_a_change_for_the_worse_is_found_about_as_soon_as_published(after, published):
    """0.005 for 20,000 contributions, then worse, limit 0.02, K = 20, N = 40,000 (STATISTICS 6.10); the median within 10 %."""
    n_runs, good, bad = 150, 20_000, 20_000
    rng = np.random.default_rng(7)
    values = np.concatenate([rng.binomial(1, 0.005, (n_runs, good)), rng.binomial(1, after, (n_runs, bad))], axis=1).astype(float)
    slots = np.repeat(np.arange(n_runs), good + bad)
    found = detectors(FLIP, n_runs).add(slots, rows(values.ravel()), np.full(n_runs, 20 * 40_000 / 0.05))
    delays = [at - slot * (good + bad) - good for slot, at in found.items()]
    assert len(delays) >= n_runs - 1 and min(delays) > 0
    assert np.median(delays) == pytest.approx(published, rel=0.1)


def test_evidence_without_bound_raises_the_alarm_and_no_error():
    """A limit near the edge makes a factor of 10^6 a contribution: products overflow, the comparison must not."""
    gate = Gate(name="answers", metric=Metric(kind="missing"), word="below", limit=1e-6)
    with np.errstate(all="raise"):
        found = detectors(gate).add(np.zeros(4_000, np.int64), rows(np.ones(4_000)), np.array([1e12]))
    assert found == {0: BLOCK - 1}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from(["known", "waits", "may be none"]),
                          st.sampled_from([-1.0, 0.0, 1.0, None])), min_size=64, max_size=64), st.sampled_from([GATES[1], GATES[2]]))
def test_with_unknown_contributions_each_level_lies_under_that_of_every_completion(stream, gate):
    """An alarm that was raised while labels wait stays true, whatever they say, also that they are no contribution at all."""
    fails = prepare(gate).design.fail
    single = Detectors(fails, repeats=False, filled=True)
    single.grow(1)
    rows = [(x, x, 1.0, kind == "may be none") if kind != "waits" else (-1.0, 1.0, 1.0, False) for x, kind, _ in stream]
    single.add(np.zeros(64, np.int64), np.array(rows, float), np.array([1e300]))
    level = []
    for process in fails:
        m = np.zeros(len(process.bets.fractions))
        for x, kind, later in stream:
            value = later if kind == "waits" and later is not None else x
            if not (kind == "may be none" and later is None):
                m = process.factors(np.array([value]), np.ones(1))[0] * (m + 1.0)
        level.append(m)
    assert (single.levels[0] <= np.concatenate(level) * (1.0 + 1e-9)).all()
