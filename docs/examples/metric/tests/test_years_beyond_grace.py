"""The suite that every metric must pass, and the number itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.simulate import World, ages
from analysis.testing import MetricContract, judged
from analysis.types import Gate, Metric, PairTable

METRIC = Metric(kind="python", name="years_beyond_grace", options=(("grace", 2.0),), bound=120.0, needs_labels=True)


class TestYearsBeyondGrace(MetricContract):
    """Its own number under a limit, and compared with the incumbent's."""

    def gates(self) -> Sequence[Gate]:
        return [Gate(name="own", metric=METRIC, word="below", limit=30.0),
                Gate(name="compared", metric=METRIC, word="worse_by_at_most", limit=12.0)]

    def table(self, rng: np.random.Generator, n: int) -> PairTable:
        return ages(rng, n, World(missing=0.05))


def test_the_estimate_is_the_mean_of_the_years_beyond_the_grace():
    """By hand, over every labelled pair."""
    table = ages(np.random.default_rng(1), 400)
    known = ~np.isnan(table["truth.age"])
    said, true = table["age.challenger"][known], table["truth.age"][known]
    by_hand = [max(abs(said[k] - true[k]) - 2.0, 0.0) for k in range(len(said))]
    row = judged(Gate(name="own", metric=METRIC, word="below", limit=30.0), table)
    assert abs(row.estimate_events - sum(by_hand) / len(by_hand)) < 1e-9
