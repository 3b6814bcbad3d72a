"""The fold of a canary's two arms: units, windows, looks, results, bytes."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence import Evidence, combine
from analysis.online.evidence import OnlineEvidence
from analysis.online.units import Exposures, Measurements, no_exposures, no_measurements
from analysis.plan import Plan
from analysis.types import Gate, InputError, Metric, Status

WINDOW = 20
SHARES = {0: 0.5, 1: 0.25}
HARM = Metric(kind="online", measure="harm", type="binary", window_us=WINDOW, better="lower")
MINUTES = Metric(kind="online", measure="minutes", type="mean", window_us=WINDOW, better="higher")
CLICKS = Metric(kind="online", measure="clicks", type="count", window_us=2 * WINDOW, better="higher")
SHARE = Metric(kind="online", measure="share", type="ratio", window_us=WINDOW, better="higher")
GATES = (
    Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=0.1),
    Gate(name="minutes", metric=MINUTES, word="better_by_more_than", limit=0.0),
    Gate(name="minutes or none", metric=replace(MINUTES, absent=-1.0), word="within", limit=1.0),
    Gate(name="clicks", metric=CLICKS, word="worse_by_at_most", limit=0.5),
    Gate(name="share", metric=SHARE, word="worse_by_at_most", limit=0.5),
    Gate(name="split", metric=Metric(kind="sample_ratio"), word="within", limit=0.2),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=1, listed={})

exposures_of = st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60), st.integers(0, 1), st.integers(0, 1)), max_size=25)
measured = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 60), st.integers(0, 1), st.integers(0, 3)), max_size=40)


def exposures(rows) -> Exposures:
    unit, at, arm, period = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0, np.int64),) * 4
    return Exposures(unit=unit, at=at, arm=arm, period=period)


def measurements(rows) -> Measurements:
    measure, unit, at, value, of = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0, np.int64),) * 5
    return Measurements(measure=measure, unit=unit, at=at, value=value, of=of)


def folded(seen, told, cuts=(120,), plan=PLAN, shares=SHARES) -> OnlineEvidence:
    """One fold for each cut, with a look at each multiple of 10 in it."""
    evidence, after = OnlineEvidence(plan, shares), 0
    for cut in cuts:
        mine = exposures([row for row in seen if after < row[1] <= cut]), measurements([row for row in told if after < row[2] <= cut])
        evidence.fold(*mine, np.arange(after + 10, cut + 1, 10))
        evidence, after = OnlineEvidence.from_bytes(plan, shares, evidence.to_bytes()), cut
    return evidence


@settings(max_examples=60, deadline=None)
@given(exposures_of, measured, st.sampled_from([60, 80, 120]))
def test_units_and_values_are_those_of_a_plain_loop(seen, told, look):
    """First exposures, windows, units in both arms, and what a unit without a measurement counts as."""
    seen, told = ([row for row in rows if row[at] <= look] for rows, at in ((seen, 1), (told, 2)))
    evidence = OnlineEvidence(PLAN, SHARES)
    evidence.fold(exposures(seen), measurements(told), np.array([look]))
    for (spec, series), k in zip(evidence._series.items(), (0, 1, 1, 2, 3), strict=True):
        mine = [(unit, at, float(value), float(of)) for measure, unit, at, value, of in told if measure == k]
        values, left_out = slow.units_of(seen, mine, type=spec.type, window=spec.window_us, look=look, absent=spec.absent)
        assert series.n_left_out == left_out
        assert {key: part.n for key, part in series.sums.parts.items()} == {key: len(column) for key, column in values.items()}
        for key, column in values.items():
            mean = np.mean(np.array(column, float).reshape(len(column), -1), axis=0)
            assert series.sums.parts[key].mean[: len(mean)] == pytest.approx(mean, abs=1e-12)
    assert evidence.crossed == sum(len({arm for unit, _, arm, _ in seen if unit == u}) == 2 for u in range(10))


@settings(max_examples=25, deadline=None)
@given(exposures_of, measured, st.data())
def test_the_cut_into_folds_and_the_order_inside_move_nothing(seen, told, data):
    """Restarts, shards that deliver in another order, a state that went through bytes after each look: the same rows."""
    once = folded(seen, told)
    again = folded(data.draw(st.permutations(seen)), data.draw(st.permutations(told)), cuts=(10, 30, 40, 60, 120))
    assert (again.crossed, again.left_out, again.strays) == (once.crossed, once.left_out, once.strays)
    for one, other in zip(once.results(), again.results(), strict=True):
        assert (one.name, one.status, one.reason, one.n_units, one.n_events, one.method) == (
            other.name, other.status, other.reason, other.n_units, other.n_events, other.method)
        for name in ("estimate", "lower", "upper", "log_e_pass", "log_e_fail"):
            a, b = getattr(one, name), getattr(other, name)
            assert a is b is None or a == pytest.approx(b, rel=1e-9, abs=1e-9)


def stream(n=6_000, *, harm=(0.02, 0.02), share=0.5, seed=0, hours=40):
    """(exposures, measurements, looks) of single units over some hours, harms within a minute of the exposure."""
    rng = np.random.default_rng(seed)
    at, arm = np.sort(rng.integers(1, hours * 3_600, n)), (rng.random(n) < share).astype(int)
    harmed = np.flatnonzero(rng.random(n) < np.array(harm)[arm])
    found = Measurements(measure=0 * harmed, unit=harmed, at=at[harmed] + rng.integers(0, 60, len(harmed)), value=np.ones(len(harmed)))
    return Exposures(unit=np.arange(n), at=at, arm=arm, period=0 * arm), found, np.arange(1, hours + 2) * 3_600


GATE = Gate(name="harm", metric=replace(HARM, window_us=60), word="worse_by_at_most", limit=0.01)


def judged(*gates, shares=None, more=None, **world) -> OnlineEvidence:
    evidence = OnlineEvidence(Plan(gates or (GATE,), alpha=0.05, n_stages=1, listed={}), shares or {0: 0.5})
    seen, told, looks = stream(**world)
    evidence.fold(*(more(seen, told) if more else (seen, told)), looks)
    return evidence


def test_an_equal_challenger_passes_and_a_worse_one_fails():
    """The row says what was compared, how, and with which numbers; the interval agrees with the status."""
    (good,) = judged(n=20_000).results()
    assert (good.status, good.reason, good.method, good.n_units, good.segment) == (Status.PASS, None, "lifts", 20_000, None)
    assert good.lower > -0.01 and good.lower < good.estimate < good.upper and good.log_e_pass > log(20)
    evidence = judged(n=6_000, harm=(0.02, 0.06))
    (bad,) = evidence.results()
    assert (bad.status, bad.reason, bad.estimate < -0.03, bad.upper < -0.01) == (Status.FAIL, None, True, True)
    assert evidence.failed_at("harm") in stream()[2] and evidence.failed_at("harm") < stream()[2][-1]


SEQUENCE = replace(GATE, method="asymptotic", decide_at=10_000)


def test_an_asymptotic_gate_says_nothing_before_its_burn_in_and_then_the_same_as_the_lifts():
    """No pairs, no lifts: the sequence alone, dual to its interval, from so many units of each arm on."""
    (good,) = judged(SEQUENCE, n=20_000).results()
    assert (good.status, good.reason, good.method, good.n_units) == (Status.PASS, None, "asymptotic", 20_000)
    assert -0.01 < good.lower < good.estimate < good.upper and good.log_e_pass > log(20)
    (bad,) = judged(SEQUENCE, n=9_000, harm=(0.03, 0.07)).results()
    assert (bad.status, bad.upper < -0.01) == (Status.FAIL, True) and bad.log_e_fail > log(20)
    late = replace(SEQUENCE, burn_in=11_000, decide_at=30_000)
    (waits,) = judged(late, n=20_000).results()
    assert (waits.status, waits.reason, waits.lower, waits.log_e_pass) == (Status.UNDECIDED, "insufficient", None, 0.0)
    assert judged(replace(late, burn_in=9_000), n=20_000).results()[0].lower is not None


def test_an_asymptotic_gate_on_rare_events_stays_undecided():
    """A normal is wrong where 50 of 10,000 units of an arm have an event: the default decides there by pairs, exactly."""
    (rare,) = judged(SEQUENCE, n=20_000, harm=(0.005, 0.005)).results()
    assert (rare.status, rare.reason, rare.log_e_pass, rare.log_e_fail) == (Status.UNDECIDED, "insufficient", 0.0, 0.0)
    (pairs,) = judged(GATE, n=20_000, harm=(0.005, 0.005)).results()
    assert (pairs.status, pairs.method) == (Status.PASS, "pairs")


@pytest.mark.parametrize("wrong", [{"decide_at": None}, {"burn_in": 1}, {"method": "beta-binomial"}])
def test_a_method_that_two_arms_do_not_take_is_a_compute_error(wrong):
    """Nothing is tuned for an unknown number of units, and a split is tested exactly."""
    split = replace(SEQUENCE, name="split", metric=Metric(kind="sample_ratio"), word="within")
    evidence = judged(replace(SEQUENCE, **wrong), split, n=100)
    assert [row.reason for row in evidence.results()] == ["compute_error", "compute_error"] and "InputError" in evidence.broken["harm"]


def test_a_metric_of_which_more_is_better_has_the_other_sign():
    """Positive = challenger better, whatever is measured."""
    gate = replace(GATE, metric=replace(GATE.metric, better="higher"), word="better_by_more_than", limit=0.01)
    (row,) = judged(gate, n=20_000, harm=(0.02, 0.06)).results()
    assert row.status is Status.PASS and row.estimate == pytest.approx(0.04, abs=0.01)


def test_a_fail_is_latched():
    """A later run of luck does not undo it."""
    plan = Plan((GATE,), alpha=0.05, n_stages=1, listed={})
    evidence = OnlineEvidence(plan, {0: 0.5})
    evidence.fold(*stream(n=4_000, harm=(0.02, 0.08)))
    seen, told, looks = stream(n=40_000, harm=(0.02, 0.0), seed=1)
    shift = int(evidence.last_look)
    evidence = OnlineEvidence.from_bytes(plan, {0: 0.5}, evidence.to_bytes())
    evidence.fold(replace(seen, unit=seen.unit + np.uint64(4_000), at=seen.at + shift),
                  replace(told, unit=told.unit + np.uint64(4_000), at=told.at + shift), looks + shift)
    (row,) = evidence.results()
    assert row.status is Status.FAIL and row.estimate > 0.0 and row.log_e_fail < 0.0


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_and_one_unit_are_undecided(n):
    """Missing data is never a pass."""
    (row,) = judged(n=n).results()
    assert (row.status, row.reason, row.n_units) == (Status.UNDECIDED, "insufficient", n)
    untouched = OnlineEvidence(PLAN, SHARES)
    assert {(row.status, row.reason, row.n_units) for row in untouched.results()} == {(Status.UNDECIDED, "insufficient", 0)}


def test_without_a_single_measurement_nothing_passes():
    """A source that is dead looks like one without harms: zero differences in thousands of pairs, and no evidence of anything."""
    (row,) = judged(n=6_000, harm=(0.0, 0.0)).results()
    assert row.log_e_pass > log(20) and (row.status, row.reason) == (Status.UNDECIDED, "insufficient")
    (row,) = judged(n=6_000, harm=(0.0005, 0.0005)).results()
    assert row.status is Status.PASS and row.n_events > 0


def test_a_wrong_split_makes_the_arms_incomparable_and_says_so():
    """46 % where half was configured: undecided, neither pass nor fail, also for a harm that would have failed."""
    split = Gate(name="split", metric=Metric(kind="sample_ratio"), word="within", limit=0.1)
    evidence = judged(GATE, split, n=30_000, share=0.46, harm=(0.02, 0.02))
    assert {(row.status, row.reason) for row in evidence.results()} == {(Status.UNDECIDED, "sample_ratio")}
    assert evidence.results()[0].log_e_pass > log(20) and evidence.split_fired_at in stream()[2]
    assert OnlineEvidence.from_bytes(evidence.plan, {0: 0.5}, evidence.to_bytes()).split_fired_at == evidence.split_fired_at
    right = judged(GATE, split, n=30_000, share=0.46, shares={0: 0.46})
    assert [row.status for row in right.results()] == [Status.PASS, Status.PASS] and right.results()[1].method == "split"
    far = judged(GATE, split, n=30_000, share=0.7)
    row = far.results()[1]
    assert row.status is Status.FAIL and row.estimate == pytest.approx(0.2, abs=0.01) and row.lower > 0.1


def test_units_that_a_failing_challenger_loses_to_the_incumbent_are_noticed():
    """They would leave the challenger's arm, with the harm; the split of first exposures is right, that of the units kept is not."""
    def lost(seen, told):
        mine = np.flatnonzero(seen.arm == 1)[::4]
        again = {"unit": np.append(seen.unit, seen.unit[mine]), "at": np.append(seen.at, seen.at[mine] + 5),
                 "arm": np.append(seen.arm, 0 * mine), "period": np.append(seen.period, 0 * mine)}
        return Exposures(**again), told

    evidence = judged(n=20_000, more=lost)
    (row,) = evidence.results()
    n = int(np.ceil((stream(n=20_000)[0].arm == 1).sum() / 4))
    assert (evidence.crossed, evidence.left_out, row.reason) == (n, {"harm": n}, "sample_ratio")


def test_units_that_move_with_a_new_period_are_left_out_and_raise_no_alarm():
    """More percent moves units of the incumbent: they are in both arms, as planned."""
    rng = np.random.default_rng(3)
    unit = rng.permutation(20_000)
    u = rng.random(20_000)
    first = {"unit": unit, "at": np.sort(rng.integers(1, 36_000, 20_000)), "arm": (u < 0.25).astype(int), "period": 0 * unit}
    moved = rng.random(20_000) < 0.1
    again = {"unit": unit[moved], "at": first["at"][moved] + 30, "arm": (u < 0.5).astype(int)[moved], "period": 0 * unit[moved] + 1}
    evidence = OnlineEvidence(Plan((GATE,), alpha=0.05, n_stages=1, listed={}), {0: 0.25, 1: 0.5})
    evidence.fold(Exposures(**{k: np.append(first[k], again[k]) for k in first}), no_measurements(), np.arange(1, 12) * 3_600)
    n = int((moved & (u >= 0.25) & (u < 0.5)).sum())
    assert (evidence.crossed, evidence.left_out, evidence.split_fired_at) == (n, {"harm": n}, None)


def test_a_covariate_from_before_the_exposure_shortens_the_interval():
    """CUPED through the fold: the same units, a third of the variance."""
    rng, (seen, _, looks) = np.random.default_rng(7), stream(n=6_000)
    before = rng.normal(10.0, 2.0, 6_000)
    told = Measurements(measure=0 * seen.arm, unit=seen.unit, at=seen.at, value=before + rng.normal(0.0, 1.0, 6_000))
    widths = []
    for covariate in (None, "last month"):
        gate = replace(GATE, metric=replace(MINUTES, window_us=60, covariate=covariate), limit=0.5)
        evidence = OnlineEvidence(Plan((gate,), alpha=0.05, n_stages=1, listed={}), {0: 0.5})
        evidence.fold(replace(seen, covariates={"last month": before}), told, looks)
        (row,) = evidence.results()
        widths.append(row.upper - row.lower)
        assert row.method == ("lifts" if covariate is None else "lifts, adjusted")
    assert widths[1] < 0.6 * widths[0]
    with pytest.raises(InputError, match="last month"):
        evidence.fold(replace(seen, at=seen.at + int(looks[-1])), no_measurements(), looks + int(looks[-1]))


def test_closed_testing_shares_alpha_with_the_gates_of_pairs_and_labels():
    """Two equal gates of which one is bad: K = 2 of 3 members here, so it fails later than alone, and reports cost nothing."""
    flip = Gate(name="flips", metric=Metric(kind="flip", policy="p"), word="below", limit=0.1)
    good = replace(GATE, name="minutes", metric=replace(MINUTES, window_us=60, absent=0.0, bound=10.0), limit=1.0)
    alone, shared = judged(n=6_000, harm=(0.02, 0.07)), judged(flip, GATE, good, n=6_000, harm=(0.02, 0.07))
    assert shared.plan.n_members("online") == 2 and [row.name for row in shared.results()] == ["harm", "minutes"]
    assert alone.failed_at("harm") <= shared.failed_at("harm")
    reported = judged(replace(GATE, on_fail="report"), n=6_000, harm=(0.02, 0.07))
    assert reported.results()[0].status is Status.FAIL and reported.plan.n_members() == 0


def test_rows_of_the_arms_stand_in_the_order_of_the_config():
    """One verdict: the gates of pairs, of labels and of arms together; without its evidence a gate has no row, and counts as undecided."""
    flip = Gate(name="flips", metric=Metric(kind="flip", policy="p"), word="below", limit=0.1)
    evidence = judged(GATE, flip)
    both = Evidence(evidence.plan, False), Evidence(evidence.plan, True)
    assert [row.name for row in combine(evidence.plan, *both, evidence.results())] == ["harm", "flips"]
    assert [row.name for row in combine(evidence.plan, *both)] == ["flips"]


def test_twenty_gates_at_their_limits_seldom_fail():
    """The fail processes of the arms are members of a closed test like any other."""
    gates = tuple(replace(GATE, name=str(k), limit=0.01 + 1e-9 * k) for k in range(20))
    failed = sum(any(row.status is Status.FAIL for row in judged(*gates, n=3_000, hours=12, harm=(0.05, 0.06), seed=seed).results())
                 for seed in range(12))
    assert failed <= 3


def test_a_value_beyond_its_bound_breaks_its_gate_and_no_other():
    """A bound that does not hold makes the pairs wrong: compute_error, and everything else goes on."""
    clicks = replace(GATES[3], metric=replace(CLICKS, bound=2.0))
    evidence = OnlineEvidence(Plan((clicks, GATES[0]), alpha=0.05, n_stages=1, listed={}), SHARES)
    evidence.fold(exposures([(1, 1, 0, 0), (2, 1, 1, 0)]), measurements([(0, 1, 5, 3, 0), (1, 2, 5, 1, 0)]), np.array([100]))
    row, harm = evidence.results()
    assert (row.status, row.reason, harm.reason, harm.n_units) == (Status.UNDECIDED, "compute_error", "insufficient", 2)
    assert "outside [0, 2.0]" in evidence.broken["clicks"]
    assert "outside" in OnlineEvidence.from_bytes(evidence.plan, SHARES, evidence.to_bytes()).broken["clicks"]


def test_a_denominator_below_zero_breaks_its_gate_when_its_unit_counts_and_no_other():
    """One bad record of production must not stop the fold of everything else, and no later record hides it."""
    evidence = OnlineEvidence(PLAN, SHARES)
    told = measurements([(3, 1, 5, 1, -2), (3, 1, 6, 1, 5), (0, 1, 5, 1, 0)])
    evidence.fold(exposures([(1, 1, 0, 0), (2, 3, 1, 0)]), told, np.array([10]))
    assert evidence.broken == {}
    evidence.fold(no_exposures(), no_measurements(), np.array([20, 30]))
    assert list(evidence.broken) == ["share"] and "below 0" in evidence.broken["share"]
    assert {row.name for row in evidence.results() if row.reason == "compute_error"} == {"share"}


@pytest.mark.parametrize("gate", [
    replace(GATE, each=(("region",),)), replace(GATE, word="below"), replace(GATE, metric=replace(HARM, better=None)),
    replace(GATE, metric=replace(HARM, window_us=0)), replace(GATE, metric=replace(HARM, measure=None)),
    replace(GATE, metric=replace(HARM, absent=0.0)), replace(GATE, metric=replace(SHARE, bound=1.0)), replace(GATE, limit=1.5),
    replace(GATE, metric=replace(MINUTES, bound=-1.0)), replace(GATES[5], word="below"), replace(GATES[5], limit=1.0),
])
def test_a_gate_that_cannot_be_computed_is_undecided_and_says_why(gate):
    """And is a member all the same: what it might have cost the others is fixed by the config."""
    evidence = judged(gate, n=100, more=lambda seen, told: (seen, no_measurements()))
    (row,) = evidence.results()
    assert (row.status, row.reason) == (Status.UNDECIDED, "compute_error") and "InputError" in evidence.broken[gate.name]


@pytest.mark.parametrize("rows", [
    ([(1, 5, 0, 0)], [], [0]), ([(1, 11, 0, 0)], [], [10]), ([], [(0, 1, 5, 1, 0)], []), ([(1, 5, 0, 9)], [], [10]),
    ([], [(4, 1, 5, 1, 0)], [10]), ([], [(-1, 1, 5, 1, 0)], [10]), ([], [(0, 1, 5, 2, 0)], [10]), ([], [(2, 1, 5, -1, 0)], [10]),
    ([], [], [10, 10]), ([], [], [20, 10]),
])
def test_rows_out_of_order_or_type_are_refused_and_nothing_is_folded(rows):
    """A row that comes after its look was read without it would make the looks wrong, and a replay another one."""
    seen, told, looks = rows
    evidence = OnlineEvidence(PLAN, SHARES)
    evidence.fold(no_exposures(), no_measurements(), np.array([2]))
    before = evidence.to_bytes()
    with pytest.raises(InputError):
        evidence.fold(exposures(seen), measurements(told), np.array(looks, int))
    assert evidence.to_bytes() == before
    for late in ((exposures([(1, 2, 0, 0)]), no_measurements()), (no_exposures(), measurements([(0, 1, 2, 1, 0)]))):
        with pytest.raises(InputError, match="not later than the look"):
            evidence.fold(*late, np.array([10]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_none_are_refused(bad):
    """One NaN in a sum is NaN for ever."""
    one = {"unit": np.array([1]), "at": np.array([1])}
    with pytest.raises(InputError, match="finite"):
        Measurements(measure=np.array([0]), value=np.array([bad]), **one)
    with pytest.raises(InputError, match="finite"):
        Measurements(measure=np.array([0]), value=np.array([1.0]), of=np.array([bad]), **one)
    with pytest.raises(InputError, match="finite"):
        Exposures(arm=np.array([0]), period=np.array([0]), covariates={"x": np.array([bad])}, **one)


def test_columns_that_do_not_fit_are_refused():
    """An arm of 2, a period of a half, columns of other lengths."""
    good = {"unit": np.array([1]), "at": np.array([1]), "arm": np.array([0]), "period": np.array([0])}
    for name, wrong in (("arm", [2]), ("period", [0.5]), ("at", [1, 2]), ("unit", [-1]), ("arm", [300]), ("covariates", {"x": np.ones(2)})):
        with pytest.raises(InputError):
            Exposures(**{**good, name: wrong if isinstance(wrong, dict) else np.array(wrong)})
    with pytest.raises(InputError, match="share"):
        OnlineEvidence(PLAN, {0: 1.0})


def test_bytes_of_another_plan_or_split_are_refused():
    """Changed gates, designs or shares on old sums are no e-process."""
    evidence = judged()
    data = evidence.to_bytes()
    for other in (replace(evidence.plan, alpha=0.01), Plan((replace(GATE, expect=0.005),), alpha=0.05, n_stages=1, listed={})):
        with pytest.raises(InputError, match="another plan"):
            OnlineEvidence.from_bytes(other, {0: 0.5}, data)
    for shares in ({0: 0.4}, {1: 0.5}):
        with pytest.raises(InputError, match="a new share is a new period"):
            OnlineEvidence.from_bytes(evidence.plan, shares, data)
    with pytest.raises(InputError, match="damaged"):
        OnlineEvidence.from_bytes(evidence.plan, {0: 0.5}, data[:-9])
    assert OnlineEvidence.from_bytes(evidence.plan, {0: 0.5, 7: 0.1}, data).results() == evidence.results()
