"""Equal quantiles of two arms."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given
from hypothesis import strategies as st

from analysis.offered.quantiles import log_e_equal_quantile
from analysis.types import InputError

samples = st.lists(st.integers(0, 12), min_size=1, max_size=25)


def test_the_published_number():
    """1..1000 against 86..1085, medians, tuned for 100: 1/E = 0.0838055 (STATISTICS 6.9)."""
    found = log_e_equal_quantile(np.arange(1.0, 1_001.0), np.arange(86.0, 1_086.0), p=0.5, decide_at=100.0)
    assert exp(-found) == pytest.approx(0.0838055, abs=5e-8)


@given(samples, samples, st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([10.0, 1_000.0]))
def test_it_is_the_least_over_every_value_and_count(one, two, p, decide_at):
    """A slow second version that tries all values at and between those seen, ties counted on either side."""
    found = log_e_equal_quantile(np.array(one), np.array(two), p=p, decide_at=decide_at)
    assert found == pytest.approx(slow.log_e_quantile(one, two, p, 0.05, decide_at), abs=1e-8)


def test_false_claims_stay_below_alpha_with_forty_looks():
    """The 0.9 quantile of the same latencies in both arms; a shift by a tenth is found."""
    rng, false, found = np.random.default_rng(4), 0, 0
    for _ in range(60):
        one, two = rng.lognormal(4.0, 0.5, (2, 4_000))
        false += any(log_e_equal_quantile(one[:n], two[:n], p=0.9) >= log(20) for n in range(100, 4_001, 100))
        found += log_e_equal_quantile(one, 1.1 * two, p=0.9) >= log(20)
    assert false <= 9 and found > 40  # 0.999 quantile of Binomial(60, 0.05)


def test_nothing_seen_is_no_evidence_and_no_number_is_refused():
    """A unit without a latency is not slow but unknown."""
    assert log_e_equal_quantile(np.zeros(0), np.zeros(0), p=0.5) == 0.0
    assert log_e_equal_quantile(np.ones(1), np.zeros(0), p=0.5) <= 0.0
    for wrong in ({"p": 1.0}, {"p": 0.5, "alpha": 0.0}, {"p": 0.5, "decide_at": 0.0}):
        with pytest.raises(InputError):
            log_e_equal_quantile(np.ones(2), np.ones(2), **wrong)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite"):
            log_e_equal_quantile(np.array([1.0, bad]), np.ones(2), p=0.5)
