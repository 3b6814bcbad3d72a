"""Fixed-sample companions: against statsmodels, scipy and the definitions, and only ever descriptive."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
import statsmodels.api as sm

from analysis.fixed import companions
from analysis.simulate import World, ages
from analysis.types import Gate, InputError, Metric, PairTable

HARM = Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
GATE = Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=0.1)


def table(n: int = 2_000, **world: float) -> PairTable:
    return ages(np.random.default_rng(5), n, World(**world))


def negatives(rows: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """(incumbent minus challenger, unit) of labelled minors."""
    mine = rows["over_18.truth"] == 0
    return (rows["over_18.incumbent"][mine] == 1) * 1.0 - (rows["over_18.challenger"][mine] == 1), rows["unit_id"][mine]


@pytest.mark.parametrize("events_a_unit", [1.0, 5.0])
def test_the_interval_is_that_of_a_regression_clustered_by_unit(events_a_unit):
    """The same standard error as statsmodels' cluster-robust one on a constant; the correction for n/(n-1) is theirs alone."""
    rows = table(events_a_unit=events_a_unit)
    values, units = negatives(rows)
    found = companions(GATE, rows)
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": np.unique(units, return_inverse=True)[1]},
                                                   use_t=True)
    low, high = fit.conf_int()[0]
    assert (found.n_events, found.n_units) == (len(values), len(np.unique(units)))
    assert found.estimate == pytest.approx(fit.params[0])
    assert (found.interval.low, found.interval.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_the_design_effect_is_what_copies_cost():
    """Each event five times, same unit: five times the variance of five times as many independent events, to the correction."""
    once = table(events_a_unit=0.001)
    alone = PairTable({**once.columns, "unit_id": np.arange(len(once)).astype(np.uint64)}, once.words)
    five = alone.take(np.repeat(np.arange(len(alone)), 5))
    assert companions(GATE, alone).design_effect == pytest.approx(1.0)
    assert companions(GATE, five).design_effect == pytest.approx(5.0, rel=0.01)
    assert companions(GATE, five).interval.low == pytest.approx(companions(GATE, alone).interval.low, abs=1e-6)


def test_mcnemar_is_on_the_first_events_of_units():
    """Exact: the binomial tail, doubled; mid-p: less half the chance of what was seen, on each side."""
    rows = table()
    found = companions(GATE, rows)
    values, units = negatives(rows)
    first = [values[np.argmax(units == unit)] for unit in dict.fromkeys(units.tolist())]
    gained, lost = sum(v > 0 for v in first), sum(v < 0 for v in first)
    assert (found.gained, found.lost) == (gained, lost) and gained > lost > 0
    n = gained + lost
    tail = sum(comb(n, k) for k in range(lost + 1)) / 2**n
    assert found.mcnemar_exact == pytest.approx(2 * tail)
    assert found.mcnemar_mid_p == pytest.approx(2 * tail - comb(n, lost) / 2**n)


@pytest.mark.parametrize(("word", "limit"), [("worse_by_at_most", 0.1), ("better_by_more_than", 0.0), ("within", 0.2), ("below", 0.4),
                                             ("above", 0.1)])
def test_the_p_value_and_the_interval_agree(word, limit):
    """At 90 % the interval is inside the limit exactly when the one-sided p-value is under 0.05."""
    for n in (60, 300, 3_000):
        found = companions(replace(GATE, word=word, limit=limit), table(n), level=0.9)
        low, high = found.interval.low, found.interval.high
        inside = {"worse_by_at_most": low > -limit, "better_by_more_than": low > limit, "within": -limit < low and high < limit,
                  "below": high < limit, "above": low > limit}[word]
        assert (found.p_value < 0.05) == inside


def test_a_latency_is_the_share_over_the_limit():
    """Missing is over any limit, unknown is left out."""
    rows = table(missing=0.1)
    gate = Gate(name="fast", metric=Metric(kind="latency", quantile=0.9), word="below", limit=80.0)
    found = companions(gate, rows)
    slow = (rows["missing.challenger"] >= 0) | (np.nan_to_num(rows["latency_ms.challenger"]) > 80.0)
    assert found.estimate == pytest.approx(slow.mean()) and found.mcnemar_exact is None and found.p_value > 0.5


def test_nothing_and_one_unit_have_no_interval():
    """No number in place of an error."""
    empty = companions(GATE, table(0))
    assert (empty.estimate, empty.interval, empty.p_value, empty.n_events) == (None, None, None, 0)
    one = table(400)
    one = companions(GATE, PairTable({**one.columns, "unit_id": np.zeros(400, np.uint64)}, one.words))
    assert one.estimate is not None and (one.interval, one.design_effect, one.n_units) == (None, None, 1)


def test_what_cannot_be_computed_is_refused():
    """NaN does not become an interval."""
    rows = table(200)
    broken = PairTable({**rows.columns, "over_18.challenger": np.full(200, -1)}, rows.words)
    for gate, given, level in ((GATE, broken, 0.95), (GATE, rows, 1.0), (replace(GATE, metric=replace(HARM, policy="x")), rows, 0.95)):
        with pytest.raises(InputError):
            companions(gate, given, level=level)


def test_weights_make_it_a_ratio_of_weighted_sums():
    """The estimate is that of the gate; the interval treats it as a ratio."""
    rows = table()
    known = rows["over_18.truth"] >= 0
    rows = PairTable({**rows.columns, "propensity": np.where(known, np.where(np.arange(len(rows)) % 2, 0.5, 1.0), np.nan)}, rows.words)
    gate = Gate(name="harm", metric=replace(HARM, least=0.5), word="below", limit=0.4)
    found = companions(gate, rows)
    mine = np.flatnonzero(rows["over_18.truth"] == 0)
    weights = 1 / rows["propensity"][mine]
    assert found.estimate == pytest.approx(np.average(rows["over_18.challenger"][mine], weights=weights))
    assert found.interval.low < found.estimate < found.interval.high
