"""Pairs of two arms: exact while events are rare."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given
from hypothesis import strategies as st

from analysis.online.judge import Series, prepare
from analysis.online.pairs import Blocks, pair_counts, pair_support
from analysis.online.sums import N_FIRST, N_RARE
from analysis.types import Gate, InputError, Metric

HARM = Metric(kind="online", measure="harm", type="binary", window_us=1, better="lower")


def margin(limit: float, **more) -> Gate:
    return Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=limit, **more)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60), st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.6, 0.8]),
       st.lists(st.integers(0, 60), max_size=3))
def test_pairs_are_those_of_the_order_however_it_is_cut(units, share, cuts):
    """The i-th blocks of both arms, one look or many."""
    blocks, found = Blocks(share), []
    value, arm = np.array([v for v, _ in units], float), np.array([a for _, a in units], int)
    for part, of in zip(np.split(value, sorted(cuts)), np.split(arm, sorted(cuts)), strict=True):
        found += blocks.add(part, of).tolist()
    assert found == pytest.approx(slow.pairs(units, blocks.sizes))


@pytest.mark.parametrize(("share", "sizes"), [(0.5, (1, 1)), (0.1, (9, 1)), (0.01, (99, 1)), (0.8, (1, 4)), (0.35, (2, 1))])
def test_a_block_is_as_large_as_the_arms_are_apart(share, sizes):
    """One unit of the smaller arm beside as many of the other as come in the meantime: nothing is thrown away."""
    assert Blocks(share).sizes == sizes


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, np.nan])
def test_a_share_that_is_none_is_refused(share):
    """With one arm there is no pair."""
    with pytest.raises(InputError, match="share"):
        Blocks(share)


def test_a_difference_outside_the_bound_is_refused():
    """A bound that does not hold is no bound."""
    with pytest.raises(InputError, match="outside"):
        pair_counts(np.array([0.5, 1.5]), pair_support(1.0))
    with pytest.raises(InputError, match="outside"):
        pair_counts(np.array([np.nan]), pair_support(1.0))


def test_a_small_margin_on_rare_events_is_decided_as_early_as_published():
    """Rates 0.02 in both arms, margin 0.02, the spread of a pair given: 752 pairs (the limit is 647; universal inference takes 2,263)."""
    process = prepare(margin(0.02, discordance=0.0392)).pairs.pass_[0]
    rng, runs, horizon = np.random.default_rng(3), 600, 4_000
    values = np.array([-1.0, 0.0, 1.0])

    def stops(worse: float):
        drawn = (rng.random((runs, horizon)) < 0.02).astype(int) - (rng.random((runs, horizon)) < 0.02 + worse)
        counts = np.cumsum(drawn[..., None] == values.astype(int), axis=1)[:, 49::10]
        enough = process.log_e(counts.astype(float), values) >= log(20)
        return np.where(enough.any(axis=1), 50 + 10 * enough.argmax(axis=1), np.inf)

    assert 600 < np.minimum(stops(0.0), horizon).mean() < 830
    assert np.isfinite(stops(0.02)).sum() <= 46  # 0.999 quantile of Binomial(600, 0.05)


@pytest.mark.parametrize("side", ["pass", "fail"])
def test_false_claims_stay_below_alpha_over_the_change_from_pairs_to_lifts(side):
    """Rates of 4 % and 5 %, margin 1 point, 120 looks in 60,000 pairs: pairs decide until each arm has a hundred events, then lifts.

    Each of the two keeps alpha by itself; that both together do is not proved, so it is measured, where the change comes in the middle.
    """
    test, rng, runs = prepare(margin(0.01)), np.random.default_rng(5), 1_000
    steps = np.diff(np.unique(np.geomspace(50, 60_000, 120).astype(int)), prepend=0)
    drawn = rng.multinomial(steps, [0.96 * 0.95, 0.96 * 0.05, 0.04 * 0.95, 0.04 * 0.05], (runs, len(steps)))
    none, new, old, both = np.moveaxis(drawn.cumsum(axis=1), -1, 0)
    n, rates = steps.cumsum(), np.stack([old + both, new + both]) / steps.cumsum()
    counts, values = np.stack([new, none + both, old], axis=-1).astype(float), np.array([-1.0, 0.0, 1.0])
    looks = rates[0] - rates[1], np.sqrt((rates * (1.0 - rates)).sum(axis=0) / n + 1e-30), np.broadcast_to(2 * n, new.shape)
    by_pairs = test.pairs.log_e_pass(counts, values) if side == "pass" else test.pairs.log_e_fail(counts, values)
    by_lifts = test.lifts.log_e_pass(*looks) if side == "pass" else test.lifts.log_e_fail(*looks)
    enough = (n >= N_FIRST) & ((rates * n).min(axis=0) >= N_RARE)
    assert 0.3 < enough.mean() < 0.7
    assert (np.where(enough, by_lifts, by_pairs) >= log(20)).any(axis=1).sum() <= 73  # 0.999 quantile of Binomial(1000, 0.05)


def test_pairs_give_way_to_lifts_once_there_are_events_enough():
    """A hundred in each arm, and a thousand units; never back."""
    test, rng, methods = prepare(margin(0.01)), np.random.default_rng(6), []
    series = Series(test.spec)
    arm = np.tile([0, 1], 300)
    for _ in range(20):
        value = (rng.random(600) < 0.05).astype(float)
        series.add(value, value, value, arm, 0 * arm, {0: 0.5})
        methods.append(test.read(series).method)
    assert methods == sorted(methods, reverse=True) and set(methods) == {"pairs", "lifts"}


def test_no_event_at_all_is_decided_by_pairs():
    """Zero variance gives gbstats no result, and waiting for it never ends. With a bound it is evidence; without one nobody decides."""
    n = 1_200
    arm = np.arange(n) % 2
    zero = np.zeros(n)
    test = prepare(margin(0.02))
    series = Series(test.spec)
    series.add(zero, zero, zero, arm, 0 * arm, {0: 0.5})
    seen = test.read(series)
    assert (seen.method, seen.estimate) == ("pairs", 0.0) and seen.log_e_pass > log(20)
    interval = seen.interval(0.05, 0.05)
    assert -0.02 < interval.low < 0.0 < interval.high < 0.02
    unbounded = Metric(kind="online", measure="minutes", type="mean", window_us=1, better="lower")
    test = prepare(Gate(name="m", metric=unbounded, word="worse_by_at_most", limit=0.02))
    series = Series(test.spec)
    series.add(zero, zero, zero, arm, 0 * arm, {0: 0.5})
    seen = test.read(series)
    assert (seen.log_e_pass, seen.log_e_fail, seen.interval(0.05, 0.05), seen.estimate) == (0.0, 0.0, None, None)


@pytest.mark.parametrize(("word", "limit"), [("worse_by_at_most", 0.05), ("better_by_more_than", 0.01), ("within", 0.08)])
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_status_and_interval_of_pairs_agree(word, limit, share):
    """Dual to the gate like the lifts."""
    test = prepare(Gate(name="g", metric=HARM, word=word, limit=limit))
    rng = np.random.default_rng(8)
    for shift in (-0.04, 0.0, 0.04, 0.1):
        series = Series(test.spec)
        arm = (rng.random(900) < share).astype(int)
        value = (rng.random(900) < np.where(arm, 0.12 - shift, 0.12)).astype(float)
        series.add(value, value, value, arm, 0 * arm, {0: share})
        seen, line = test.read(series), -limit if word == "worse_by_at_most" else limit
        interval = seen.interval(0.05, 0.01)
        assert seen.method == "pairs" and interval.low <= seen.estimate <= interval.high
        inside = interval.low > line if word != "within" else interval.low > -limit and interval.high < limit
        assert (seen.log_e_pass >= log(20)) == inside
        if word != "within":
            assert (seen.log_e_fail >= log(100)) == (interval.high < line)
