"""Group sequential gates in the evidence: decided at planned looks only, the same through bytes and cuts, at their promised level."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest

from analysis.evidence import Evidence
from analysis.gates import prepare
from analysis.plan import Plan
from analysis.planning import assumed, forecast, measured
from analysis.sequential.groups import boundary
from analysis.simulate import World, ages
from analysis.types import Gate, GateResult, InputError, LookPlan, Metric, PairTable, Status

FLIP = Metric(kind="flip", policy="d")
PLAN = LookPlan(maximum=4_000, looks=4)


def flips(changed: np.ndarray) -> PairTable:
    """One pair a unit and microsecond, of which these decisions change."""
    n = len(changed)
    columns = {"event_id": np.arange(n), "unit_id": np.arange(n).astype(np.uint64), "arrived": np.arange(1, n + 1).astype(np.int64),
               "missing.incumbent": np.full(n, -1, np.int32), "missing.challenger": np.full(n, -1, np.int32),
               "d.incumbent": np.zeros(n, np.int32), "d.challenger": changed.astype(np.int32)}
    return PairTable(columns, {"d": ("false", "true")})


def gate(**changes: object) -> Gate:
    words = {"name": "few flips", "metric": FLIP, "word": "below", "limit": 0.2, "method": "group_sequential", "plan": PLAN}
    return Gate(**words | changes)


def at_looks(rows: PairTable, looks: list[int], asked: Gate, labelled: bool = False) -> list[GateResult]:
    """The row at each look, through bytes in between."""
    plan = Plan((asked,), alpha=0.05, n_stages=2, listed={})
    evidence, found, start = Evidence(plan, labelled), [], -1
    for look in looks:
        evidence.fold(rows.take((rows["arrived"] > start) & (rows["arrived"] <= look)), np.array([look]))
        evidence, start = Evidence.from_bytes(plan, labelled, evidence.to_bytes()), look
        found.append(evidence.results()[0])
    assert not evidence.broken
    return found


def test_it_decides_at_planned_looks_only():
    """Between two planned looks the row stays as it was; at each z is compared with the boundary of the units that had come."""
    changed = np.random.default_rng(7).random(4_000) < 0.175
    looks = list(range(100, 4_001, 300))
    rows = at_looks(flips(changed), looks, gate())
    bounds = dict(zip((1_000, 2_200, 3_100, 4_000), boundary(PLAN, (0.25, 0.55, 0.775, 1.0), 0.05), strict=True))  # first looks at the plan
    passed = False
    for look, row in zip(looks, rows, strict=True):
        if look in bounds:
            z = (0.2 - changed[:look].mean()) / sqrt(0.2 * 0.8 / look)
            passed = passed or z >= bounds[look]
            assert row.upper == pytest.approx(changed[:look].mean() + bounds[look] * sqrt(0.2 * 0.8 / look))
        assert (row.status is Status.PASS) == passed
        assert (row.log_e_pass, row.log_e_fail, row.method) == (None, None, "group_sequential")
    assert rows[0].lower is None and rows[2].status is Status.UNDECIDED and rows[-1].status is Status.PASS


def test_how_rows_are_cut_into_folds_moves_nothing():
    """One fold with all looks, or a fold a look through bytes."""
    rows, looks = flips(np.random.default_rng(2).random(4_400) < 0.21), list(range(50, 4_401, 50))
    plan = Plan((gate(),), alpha=0.05, n_stages=2, listed={})
    whole = Evidence(plan, False)
    whole.fold(rows, np.array(looks))
    assert whole.results()[0] == at_looks(rows, looks, gate())[-1]


def test_a_fail_is_latched_and_stops_the_rollout():
    """At the level that one member of the closed test has, on the other side of the same limit; a fail beats an earlier pass."""
    changed = np.random.default_rng(3).random(4_000) < 0.26
    rows = at_looks(flips(changed), [500, 1_000, 4_000], gate())
    assert [row.status for row in rows] == [Status.UNDECIDED, Status.FAIL, Status.FAIL]
    assert rows[1].lower > 0.2


def test_past_the_maximum_nothing_is_decided_any_more():
    """The over-run rule: the first look at or over the maximum is the last, whatever comes then."""
    changed = np.concatenate([np.random.default_rng(3).random(4_500) < 0.2, np.zeros(4_000, bool)])
    rows = at_looks(flips(changed), [4_500, 8_500], gate())
    assert rows[0].status is Status.UNDECIDED and rows[1].status is Status.UNDECIDED
    assert (rows[0].lower, rows[0].upper) == (rows[1].lower, rows[1].upper) and rows[1].estimate < rows[0].estimate


def test_rare_events_wait_until_a_normal_is_right():
    """Asymptotics at rare rates are wrong most of the time: no look before 100 events of the rarer kind are expected at the limit."""
    rows = at_looks(flips(np.zeros(4_000, bool)), [1_000, 2_000, 4_000], gate(limit=0.04))
    assert [row.status for row in rows] == [Status.UNDECIDED, Status.UNDECIDED, Status.PASS]


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_false_passes_stay_below_alpha(spending):
    """At the limit, 300 seeded streams with a look each 200 units."""
    asked = gate(plan=LookPlan(maximum=2_000, looks=10, spending=spending), on_fail="report")
    rng = np.random.default_rng(20261123)
    looks, passed = np.arange(200, 2_001, 200), 0
    plan = Plan((asked,), alpha=0.05, n_stages=1, listed={})
    for _ in range(300):
        evidence = Evidence(plan, False)
        evidence.fold(flips(rng.random(2_000) < 0.2), looks)
        passed += evidence.results()[0].status is Status.PASS
    assert passed <= 27  # 0.999 quantile of Binomial(300, 0.05)


def test_a_loss_of_numbers_is_decided_by_its_mean_and_spread():
    """The challenger of the stream is better: a t-test at the last look says the same numbers."""
    rows = ages(np.random.default_rng(5), 3_000, World(labelled=1.0, events_a_unit=0.001))
    metric = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
    plan = LookPlan(maximum=2_000, looks=2, spending="power", parameter=2.0)
    asked = gate(metric=metric, word="worse_by_at_most", limit=0.2, plan=plan)
    units = np.unique(rows["unit_id"], return_index=True)[1]
    first = rows.take(np.sort(units))
    better = np.abs(first["age.incumbent"] - first["truth.age"]) - np.abs(first["age.challenger"] - first["truth.age"])
    (row,) = at_looks(rows, [int(rows["arrived"][-1])], asked, labelled=True)
    bound = boundary(plan, (len(better) / 2_000,), 0.05)[0]
    assert row.status is Status.PASS and row.method == "group_sequential, among labelled"
    assert row.lower == pytest.approx(better.mean() - bound * better.std(ddof=1) / sqrt(len(better)), abs=2e-3)


def test_members_of_the_closed_test_fail_alone():
    """A planned fail among nine other gates reaches the level of the closed test by itself: rounding takes none back."""
    changed = np.random.default_rng(3).random(1_000) < 0.32
    others = tuple(Gate(name=f"g{k}", metric=Metric(kind="missing"), word="below", limit=0.05) for k in range(9))
    evidence = Evidence(Plan((gate(), *others), alpha=0.05, n_stages=3, listed={}), False)
    evidence.fold(flips(changed), np.array([1_000]))
    assert evidence.failed_at("few flips") == 1_000


@pytest.mark.parametrize("changes", [
    {"plan": None}, {"plan": LookPlan(maximum=10, looks=20)},
    {"word": "within", "metric": Metric(kind="loss", loss="zero_one", policy="d")},
    {"metric": Metric(kind="latency", quantile=0.9)}, {"metric": Metric(kind="difference", output="x", bound=9.0, quantile=0.9)},
    {"metric": Metric(kind="recall", policy="d", least=0.5)},
])
def test_what_has_no_normal_mean_or_no_plan_is_refused(changes):
    with pytest.raises(InputError):
        prepare(gate(**changes))


def test_a_plan_says_at_which_look_it_is_decided_and_what_maximum_would_do():
    """`shadow plan` reads the same boundaries; it names the maximum of a design with power 0.9, and where hope ends."""
    def ends(of: Gate, share: float) -> tuple[str, int | None, str]:
        test = prepare(of)
        found = forecast(test, measured(test, flips(np.arange(1_000) < 1_000 * share)), alpha=0.05, fail_level=0.05)
        return found.ends, found.units, found.assumed.words

    assert ends(gate(), 0.1)[:2] == ("pass", 1_000)
    assert ends(gate(), 0.26)[:2] == ("fail", 1_000)
    word, units, says = ends(gate(), 0.195)
    assert (word, units) == ("never", None) and "passes with chance 0.9" in says and "little hope below z" in says
    assert forecast(prepare(gate()), assumed(prepare(gate())), alpha=0.05, fail_level=0.05).ends == "pass"
    assert "maximum 500 passes" in ends(gate(), 0.01)[2]  # fewer would do, but a normal needs 100 of the rarer kind at the limit


def test_the_maximum_that_a_plan_names_has_the_power_it_says():
    """Simulated: nine of ten streams of that length pass."""
    test = prepare(gate())
    says = forecast(test, measured(test, flips(np.arange(1_000) < 180)), alpha=0.05, fail_level=0.05).assumed.words
    maximum = int(says.split("maximum ")[1].split(" passes")[0].replace(",", ""))
    plan, rng, runs = LookPlan(maximum=maximum, looks=4), np.random.default_rng(1), 4_000
    times = np.array([0.25, 0.5, 0.75, 1.0])
    n = np.ceil(times * maximum).astype(int)
    sums = rng.binomial(np.diff(np.append(0, n)), 0.18, (runs, 4)).cumsum(axis=1)
    z = (0.2 - sums / n) / np.sqrt(0.2 * 0.8 / n)
    share = (z >= boundary(plan, tuple(times.tolist()), 0.05)).any(axis=1).mean()
    assert 0.89 < share < 0.95  # non-binding: who goes on below the futility bound has a little more
