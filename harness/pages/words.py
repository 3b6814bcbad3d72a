"""The words of the pages: what a gate asks, what a class of truth is called, what each reason means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.types import Gate, Metric
from harness.core.rollout import TRUE_FALSE, Harm, Policy, Rollout
from harness.pages.numbers import figures, scale_of

REASONS: Mapping[str, str] = {
    "insufficient": "not enough evidence yet",
    "no_support": "some combination of decisions has no label at all",
    "stale": "the newest data is too old",
    "unpaired": "too few events have an answer of both lanes",
    "compute_error": "the number could not be computed",
    "noise_too_high": "the incumbent differs from its own copy as much",
    "sample_ratio": "the split of traffic is not what was configured",
    "changed": "the gate or a model changed, so the evidence starts again",
    "overrun": "events were deleted before they were read",
}
RESULTS: Mapping[str, tuple[str, str]] = {"pass": ("✓", "passes"), "fail": ("✕", "fails"), "undecided": ("?", "cannot tell")}
ON_FAIL: Mapping[str, str] = {"rollback": "a fail stops the rollout", "hold": "a fail holds", "report": "reported only"}
LOSSES: Mapping[str, str] = {
    "absolute_error": "mean absolute error",
    "squared_error": "mean squared error",
    "log_loss": "log loss",
    "zero_one": "wrong decisions",
}
ADULT = 18


def humanised(name: str) -> str:
    """A name of the config as words: violation_missed -> violation missed, missed_at_0_5 -> missed at 0.5."""
    return " ".join(re.sub(r"(?<!\d)0_(?=\d)", "0.", name).replace("_", " ").split())


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""


def segment_words(segment: Mapping[str, str]) -> str:
    """gender female, platform tv."""
    return ", ".join(f"{humanised(name)} {value}" for name, value in segment.items())


def asked_gates(rollout: Rollout, verdict: Mapping[str, Any]) -> tuple[Gate, ...]:
    """The gates that a verdict speaks of: those of its stage; of the first one where it names none, as that of a table alone."""
    stage = verdict.get("stage_index") or 0
    return rollout.gates_of(stage) if stage < len(rollout.stages) else rollout.gates


def gate_asks(rollout: Rollout, gate: Gate) -> str:
    """A gate in words: what is measured and where it must stay."""
    scale = scale_of(rollout, gate)
    limit = f"{figures(gate.limit * scale.factor)} {scale.unit}".strip()
    words = {
        "below": f"below {limit}",
        "above": f"above {limit}",
        "worse_by_at_most": f"worse by at most {limit}",
        "better_by_more_than": "better" if gate.limit == 0 else f"better by more than {limit}",
        "within": f"within {limit} either way",
    }
    return f"{metric_words(rollout, gate.metric)}: {words[gate.word]}"


def metric_words(rollout: Rollout, metric: Metric) -> str:
    """What a metric measures."""
    policy = humanised(metric.policy or "")
    match metric.kind:
        case "harm":
            return harm_words(rollout, metric)
        case "flip":
            if metric.from_ is None and metric.to is None:
                return f"changed decisions of {policy}"
            return f"decisions of {policy} from {metric.from_ or 'any'} to {metric.to or 'any'}"
        case "loss":
            return f"{LOSSES.get(metric.loss or '', humanised(metric.loss or ''))} of {policy or humanised(metric.output or '')}"
        case "precision" | "recall":
            return f"{metric.kind} of {policy}"
        case "missing":
            return f"events without an answer of the {metric.lane}"
        case "errors":
            return f"errors of the {metric.lane}"
        case "latency":
            return f"latency of the {metric.lane}, p{(metric.quantile or 0.0) * 100:g}"
        case "difference":
            which = "mean" if metric.quantile is None else f"p{metric.quantile * 100:g} of the"
            return f"{which} difference of {humanised(metric.output or '')}"
        case "action":
            return f"decisions {listed(metric.decisions, 'or')} of {policy} by the {metric.lane}"
        case "python":
            return humanised(metric.name or "")
        case "online":
            return f"{humanised(metric.measure or '')} of the challenger's units against the incumbent's"
        case "sample_ratio":
            return "share of units that the challenger serves, beyond the configured one"
        case "cost":
            return "mean cost of harms"
        case "disagreement":
            return f"different answers on {humanised(metric.output or '')}"
        case "excess_disagreement":
            return f"changed decisions of {policy} beyond the incumbent's own noise"
    return humanised(metric.kind)


def harm_metric(harm: Harm) -> Metric:
    """A harm of the config as the metric that counts it."""
    return Metric(kind="harm", policy=harm.policy, truth=harm.truth, decisions=harm.decisions)


def harm_words(rollout: Rollout, metric: Metric) -> str:
    """The harm's own name, or that of its generic form."""
    for harm in rollout.harms.values():
        if (harm.policy, harm.truth, harm.decisions) == (metric.policy, metric.truth, metric.decisions):
            return humanised(harm.name)
    kind = ("false negatives" if metric.truth else "false positives") if _wrong(metric) else None
    return f"{kind or listed(metric.decisions, 'or')} of {humanised(metric.policy or '')}"


def _wrong(metric: Metric) -> bool:
    """Whether the one decision of a harm is the other class than its truth."""
    return metric.decisions == (TRUE_FALSE[not metric.truth],)


def is_age(rollout: Rollout, policy: Policy) -> bool:
    """Whether the policy cuts a number of years at one line for everybody, so that its classes are people under and over an age."""
    output, line = rollout.outputs[policy.output], policy.lines.get("truth")
    return output.type == "number" and output.unit == "years" and line is not None and line.by is None


def class_words(rollout: Rollout, policy: Policy, truth: bool, *, boolean: bool) -> str:
    """Who is in a class of truth: what the config calls it, else under-13s, adults, or events of which the truth says so."""
    if policy.classes is not None:
        return policy.classes[truth]
    line, output = policy.lines.get("truth"), rollout.outputs[policy.output]
    if is_age(rollout, policy) and line is not None and not boolean:
        if not truth:
            return f"under-{line.default:g}s"
        return "adults" if line.default == ADULT else f"people of {line.default:g} or older"
    name = humanised(rollout.truth_of(policy.output) or policy.output)
    if boolean or line is None or output.type == "label":
        return f"events with {name} {str(truth).lower()}"
    if line.by is not None:
        return f"events {'at or over' if truth else 'under'} their line of {name}"
    unit = f" {output.unit}" if output.unit else ""
    return f"events with {name} {'of' if truth else 'under'} {line.default:g}{unit}{' or more' if truth else ''}"


def decided_words(rollout: Rollout, policy: Policy, truth: bool, decisions: Sequence[str], *, boolean: bool) -> str:
    """What would happen to them: as the config says it, else would pass as 13 or older; would be “violation missed”."""
    if decisions and all(word in policy.says for word in decisions):
        return f"would {listed([policy.says[word] for word in decisions], 'or')}"
    line = policy.lines.get("truth")
    if is_age(rollout, policy) and line is not None and not boolean and policy.decisions == TRUE_FALSE:
        passes = tuple(decisions) == ("true",)
        return f"would pass as {line.default:g} or older" if passes else f"would be taken for under {line.default:g}"
    metric = Metric(kind="harm", policy=policy.name, truth=truth, decisions=tuple(decisions))
    if any((h.policy, h.truth, h.decisions) == (policy.name, truth, metric.decisions) for h in rollout.harms.values()):
        return f"would be “{harm_words(rollout, metric)}”"
    return f"would be decided {listed([f'“{word}”' for word in decisions], 'or')} by {humanised(policy.name)}"


def place_words(found: Mapping[str, Any]) -> str:
    """Where a rollout stands, of its verdict or status: as in `canary, 10 % of units served by the challenger, paused`."""
    served = f", {found['percent']:g} % of units served by the challenger" if found.get("percent") else ""
    standing = found.get("standing", "running")
    return f"{humanised(str(found['stage']))}{served}" + ("" if standing == "running" else f", {humanised(standing)}")


def label_words(labels: Mapping[str, int] | None) -> str:
    """How many labels a row stands on, in words; empty where requests are not recorded."""
    if labels is None:
        return ""
    said = f"labels: {labels['requested']:,} asked for, {labels['labelled']:,} came"
    return said + (f", {labels['pending']:,} wait and count as the worst for either side" if labels["pending"] else "")
