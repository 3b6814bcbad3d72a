"""The verdict cannot fail open: whatever is missing, late, broken or unknown is a hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.types import Gate, GateResult, Metric, Status
from harness import config
from harness.core.accounting import Counts
from harness.core.verdicts import HOLD, PROMOTE, ROLLBACK, decide, reasons, row_document, verdict_document

NAMES = ["flips", "harm", "missing"]


def gate(name="flips", **changed):
    """A gate on flips of one policy."""
    return Gate(**{"name": name, "metric": Metric(kind="flip", policy="adult"), "word": "below", "limit": 0.05, **changed})


def result(name="flips", status=Status.PASS, segment=None, **changed):
    """A row of a gate."""
    facts = {
        "name": name, "segment": segment, "status": status, "reason": "insufficient" if status is Status.UNDECIDED else None,
        "estimate": 0.01, "lower": 0.0, "upper": 0.02, "limit": 0.05, "n_units": 100, "n_events": 120, "estimate_events": 0.01,
        "alpha": 0.05, "method": "mixture", "log_e_pass": 4.0, "log_e_fail": -2.0, "on_fail": "rollback", "dry_run": False,
    }  # fmt: skip
    return GateResult(**{**facts, **changed})


gates_of = st.lists(
    st.builds(gate, name=st.sampled_from(NAMES), on_fail=st.sampled_from(["rollback", "hold", "report"]), dry_run=st.booleans()),
    min_size=1, unique_by=lambda g: g.name,
)  # fmt: skip
statuses = st.sampled_from(list(Status))


@st.composite
def gates_with_results(draw):
    """Configured gates, and a result for each."""
    gates = draw(gates_of)
    return gates, {g.name: result(g.name, draw(statuses)) for g in gates}


def test_a_rollout_holds_when_there_is_no_evidence():
    """A configured gate without a result does not promote: missing data is never a pass."""
    assert decide([gate()], {}) == HOLD


def test_a_rollout_without_gates_holds():
    """No question was asked, so nothing was answered."""
    assert decide([], {}) == HOLD
    assert reasons([], [], labelled_wait=None) == ["no counted gate: without one there is no evidence"]


@given(gates_with_results(), st.data())
def test_removing_a_result_never_promotes(case, data):
    """Losing evidence can only make a verdict more careful, unless the gate was never counted."""
    gates, results = case
    lost = data.draw(st.sampled_from(sorted(results)))
    verdict = decide(gates, {k: v for k, v in results.items() if k != lost})
    counted = {g.name for g in gates if g.counted}
    assert verdict != PROMOTE or lost not in counted


@given(gates_with_results())
def test_promotes_exactly_when_every_counted_gate_passes(case):
    """And rolls back exactly when a counted gate that says so has failed."""
    gates, results = case
    counted = [g for g in gates if g.counted]
    verdict = decide(gates, results)
    assert (verdict == PROMOTE) == (bool(counted) and all(results[g.name].status is Status.PASS for g in counted))
    assert (verdict == ROLLBACK) == any(results[g.name].status is Status.FAIL and g.on_fail == "rollback" for g in counted)


@pytest.mark.parametrize("status", [Status.FAIL, Status.UNDECIDED])
def test_a_gate_that_is_not_counted_moves_nothing(status):
    """Dry runs and reports are watched, never followed."""
    gates = [gate("flips"), gate("dry", dry_run=True), gate("told", on_fail="report")]
    results = {"flips": result("flips"), "dry": result("dry", status), "told": result("told", status)}
    assert decide(gates, results) == PROMOTE


@given(gates_with_results())
def test_a_verdict_that_is_no_promote_says_why(case):
    """Never a bare hold."""
    gates, results = case
    said = reasons(gates, list(results.values()), labelled_wait=None)
    assert said
    if decide(gates, results) != PROMOTE:
        assert said != ["every counted gate passed"]


def test_the_reason_names_the_worst_segment_first():
    """Who is hurt stands in the first line, with its numbers."""
    rows = [
        result(status=Status.FAIL, estimate=0.06),
        result(segment={"gender": "female"}, status=Status.FAIL, estimate=0.09),
        result(segment={"gender": "male"}),
    ]
    said = reasons([gate(each=(("gender",),))], rows, labelled_wait=None)
    assert said == ["flips: failed among gender=female: +0.09 [+0, +0.02], limit 0.05"]


@pytest.mark.parametrize(
    ("word", "limit", "line"),
    [("below", 0.05, "0.05"), ("worse_by_at_most", 0.03, "-0.03"), ("worse_by_at_most", 0.0, "0"), ("within", 0.1, "±0.1")],
)
def test_the_reason_of_a_fail_gives_the_limit_on_the_side_of_its_numbers(word: str, limit: float, line: str):
    """-0.16, limit 0.03 would read as if it were far on the right side."""
    harm = gate("harm", metric=Metric(kind="harm", policy="adult", truth=False, decisions=("allow",)), word=word, limit=limit)
    (said,) = reasons([harm], [result("harm", status=Status.FAIL, estimate=-0.16, limit=limit)], labelled_wait=None)
    assert said.endswith(f"], limit {line}")


def test_an_undecided_labelled_gate_says_until_when_labels_may_come():
    """A hold tells how long it may take."""
    harm = gate("harm", metric=Metric(kind="harm", policy="adult", truth=False, decisions=("allow",)))
    said = reasons([harm], [result("harm", Status.UNDECIDED)], labelled_wait="labels mature until 2026-03-30T00:00:00Z")
    assert said == ["harm: undecided: not enough evidence yet (100 units; labels mature until 2026-03-30T00:00:00Z)"]


def test_an_alarm_is_a_fail_with_its_own_reason_and_time():
    """A reader who sees good averages beside a rollback must learn that it is the change that counts, and where it was seen first."""
    hour = 3_600_000_000
    late, early = (result(segment={"region": name}, status=Status.FAIL, alarmed_at=at) for name, at in (("SE", 2 * hour), ("ES", hour)))
    whole = result(status=Status.FAIL, alarmed_at=early.alarmed_at)
    assert decide([gate()], {"flips": whole}) == ROLLBACK
    (said,) = reasons([gate()], [whole, late, early], labelled_wait=None)
    assert said.endswith("; its change detector alarmed at 1970-01-01T01:00:00Z") and "region=SE" in said
    document = row_document(whole)
    assert (document["status"], document["alarm"]) == ("fail", True) and document["alarmed_at"].startswith("1970-01-01T01:00:00")
    assert (row_document(result())["alarm"], row_document(result())["alarmed_at"]) == (False, None)


@pytest.mark.parametrize(("behind", "overrun", "verdict"), [(0, 0, PROMOTE), (3, 0, HOLD), (0, 1, HOLD)])
def test_evidence_that_is_known_to_be_incomplete_does_not_promote(behind, overrun, verdict):
    """Labels that came and are not folded yet, or records that were lost: every gate may pass, and it is a hold that says why."""
    document = {
        "rollout": "r", "events": {"topic": "e", "unit": "subject"}, "sample": {"percent": 100}, "pairing": {"window": "30s"},
        "models": {"incumbent": {"uri": "recorded:event:/a"}, "challenger": {"uri": "recorded:event:/b"}},
        "outputs": {"age": {"type": "number", "range": [0, 120], "incumbent": {"field": "/age"}, "challenger": {"field": "/age"}}},
        "policies": {"adult": {"output": "age", "at_least": 18}},
        "gates": [{"name": "flips", "metric": {"flip": "adult"}, "below": 0.05}],
    }  # fmt: skip
    found = verdict_document(
        config.parse(document, source="test", folder=Path()), rows=[result()], counts=Counts(overrun=overrun), read=0, unsampled=0,
        in_flight=0, flips={}, watermark={}, as_of=None, labelled_wait=None, code_version="1", labels_behind=behind,
    )  # fmt: skip
    assert found["verdict"] == verdict
    assert (found["reasons"][0] == "every counted gate passed") == (verdict == PROMOTE)
