"""Closed testing, the pool of values that no config lists, and the worst of segments."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.gates import closed_test, follow_segments, pool_path, prepare
from analysis.types import Gate, GateResult, InputError, Metric, Status

GATE = Gate(name="g", metric=Metric(kind="flip", policy="p"), word="below", limit=0.1)
RESULT = GateResult(name="g", segment=None, status=Status.UNDECIDED, reason="insufficient", estimate=0.0, lower=0.0, upper=1.0, limit=0.1,
                    n_units=100, n_events=100, estimate_events=0.0, alpha=0.05, method="mixture", log_e_pass=0.0, log_e_fail=0.0,
                    on_fail="rollback", dry_run=False)
GOOD, BAD = replace(RESULT, status=Status.PASS, reason=None), replace(RESULT, status=Status.FAIL, reason=None)


@settings(deadline=None)
@given(st.lists(st.floats(-8.0, 9.0), min_size=1, max_size=7))
def test_closed_testing_rejects_what_every_set_of_members_rejects(log_e):
    """The definition: a member fails if the mean over each set that holds it reaches the level."""
    enough = log(20.0)
    values = np.exp(log_e)
    found = closed_test(np.array(log_e), enough)
    for s in range(len(log_e)):
        means = [np.mean([values[s], *(values[k] for k in chosen)]) for size in range(len(log_e))
                 for chosen in combinations([k for k in range(len(log_e)) if k != s], size)]
        if abs(min(means) / 20.0 - 1.0) > 1e-9:
            assert found[s] == (min(means) >= 20.0)


def test_closed_testing_of_nobody_and_of_one():
    """No members, no fails; one member has the whole level."""
    assert closed_test(np.zeros(0), 1.0).tolist() == []
    assert closed_test(np.array([3.0]), 3.0).tolist() == [True]
    assert closed_test(np.array([900.0, -900.0]), 3.0).tolist() == [True, False]


def test_a_pool_of_nobody_has_no_evidence():
    """The weights 1/(k(k+1)) of values that nobody has seen stay at E = 1, so the pool starts at one and stays there."""
    assert pool_path([], 3) == pytest.approx([0.0, 0.0, 0.0])
    shares = [np.log([1.0, 30.0]) - log(2), np.log([1.0, 6.0]) - log(6)]
    assert pool_path(shares, 2) == pytest.approx(np.log([1.0, 15.0 + 1.0 + 1 / 3]))


@pytest.mark.parametrize(("parts", "status", "reason"), [
    ([GOOD, GOOD], Status.PASS, None), ([GOOD, RESULT], Status.UNDECIDED, "insufficient"), ([BAD, RESULT], Status.FAIL, None),
    ([RESULT, replace(RESULT, reason="no_support")], Status.UNDECIDED, "no_support"), ([], Status.UNDECIDED, "insufficient"),
    ([replace(RESULT, reason="compute_error"), GOOD], Status.UNDECIDED, "compute_error"),
])
def test_the_worst_segment_speaks_for_the_gate(parts, status, reason):
    """Worst wins, with the reason that most needs somebody's attention; no segment at all is no evidence."""
    found = follow_segments(GATE, RESULT, [(part, True) for part in parts])
    assert (found.status, found.reason) == (status, reason)


def test_a_whole_that_cannot_be_computed_never_passes():
    """Segments that pass do not cover an error of the gate; a segment that fails does."""
    whole = replace(RESULT, reason="compute_error")
    assert follow_segments(GATE, whole, [(GOOD, True)]) == whole
    assert follow_segments(GATE, whole, [(BAD, True)]).status is Status.FAIL


@pytest.mark.parametrize("quantile", [None, 0.0, 1.0])
def test_a_latency_without_a_quantile_is_refused(quantile):
    """There is no slowest share to test."""
    with pytest.raises(InputError, match="quantile"):
        prepare(Gate(name="g", metric=Metric(kind="latency", quantile=quantile), word="below", limit=100.0))
