"""The second pass for metrics: every name of a gate's metric resolved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.metrics import plugins
from analysis.types import InputError, Metric
from harness.config import gatewords as words
from harness.config.problems import Known, Problems, Steps, listed, shown
from harness.core.rollout import Harm, Measure, Output, Policy, Segment

_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,4})?)\Z")
_LOG_LOSS_BOUND = 20.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What a gate may speak of. truths: names of the outcome's truths, None when that is broken. least: the least propensity of a label,
    None where none is declared. requested: whether it is recorded that labels were asked for. replica_share: of the events that the
    replica is asked about, None without a replica. measures: what is measured online. exposed: whether production says which arm served
    a unit."""

    outputs: Known[Output]
    policies: Known[Policy]
    harms: Known[Harm]
    segments: Known[Segment]
    lanes: tuple[str, ...]
    truths: frozenset[str] | None
    least: float | None = None
    requested: bool = False
    replica_share: float | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)
    exposed: bool = False


def metric_of(metric: Any, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    """The metric with its names resolved; None after reporting why not."""
    match metric:
        case words.FlipMetric():
            return _flip(metric, path, scope, problems)
        case words.HarmMetric(harm=name):
            harm = scope.harms.find(name, (*path, "harm"), problems)
            policy = scope.policies.usable.get(harm.policy) if harm else None
            if harm is None or policy is None or not _judged(policy.output, path, scope, problems):
                return None
            return Metric(kind="harm", policy=policy.name, truth=harm.truth, decisions=harm.decisions)
        case words.FalsePositiveMetric(false_positive_rate=name):
            return _rate("false_positive_rate", name, Metric(kind="harm", truth=False, decisions=("true",)), path, scope, problems)
        case words.FalseNegativeMetric(false_negative_rate=name):
            return _rate("false_negative_rate", name, Metric(kind="harm", truth=True, decisions=("false",)), path, scope, problems)
        case words.PrecisionMetric(precision=name):
            return _rate("precision", name, Metric(kind="precision"), path, scope, problems)
        case words.RecallMetric(recall=name):
            return _rate("recall", name, Metric(kind="recall"), path, scope, problems)
        case words.LossMetric():
            return _loss(metric, path, scope, problems)
        case words.MissingMetric(missing=lane):
            return Metric(kind="missing", lane=lane) if _lane(lane, (*path, "missing"), scope, problems) else None
        case words.ErrorsMetric(errors=lane):
            return Metric(kind="errors", lane=lane) if _lane(lane, (*path, "errors"), scope, problems) else None
        case words.LatencyMetric():
            return _latency(metric, path, scope, problems)
        case words.DifferenceMetric():
            return _difference(metric, path, scope, problems)
        case words.ActionMetric():
            return _action(metric, path, scope, problems)
        case words.PythonMetric():
            return _python(metric, path, scope, problems)
        case words.CostMetric():
            return _cost(metric, path, scope, problems)
        case words.DisagreementMetric():
            return _disagreement(metric, path, scope, problems)
        case words.ExcessDisagreementMetric():
            return _excess(metric, path, scope, problems)
        case words.OnlineMetric():
            return _online(metric, path, scope, problems)
        case words.SampleRatioMetric():
            if not scope.exposed:
                problems.add((*path, "sample_ratio"), "needs `exposures`, where production says which arm served a unit")
                return None
            return Metric(kind="sample_ratio")
    problems.add(path, "unknown metric")
    return None


def _flip(metric: words.FlipMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    policy = scope.policies.find(metric.flip, (*path, "flip"), problems)
    if policy is None:
        return None
    for key, word in (("from", metric.from_), ("to", metric.to)):
        if word is not None and word not in policy.decisions:
            problems.add((*path, key), f"the policy {policy.name} never says `{word}`; expected {listed(policy.decisions)}")
    if metric.from_ is not None and metric.from_ == metric.to:
        problems.add((*path, "to"), f"got `{metric.to}`, the same as `from`; that is no flip")
    return Metric(kind="flip", policy=policy.name, from_=metric.from_, to=metric.to)


def _rate(key: str, name: str, shape: Metric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    """A generic rate of a policy that says true or false."""
    policy = scope.policies.find(name, (*path, key), problems)
    if policy is None or not _two_valued(policy, key, (*path, key), problems) or not _judged(policy.output, path, scope, problems):
        return None
    return Metric(kind=shape.kind, policy=policy.name, truth=shape.truth, decisions=shape.decisions)


def _loss(metric: words.LossMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    needed, other = ("policy", "output") if metric.loss == "zero_one" else ("output", "policy")
    if getattr(metric, other) is not None:
        problems.add((*path, other), f"{metric.loss} is a loss of one {needed}, not of one {other}")
    name = getattr(metric, needed)
    if name is None:
        problems.absent((*path, needed), f"is missing; expected the {needed} that {metric.loss} judges")
        return None
    if metric.loss == "zero_one":
        policy = scope.policies.find(name, (*path, "policy"), problems)
        if policy is None or not _two_valued(policy, "zero_one", (*path, "policy"), problems):
            return None
        judged = _judged(policy.output, path, scope, problems)
        return Metric(kind="loss", loss="zero_one", policy=policy.name, bound=1.0) if judged else None
    output = scope.outputs.find(name, (*path, "output"), problems)
    span = _span(output, metric.loss, (*path, "output"), problems)
    if output is None or span is None or not _judged(output.name, path, scope, problems):
        return None
    if metric.loss == "log_loss" and output.range != (0.0, 1.0):
        problems.add((*path, "output"), f"log_loss needs a probability; declare outputs.{output.name}.range: [0, 1]")
        return None
    bound = {"absolute_error": span, "squared_error": span**2, "log_loss": _LOG_LOSS_BOUND}[metric.loss]
    return Metric(kind="loss", loss=metric.loss, output=output.name, truth_name=_truth(output.name, scope), bound=bound)


def _latency(metric: words.LatencyMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    quantile = _quantile(metric.latency)
    if not 0 < quantile < 1:
        problems.add((*path, "latency"), f"got {shown(metric.latency)}, expected a quantile as in p50, p95, p99 or p99.9")
    if not _lane(metric.lane, (*path, "lane"), scope, problems) or not 0 < quantile < 1:
        return None
    return Metric(kind="latency", lane=metric.lane, quantile=quantile)


def _difference(metric: words.DifferenceMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    quantile = None if metric.difference == "mean" else _quantile(metric.difference)
    if quantile == 0.0:
        problems.add((*path, "difference"), f"got {shown(metric.difference)}, expected mean or a quantile as in p50, p95, p99 or p99.9")
    output = scope.outputs.find(metric.output, (*path, "output"), problems)
    span = _span(output, "difference", (*path, "output"), problems)
    if output is None or span is None or quantile == 0.0:
        return None
    return Metric(kind="difference", output=output.name, bound=span, quantile=quantile)


def _quantile(word: str) -> float:
    """The quantile that a word as p95 names, 0 where it names none."""
    match = _QUANTILE.match(word)
    return round(float(match.group(1)) / 100, 12) if match else 0.0


def _action(metric: words.ActionMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    policy = scope.policies.find(metric.action, (*path, "action"), problems)
    if metric.lane == "replica":
        problems.add((*path, "lane"), "got replica, which is not asked about every pair; expected challenger or incumbent")
    if policy is None:
        return None
    known = policy.decisions
    if not policy.recorded:  # what production really did may be a word of its own
        for word in metric.decision:
            if word not in known:
                problems.add((*path, "decision"), f"the policy {policy.name} never says `{word}`; expected {listed(known)}")
    return Metric(kind="action", policy=policy.name, decisions=tuple(metric.decision), lane=metric.lane)


def _python(metric: words.PythonMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    """The metric of an installed package: made here once, so that a name or an option that is wrong is told before the start."""
    options = tuple(sorted(metric.with_.items()))
    try:
        found = plugins.made(metric.python, options)
    except InputError as error:
        problems.add((*path, "python"), str(error))
        return None
    if found.labelled and scope.truths is not None and not scope.truths:
        problems.add(path, "needs labels, and there is no `outcomes` section that says where they come from")
    version, bound = plugins.version_of(metric.python), float(found.bound)
    return Metric(kind="python", name=metric.python, options=options, version=version, bound=bound, needs_labels=found.labelled)


def _cost(metric: words.CostMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    costs = []
    for name, weight in metric.cost.items():
        harm = scope.harms.find(name, (*path, "cost", name), problems)
        policy = scope.policies.usable.get(harm.policy) if harm else None
        if harm is not None and policy is not None and _judged(policy.output, (*path, "cost", name), scope, problems):
            costs.append((harm.policy, harm.truth, harm.decisions, weight))
    if len(costs) < len(metric.cost):
        return None
    judged = {policy for policy, *_ in costs}
    of_class = [sum(weight for _, truth, _, weight in costs if truth is side) for side in (False, True)]
    bound = max(of_class) if len(judged) == 1 else sum(of_class)
    return Metric(kind="cost", policy=judged.pop() if len(judged) == 1 else None, costs=tuple(costs), bound=bound)


def _disagreement(metric: words.DisagreementMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    output = scope.outputs.find(metric.disagreement, (*path, "disagreement"), problems)
    if output is None:
        return None
    if output.type == "label" and metric.tolerance is not None:
        problems.add((*path, "tolerance"), f"{output.name} is a label: two labels are equal or not")
    labels = output.labels if output.type == "scores" else ()
    return Metric(kind="disagreement", output=output.name, tolerance=metric.tolerance or 0.0, labels=labels)


def _excess(metric: words.ExcessDisagreementMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    policy = scope.policies.find(metric.excess_disagreement, (*path, "excess_disagreement"), problems)
    if scope.lanes and scope.replica_share is None:
        where = (*path, "excess_disagreement")
        problems.add(where, "needs a second copy of the incumbent; declare models.replica: {of: incumbent, percent: 5}")
    if policy is None or scope.replica_share is None:
        return None
    return Metric(kind="excess_disagreement", policy=policy.name, share=scope.replica_share)


def _online(metric: words.OnlineMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    measure = scope.measures.get(metric.online)
    if measure is None:
        known = f"expected {listed(list(scope.measures))}" if scope.measures else "the config measures nothing under `online`"
        problems.add((*path, "online"), f"unknown measure `{metric.online}`; {known}")
        return None
    return Metric(
        kind="online", measure=measure.name, type=measure.type, window_us=int(measure.window_s * 1e6), better=measure.better,
        bound=1.0 if measure.type == "binary" else None, absent=0.0 if measure.type == "mean" else None,
    )  # fmt: skip


def _span(output: Output | None, what: str, path: Steps, problems: Problems) -> float | None:
    """The largest possible difference of two values of a number output."""
    if output is None:
        return None
    if output.type != "number":
        problems.add(path, f"{what} needs an output of type number; {output.name} has the type {output.type}")
        return None
    if output.range is None:
        if not problems.is_broken(("outputs", output.name, "range")):
            problems.add(path, f"{what} needs a bound; declare outputs.{output.name}.range: [lowest, highest]")
        return None
    return output.range[1] - output.range[0]


def _lane(lane: str, path: Steps, scope: Scope, problems: Problems) -> bool:
    if scope.lanes and lane not in scope.lanes:
        problems.add(path, f"got `{lane}`, which models does not have")
    return lane in scope.lanes


def _two_valued(policy: Policy, what: str, path: Steps, problems: Problems) -> bool:
    if policy.choices:
        problems.add(path, f"{what} needs a policy of true and false; {policy.name} says {listed(policy.decisions)}: use a harm")
    return not policy.choices


def _truth(output: str, scope: Scope) -> str | None:
    truths = scope.truths or frozenset()
    return output if output in truths else next(iter(truths)) if len(truths) == 1 else None


def _judged(output: str, path: Steps, scope: Scope, problems: Problems) -> bool:
    """Whether a truth judges the output: that of its name, or the only one."""
    if scope.truths is None:
        return False
    if not scope.truths:
        problems.add(path, "needs labels, and there is no `outcomes` section that says where they come from")
        return False
    if _truth(output, scope) is None:
        problems.add(path, f"the output {output} has no truth; expected outcomes.truth.{output} (there are {listed(sorted(scope.truths))})")
        return False
    return True
