"""The second pass for gates: a metric with every name resolved, and a limit that fits it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analysis.types import CLASS_KINDS, Gate, Metric, Word
from harness.config import durations, plans
from harness.config import gatewords as words
from harness.config.metrics import Scope, metric_of
from harness.config.problems import Problems, Steps, listed, shown
from harness.config.words import Words

_FINEST = 1e-6  # of a number's bound: finer limits need more than 10^12 events
_OF_RATE = ("below", "above")
_OF_ARMS = (words.OnlineMetric, words.SampleRatioMetric)
_OF_LABELS = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
_WORDS: dict[type[Words], tuple[str, ...]] = {
    words.FlipMetric: _OF_RATE,
    words.DisagreementMetric: _OF_RATE,
    words.ExcessDisagreementMetric: ("below",),
    words.MissingMetric: ("below",),
    words.ErrorsMetric: ("below",),
    words.LatencyMetric: ("below",),
    words.DifferenceMetric: ("below", "above", "within"),
    words.OnlineMetric: ("worse_by_at_most", "better_by_more_than", "within"),
    words.SampleRatioMetric: ("within",),
    words.PrecisionMetric: _OF_RATE,  # the two models decide `true` of different events: there are no pairs to compare
}
_MEANING = {
    "below": "the value it must stay under",
    "above": "the value it must stay over",
    "worse_by_at_most": "largest tolerated worsening",
    "better_by_more_than": "smallest improvement that counts",
    "within": "largest difference that counts as equal",
}


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
    metric = metric_of(gate.metric, (*path, "metric"), scope, problems)
    if metric is not None and metric.labelled:
        metric = replace(metric, least=scope.least, requested=scope.requested)
    if metric is not None and metric.kind == "action" and metric.lane != "challenger" and not gate.limits.keys() <= set(_OF_RATE):
        asked = listed(list(gate.limits))
        problems.add((*path, "metric", "lane"), f"got {metric.lane}; {asked} compares the challenger with the incumbent")
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
    _unit(word, gate, metric, path, problems)
    _method(word, gate, metric, path, problems)
    if gate.method == "group_sequential":
        plans.check_segments(each, path, scope, problems)
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
        unit=gate.unit,
        method=gate.method,
        plan=plans.plan_of(gate),
        unit_window_us=None if gate.unit_window is None else int(gate.unit_window * 1e6),
    )


def _word(word: str) -> Word:
    known: tuple[Word, ...] = ("below", "above", "worse_by_at_most", "better_by_more_than", "within")
    return next(name for name in known if name == word)


# -------------------------------------------------------------------------------------------------------------------- limits
def _bound(gate: words.GateWords, metric: Metric | None) -> float | None:
    """The largest value that the gate's number can have; None when nobody knows."""
    if isinstance(gate.metric, words.LatencyMetric):
        return None
    if isinstance(gate.metric, (words.LossMetric, words.DifferenceMetric, words.CostMetric, words.OnlineMetric, words.PythonMetric)):
        return metric.bound if metric is not None else None
    return 1.0


def _scale(gate: words.GateWords) -> str:
    scales: dict[type[Words], str] = {
        words.LossMetric: "in the loss's unit", words.DifferenceMetric: "in the output's unit", words.CostMetric: "in the costs' unit",
        words.OnlineMetric: "in the measure's unit", words.PythonMetric: "in the metric's unit",
        words.SampleRatioMetric: "as a difference of shares",
    }  # fmt: skip
    return scales.get(type(gate.metric), "as a rate")


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
    if _of_quantile(gate):
        problems.add((*path, "expect"), "is for means; a quantile is gated by how many differences are over the limit")
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


def _of_quantile(gate: words.GateWords) -> bool:
    """Whether it speaks of a quantile of a difference."""
    return isinstance(gate.metric, words.DifferenceMetric) and gate.metric.difference != "mean"


def _discordance(word: str, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """P(the two models differ), or the variance of their difference for a loss of numbers."""
    if gate.discordance is None:
        return
    if _of_quantile(gate):
        problems.add((*path, "discordance"), "is for means; a quantile is gated by how many differences are over the limit")
        return
    numeric = isinstance(gate.metric, (words.DifferenceMetric, words.CostMetric, words.PythonMetric)) or (
        isinstance(gate.metric, words.LossMetric) and gate.metric.loss != "zero_one"
    )
    if word in _OF_RATE and not numeric:
        problems.add((*path, "discordance"), f"is for comparisons and numbers; `{word}` speaks of the rate of one model alone")
        return
    bound = _bound(gate, metric)
    if bound is not None and not _FINEST**2 * bound**2 <= gate.discordance <= bound**2:
        problems.add((*path, "discordance"), f"got {gate.discordance:g}, must be between {_FINEST**2 * bound**2:g} and {bound**2:g}")


def _unit(word: str, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """Whether the gate's number can be counted as `unit` says, and over which time."""
    if gate.unit == "first":
        if gate.unit_window is not None:
            problems.add((*path, "unit_window"), "is for unit: ever and unit: mean; the first event of a unit needs no window")
        return
    if isinstance(gate.metric, _OF_ARMS):
        problems.add((*path, "unit"), f"got {gate.unit}; a metric of a canary's arms has one number a unit; expected first")
        return
    if gate.unit_window is None:
        problems.absent((*path, "unit_window"), "is missing; expected how long from the first event of a unit it is watched, as in 7d")
    numbers = (words.DifferenceMetric, words.CostMetric, words.ExcessDisagreementMetric, words.PythonMetric)
    shares = isinstance(gate.metric, (words.LossMetric, *numbers))
    of_numbers = shares and not (isinstance(gate.metric, words.LossMetric) and gate.metric.loss == "zero_one")
    if isinstance(gate.metric, words.LatencyMetric) or _of_quantile(gate):
        what = "a latency is a quantile" if isinstance(gate.metric, words.LatencyMetric) else "this is a quantile"
        problems.add((*path, "unit"), f"got {gate.unit}, but {what} over events; expected first")
    elif gate.unit == "ever" and (word not in _OF_RATE or of_numbers):
        problems.add((*path, "unit"), "got ever, which is for the share of one model below or above a limit; expected first or mean")
    elif metric is not None and metric.weighted:
        problems.add((*path, "unit"), f"got {gate.unit}, but labels with a propensity are weighted one by one; expected first")


def _method(word: str, gate: words.GateWords, metric: Metric | None, path: Steps, problems: Problems) -> None:
    """Whether the method takes what the gate counts."""
    if gate.method == "group_sequential":
        plans.check(word, gate, metric, path, problems)
        return
    if gate.plan is not None:
        problems.add((*path, "plan"), f"is for method: group_sequential, got {gate.method}")
    if gate.method == "mixture":
        return
    others = (words.LatencyMetric, words.DifferenceMetric, words.CostMetric, words.ExcessDisagreementMetric, *_OF_ARMS)
    share = not isinstance(gate.metric, (*others, words.PythonMetric))
    numbers = isinstance(gate.metric, words.LossMetric) and gate.metric.loss != "zero_one"
    if not share or numbers or word not in _OF_RATE or gate.unit == "mean":
        problems.add((*path, "method"), f"got {gate.method}, which is for the share of one model below or above a limit; expected mixture")
    elif metric is not None and metric.weighted:
        problems.add((*path, "method"), f"got {gate.method}, which counts labels; with a propensity they are weighted: expected mixture")


def _each(gate: words.GateWords, metric: Metric | None, path: Steps, scope: Scope, problems: Problems) -> tuple[tuple[str, ...], ...]:
    """What the gate is split by, names checked."""
    where, found = (*path, "each"), [tuple(item) for item in gate.each or ()]
    if found and isinstance(gate.metric, _OF_ARMS):
        problems.add(where, "is for gates on pairs; exposures carry no segments")
        return ()
    for number, item in enumerate(found):
        for name in item:
            segment = scope.segments.find(name, where, problems)
            if segment is not None and segment.truth is not None and metric is not None and not metric.labelled:
                problems.add(where, f"`{name}` is a segment by truth, for gates on labels; {metric.kind} has no labels")
            elif segment is not None and segment.truth is not None and metric is not None and _of_all_pairs(metric):
                problems.add(where, f"`{name}` is a segment by truth; a {metric.kind} weighted by a propensity speaks of all pairs, and of "
                                    "those without a label nobody knows the segment: use a harm")
            elif segment is not None and segment.truth is not None and metric is not None and metric.requested:
                problems.add(where, f"`{name}` is a segment by truth, which nobody knows of an event whose label was asked for and has not "
                                    "come (outcomes.requested); expected segments of the event")
        if len(set(item)) < len(item) or item in found[:number]:
            problems.add(where, f"{' x '.join(item)} stands twice")
    return tuple(found)


def _of_all_pairs(metric: Metric) -> bool:
    """Whether its pairs without a label count too."""
    return metric.weighted and metric.kind not in CLASS_KINDS
