"""Quantiles of a difference: against sorting, against slow e-values, at their promised level, whatever the distribution."""

from __future__ import annotations

from math import ceil, log

import numpy as np
import pytest

from analysis.evidence import Evidence
from analysis.gates import prepare
from analysis.plan import Plan
from analysis.planning import assumed, forecast
from analysis.sequential.designs import Question, design
from analysis.simulate import HOUR_US
from analysis.types import Gate, GateResult, InputError, Metric, PairTable, Status

BITS = np.array([0.0, 1.0])


def p(quantile: float, bound: float = 50.0) -> Metric:
    return Metric(kind="difference", output="x", bound=bound, quantile=quantile)


def table(differences: np.ndarray, unit: np.ndarray | None = None) -> PairTable:
    n = len(differences)
    columns = {"event_id": np.arange(n), "unit_id": np.arange(n).astype(np.uint64) if unit is None else unit.astype(np.uint64),
               "arrived": np.arange(1, n + 1).astype(np.int64), "missing.incumbent": np.full(n, -1, np.int32),
               "missing.challenger": np.full(n, -1, np.int32), "x.incumbent": np.zeros(n), "x.challenger": differences}
    return PairTable(columns, {})


def judged(rows: PairTable, metric: Metric, word: str, limit: float, **changes: object) -> GateResult:
    gate = Gate(name="tail", metric=metric, word=word, limit=limit, **changes)
    evidence = Evidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), False)
    evidence.fold(rows, np.array([HOUR_US]))
    (row,) = evidence.results()
    assert not evidence.broken
    return row


def sample(n: int, seed: int = 5) -> np.ndarray:
    """A skewed difference with ties and a heavy tail, clipped into its range."""
    rng = np.random.default_rng(seed)
    return np.clip(np.round(rng.standard_t(2.0, n) * 2.0 + rng.exponential(1.0, n), 1), -50.0, 50.0)


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95])
def test_the_estimate_is_the_quantile_of_the_sorted_differences(quantile):
    """To a step of the histogram, per unit by its first event and per event by all."""
    values, unit = sample(4_000), np.random.default_rng(1).integers(0, 2_000, 4_000)
    row = judged(table(values, unit), p(quantile), "below", 40.0)
    firsts = values[np.sort(np.unique(unit, return_index=True)[1])]
    step = 100.0 / 2_000
    for found, of in ((row.estimate, firsts), (row.estimate_events, values)):
        assert found == pytest.approx(np.sort(of)[ceil(quantile * len(of)) - 1], abs=step)
    assert (row.n_units, row.n_events) == (len(firsts), 4_000)


@pytest.mark.parametrize(("word", "limit"), [
    ("below", 6.0), ("below", 3.0), ("above", 1.0), ("above", 8.0), ("within", 9.0), ("within", 4.0)])
@pytest.mark.parametrize("n", [80, 3_000])
def test_the_e_values_are_those_of_a_rate_over_the_limit(word, limit, n):
    """Counted by hand: how many differences are over the limit (and, within, over minus it)."""
    values, over = sample(n), 0.1
    row = judged(table(values), p(0.9), word, limit)

    def rate(side: str, cut: float) -> tuple[float, float]:
        found = design(Question(kind="rate", low=0.0, high=1.0, word=side, limit=over))
        counts = np.array([(values <= cut).sum(), (values > cut).sum()])
        return float(found.log_e_pass(counts, BITS)), float(found.log_e_fail(counts, BITS))

    if word == "within":
        (pass_over, fail_over), (pass_under, fail_under) = rate("below", limit), rate("above", -limit)
        expected = min(pass_over, pass_under), float(np.logaddexp(fail_over, fail_under)) - log(2.0)
    else:
        expected = rate(word, limit)
    assert (row.log_e_pass, row.log_e_fail) == (pytest.approx(expected[0], abs=1e-9), pytest.approx(expected[1], abs=1e-9))


@pytest.mark.parametrize(("word", "limit"), [
    ("below", 6.0), ("below", 3.0), ("above", 1.0), ("above", 4.0), ("within", 9.0), ("within", 4.0)])
@pytest.mark.parametrize("n", [40, 400, 6_000])
def test_it_passes_exactly_when_its_interval_keeps_the_limit(word, limit, n):
    """The interval holds the quantile of the sample, and agrees with the status."""
    values = sample(n)
    row = judged(table(values), p(0.9), word, limit)
    inside = {"below": row.upper <= limit, "above": row.lower >= limit, "within": -limit <= row.lower and row.upper <= limit}[word]
    assert (row.status is Status.PASS) == inside
    assert row.lower <= row.estimate <= row.upper and row.lower >= -50.0 and row.upper <= 50.0


def test_a_tail_is_seen_that_the_mean_hides():
    """Why one asks: the same mean, but one pair in ten is 20 years off."""
    rng = np.random.default_rng(8)
    good = rng.normal(0.0, 1.0, 3_000)
    bad = np.where(rng.random(3_000) < 0.1, 20.0, good - 20.0 / 9.0)
    mean = Metric(kind="difference", output="x", bound=50.0)
    assert judged(table(bad), mean, "within", 2.0).status is Status.PASS
    assert judged(table(good), p(0.95), "below", 5.0).status is Status.PASS
    assert judged(table(bad), p(0.95), "below", 5.0).status is Status.FAIL


@pytest.mark.parametrize("word", ["below", "above"])
def test_false_passes_stay_below_alpha_at_every_look(word):
    """At the limit: the 0.8 quantile is exactly the limit, looks at every pair, 300 seeded runs."""
    test = prepare(Gate(name="tail", metric=p(0.8), word=word, limit=1.0))
    rng = np.random.default_rng(20261123)
    over = (rng.random((300, 1_000)) < 0.2).cumsum(axis=1)
    n = np.arange(1, 1_001)
    log_e = test.log_e_pass(np.stack([n - over, over], axis=-1))
    assert (log_e >= log(20)).any(axis=1).sum() <= 27  # 0.999 quantile of Binomial(300, 0.05)


def test_the_state_survives_bytes_and_cuts_into_folds():
    """Like every gate: the same rows in other folds, through bytes, give the same row."""
    rows = table(sample(900))
    gate = Gate(name="tail", metric=p(0.9), word="within", limit=6.0)
    plan = Plan((gate,), alpha=0.05, n_stages=1, listed={})
    cut = Evidence(plan, False)
    for start in range(0, 900, 300):
        cut.fold(rows.take(slice(start, start + 300)), np.array([start + 300]))
        cut = Evidence.from_bytes(plan, False, cut.to_bytes())
    whole = judged(rows, gate.metric, "within", 6.0)
    assert cut.results() == (whole,)


def test_what_cannot_be_asked_is_refused():
    """A quantile of a comparison, over a window, by the closed form, or beyond the range."""
    for changes in ({"word": "worse_by_at_most"}, {"unit": "mean", "unit_window_us": 10}, {"method": "beta-binomial"}, {"metric": p(1.0)}):
        gate = {"name": "tail", "metric": p(0.9), "word": "below", "limit": 5.0} | changes
        with pytest.raises(InputError):
            prepare(Gate(**gate))
    narrow = Gate(name="tail", metric=p(0.9, bound=2.0), word="below", limit=1.0)
    evidence = Evidence(Plan((narrow,), alpha=0.05, n_stages=1, listed={}), False)
    evidence.fold(table(np.array([0.5, 7.0])), np.array([HOUR_US]))
    assert "outside" in evidence.broken["tail"]


@pytest.mark.parametrize(("word", "limit"), [("below", 5.0), ("above", -5.0), ("within", 5.0)])
def test_a_plan_says_how_long_it_takes(word, limit):
    """From the config's words alone: half of what may lie on the wrong side does."""
    test = prepare(Gate(name="tail", metric=p(0.9), word=word, limit=limit))
    found = forecast(test, assumed(test), alpha=0.05, fail_level=0.05)
    assert found.ends == "pass" and 4 < found.units < 2_000 and "differences" in found.assumed.words
