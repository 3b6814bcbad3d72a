"""Gates that are read by asymptotic confidence sequences: which may be, and what they must say."""

from __future__ import annotations

from analysis.types import Metric
from harness.config import gatewords as words
from harness.config.problems import Problems, Steps

LEAST = 100
_OF_NUMBERS = "asymptotic is for online metrics, absolute_error, squared_error and difference: mean"


def takes_any_number(gate: words.GateWords) -> bool:
    """Whether the gate needs no range of its output."""
    metric = gate.metric
    numbers = isinstance(metric, words.LossMetric) and metric.loss in ("absolute_error", "squared_error")
    means = isinstance(metric, words.DifferenceMetric) and metric.difference == "mean"
    return gate.method == "asymptotic" and (numbers or means)


def check(gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """Whether the gate's mean becomes normal, and its tuning is whole; of another method, that it has none."""
    said = [key for key in ("decide_at", "burn_in") if key in gate.model_fields_set]
    if gate.method != "asymptotic":
        for key in said:
            problems.add((*path, key), f"is for method: asymptotic, got {gate.method}")
        return
    where, arms = (*path, "method"), isinstance(gate.metric, words.OnlineMetric)
    if not arms and not takes_any_number(gate):
        problems.add(where, f"got asymptotic, which is wrong for shares that may be rare; {_OF_NUMBERS}: expected mixture")
    elif metric is not None and metric.weighted:
        problems.add(where, "got asymptotic, which counts labels; with a propensity they are weighted: expected mixture")
    if gate.unit != "first":
        problems.add((*path, "unit"), f"got {gate.unit}; asymptotic takes each unit once, at its first event; expected first")
    least = gate.burn_in * (2 if arms else 1)
    if gate.decide_at is None:
        problems.absent((*path, "decide_at"), "is missing; expected about how many units it will take (`shadow plan` tells)")
    elif gate.decide_at < least:
        said_of = f"{gate.burn_in} units of each arm" if arms else f"{gate.burn_in} units"
        problems.add((*path, "decide_at"), f"got {gate.decide_at}, but nothing is said before {said_of}; expected at least {least}")
