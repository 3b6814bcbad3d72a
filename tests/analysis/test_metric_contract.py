"""Every kind of metric that we ship passes the suite that we ask of others, and the suite finds what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from inspect import cleandoc

import numpy as np
import pytest

from analysis.simulate import World, ages
from analysis.testing import MetricContract
from analysis.types import CLASS_KINDS, LABELLED_KINDS, ONLINE_KINDS, Gate, LookPlan, Metric, PairTable

COSTS = (("over_18", False, ("true",), 10.0), ("over_18", True, ("false",), 1.0))
LOSS = Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=120.0)
ASKED: list[tuple[Metric, dict[str, float]]] = [
    (Metric(kind="flip", policy="over_18"), {"below": 0.3, "above": 0.01}),
    (Metric(kind="flip", policy="over_18", from_="false", to="true"), {"below": 0.3}),
    (Metric(kind="harm", policy="over_18", truth=False, decisions=("true",)), {"below": 0.5, "worse_by_at_most": 0.3, "within": 0.4}),
    (Metric(kind="recall", policy="over_18"), {"above": 0.5, "better_by_more_than": 0.0}),
    (Metric(kind="precision", policy="over_18"), {"above": 0.5}),
    (LOSS, {"below": 30.0, "worse_by_at_most": 12.0, "within": 20.0}),
    (Metric(kind="loss", loss="squared_error", output="age", truth_name="age", bound=14_400.0), {"worse_by_at_most": 3_000.0}),
    (Metric(kind="loss", loss="zero_one", policy="over_18", bound=1.0), {"below": 0.5, "worse_by_at_most": 0.2}),
    (Metric(kind="loss", loss="zero_one", policy="over_18", bound=1.0, least=0.5), {"below": 0.5, "worse_by_at_most": 0.3}),
    (Metric(kind="harm", policy="over_18", truth=True, decisions=("false",), least=0.5), {"below": 0.6, "worse_by_at_most": 0.4}),
    (Metric(kind="cost", policy="over_18", costs=COSTS, bound=10.0), {"below": 5.0, "worse_by_at_most": 3.0}),
    (Metric(kind="missing"), {"below": 0.3}), (Metric(kind="errors"), {"below": 0.3}),
    (Metric(kind="action", policy="over_18", decisions=("true",)), {"below": 0.9, "within": 0.4}),
    (Metric(kind="latency", quantile=0.9), {"below": 90.0}),
    (Metric(kind="difference", output="age", bound=120.0), {"below": 9.0, "above": -9.0, "within": 12.0}),
    (Metric(kind="difference", output="age", bound=120.0, quantile=0.9), {"below": 20.0, "above": -20.0, "within": 20.0}),
    (Metric(kind="disagreement", output="age", tolerance=2.0), {"below": 0.95}),
    (Metric(kind="excess_disagreement", policy="over_18", share=0.5), {"below": 0.4}),
]
PLANNED = LookPlan(maximum=600, looks=3)


class OurTable(MetricContract):
    """Two age estimators, a replica that is asked about half of the events, and a propensity beside each label."""

    def table(self, rng: np.random.Generator, n: int) -> PairTable:
        rows = ages(rng, n, World(missing=0.05))
        asked = rng.random(n) < 0.5
        said = np.where(rng.random(n) < 0.1, 1 - rows["over_18.incumbent"], rows["over_18.incumbent"])
        columns = {**rows.columns, "over_18.replica": np.where(asked, said, -1).astype(np.int32),
                   "missing.replica": np.where(asked, -1, 0).astype(np.int32),
                   "propensity": np.where(rows["label_time"] >= 0, 0.8, np.nan)}
        return PairTable(columns, rows.words)


class TestOurMetrics(OurTable):
    """All kinds, with each word that they take."""

    def gates(self) -> Sequence[Gate]:
        return [Gate(name=f"{metric.kind} {word} {k}", metric=metric, word=word, limit=limit)
                for k, (metric, asked) in enumerate(ASKED) for word, limit in asked.items()]


class TestOurOtherMethods(OurTable):
    """The closed form of a rate, and planned looks."""

    def gates(self) -> Sequence[Gate]:
        return [Gate(name="closed form", metric=ASKED[0][0], word="below", limit=0.3, method="beta-binomial"),
                Gate(name="planned", metric=LOSS, word="worse_by_at_most", limit=12.0, method="group_sequential", plan=PLANNED)]


def test_every_kind_of_pairs_is_in_the_suite():
    """A kind that is added must be added here too; online metrics are no contributions of pairs."""
    known = {metric.kind for metric, _ in ASKED}
    assert known >= LABELLED_KINDS | CLASS_KINDS
    assert {"flip", "online", "python"} <= documented() <= known | ONLINE_KINDS | {"python"}


def documented() -> set[str]:
    """The kinds that the docstring of `Metric` lists, at the beginning of a line each."""
    listed = cleandoc(Metric.__doc__ or "").split("what it reads:")[1].split("A kind that")[0]
    return {kind for kinds in re.findall(r"^ {2}(\w+(?:, \w+)*)  ", listed, re.M) for kind in kinds.split(", ")}


@pytest.mark.parametrize(("wrong", "test"), [
    (Metric(kind="loss", loss="absolute_error", output="age", truth_name="age", bound=2.0), "test_numbers_stay_in_their_range"),
    (Metric(kind="no such kind"), "test_each_gate_can_be_computed"),
])
def test_the_suite_finds_a_metric_that_is_wrong(wrong, test):
    """A suite that cannot fail is worth nothing."""
    class Wrong(OurTable):
        def gates(self) -> Sequence[Gate]:
            return [Gate(name="wrong", metric=wrong, word="below", limit=1.0)]

    with pytest.raises(AssertionError, match="wrong"):
        getattr(Wrong(), test)()
