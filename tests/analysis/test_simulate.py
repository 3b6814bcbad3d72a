"""Simulated streams have the truth that they were asked for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from analysis.simulate import HOUR_US, World, ages, hours

FOLD = """
import sys, numpy as np
import analysis.evidence as e, analysis.simulate as s
from analysis.types import Gate, Metric
table = s.ages(np.random.default_rng(1), 50)
gate = Gate(name="f", metric=Metric(kind="flip", policy="over_18"), word="below", limit=0.1)
evidence = e.Evidence(e.Plan((gate,), alpha=0.05, n_stages=1, listed={}), False)
evidence.fold(table, s.hours(table))
assert evidence.results()[0].n_events
print(*{m.partition(".")[0] for m in sys.modules})
"""


def test_the_same_seed_gives_the_same_stream():
    """A seeded test that changes is none."""
    one, two = (ages(np.random.default_rng(9), 100, World(missing=0.1)) for _ in "12")
    assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one.columns if name != "segment")


def test_a_stream_has_its_share_of_labels_and_silence():
    """Within five standard deviations."""
    table = ages(np.random.default_rng(9), 20_000, World(missing=0.1, labelled=0.3, events_a_unit=4.0))
    assert abs((table["missing.challenger"] >= 0).mean() - 0.1) < 0.011
    assert abs((~np.isnan(table["truth.age"])).mean() - 0.3) < 0.017
    assert len(np.unique(table["unit_id"])) <= 5_000


def test_looks_cover_the_table():
    """Every event is seen by a look, on whole hours."""
    table = ages(np.random.default_rng(9), 1_000)
    looks = hours(table, beyond=2)
    assert looks[-2] > table["arrived"][-1] and (looks % HOUR_US == 0).all() and looks[0] - table["arrived"][0] <= HOUR_US
    assert len(hours(ages(np.random.default_rng(9), 0))) == 0


def test_the_analysis_imports_and_folds_without_heavy_libraries():
    """A role that folds must start at once: scipy, pandas and statsmodels are for functions that need them."""
    child = subprocess.run([sys.executable, "-c", FOLD], capture_output=True, text=True, check=True)
    assert not {"scipy", "pandas", "statsmodels", "plotly", "harness"} & set(child.stdout.split())
