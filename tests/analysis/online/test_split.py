"""The split of traffic: the Dirichlet-multinomial test."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import two_arms as slow
from hypothesis import given
from hypothesis import strategies as st

from analysis.online.split import ALPHA, fired, log_bayes_factor, log_e_split
from analysis.types import InputError


@given(st.lists(st.integers(0, 1), max_size=40), st.sampled_from([0.01, 0.1, 0.5]), st.sampled_from([1.0, 1_000.0]))
def test_it_is_the_product_of_predictions_unit_by_unit(arms, share, k):
    """A slow second version; and so the order of units does not matter."""
    counts = np.bincount(np.array(arms, int), minlength=2)
    found = float(log_bayes_factor(counts, np.array([1.0 - share, share]), k=k))
    assert found == pytest.approx(slow.log_e_split(arms, [1.0 - share, share], k), abs=1e-7)


def test_a_wrong_split_is_found_and_a_right_one_is_left_alone_at_every_look():
    """52 % instead of half is found within 40,000 units; at the right share one run in a thousand, at the most, ever fires."""
    rng, runs, half = np.random.default_rng(2), 2_000, np.array([0.5, 0.5])
    found = []
    for share in (0.5, 0.52):
        new = np.cumsum(rng.binomial(200, share, (runs, 200)), axis=1)
        total = 200 * np.arange(1, 201)
        found.append((log_bayes_factor(np.stack([total - new, new], axis=-1), half) >= -log(ALPHA)).any(axis=1).mean())
    assert found[0] <= 0.003 and found[1] > 0.95


def test_periods_are_tested_against_their_own_shares():
    """1 % and then half: each as configured is right, together they look like nothing that was."""
    counts = {0: np.array([99_000, 1_000]), 1: np.array([50_000, 50_000])}
    assert not fired(log_e_split(counts, {}, {0: 0.01, 1: 0.5}))
    assert fired(log_e_split(counts, {}, {0: 0.01, 1: 0.45})) and fired(log_e_split({}, counts, {0: 0.02, 1: 0.5}))
    assert log_e_split({}, {}, {}) == pytest.approx(0.0)


def test_shares_and_counts_that_are_none_are_refused():
    """Shares of sum 0.9 are accepted elsewhere, because a NumPy bool is never `False`."""
    for shares in ([0.5, 0.4], [1.0, 0.0], [0.5, np.nan]):
        with pytest.raises(InputError, match="sum to 1"):
            log_bayes_factor(np.array([1, 1]), np.array(shares))
    for counts, k in (([1, -1], 1.0), ([1, 1, 1], 1.0), ([1, 1], 0.0)):
        with pytest.raises(InputError):
            log_bayes_factor(np.array(counts), np.array([0.5, 0.5]), k=k)
