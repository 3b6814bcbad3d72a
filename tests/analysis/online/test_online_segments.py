"""Gates on two arms that are split by segments: each value by its own units, a member of the closed test, the same through bytes."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.online.evidence import OnlineEvidence
from analysis.online.units import Exposures, Measurements
from analysis.plan import Plan
from analysis.types import Gate, InputError, Metric, Status

HARM = Metric(kind="online", measure="harm", type="binary", window_us=60, better="lower")
GATE = Gate(name="harm", metric=HARM, word="worse_by_at_most", limit=0.01)
REGIONS = {"region": ("SE", "ES"), "device": ("tv",)}
WORDS = {"region": ("SE", "ES", "other"), "device": ("tv", "web")}
EACH = replace(GATE, each=(("region",),))
CROSSED = replace(GATE, name="crossed", each=(("region",), ("region", "device")))


def in_regions(n=6_000, *, harm, seed=0, hours=40, codes=(0, 1)) -> tuple[Exposures, Measurements, np.ndarray]:
    """Units of regions with a rate for each (region, arm)."""
    rng = np.random.default_rng(seed)
    at, arm = np.sort(rng.integers(1, hours * 3_600, n)), rng.integers(0, 2, n)
    region, device = rng.choice(codes, n), rng.integers(0, 2, n)
    harmed = np.flatnonzero(rng.random(n) < np.array(harm)[region, arm])
    told = Measurements(measure=0 * harmed, unit=harmed, at=at[harmed] + 5, value=np.ones(len(harmed)))
    seen = Exposures(unit=np.arange(n), at=at, arm=arm, period=0 * arm, segments={"region": region, "device": device})
    return seen, told, np.arange(1, hours + 2) * 3_600


def by_segment(rows, gate="harm"):
    return {tuple(row.segment.values()): row for row in rows if row.segment and row.name == gate}


def test_each_value_is_judged_by_its_own_units_and_the_worst_is_that_of_the_gate():
    """A harm in one region only, hidden in the whole by a benefit in the other."""
    plan = Plan((GATE, replace(EACH, name="each")), alpha=0.05, n_stages=1, listed=REGIONS)
    evidence = OnlineEvidence(plan, {0: 0.5}, WORDS)
    evidence.fold(*in_regions(n=60_000, harm=((0.02, 0.06), (0.06, 0.02), (0.0, 0.0))))
    whole, each, *_ = evidence.results()
    rows = by_segment(evidence.results(), "each")
    assert (whole.status, each.status, each.segment) == (Status.PASS, Status.FAIL, None)
    assert (rows["SE",].status, rows["ES",].status, list(rows)) == (Status.FAIL, Status.PASS, [("SE",), ("ES",)])
    assert rows["SE",].n_units + rows["ES",].n_units == each.n_units == 60_000
    assert rows["SE",].n_events + rows["ES",].n_events == each.n_events
    assert evidence.failed_at("each", {"region": "SE"}) is not None and evidence.failed_at("each", {"region": "ES"}) is None
    assert plan.n_members("online") == 3 and evidence.failed_at("each", {"region": "PT"}) is None


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(1, 7), max_size=3, unique=True), st.integers(0, 9))
def test_a_value_has_the_row_that_a_canary_of_its_units_alone_would_have(cuts, seed):
    """Pairs, sums and lifts of other units move nothing of it; through bytes and cuts, and for crossed values."""
    seen, told, looks = in_regions(n=600, harm=((0.2, 0.3), (0.1, 0.1), (0.5, 0.2)), seed=seed, hours=8, codes=(0, 1, 2))
    plan = Plan((EACH, CROSSED), alpha=0.05, n_stages=1, listed=REGIONS)
    evidence, after = OnlineEvidence(plan, {0: 0.5}, WORDS), 0
    for cut in np.unique([*cuts, 9]).tolist():
        a, b = ((part.at > after) & (part.at <= cut * 3_600) for part in (seen, told))
        mine = Exposures(unit=seen.unit[a], at=seen.at[a], arm=seen.arm[a], period=seen.period[a],
                         segments={name: codes[a] for name, codes in seen.segments.items()})
        evidence.fold(mine, Measurements(measure=told.measure[b], unit=told.unit[b], at=told.at[b], value=told.value[b]),
                      looks[(looks > after) & (looks <= cut * 3_600)])
        evidence, after = OnlineEvidence.from_bytes(plan, {0: 0.5}, evidence.to_bytes(), WORDS), cut * 3_600
    rows = by_segment(evidence.results(), "crossed")
    assert len(rows) == 3 + 6 and by_segment(evidence.results()) == {
        value: replace(rows[value], name="harm") for value in rows if len(value) == 1}
    alone = Plan((GATE, *(replace(GATE, name=str(k)) for k in range(5))), alpha=0.05, n_stages=1, listed={})  # as many members
    for value, row in rows.items():
        codes = [seen.segments[name] == WORDS[name].index(word) for name, word in zip(("region", "device"), value, strict=False)]
        a = np.logical_and.reduce(codes)
        b = np.isin(told.unit, seen.unit[a])
        other = OnlineEvidence(alone, {0: 0.5})
        other.fold(Exposures(unit=seen.unit[a], at=seen.at[a], arm=seen.arm[a], period=seen.period[a]),
                   Measurements(measure=told.measure[b], unit=told.unit[b], at=told.at[b], value=told.value[b]), looks)
        want = other.results()[0]
        assert (row.n_units, row.n_events, row.method) == (want.n_units, want.n_events, want.method)
        assert (row.estimate, row.log_e_pass, row.log_e_fail) == pytest.approx((want.estimate, want.log_e_pass, want.log_e_fail), rel=1e-9)


def test_a_listed_value_that_nobody_has_seen_holds_and_a_small_one_does_as_it_is_told():
    """No row is invented away: undecided without a unit; `small: report` leaves out a seen value with too few."""
    seen, told, looks = in_regions(n=9_000, harm=((0.02, 0.02), (0.02, 0.02), (0.0, 0.0)), codes=(0,))
    for more in ({}, {"small": "report", "min_units": 500}):
        evidence = OnlineEvidence(Plan((replace(EACH, **more),), alpha=0.05, n_stages=1, listed=REGIONS), {0: 0.5}, WORDS)
        evidence.fold(seen, told, looks)
        whole, rows = evidence.results()[0], by_segment(evidence.results())
        assert (whole.status, whole.reason, rows["ES",].n_units) == (Status.UNDECIDED, "insufficient", 0)
        assert rows["SE",].status is Status.PASS and ("other",) not in rows
    few = replace(seen, segments={**seen.segments, "region": np.where(np.arange(9_000) < 100, 1, 0)})
    for small, status in (("hold", Status.UNDECIDED), ("report", Status.PASS)):
        gate = replace(EACH, min_units=500, small=small)
        evidence = OnlineEvidence(Plan((gate,), alpha=0.05, n_stages=1, listed=REGIONS), {0: 0.5}, WORDS)
        evidence.fold(few, told, looks)
        assert evidence.results()[0].status is status, small


def test_a_value_outside_the_list_can_hold_a_pass_back_and_never_fails():
    """It is no member of the closed test: a list that forgets a region stops nobody by chance."""
    evidence = OnlineEvidence(Plan((EACH,), alpha=0.05, n_stages=1, listed=REGIONS), {0: 0.5}, WORDS)
    evidence.fold(*in_regions(n=30_000, harm=((0.02, 0.02), (0.02, 0.02), (0.02, 0.08)), codes=(0, 1, 2)))
    whole, rows = evidence.results()[0], by_segment(evidence.results())
    assert [rows[word,].status for word in ("SE", "ES", "other")] == [Status.PASS, Status.PASS, Status.UNDECIDED]
    assert whole.status is Status.UNDECIDED and rows["other",].log_e_fail > log(100)


def test_the_value_of_a_unit_is_that_of_its_first_exposure():
    """Who moves later is counted once, where it was."""
    seen, told, looks = in_regions(n=2_000, harm=((0.1, 0.1), (0.1, 0.1), (0.1, 0.1)), codes=(0,))
    again = Exposures(unit=seen.unit, at=seen.at + 30, arm=seen.arm, period=seen.period,
                      segments={"region": np.full(2_000, 1), "device": seen.segments["device"]})
    both = Exposures(**{name: np.append(getattr(seen, name), getattr(again, name)) for name in ("unit", "at", "arm", "period")},
                     segments={name: np.append(seen.segments[name], again.segments[name]) for name in ("region", "device")})
    evidence = OnlineEvidence(Plan((EACH,), alpha=0.05, n_stages=1, listed=REGIONS), {0: 0.5}, WORDS)
    evidence.fold(both, told, looks)
    rows = by_segment(evidence.results())
    assert (rows["SE",].n_units, rows["ES",].n_units) == (2_000, 0)


def test_twelve_regions_at_their_limits_seldom_fail():
    """Every listed value is a member: K = 12, so a gate by region is not stopped twelve times as often."""
    regions = tuple(f"r{k}" for k in range(12))
    plan, rng, failed = Plan((EACH,), alpha=0.05, n_stages=1, listed={"region": regions}), np.random.default_rng(4), 0
    for seed in range(12):
        seen, told, looks = in_regions(n=6_000, harm=[(0.05, 0.06)] * 2, seed=seed, hours=12)
        evidence = OnlineEvidence(plan, {0: 0.5})
        evidence.fold(replace(seen, segments={"region": rng.integers(0, 12, 6_000)}), told, looks)
        failed += evidence.results()[0].status is Status.FAIL
    assert failed <= 3


def test_segments_that_are_not_as_planned_are_refused():
    """A missing segment, a code without a word, words that are not those of the plan, values that nobody lists, a split of the split."""
    plan = Plan((EACH,), alpha=0.05, n_stages=1, listed=REGIONS)
    seen, told, looks = in_regions(n=100, harm=((0.1, 0.1), (0.1, 0.1), (0.1, 0.1)))
    evidence = OnlineEvidence(plan, {0: 0.5}, WORDS)
    for segments, said in (({}, "need the segment 'region'"), ({"region": np.full(100, 3)}, "an index into")):
        with pytest.raises(InputError, match=said):
            evidence.fold(replace(seen, segments=segments), told, looks)
    with pytest.raises(InputError, match="one code for each"):
        replace(seen, segments={"region": np.zeros(3)})
    for words in ({"region": ("ES", "SE")}, {}, {"region": ("SE", "ES", "SE")}):
        broken = OnlineEvidence(plan, {0: 0.5}, words)
        assert "list their values" in broken.broken["harm"] and broken.results()[0].reason == "compute_error"
    free = OnlineEvidence(Plan((EACH,), alpha=0.05, n_stages=1, listed={"region": None}), {0: 0.5})
    split = OnlineEvidence(Plan((Gate(name="split", metric=Metric(kind="sample_ratio"), word="within", limit=0.1, each=(("region",),)),),
                                alpha=0.05, n_stages=1, listed=REGIONS), {0: 0.5})
    assert [one.results()[0].reason for one in (free, split)] == ["compute_error", "compute_error"]
    with pytest.raises(InputError, match="another plan"):
        OnlineEvidence.from_bytes(plan, {0: 0.5}, evidence.to_bytes(), {"region": ("SE", "ES", "elsewhere")})
