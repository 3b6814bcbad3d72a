"""Planning: the forecast is where real streams end, its assumptions are said, and what nobody can know is not guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import planning
from analysis.gates import Test, prepare
from analysis.online.evidence import OnlineEvidence
from analysis.online.units import Exposures, Measurements
from analysis.plan import Plan
from analysis.simulate import World, ages
from analysis.types import Gate, InputError, Metric, Status

FLIP = Metric(kind="flip", policy="over_18")
HARM = Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
LOSS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
SLOW = Metric(kind="latency", lane="challenger", quantile=0.99)
LEVELS = {"alpha": 0.05, "fail_level": 0.005}


def test_of(metric: Metric, word: Any, limit: float, **more: Any) -> Test:
    return prepare(Gate(name="a gate", metric=metric, word=word, limit=limit, **more))


test_of.__test__ = False  # type: ignore[attr-defined]


def stopping_times(test: Test, chances: dict[int, float], *, n: int, streams: int = 200) -> np.ndarray[Any, Any]:
    """When each of many seeded streams passes, looked at after every contribution; n where it has not by then. Cells -> chance."""
    rng = np.random.default_rng(20260501)
    cells = rng.choice(list(chances), p=list(chances.values()), size=(streams, n))
    counts = np.zeros((streams, n, test.support.n_values))
    for cell in chances:
        counts[:, :, cell] = np.cumsum(cells == cell, axis=1)
    passed = test.log_e_pass(counts * test.support.one) >= -np.log(LEVELS["alpha"])
    return np.where(passed.any(axis=1), passed.argmax(axis=1) + 1, n)


@pytest.mark.parametrize(
    ("test", "chances"),
    [
        (test_of(FLIP, "below", 0.1), {0: 0.95, 1: 0.05}),
        (test_of(FLIP, "above", 0.5, expect=0.7), {0: 0.3, 1: 0.7}),
        (test_of(HARM, "worse_by_at_most", 0.05, discordance=0.1), {0: 0.05, 1: 0.9, 2: 0.05}),
        (test_of(HARM, "better_by_more_than", 0.0, expect=0.05, discordance=0.15), {0: 0.05, 1: 0.85, 2: 0.10}),
    ],
    ids=["a rate below", "a rate above", "no worse", "better"],
)
def test_real_streams_end_where_the_forecast_says(test, chances):
    """A plan that is wrong by half costs a fortnight: the median of 200 streams lies within a third of it."""
    found = planning.forecast(test, planning.assumed(test), **LEVELS)
    assert found.ends == "pass" and found.units is not None
    times = stopping_times(test, chances, n=4 * found.units)
    assert 0.67 * found.units < np.median(times) < 1.33 * found.units
    assert (times < 3 * found.units).mean() > 0.9


@given(st.floats(0.001, 0.4), st.floats(0.05, 0.9))
def test_no_forecast_beats_the_information_limit(limit, part):
    """An e-process cannot decide faster than the likelihood ratio; a plan that says so has an error."""
    test = test_of(FLIP, "below", limit, expect=part * limit)
    found = planning.forecast(test, planning.assumed(test), **LEVELS)
    least = planning.information_limit(part * limit, limit, alpha=0.05)
    assert found.ends == "pass" and found.units is not None
    assert least <= found.units <= 2.0 * least + 2.0


@given(st.floats(0.01, 0.3), st.floats(0.1, 0.8), st.floats(0.001, 0.2))
def test_a_smaller_alpha_takes_longer(limit, part, alpha):
    """More certainty is never free."""
    test = test_of(FLIP, "below", limit, expect=part * limit)
    times = [planning.forecast(test, planning.assumed(test), alpha=level, fail_level=0.001).units or 0 for level in (alpha, alpha / 10.0)]
    assert times[0] < times[1]


def test_an_improvement_that_nobody_names_is_not_guessed():
    """`better_by_more_than: 0` may take a day or for ever; only the team knows what it hopes for."""
    test = test_of(HARM, "better_by_more_than", 0.0)
    found = planning.forecast(test, planning.assumed(test), **LEVELS)
    assert (found.ends, found.units) == ("unknown", None)
    assert "give it, or --pairs" in found.assumed.words


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (test_of(FLIP, "below", 0.1), "the rate is 0.05 (half of the limit)"),
        (test_of(FLIP, "above", 0.5), "the rate is 0.75 (halfway to 1)"),
        (test_of(FLIP, "below", 0.1, expect=0.02), "the rate is 0.02 (`expect`)"),
        (test_of(HARM, "worse_by_at_most", 0.05), "0.05 of the decisions differ (a guess"),
        (test_of(LOSS, "worse_by_at_most", 0.5), "its standard deviation 6 (a guess, 5% of the range"),
        (test_of(LOSS, "worse_by_at_most", 0.5, discordance=4.0), "its standard deviation 2 (`discordance`)"),
        (test_of(SLOW, "below", 250.0), "0.005 of the answers are over the limit (half of what may)"),
    ],
)
def test_every_assumption_is_said(test, said):
    """A number of days without its assumption is a promise that nobody made."""
    what = planning.assumed(test)
    assert said in what.words
    assert what.shares is not None
    assert what.shares.sum() == pytest.approx(1.0)
    assert planning.forecast(test, what, **LEVELS).ends == "pass"


def test_what_a_table_shows_is_measured_once_a_unit():
    """Shares are those of first events of units, as the gate counts them, and add up to one."""
    table = ages(np.random.default_rng(5), 4_000, World(events_a_unit=4.0))
    test = test_of(FLIP, "below", 0.5)
    what = planning.measured(test, table)
    first = np.unique(table["unit_id"], return_index=True)[1]
    rate = np.mean(table["over_18.incumbent"][first] != table["over_18.challenger"][first])
    assert what.shares is not None and what.n_units == len(first)
    assert what.shares.tolist() == pytest.approx([1.0 - rate, rate])


def test_a_gate_whose_rate_lies_at_its_limit_never_decides():
    """At the limit no evidence grows, in either direction; waiting longer is no plan."""
    test = test_of(FLIP, "below", 0.25)
    found = planning.forecast(test, planning.Assumed(shares=np.array([0.75, 0.25]), words="at the limit"), **LEVELS)
    assert (found.ends, found.units) == ("never", None)


def test_a_gate_whose_rate_lies_beyond_its_limit_would_fail():
    """Who plans on a first week must see that the model would not make it."""
    test = test_of(FLIP, "below", 0.1)
    found = planning.forecast(test, planning.Assumed(shares=np.array([0.8, 0.2]), words="twice the limit"), **LEVELS)
    assert found.ends == "fail" and found.units is not None and found.units < 200


def test_a_least_number_of_units_is_waited_for():
    """`min_units` holds a pass back, whatever the evidence."""
    test = test_of(FLIP, "below", 0.5, expect=0.01, min_units=5_000)
    assert planning.forecast(test, planning.assumed(test), **LEVELS).units == 5_000


def test_a_small_table_says_nothing():
    """Shares of a dozen people are noise."""
    table = ages(np.random.default_rng(5), 20)
    what = planning.measured(test_of(FLIP, "below", 0.5), table)
    assert what.shares is None
    assert "too few" in what.words


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_real_arms_end_about_where_the_forecast_says(share):
    """Half of all canaries sooner, half later: of two dozen at least a few have ended at half of it, nearly all at three times."""
    metric = Metric(kind="online", measure="appeals", type="binary", window_us=1, better="lower", bound=1.0)
    gate = Gate(name="appeals", metric=metric, word="worse_by_at_most", limit=0.06)
    plan = Plan((gate,), alpha=0.05, n_stages=4, listed={})
    n = planning.forecast_arms(gate, share, alpha=0.05, fail_level=plan.fail_level).units
    assert n is not None
    passed = {1: 0, 3: 0}
    for seed in range(24):
        rng = np.random.default_rng(seed)
        for times in passed:
            units, at = np.arange(1, times * n + 1, dtype=np.uint64), np.arange(times * n)
            arm, hurt = (rng.random(times * n) < share).astype(np.int8), rng.random(times * n) < 0.5
            evidence = OnlineEvidence(plan, {0: share})
            evidence.fold(
                Exposures(unit=units, at=at, arm=arm, period=0 * arm),
                Measurements(measure=np.zeros(hurt.sum(), int), unit=units[hurt], at=at[hurt], value=np.ones(hurt.sum())),
                np.array([times * n]),
            )
            passed[times] += evidence.results()[0].status is Status.PASS
    assert 6 <= passed[1] <= 20 and passed[3] >= 22, passed


def test_the_split_of_arms_is_forecast_from_its_own_evidence():
    """A challenger that gets what it should passes; one that is expected beyond any share is not guessed."""
    gate = Gate(name="split", metric=Metric(kind="sample_ratio"), word="within", limit=0.02)
    found = planning.forecast_arms(gate, 0.5, **LEVELS)
    assert found.ends == "pass" and found.units is not None and 2_000 < found.units < 20_000
    assert planning.forecast_arms(gate, 0.01, **LEVELS).units < found.units  # a rare arm is told from 3 % soon


@pytest.mark.parametrize(("p", "limit", "alpha"), [(0.2, 0.1, 0.05), (0.05, 0.1, 0.0), (-0.1, 0.1, 0.05), (0.1, 1.0, 0.05)])
def test_the_information_limit_refuses_what_is_no_rate(p, limit, alpha):
    """A rate over its limit has no time to pass."""
    with pytest.raises(InputError):
        planning.information_limit(p, limit, alpha=alpha)
