"""The plans of group sequential gates: which gates may have one, and what it must say."""

from __future__ import annotations

from analysis.staged import LEAST
from analysis.types import LookPlan, Metric
from harness.config import gatewords as words
from harness.config.metrics import Scope
from harness.config.problems import Problems, Steps

_WORDS = ("below", "above", "worse_by_at_most", "better_by_more_than")
_PARAMETERS = {"power": (0.0, 20.0), "hwang_shih_decani": (-40.0, 40.0), "wang_tsiatis": (-0.5, 0.5)}
_NUMBERS = (words.DifferenceMetric, words.CostMetric, words.ExcessDisagreementMetric, words.PythonMetric)


def plan_of(gate: words.GateWords) -> LookPlan | None:
    """The plan as the analysis takes it."""
    plan = gate.plan
    if plan is None:
        return None
    return LookPlan(maximum=plan.maximum, looks=plan.looks, spending=plan.spending, parameter=plan.parameter)


def check(word: str, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """Whether a group sequential gate asks for a mean that is normal in time, and its plan is whole."""
    where = (*path, "method")
    if gate.plan is None:
        problems.absent((*path, "plan"), "is missing; expected {maximum: units, looks: how many}, fixed before the start")
    others = (words.LatencyMetric, words.OnlineMetric, words.SampleRatioMetric)
    if isinstance(gate.metric, others) or (metric is not None and _of_quantile(metric)):
        problems.add(where, "got group_sequential, which is for means and shares of pairs; expected mixture")
    elif word not in _WORDS:
        problems.add(where, f"got group_sequential, which takes one limit, not {word}; expected mixture")
    elif metric is not None and metric.weighted:
        problems.add(where, "got group_sequential, which counts labels; with a propensity they are weighted: expected mixture")
    if gate.plan is not None:
        _check_plan(word, gate, gate.plan, path, problems)


def _of_quantile(metric: Metric) -> bool:
    return metric.kind == "difference" and metric.quantile is not None


def _check_plan(word: str, gate: words.GateWords, plan: words.PlanWords, path: Steps, problems: Problems) -> None:
    where = (*path, "plan", "parameter")
    span = _PARAMETERS.get(plan.spending)
    if span is None and plan.parameter is not None:
        problems.add(where, f"is for {', '.join(_PARAMETERS)}; {plan.spending} has none")
    elif span is not None and plan.parameter is None:
        problems.absent(where, f"is missing; {plan.spending} needs one in [{span[0]:g}, {span[1]:g}]")
    elif span is not None and plan.parameter is not None and not span[0] <= plan.parameter <= span[1]:
        problems.add(where, f"got {plan.parameter:g}, {plan.spending} needs one in [{span[0]:g}, {span[1]:g}]")
    elif plan.spending == "power" and plan.parameter == 0.0:
        problems.add(where, "got 0, which spends all at once; expected a power over 0")
    limit = gate.limits.get(word)
    share = not isinstance(gate.metric, _NUMBERS) and not (isinstance(gate.metric, words.LossMetric) and gate.metric.loss != "zero_one")
    if share and word in ("below", "above") and isinstance(limit, (int, float)) and 0 < limit < 1:
        rare = min(limit, 1 - limit)
        if plan.maximum * rare < LEAST:
            said = f"got {plan.maximum}, of which {plan.maximum * rare:.3g} at the limit are of the rarer kind; a normal needs {LEAST}"
            problems.add((*path, "plan", "maximum"), f"{said}: expected at least {round(LEAST / rare)}, or method: mixture")


def check_segments(each: tuple[tuple[str, ...], ...], path: Steps, scope: Scope, problems: Problems) -> None:
    """Every value must be listed: one that turns up later has no share of the levels that a plan could spend."""
    for name in dict.fromkeys(name for item in each for name in item):
        segment = scope.segments.usable.get(name)
        if segment is not None and segment.listed is None:
            problems.add((*path, "each"), f"`{name}` lists no values; a gate with a plan needs events.segments.{name}.values")
