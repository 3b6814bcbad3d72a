"""The second pass for gates: a metric with every name resolved, and a limit that fits it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from analysis.types import CLASS_KINDS, Gate, Metric, Word
from harness.config import durations
from harness.config import gatewords as words
from harness.config.problems import Known, Problems, Steps, listed, shown
from harness.config.words import Words
from harness.core.rollout import Harm, Output, Policy, Segment

_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,4})?)\Z")
_LOG_LOSS_BOUND = 20.0
_FINEST = 1e-6  # of a number's bound: finer limits need more than 10^12 events
_OF_RATE = ("below", "above")
_OF_LABELS = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
_WORDS: dict[type[Words], tuple[str, ...]] = {
    words.FlipMetric: _OF_RATE,
    words.MissingMetric: ("below",),
    words.ErrorsMetric: ("below",),
    words.LatencyMetric: ("below",),
    words.DifferenceMetric: ("below", "above", "within"),
    words.PrecisionMetric: _OF_RATE,  # the two models decide `true` of different events: there are no pairs to compare
}
_MEANING = {
    "below": "the value it must stay under",
    "above": "the value it must stay over",
    "worse_by_at_most": "largest tolerated worsening",
    "better_by_more_than": "smallest improvement that counts",
    "within": "largest difference that counts as equal",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What a gate may speak of. truths: names of the outcome's truths, None when that is broken. least: the least propensity of a label,
    None where none is declared."""

    outputs: Known[Output]
    policies: Known[Policy]
    harms: Known[Harm]
    segments: Known[Segment]
    lanes: tuple[str, ...]
    truths: frozenset[str] | None
    least: float | None = None


def gates(shaped: dict[int, words.GateWords], scope: Scope, problems: Problems) -> tuple[Gate, ...]:
    """Every gate that can be used; the others are in `problems`."""
    found: list[Gate] = []
    names: set[str] = set()
    for number, gate in shaped.items():
        path: Steps = ("gates", number)
        if gate.name in names:
            problems.add((*path, "name"), f"`{gate.name}` stands twice; results are told apart by name")
        names.add(gate.name)
        built = _gate(gate, path, scope, problems)
        if built is not None:
            found.append(built)
    return tuple(found)


def _gate(gate: words.GateWords, path: Steps, scope: Scope, problems: Problems) -> Gate | None:
    metric = _metric(gate.metric, (*path, "metric"), scope, problems)
    if metric is not None and metric.labelled:
        metric = replace(metric, least=scope.least)
    each = _each(gate, metric, path, scope, problems)
    said = gate.limits
    if not said:
        problems.absent(path, f"has no limit; expected one of {listed(words.LIMITS)}")
    if len(said) > 1:
        problems.add(path, f"got {' and '.join(said)}, a gate has one of {listed(words.LIMITS)}")
    if len(said) != 1:
        return None
    word = next(iter(said))
    allowed = _WORDS.get(type(gate.metric), _OF_LABELS)
    if word not in allowed:
        kind = next(iter(gate.metric.model_fields_set & words.METRICS.keys()))
        problems.add((*path, word), f"not available for {kind}; expected {listed(allowed)}")
        return None
    limit = _limit(word, said[word], gate, metric, path, problems)
    expect = _expect(word, limit, gate, metric, path, problems)
    _discordance(word, gate, metric, path, problems)
    if metric is None or limit is None:
        return None
    return Gate(
        name=gate.name,
        metric=metric,
        word=_word(word),
        limit=limit,
        each=each,
        on_fail=gate.on_fail,
        dry_run=gate.dry_run,
        alpha=gate.alpha,
        expect=expect,
        discordance=gate.discordance,
        min_units=gate.min_units,
        small=gate.small,
    )


def _word(word: str) -> Word:
    known: tuple[Word, ...] = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
    return next(name for name in known if name == word)


# ------------------------------------------------------------------------------------------------------------------ metrics
def _metric(metric: Any, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
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
    match = _QUANTILE.match(metric.latency)
    quantile = float(match.group(1)) / 100 if match else 0.0
    if not 0 < quantile < 1:
        problems.add((*path, "latency"), f"got {shown(metric.latency)}, expected a quantile as in p50, p95, p99 or p99.9")
    if not _lane(metric.lane, (*path, "lane"), scope, problems) or not 0 < quantile < 1:
        return None
    return Metric(kind="latency", lane=metric.lane, quantile=quantile)


def _difference(metric: words.DifferenceMetric, path: Steps, scope: Scope, problems: Problems) -> Metric | None:
    if metric.difference != "mean":
        problems.add((*path, "difference"), f"got {shown(metric.difference)}, not available in this version; expected mean")
    output = scope.outputs.find(metric.output, (*path, "output"), problems)
    span = _span(output, "difference", (*path, "output"), problems)
    return Metric(kind="difference", output=output.name, bound=span) if output is not None and span is not None else None


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


# -------------------------------------------------------------------------------------------------------------------- limits
def _bound(gate: words.GateWords, metric: Metric | None) -> float | None:
    """The largest value that the gate's number can have; None when nobody knows."""
    if isinstance(gate.metric, words.LatencyMetric):
        return None
    if isinstance(gate.metric, (words.LossMetric, words.DifferenceMetric)):
        return metric.bound if metric is not None else None
    return 1.0


def _scale(gate: words.GateWords) -> str:
    return {words.LossMetric: "in the loss's unit", words.DifferenceMetric: "in the output's unit"}.get(type(gate.metric), "as a rate")


def _limit(word: str, value: Any, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> float | None:
    """The limit as a number, latencies in milliseconds; None after reporting why not."""
    where = (*path, word)
    number = _number(value, gate, where, problems)
    if number is None:
        return None
    meaning = f"({_MEANING[word]}, {_scale(gate)})"
    if isinstance(gate.metric, words.LatencyMetric):
        if not number > 0:
            problems.add(where, f"got {value}, must be longer than 0")
            return None
        return number
    bound, low = _bound(gate, metric), 0.0
    if isinstance(gate.metric, words.DifferenceMetric) and word != "within":
        low = -bound if bound is not None else float("-inf")
    if number < low or (number == low and word != "better_by_more_than"):
        problems.add(where, f"got {value:g}, must be {'>=' if word == 'better_by_more_than' else '>'} {low:g} {meaning}")
        return None
    if bound is not None and number >= bound:
        problems.add(where, f"got {value:g}, must be < {bound:g} {meaning}")
        return None
    finest = _FINEST * (bound or 1.0)
    if 0 < abs(number) < finest or (bound is not None and bound - number < finest):
        problems.add(where, f"got {value:g}, which no number of events tells from {0 if abs(number) < finest else bound:g} {meaning}")
        return None
    return number


def _number(value: Any, gate: words.GateWords, path: Steps, problems: Problems) -> float | None:
    if isinstance(gate.metric, words.LatencyMetric):
        try:
            return durations.milliseconds(value)
        except ValueError as error:
            problems.add(path, str(error))
            return None
    if isinstance(value, str):
        problems.add(path, f"got {shown(value)}, expected a number (a duration is for latency)")
        return None
    return float(value)


def _expect(word: str, limit: float | None, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> float | None:
    """What the gate is designed for: on the side of its limit where it passes."""
    if gate.expect is None:
        return None
    where = (*path, "expect")
    number = _number(gate.expect, gate, where, problems)
    if number is None or limit is None:
        return number
    sides = {
        "below": (number < limit, f"< {limit:g} (its limit)"),
        "above": (number > limit, f"> {limit:g} (its limit)"),
        "worse_by_at_most": (number > -limit, f"> {-limit:g} (improvement over the incumbent; a worsening is negative)"),
        "better_by_more_than": (number > limit, f"> {limit:g} (its limit)"),
        "within": (abs(number) < limit, f"between {-limit:g} and {limit:g}"),
    }
    right, expected = sides[word]
    lines = {"worse_by_at_most": (-limit,), "within": (-limit, limit)}.get(word, (limit,))
    bound = _bound(gate, metric)
    signed = word not in _OF_RATE or isinstance(gate.metric, words.DifferenceMetric)
    if not right:
        problems.add(where, f"got {gate.expect}, must be {expected}, or the gate could never pass")
    elif bound is not None and not (-bound if signed else 0.0) <= number <= bound:
        problems.add(where, f"got {gate.expect}, must be between {-bound if signed else 0:g} and {bound:g}")
    elif bound is not None and min(abs(number - line) for line in lines) < _FINEST * bound:
        problems.add(where, f"got {gate.expect}, which no number of events tells from the limit {limit:g}")
    return number


def _discordance(word: str, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """P(the two models differ), or the variance of their difference for a loss of numbers."""
    if gate.discordance is None:
        return
    numeric = isinstance(gate.metric, words.DifferenceMetric) or (
        isinstance(gate.metric, words.LossMetric) and gate.metric.loss != "zero_one"
    )
    if word in _OF_RATE and not numeric:
        problems.add((*path, "discordance"), f"is for comparisons and numbers; `{word}` speaks of the rate of one model alone")
        return
    bound = _bound(gate, metric)
    if bound is not None and not _FINEST**2 * bound**2 <= gate.discordance <= bound**2:
        problems.add((*path, "discordance"), f"got {gate.discordance:g}, must be between {_FINEST**2 * bound**2:g} and {bound**2:g}")


def _each(gate: words.GateWords, metric: Metric | None, path: Steps, scope: Scope, problems: Problems) -> tuple[tuple[str, ...], ...]:
    """What the gate is split by, names checked."""
    where, found = (*path, "each"), [tuple(item) for item in gate.each or ()]
    for number, item in enumerate(found):
        for name in item:
            segment = scope.segments.find(name, where, problems)
            if segment is not None and segment.truth is not None and metric is not None and not metric.labelled:
                problems.add(where, f"`{name}` is a segment by truth, for gates on labels; {metric.kind} has no labels")
            elif segment is not None and segment.truth is not None and metric is not None and _of_all_pairs(metric):
                problems.add(where, f"`{name}` is a segment by truth; a {metric.kind} weighted by a propensity speaks of all pairs, and of "
                                    "those without a label nobody knows the segment: use a harm")
        if len(set(item)) < len(item) or item in found[:number]:
            problems.add(where, f"{' x '.join(item)} stands twice")
    return tuple(found)


def _of_all_pairs(metric: Metric) -> bool:
    """Whether its pairs without a label count too."""
    return metric.weighted and metric.kind not in CLASS_KINDS
