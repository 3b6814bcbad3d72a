"""The fold: against a slow second version, over any cut of the rows, through bytes, and with everything that may go wrong."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from math import exp, log, log1p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.evidence import Evidence, Plan, combine
from analysis.simulate import HOUR_US, World, ages, hours
from analysis.types import Gate, GateResult, InputError, Metric, PairTable, Status

HARM = Metric(kind="harm", policy="over_18", truth=False, decisions=("true",))
FLIP = Metric(kind="flip", policy="over_18")
LOSS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
GATES = (
    Gate(name="flips", metric=FLIP, word="below", limit=0.1),
    Gate(name="flips by region", metric=FLIP, word="below", limit=0.15, each=(("region",),)),
    Gate(name="answers", metric=Metric(kind="missing"), word="below", limit=0.05),
    Gate(name="watched", metric=Metric(kind="flip", policy="over_18", from_="false", to="true"), word="below", limit=0.02, dry_run=True),
    Gate(name="fast", metric=Metric(kind="latency", quantile=0.9), word="below", limit=80.0),
    Gate(name="harm", metric=HARM, word="better_by_more_than", limit=0.0, each=(("gender",),)),
    Gate(name="harm crossed", metric=HARM, word="worse_by_at_most", limit=0.2, each=(("gender", "region"),), on_fail="report"),
    Gate(name="guesses", metric=LOSS, word="worse_by_at_most", limit=1.0),
)
PLAN = Plan(GATES, alpha=0.05, n_stages=2, listed={"gender": ("male", "female"), "region": None})
EMPTY = ages(np.random.default_rng(0), 0)


def folded(plan: Plan, table: PairTable, *, labelled: bool = False, looks: np.ndarray | None = None) -> Evidence:
    evidence = Evidence(plan, labelled)
    evidence.fold(table, hours(table) if looks is None else looks)
    return evidence


def both(plan: Plan, table: PairTable) -> dict[tuple[str, tuple[str, ...]], GateResult]:
    rows = combine(plan, folded(plan, table), folded(plan, table, labelled=True))
    return {(row.name, tuple((row.segment or {}).values())): row for row in rows}


def contributions(gate: Gate, table: PairTable, value: dict[str, str]) -> list[tuple[int, int, float]]:
    """(unit, arrival, number) of each row the gate is defined on, written from the definitions, a row at a time."""
    found = []
    words = table.words
    for k in range(len(table)):
        row = {name: column[k] for name, column in table.columns.items()}
        if any(words[f"segment.{name}"][row[f"segment.{name}"]] != word for name, word in value.items()):
            continue
        paired = row["missing.incumbent"] < 0 and row["missing.challenger"] < 0
        number = None
        if gate.metric.kind == "missing":
            number = float(row["missing.challenger"] >= 0)
        elif gate.metric.kind == "flip" and paired:
            old, new = (words["over_18"][row[f"over_18.{lane}"]] for lane in ("incumbent", "challenger"))
            number = float((old, new) == (gate.metric.from_, gate.metric.to) if gate.metric.from_ else old != new)
        elif gate.metric.kind == "harm" and paired and row["over_18.truth"] == 0:
            number = float(row["over_18.incumbent"] == 1) - float(row["over_18.challenger"] == 1)
        elif gate.metric.kind == "loss" and paired and not np.isnan(row["truth.age"]):
            number = float(abs(row["age.incumbent"] - row["truth.age"]) - abs(row["age.challenger"] - row["truth.age"]))
        if number is not None:
            found.append((int(row["unit_id"]), int(row["arrived"]), number))
    return found


def firsts(found: list[tuple[int, int, float]]) -> list[tuple[int, float]]:
    seen: dict[int, tuple[int, float]] = {}
    for unit, arrived, number in found:
        seen.setdefault(unit, (arrived, number))
    return list(seen.values())


def bets(best: float | None, smallest: float, zero_events: bool) -> list[tuple[float, float]]:
    """(fraction, weight): STATISTICS 6.1, written again."""
    low = smallest if best is None else min(0.004, best / 8)
    fractions = [low * (0.97 / low) ** (k / 59) for k in range(60)]
    if best is None:
        return [(f, 1 / 60) for f in fractions]
    bell = [exp(-0.5 * (log(f / best) / 0.5) ** 2) for f in fractions]
    found = [(f, (0.75 if zero_events else 0.95) * b / sum(bell) + 0.05 / 60) for f, b in zip(fractions, bell, strict=True)]
    return [*found, (0.995, 0.2)] if zero_events else found


def slow_log_e(gate: Gate, numbers: list[float], *, for_pass: bool) -> float:
    """ln of the sum over bets of weight times the product of the bet's factors, one contribution at a time."""
    if gate.word == "below":
        c, sign, low, high = gate.limit, -1.0 if for_pass else 1.0, 0.0, 1.0
        mixture = bets(0.5, 0, True) if for_pass else bets((min(2 * c, (1 + c) / 2) - c) / (1 - c), 0, False)
    else:
        bound = gate.metric.bound or 1.0
        c, sign, low, high = (-gate.limit if gate.word == "worse_by_at_most" else gate.limit), 1.0 if for_pass else -1.0, -bound, bound
        mixture = bets(None, gate.limit / (2 * bound) or 0.001, False)
    room = c - low if sign > 0 else high - c
    return log(sum(weight * exp(sum(log1p(f / room * sign * (x - c)) for x in numbers)) for f, weight in mixture))


def slow_adjusted(values: list[float], s: int) -> float:
    """Closed testing from its definition: the smallest mean over every set of members that holds s."""
    others = [v for k, v in enumerate(values) if k != s]
    return min((values[s] + sum(chosen)) / (k + 1) for k in range(len(others) + 1) for chosen in combinations(others, k))


@pytest.fixture(scope="module")
def case() -> tuple[PairTable, dict[tuple[str, tuple[str, ...]], GateResult]]:
    table = ages(np.random.default_rng(20240611), 1_500, World(missing=0.02, shift=-0.5))
    return table, both(PLAN, table)


def test_every_number_is_that_of_the_slow_version(case):
    """Counts are equal, means to 1e-11, log e-values to 1e-6 (a histogram to a hundredth), for every gate and segment value."""
    table, rows = case
    assert len(rows) == len(GATES) + 3 + 2 + 6
    for gate in GATES:
        if gate.metric.kind == "latency":
            continue
        for (name, _), row in rows.items():
            if name != gate.name:
                continue
            found = contributions(gate, table, dict(row.segment or {}))
            events, units = [x for *_, x in found], [x for _, x in firsts(found)]
            assert (row.n_events, row.n_units) == (len(events), len(units)) and units
            assert row.estimate_events == pytest.approx(sum(events) / len(events), abs=1e-11)
            assert row.estimate == pytest.approx(sum(units) / len(units), abs=1e-11)
            near = 0.02 if gate.metric.kind == "loss" else 1e-6
            assert row.log_e_pass == pytest.approx(slow_log_e(gate, units, for_pass=True), abs=near)
            assert row.log_e_fail == pytest.approx(slow_log_e(gate, units, for_pass=False), abs=near)


def slow_members(table: PairTable, regions: list[str]) -> tuple[list[float], list[float]]:
    """(e-value of each unlabelled member of PLAN, the parts of the pool) on these rows."""
    def e(gate: Gate, rows: PairTable, **value: str) -> float:
        return exp(slow_log_e(gate, [x for _, x in firsts(contributions(gate, rows, value))], for_pass=False))

    slow = (table["missing.challenger"] >= 0) | (np.nan_to_num(table["latency_ms.challenger"]) > 80.0)
    late = PairTable({**table.columns, "missing.challenger": np.where(slow, 0, -1)}, table.words)
    fast = Gate(name="fast", metric=Metric(kind="missing"), word="below", limit=0.1)  # p90 below 80 ms: one in ten may be slower
    parts = [e(GATES[1], table, region=region) / (k * (k + 1)) for k, region in enumerate(regions, start=1)]
    return [e(GATES[0], table), sum(parts) + 1 / (len(regions) + 1), e(GATES[2], table), e(fast, late)], parts


@pytest.mark.parametrize(("seed", "world", "n_failed"), [
    (5, World(missing=0.12, shift=-15.0), 5), (6, World(shift=-9.0), 2), (7, World(), 0)])
def test_fails_are_those_of_closed_testing_by_its_definition(seed, world, n_failed):
    """Members, levels, the pool of unlisted values and the latch, recomputed at every look over every set of members."""
    table = ages(np.random.default_rng(seed), 900, world)
    looks = np.arange(table["arrived"][0], table["arrived"][-1] + 2 * HOUR_US // 6, HOUR_US // 6)
    assert (PLAN.n_members(), PLAN.n_members("unlabelled")) == (7, 4)  # 4 unlabelled: one is a pool; of the others 2 by gender, 1
    regions = list(dict.fromkeys(table.words["segment.region"][k] for k in table["segment.region"]))
    expected: dict[tuple[str, str | None], int] = {}
    for look in looks.tolist():
        members, parts = slow_members(table.take(table["arrived"] <= look), regions)
        failed = [slow_adjusted(members, k) >= 1 / (0.05 / 2 * 4 / 7) for k in range(4)]
        for name, fails in (("flips", failed[0]), ("answers", failed[2]), ("fast", failed[3])):
            if fails:
                expected.setdefault((name, None), look)
        named = [region for region, part in zip(regions, parts, strict=True) if part >= 7 / (0.05 / 2)]
        if failed[1] and not named and not any(name == "flips by region" for name, _ in expected):
            named = [regions[int(np.argmax(parts))]]
        for region in named:
            expected.setdefault(("flips by region", region), look)
    evidence = folded(PLAN, table, looks=looks)
    keys = [(name, None) for name in ("flips", "answers", "fast")] + [("flips by region", region) for region in regions]
    found = {(name, region): evidence.failed_at(name, None if region is None else {"region": region}) for name, region in keys}
    assert {key: at for key, at in found.items() if at is not None} == expected
    assert len(expected) >= n_failed  # the case is not an empty one


# ------------------------------------------------------------------------------------------------------- cuts and codings
@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(0, 10_000))
def test_however_the_prefix_is_cut_the_results_are_the_same(data, seed):
    """A restart or a slow hour must not move a digit of a verdict, nor the look of a fail."""
    table = ages(np.random.default_rng(seed), 300, World(missing=0.1, shift=-12.0))
    looks = hours(table)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(looks) - 1), max_size=5)))
    for labelled in (False, True):
        whole, parts = folded(PLAN, table, labelled=labelled), Evidence(PLAN, labelled)
        start = -1
        for chosen in np.split(looks, cuts):
            rows = (table["arrived"] > start) & (table["arrived"] <= chosen[-1])
            parts.fold(recoded(table.take(rows)), chosen)
            parts = Evidence.from_bytes(PLAN, labelled, parts.to_bytes())
            start = chosen[-1]
        assert parts.results() == whole.results()
        assert parts.to_bytes() == whole.to_bytes()


def recoded(table: PairTable) -> PairTable:
    """The same rows with other codes: more words, in another order."""
    words = {**table.words, "segment.region": ("AT", *table.words["segment.region"]), "missing": ("error", "timeout", "bad_output", "shed")}
    columns = dict(table.columns)
    columns["segment.region"] = columns["segment.region"] + 1
    for lane in ("incumbent", "challenger"):
        columns[f"missing.{lane}"] = np.array([-1, 1, 0, 2])[columns[f"missing.{lane}"] + 1]
    return PairTable(columns, words)


def test_a_unit_speaks_once_and_first():
    """Copies of a unit's later events in the same window move `estimate_events` and nothing else of a gate."""
    table = ages(np.random.default_rng(8), 200)
    plan = replace(PLAN, window_us=10**18)
    again = PairTable({**table.columns, "arrived": table["arrived"] + HOUR_US * 100, "over_18.challenger": 1 - table["over_18.challenger"]},
                      table.words)
    alone, twice = Evidence(plan, False), Evidence(plan, False)
    for evidence in (alone, twice):
        evidence.fold(table, hours(table))
    twice.fold(again, hours(again))
    one_row, two_rows = alone.results()[0], twice.results()[0]
    assert two_rows == replace(one_row, n_events=400, estimate_events=0.5)


def test_folding_nothing_moves_the_look_only():
    """An hour without events is a look like any other."""
    evidence = folded(PLAN, ages(np.random.default_rng(8), 50))
    before = evidence.results()
    evidence.fold(EMPTY, np.array([evidence.last_look + HOUR_US]))
    evidence.fold(EMPTY, np.zeros(0, np.int64))
    assert evidence.results() == before and evidence.n_rows == 50
    unseen = Evidence(PLAN, False)
    unseen.fold(EMPTY, np.array([HOUR_US]))
    assert {row.status for row in unseen.results()} == {Status.UNDECIDED}


@pytest.mark.parametrize(("rows", "looks"), [
    (slice(None), [0]), (slice(None), []), (slice(None, None, -1), [2**62]), (slice(None), [2**62, 2**62]), (slice(None), [2**62, 2**61]),
])
def test_rows_and_looks_out_of_order_are_refused(rows, looks):
    """A prefix in another order is another test: refused whole, so that the state stays good."""
    table, evidence = ages(np.random.default_rng(1), 30), Evidence(PLAN, False)
    before = evidence.to_bytes()
    with pytest.raises(InputError):
        evidence.fold(table.take(rows), np.array(looks, np.int64))
    assert evidence.to_bytes() == before


def test_later_rows_and_looks_must_come_later():
    """The second fold continues the first."""
    table = ages(np.random.default_rng(1), 30)
    evidence = folded(PLAN, table)
    for rows, look in ((EMPTY, evidence.last_look), (table, evidence.last_look + 1)):
        with pytest.raises(InputError):
            evidence.fold(rows, np.array([look]))


# ----------------------------------------------------------------------------------------------------------------- errors
def test_one_broken_gate_stops_no_other_and_never_passes():
    """An unknown kind, a missing column or a missing bound is `compute_error` in its own rows; the others have their numbers."""
    broken = (replace(GATES[0], name="charm", metric=Metric(kind="charm")),
              replace(GATES[0], name="lost", metric=Metric(kind="flip", policy="x")),
              replace(GATES[7], name="boundless", metric=replace(LOSS, bound=None)),
              replace(GATES[1], name="nowhere", each=(("city",),)),
              replace(GATES[7], name="untrue", metric=replace(LOSS, truth_name="height")))
    table = ages(np.random.default_rng(4), 2_000)
    plan = Plan((*broken, *GATES), alpha=0.05, n_stages=2, listed=PLAN.listed)
    rows = both(plan, table)
    assert {(rows[g.name, ()].status, rows[g.name, ()].reason) for g in broken} == {(Status.UNDECIDED, "compute_error")}
    whole = both(PLAN, table)
    assert all(rows[key].estimate == row.estimate and rows[key].log_e_fail == row.log_e_fail for key, row in whole.items())


@pytest.mark.parametrize("bad", [np.nan, np.inf, 500.0])
def test_a_number_out_of_bounds_breaks_the_gate_from_its_row_on(bad):
    """What was proved before stays proved; nothing passes after, in whatever folds the rows come."""
    table = ages(np.random.default_rng(4), 3_000, World(labelled=1.0))
    at = 2_000
    column = table["age.challenger"].copy()
    column[at] = bad
    table = PairTable({**table.columns, "age.challenger": column}, table.words)
    plan = Plan((replace(GATES[7], limit=20.0), replace(GATES[5], each=())), alpha=0.05, n_stages=1, listed={})
    whole = folded(plan, table, labelled=True)
    broken, fine = whole.results()
    assert (broken.status, broken.reason, broken.estimate) == (Status.UNDECIDED, "compute_error", None)
    assert broken.n_events == at and fine.reason != "compute_error" and "row 2000" in whole.broken["guesses"]
    parts = Evidence(plan, True)
    for rows in (slice(0, 1_000), slice(1_000, 2_500), slice(2_500, None)):
        part = table.take(rows)
        parts.fold(part, part["arrived"][-1:])
    assert parts.results() == whole.results()
    before = folded(plan, table.take(slice(0, at)), labelled=True).results()[0]
    assert before.status is Status.PASS


# ------------------------------------------------------------------------------------------------------------------ bytes
def test_bytes_of_another_plan_are_refused():
    """A changed limit, gate, alpha or list is a new attempt: old counts must not be read under it."""
    data = folded(PLAN, ages(np.random.default_rng(4), 100)).to_bytes()
    assert Evidence.from_bytes(PLAN, False, data).to_bytes() == data
    others = (replace(PLAN, alpha=0.04), replace(PLAN, n_stages=3), replace(PLAN, gates=GATES[:-1]),
              replace(PLAN, listed={"gender": ("female", "male"), "region": None}),
              replace(PLAN, gates=(replace(GATES[0], limit=0.11), *GATES[1:])))
    for plan in others:
        with pytest.raises(InputError, match="another plan"):
            Evidence.from_bytes(plan, False, data)
    with pytest.raises(InputError, match="another plan"):
        Evidence.from_bytes(PLAN, True, data)


def test_combine_takes_one_of_each_of_its_plan():
    """Two prefixes of one plan; anything else would be a verdict of nothing."""
    for parts in ((False, False), (True, True), (True, False)):
        with pytest.raises(InputError):
            combine(PLAN, *(Evidence(PLAN, labelled) for labelled in parts))
    with pytest.raises(InputError):
        combine(replace(PLAN, alpha=0.01), Evidence(PLAN, False), Evidence(PLAN, True))


def test_a_fortnight_of_hourly_looks_takes_about_a_second():
    """9,000 events, 720 looks and some 80 rows: a replay is used by people who wait for it."""
    table = ages(np.random.default_rng(4), 9_000)
    gates = tuple(replace(gate, name=f"{gate.name} {k}") for k in range(4) for gate in GATES)
    plan = Plan(gates, alpha=0.05, n_stages=2, listed=PLAN.listed)
    looks = np.linspace(table["arrived"][0], table["arrived"][-1] + 1, 720).astype(np.int64)
    start = time.process_time()  # of this process: a machine that is busy with others takes longer
    parts = [folded(plan, table, labelled=labelled, looks=looks) for labelled in (False, True)]
    folds = time.process_time() - start
    rows = combine(plan, *parts)
    assert len(rows) == 76 and folds < 8.0 and time.process_time() - start - folds < 5.0  # four times what it takes on one slow core
