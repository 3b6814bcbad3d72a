"""What is refused: at which path, with which words, and nothing else said beside it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any

import pytest

FLIP = {"name": "new", "metric": {"flip": "over_18"}, "below": 0.1}


def gate(**changes: Any) -> dict[str, Any]:
    """A sixth gate with changes."""
    return {**FLIP, **changes}


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, str]]] = {  # name: (changes, path -> part of the message)
    # -------------------------------------------------------------------------------------------------------------- shape
    "unknown key": (("colour", "blue"), {"colour": "unknown key"}),
    "unknown key that is close": (("outcome", {}), {"outcome": "did you mean `outcomes`"}),
    "unknown key of a gate": (("gates.2.bellow", 0.05), {"gates.2.bellow": "did you mean `below`"}),
    "a typing error in the only limit": (("gates.2.bellow", 0.05, "gates.2.below", ...), {"gates.2.bellow": "`below`"}),
    "two problems at once": (
        ("gates.0.worse_by_at_most", -0.01, "pairing.window", "soon"),
        {"gates.0.worse_by_at_most": "got -0.01, must be > 0 (largest tolerated worsening", "pairing.window": "got 'soon'"},
    ),
    "shape and meaning in one gate": (
        ("gates.2.colour", 1, "gates.2.below", 2, "gates.2.metric.flip", "over_81"),
        {"gates.2.colour": "unknown key", "gates.2.below": "must be < 1", "gates.2.metric.flip": "did you mean `over_18`"},
    ),
    "no name": (("rollout", ...), {"rollout": "is missing"}),
    "a name with a slash": (("rollout", "a/b"), {"rollout": "got 'a/b'"}),
    "a name that is too long": (("rollout", "a" * 101), {"rollout": "at most 100"}),
    "no sample": (("sample", ...), {"sample": "is missing"}),
    "no gates": (("gates", ...), {"gates": "is missing"}),
    "gates that are a mapping": (("gates", {}), {"gates": "expected a list"}),
    "no pairing": (("pairing", ...), {"pairing": "is missing"}),
    "no window": (("pairing", {}), {"pairing.window": "is missing"}),
    "wrong duration": (("pairing.window", "30 parsecs"), {"pairing.window": "got '30 parsecs', expected a duration"}),
    "a duration without a unit": (("pairing.window", 30), {"pairing.window": "needs its unit, as in 30s"}),
    "a window of no time": (("pairing.window", "0s"), {"pairing.window": "at least 1ms"}),
    "percent over 100": (("sample.percent", 140), {"sample.percent": "got 140 percent, must be <= 100"}),
    "percent of 0": (("sample.percent", 0), {"sample.percent": "must be > 0"}),
    "percent that is true": (("sample.percent", True), {"sample.percent": "got true, expected a number"}),
    "percent as text": (("sample.percent", "100"), {"sample.percent": "got '100', expected a number"}),
    "alpha over 1": (("alpha", 1.5), {"alpha": "must be < 1"}),
    "alpha that is empty": (("alpha", None), {"alpha": "has no value"}),
    "an empty section": (("harms", None), {"harms": "has no value"}),
    # ------------------------------------------------------------------------------------------------------------- models
    "no challenger": (("models.challenger", ...), {"models.challenger": "is missing"}),
    "a misspelt lane": (("models.chalenger", {"uri": "python:a:b"}), {"models.chalenger": "did you mean `challenger`"}),
    "a misspelt replica": (("models.copy", {"of": "incumbent", "percent": 5}), {"models.copy": "did you mean `replica`"}),
    "a challenger's name in large letters": (("models.Fast", {"uri": "python:a:b"}), {"models.Fast": "small letters"}),
    "a challenger called like a topic": (("models.mirror", {"uri": "python:a:b"}), {"models.mirror": "taken"}),
    "unknown model scheme": (("models.challenger.uri", "gopher://regressor"), {"models.challenger.uri": "got 'gopher://regressor'"}),
    "no function": (("models.challenger.uri", "python:module"), {"models.challenger.uri": "python:package.module:function"}),
    "no host": (("models.challenger.uri", "oip+http:///v2"), {"models.challenger.uri": "HOST"}),
    "a port that is none": (("models.challenger.uri", "http://host:port/"), {"models.challenger.uri": "HOST"}),
    "no model name": (("models.challenger.uri", "mlflow:models:/"), {"models.challenger.uri": "mlflow:models:/name@alias"}),
    "no pointer into the event": (("models.incumbent.uri", "recorded:event:score"), {"models.incumbent.uri": "/json/pointer"}),
    "a timeout of 0": (("models.challenger.timeout", "0s"), {"models.challenger.timeout": "at least 1ms"}),
    "a timeout over the window": (("models.challenger.timeout", "31s"), {"models.challenger.timeout": "pairing.window (30s)"}),
    "half a thread": (("models.challenger.concurrency", 0.5), {"models.challenger.concurrency": "a whole number"}),
    "memory without a unit": (
        ("models.challenger.uri", "python:a:b", "models.challenger.memory", 512),
        {"models.challenger.memory": "as in 512MiB or 512GiB"},
    ),
    "memory in another unit": (
        ("models.challenger.uri", "python:a:b", "models.challenger.memory", "512MB"),
        {"models.challenger.memory": "got '512MB', expected a size as in 512MiB"},
    ),
    "memory in which nothing runs": (
        ("models.challenger.uri", "python:a:b", "models.challenger.memory", "31MiB"),
        {"models.challenger.memory": "at least 32MiB"},
    ),
    "memory of a server": (
        ("models.challenger.uri", "http://host/score", "models.challenger.memory", "2GiB"),
        {"models.challenger.memory": "python: and onnx:"},
    ),
    "a replica of the challenger": (("models.replica", {"of": "challenger", "percent": 5}), {"models.replica.of": "incumbent"}),
    # ------------------------------------------------------------------------------------------------- events and outcomes
    "no matures": (("outcomes.matures", ...), {"outcomes.matures": "is missing"}),
    "outcomes revised first": (("outcomes.revised", "first"), {"outcomes.revised": "expected last"}),
    "no truth": (("outcomes.truth", {}), {"outcomes.truth": "at least 1"}),
    "events among outcomes": (("outcomes.topic", "age.events"), {"outcomes.topic": "need their own"}),
    "a topic that it writes": (("events.topic", "age-test.mirror"), {"events.topic": "writes itself"}),
    "the topic of its records": (("outcomes.topic", "age-test.records"), {"outcomes.topic": "writes itself"}),
    "bins that fall": (("events.segments.true_age.bins", [0, 18, 13]), {"events.segments.true_age.bins": "got 13 after 18"}),
    "a truth that is not there": (("events.segments.true_age.truth", "agee"), {"events.segments.true_age.truth": "did you mean `age`"}),
    "a pointer without a slash": (("events.segments.gender", "Segments/gender"), {"events.segments.gender": "a pointer"}),
    "a value twice": (("events.segments.platform.values", ["tv", "tv"]), {"events.segments.platform.values": "stands twice"}),
    "requests without their chance": (
        ("outcomes.requested", {"field": "/asked"}),
        {"outcomes.propensity": "is missing; a request says with which chance the event was drawn"},
    ),
    "requests where a truth stands": (
        ("outcomes.requested", {"field": "/age"}, "outcomes.propensity", {"field": "/p", "least": 0.1}),
        {"outcomes.requested.field": "where a truth stands"},
    ),
    "requests without a place": (
        ("outcomes.requested", {}, "outcomes.propensity", {"field": "/p", "least": 0.1}), {"outcomes.requested.field": "is missing"},
    ),
    "a broken chance of requests": (
        ("outcomes.requested", {"field": "/asked"}, "outcomes.propensity", {"field": "/p"}), {"outcomes.propensity.least": "is missing"},
    ),
    "a segment of truths that have not come": (
        ("outcomes.requested", {"field": "/asked"}, "outcomes.propensity", {"field": "/p", "least": 1}, "gates.1.each", ["true_age"]),
        {"gates.1.each": "`true_age` is a segment by truth, which nobody knows of an event whose label was asked for"},
    ),
    "pairs that go before their labels": (("keep", {"pairs": "10d"}), {"keep.pairs": "outcomes.matures (16d)"}),
    # ------------------------------------------------------------------------------------------------------------ outputs
    "an output without a reader": (("outputs.age.challenger", ...), {"outputs.age.challenger": "is missing"}),
    "a reader of no kind": (("outputs.age.challenger", {"mode": "/x"}), {"outputs.age.challenger": "expected {field: /pointer}"}),
    "a range that falls": (("outputs.age.range", [120, 0]), {"outputs.age.range": "got 0 after 120"}),
    "a range of one": (("outputs.age.range", [120]), {"outputs.age.range": "at least 2"}),
    "edges that fall": (
        ("outputs.age.incumbent", {"median": {"probabilities": "/b", "edges": [8, 18, 13]}}),
        {"outputs.age.incumbent.median.edges": "got 13 after 18"},
    ),
    "one band": (
        ("outputs.age.incumbent", {"median": {"probabilities": "/b", "edges": [8, 18]}}),
        {"outputs.age.incumbent.median.edges": "at least 3"},
    ),
    "a tail beyond the edges": (
        ("outputs.age.incumbent", {"tail": {"probabilities": "/b", "edges": [8, 13, 18]}, "at": 18}),
        {"outputs.age.incumbent.at": "between the outer edges 8 and 18"},
    ),
    "scores without labels": (("outputs.kinds.labels", ..., "policies.spam.of", "spam"), {"outputs.kinds.labels": "is missing"}),
    "a type that is not there": (("outputs.age.type", "numbr"), {"outputs.age.type": "did you mean `number`"}),
    # ---------------------------------------------------------------------------------------------------- policies, harms
    "output that is not there": (("policies.over_13.output", "agee"), {"policies.over_13.output": "did you mean `age`"}),
    "no line": (("policies.over_13.at_least", ...), {"policies.over_13.at_least": "is missing"}),
    "a line outside the range": (("policies.over_13.at_least", 130), {"policies.over_13.at_least": "0 to 120"}),
    "a line by a segment that is not there": (
        ("policies.over_13.at_least", {"by": "regoin", "default": 13}),
        {"policies.over_13.at_least.by": "no segment `regoin`"},
    ),
    "a line by a value that is not there": (
        ("policies.over_13.at_least", {"by": "platform", "default": 13, "wbe": 14}),
        {"policies.over_13.at_least.wbe": "no value `wbe`"},
    ),
    "a line by the truth": (
        ("policies.over_13.at_least", {"by": "true_age", "default": 13}),
        {"policies.over_13.at_least.by": "nobody knows it"},
    ),
    "lines without a default": (("policies.over_13.at_least", {"by": "gender"}), {"policies.over_13.at_least.default": "is missing"}),
    "lines without a segment": (("policies.over_13.at_least", {"default": 13}), {"policies.over_13.at_least.by": "is missing"}),
    "a line for one model": (("policies.over_13.at_least", {"incumbent": 13}), {"policies.over_13.at_least.challenger": "is missing"}),
    "lines that rise": (
        ("policies.adult.decide", [{"allow": {"at_least": 18}}, {"check_id": {"at_least": 25}}, "block"]),
        {"policies.adult.decide": "lines must fall"},
    ),
    "a last decision with a line": (
        ("policies.adult.decide", [{"allow": {"at_least": 25}}, {"check_id": {"at_least": 18}}]),
        {"policies.adult.decide.1": "without a line"},
    ),
    "a first decision without a line": (("policies.adult.decide", ["allow", "block"]), {"policies.adult.decide.0": "only the last"}),
    "words for a number": (("policies.over_13.is", ["old"]), {"policies.over_13.is": "is for labels"}),
    "a line for a label": (("policies.high.at_least", 1), {"policies.high.at_least": "{is: [words]}"}),
    "a label that is not there": (("policies.high.is", ["hihg"]), {"policies.high.is": "no label `hihg`"}),
    "a score that is not there": (("policies.spam.of", "spm"), {"policies.spam.of": "did you mean `spam`"}),
    "a policy with an output's name": (
        ("policies.age", {"output": "age", "at_least": 1}),
        {"policies.age": "the name is that of an output"},
    ),
    "an output with a column's name": (
        ("outputs.truth", {"type": "number", "incumbent": {"field": "/a"}, "challenger": {"field": "/a"}}),
        {"outputs.truth": "the name is taken"},
    ),
    "a name with a dot": (("policies.over 13", {"output": "age", "at_least": 13}), {"policies.over 13": "a name of letters"}),
    "harm of no policy": (("harms.let_in.policy", "over_21"), {"harms.let_in.policy": "no policy `over_21`"}),
    "harm of no decision": (("harms.adult_stopped.decision", "blokc"), {"harms.adult_stopped.decision": "never says `blokc`"}),
    "words for a decision that is none": (
        ("policies.adult.says", {"allow": "be let in", "blokc": "be stopped"}),
        {"policies.adult.says.blokc": "never says `blokc`; expected allow, check_id or block"},
    ),
    "one class without a name": (
        ("policies.adult.classes", {"if_true": "adults"}),
        {"policies.adult.classes.if_false": "is missing"},
    ),
    "harm of every decision": (("harms.let_in.decision", [True, False]), {"harms.let_in.decision": "every decision"}),
    "harm without a class": (("harms.let_in.truth", "no"), {"harms.let_in.truth": "expected true or false"}),
    # ------------------------------------------------------------------------------------------------------------- stages
    "falling percent": (
        ("stages", [{"shadow": {"percent": 100}}, {"canary": {"percent": 10}}, {"canary": {"percent": 5}}]),
        {"stages": "canary percent got 5 after 10, must rise"},
    ),
    "no shadow first": (("stages", [{"canary": {"percent": 1}}, {"promote": {"bake": "1d"}}]), {"stages": "must be shadow"}),
    "promote before the canary": (("stages.3", {"canary": {"percent": 50}}), {"stages": "promote once and last"}),
    "a stage of two kinds": (("stages.1.shadow", {}), {"stages.1": "got shadow and canary"}),
    "a stage of no kind": (("stages.1.canary", ...), {"stages.1": "expected one of shadow, canary or promote"}),
    "an end at unknown harms": (("stages.2.stop_after", {"let_inn": 3}), {"stages.2.stop_after.let_inn": "did you mean `let_in`"}),
    "an end at no harm": (("stages.1.stop_after", {"let_in": 0}), {"stages.1.stop_after.let_in": "must be >= 1"}),
    "an end of the shadow": (("stages.0.stop_after", {"let_in": 3}), {"stages.0.stop_after": "in shadow the challenger serves nobody"}),
    "a stage of no pairs": (("stages.0.pairs", 0), {"stages.0.pairs": "must be >= 1"}),
    "approval by nobody": (("stages.1.approval", {"people": 0}), {"stages.1.approval.people": "must be >= 1"}),
    # -------------------------------------------------------------------------------------------------------------- gates
    "unknown metric": (("gates.2.metric", {"flipp": "over_18"}), {"gates.2.metric": "did you mean `flip`"}),
    "a metric of two kinds": (("gates.2.metric", {"flip": "over_18", "harm": "let_in"}), {"gates.2.metric.harm": "one kind only"}),
    "a sample ratio of nothing": (("gates.2.metric", {"sample_ratio": "x"}), {"gates.2.metric.sample_ratio": "expected exposures"}),
    "a cost of an unknown harm": (("gates.2.metric", {"cost": {"let_inn": 1}}), {"gates.2.metric.cost.let_inn": "did you mean `let_in`"}),
    "a cost of nothing": (("gates.2.metric", {"cost": {"let_in": 0}}), {"gates.2.metric.cost.let_in": "must be > 0"}),
    "an action that is never taken": (
        ("gates.2.metric", {"action": "over_18", "decision": "block"}),
        {"gates.2.metric.decision": "never says `block`"},
    ),
    "the incumbent compared with itself": (
        ("gates.5", dict(name="new", within=0.1, metric={"action": "over_18", "decision": True, "lane": "incumbent"})),
        {"gates.5.metric.lane": "compares the challenger with the incumbent"},
    ),
    "a disagreement that is better": (
        ("gates.2", {"name": "few flips", "metric": {"disagreement": "age"}, "better_by_more_than": 0}),
        {"gates.2.better_by_more_than": "not available for disagreement"},
    ),
    "noise without a copy": (
        ("gates.2.metric", {"excess_disagreement": "over_18"}),
        {"gates.2.metric.excess_disagreement": "models.replica"},
    ),
    "a difference of quantiles": (
        ("gates.5", gate(metric={"difference": "p100", "output": "age"}, below=1)),
        {"gates.5.metric.difference": "expected mean or a quantile"},
    ),
    "planned looks without a plan": (("gates.2.method", "group_sequential"), {"gates.2.plan": "is missing"}),
    "a plan without its method": (("gates.2.plan", {"maximum": 40_000, "looks": 10}), {"gates.2.plan": "is for method: group_sequential"}),
    "a plan of a quantile": (
        ("gates.4.method", "group_sequential", "gates.4.plan", {"maximum": 40_000, "looks": 10}),
        {"gates.4.method": "expected mixture"},
    ),
    "a plan for rare events": (
        ("gates.5", gate(below=0.001, method="group_sequential", plan={"maximum": 40_000, "looks": 10})),
        {"gates.5.plan.maximum": "expected at least 100000"},
    ),
    "a spending without its parameter": (
        ("gates.5", gate(method="group_sequential", plan={"maximum": 40_000, "looks": 10, "spending": "power"})),
        {"gates.5.plan.parameter": "is missing"},
    ),
    "a spending with a parameter that it does not have": (
        ("gates.5", gate(method="group_sequential", plan={"maximum": 40_000, "looks": 10, "parameter": 2})),
        {"gates.5.plan.parameter": "obrien_fleming has none"},
    ),
    "a parameter out of range": (
        ("gates.5", gate(method="group_sequential", plan={"maximum": 9_000, "looks": 3, "spending": "wang_tsiatis", "parameter": 0.7})),
        {"gates.5.plan.parameter": "needs one in [-0.5, 0.5]"},
    ),
    "more looks than anybody plans": (
        ("gates.5", gate(method="group_sequential", plan={"maximum": 40_000, "looks": 51})),
        {"gates.5.plan.looks": "51"},
    ),
    "a plan of values that nobody lists": (
        ("gates.5", gate(each=["gender"], method="group_sequential", plan={"maximum": 40_000, "looks": 5})),
        {"gates.5.each": "lists no values"},
    ),
    "what a quantile of a difference is expected to be": (
        ("gates.5", {"name": "tail", "metric": {"difference": "p95", "output": "age"}, "below": 5, "expect": 2, "discordance": 4}),
        {"gates.5.expect": "is for means", "gates.5.discordance": "is for means"},
    ),
    "the mean of a quantile": (
        ("gates.5", {"name": "tail", "metric": {"difference": "p95", "output": "age"}, "below": 5, "unit": "mean", "unit_window": "7d"}),
        {"gates.5.unit": "a quantile over events"},
    ),
    "ever without a window": (("gates.2.unit", "ever"), {"gates.2.unit_window": "is missing"}),
    "a window without need": (("gates.2.unit_window", "7d"), {"gates.2.unit_window": "is for unit: ever and unit: mean"}),
    "ever of a comparison": (("gates.0.unit", "ever", "gates.0.unit_window", "7d"), {"gates.0.unit": "expected first or mean"}),
    "the mean of a latency": (("gates.4.unit", "mean", "gates.4.unit_window", "7d"), {"gates.4.unit": "a quantile over events"}),
    "a closed form of a loss of numbers": (("gates.0.method", "beta-binomial"), {"gates.0.method": "expected mixture"}),
    "a closed form of a quantile": (("gates.4.method", "beta-binomial"), {"gates.4.method": "expected mixture"}),
    "a normal of a rate": (("gates.2.method", "asymptotic", "gates.2.decide_at", 5_000), {"gates.2.method": "shares that may be rare"}),
    "a normal of a quantile": (("gates.4.method", "asymptotic", "gates.4.decide_at", 5_000), {"gates.4.method": "expected mixture"}),
    "a normal that is tuned for nothing": (("gates.0.method", "asymptotic"), {"gates.0.decide_at": "is missing"}),
    "a normal that is tuned for a time before its burn-in": (
        ("gates.0.method", "asymptotic", "gates.0.decide_at", 3_000, "gates.0.burn_in", 5_000), {"gates.0.decide_at": "at least 5000"}
    ),
    "a tuning without its method": (
        ("gates.0.decide_at", 3_000, "gates.0.burn_in", 500),
        {"gates.0.decide_at": "is for method: asymptotic", "gates.0.burn_in": "is for method: asymptotic"},
    ),
    "a burn-in of nothing": (("gates.0.method", "asymptotic", "gates.0.decide_at", 3_000, "gates.0.burn_in", 9), {"gates.0.burn_in": "9"}),
    "a normal of windows": (
        ("gates.0.method", "asymptotic", "gates.0.decide_at", 3_000, "gates.0.unit", "mean", "gates.0.unit_window", "7d"),
        {"gates.0.unit": "expected first"},
    ),
    "a method of later versions": (("gates.2.method", "msprt"), {"gates.2.method": "not available in this version"}),
    "negative margin": (("gates.0.worse_by_at_most", -0.25), {"gates.0.worse_by_at_most": "got -0.25, must be > 0"}),
    "margin of zero": (("gates.0.worse_by_at_most", 0), {"gates.0.worse_by_at_most": "got 0, must be > 0"}),
    "margin that is no number": (("gates.0.worse_by_at_most", nan), {"gates.0.worse_by_at_most": "finite"}),
    "margin without end": (("gates.0.worse_by_at_most", inf), {"gates.0.worse_by_at_most": "finite"}),
    "margin that is true": (("gates.0.worse_by_at_most", True), {"gates.0.worse_by_at_most": "expected a number"}),
    "margin as wide as the range": (("gates.0.worse_by_at_most", 120), {"gates.0.worse_by_at_most": "must be < 120"}),
    "a rate in percent": (("gates.2.below", 5), {"gates.2.below": "must be < 1 (the value it must stay under, as a rate)"}),
    "a rate as a duration": (("gates.2.below", "5s"), {"gates.2.below": "expected a number"}),
    "a latency without a unit": (("gates.4.below", 250), {"gates.4.below": "needs its unit"}),
    "a latency that is above": (("gates.4.below", ..., "gates.4.above", "1s"), {"gates.4.above": "not available for latency"}),
    "a quantile of 100": (("gates.4.metric.latency", "p100"), {"gates.4.metric.latency": "expected a quantile"}),
    "missing that is worse": (("gates.3.below", ..., "gates.3.worse_by_at_most", 0.1), {"gates.3.worse_by_at_most": "missing"}),
    "a flip that is better": (("gates.2.below", ..., "gates.2.better_by_more_than", 0), {"gates.2.better_by_more_than": "flip"}),
    "gate without a limit": (("gates.0.worse_by_at_most", ...), {"gates.0": "has no limit"}),
    "gate with two limits": (("gates.0.below", 3), {"gates.0": "got below and worse_by_at_most"}),
    "two gates of one name": (("gates.5", gate(name="few flips")), {"gates.5.name": "stands twice"}),
    "policy that is not there": (("gates.2.metric.flip", "over_21"), {"gates.2.metric.flip": "no policy `over_21`"}),
    "harm that is not there": (("gates.1.metric.harm", "nobody_hurt"), {"gates.1.metric.harm": "no harm `nobody_hurt`"}),
    "segment that is not there": (("gates.1.each", ["gender", "country"]), {"gates.1.each": "no segment `country`"}),
    "segment twice": (("gates.1.each", ["gender", "gender"]), {"gates.1.each": "stands twice"}),
    "segment by truth of a flip": (("gates.2.each", ["true_age"]), {"gates.2.each": "flip has no labels"}),
    "a decision that is never said": (("gates.2.metric.to", "maybe"), {"gates.2.metric.to": "never says `maybe`"}),
    "a flip to itself": (("gates.2.metric.to", False), {"gates.2.metric.to": "no flip"}),
    "a lane that is not there": (("gates.3.metric.missing", "replica"), {"gates.3.metric.missing": "models does not have"}),
    "a loss without a range": (("outputs.age.range", ...), {"gates.0.metric.output": "declare outputs.age.range"}),
    "a log loss of years": (
        ("gates.5", gate(metric={"loss": "log_loss", "output": "age"})),
        {"gates.5.metric.output": "range: [0, 1]"},
    ),
    "a loss of a label": (("gates.0.metric.output", "level"), {"gates.0.metric.output": "type number"}),
    "a zero_one of an output": (
        ("gates.5", gate(metric={"loss": "zero_one", "output": "age"})),
        {"gates.5.metric.output": "one policy", "gates.5.metric.policy": "is missing"},
    ),
    "a generic rate of three decisions": (
        ("gates.5", gate(metric={"false_positive_rate": "adult"})),
        {"gates.5.metric.false_positive_rate": "use a harm"},
    ),
    "labels without outcomes": (
        ("outcomes", ..., "events.segments.true_age", ...),
        {"gates.0.metric": "needs labels", "gates.1.metric": "needs labels"},
    ),
    "a truth of another output": (
        ("outcomes.truth", {"years": "/years", "kinds": "/kinds"}, "events.segments.true_age", ...),
        {"gates.0.metric": "outcomes.truth.age", "gates.1.metric": "outcomes.truth.age"},
    ),
    "expecting more than the limit": (("gates.2.expect", 0.03), {"gates.2.expect": "must be < 0.03"}),
    "a limit that nobody can reach": (("gates.2.below", 1e-9), {"gates.2.below": "no number of events tells from 0"}),
    "expecting the limit, nearly": (("gates.2.expect", 0.03 - 1e-9), {"gates.2.expect": "no number of events tells from the limit"}),
    "expecting worse than tolerated": (("gates.0.expect", -0.25), {"gates.0.expect": "must be > -0.25"}),
    "discordance of one model": (("gates.2.discordance", 0.1), {"gates.2.discordance": "is for comparisons"}),
    "discordance over 1": (("gates.1.discordance", 1.5), {"gates.1.discordance": "and 1"}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_config_is_refused_at_its_path_and_nowhere_else(
    name: str, put: Callable[..., Any], said: Callable[[object], dict[str, str]]
) -> None:
    """Who reads the message must find the place at once; what only follows from it would send them elsewhere."""
    changes, expected = WRONG[name]
    found = said(put(*changes))
    assert found.keys() == expected.keys(), found
    for path, words in expected.items():
        assert words in found[path], found


def test_every_name_that_leads_to_a_broken_thing_is_left_in_peace(
    put: Callable[..., Any], said: Callable[[object], dict[str, str]]
) -> None:
    """One misspelt type must not make its policies, harms and gates look wrong too."""
    assert said(put("outputs.age.type", "integer", "events.topic", ...)).keys() == {"outputs.age.type", "events.topic"}


def test_problems_come_in_the_order_of_the_document(put: Callable[..., Any], said: Callable[[object], dict[str, str]]) -> None:
    """People mend a file from the top."""
    found = said(put("alpha", 3, "events.unit", 5, "gates.4.below", "x", "sample.percent", -1))
    assert list(found) == ["events.unit", "sample.percent", "gates.4.below", "alpha"]
