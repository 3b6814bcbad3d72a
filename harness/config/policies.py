"""The second pass for policies and harms: lines, choices, decisions."""

from __future__ import annotations

from itertools import pairwise

from harness.config.meaning import known, repeated, value_of
from harness.config.problems import Known, Problems, Steps, instead, listed
from harness.config.shape import Parts
from harness.config.words import ChoiceLine, HarmWords, LineByLane, LineBySegment, PolicyWords
from harness.core.rollout import TRUE_FALSE, Choice, Harm, Line, Output, Policy, Segment

LineWords = float | LineBySegment | LineByLane


def policies(parts: Parts, outputs: Known[Output], segments: Known[Segment], lanes: tuple[str, ...], problems: Problems) -> Known[Policy]:
    """Every policy of the config, with a line for each lane and for the truth."""

    def build(name: str, words: PolicyWords, path: Steps) -> Policy | None:
        if name in (parts.named("outputs") or ()) or name in ("missing", "latency_ms", "segment", "truth"):
            problems.add(path, "the name is that of an output or of a column of the pair table; policies need their own")
        output = outputs.find(words.output, (*path, "output"), problems)
        _keys_of_type(words, output, path, problems)
        lines = _lines(words, output, segments, lanes, path, problems)
        choices = _choices(words, output, segments, path, problems)
        recorded = {lane: place.decision for lane in ("incumbent", "challenger") if (place := getattr(words, lane)) is not None}
        if output is None or choices is None:
            return None
        decisions = tuple(choice.decision for choice in choices) or TRUE_FALSE
        for word in set(words.says or ()) - set(decisions):
            problems.add((*path, "says", word), f"the policy never says `{word}`; expected {listed(decisions)}")
        if problems.is_broken(path):
            return None
        return Policy(
            name=name,
            output=output.name,
            lines=lines,
            choices=choices,
            label=words.of,
            is_one_of=tuple(words.is_ or ()),
            recorded=recorded,
            classes=(words.classes.if_false, words.classes.if_true) if words.classes else None,
            says=dict(words.says or {}),
        )

    return known("policy", ("policies",), parts.policies, build, parts.named("policies"))


def _keys_of_type(words: PolicyWords, output: Output | None, path: Steps, problems: Problems) -> None:
    """A label is compared with `is`, a score is chosen with `of`, numbers and scores are cut `at_least`."""
    if output is None:
        return
    if output.type == "label":
        for key, value in (("at_least", words.at_least), ("decide", words.decide)):
            if value is not None:
                problems.add((*path, key), f"is for numbers and scores; the label {output.name} takes {{is: [words]}}")
        if words.is_ is None:
            problems.absent((*path, "is"), f"is missing; expected the words of {output.name} that mean true")
    elif words.is_ is not None:
        problems.add((*path, "is"), f"is for labels; {output.name} has the type {output.type} and takes {{at_least: ...}}")
    elif words.at_least is None:
        problems.absent((*path, "at_least"), "is missing; expected the line from which upward the truth is true")
    if output.type == "scores" and words.of is None:
        problems.absent((*path, "of"), f"is missing; expected the label whose score decides: {listed(output.labels)}")
    if output.type != "scores" and words.of is not None:
        problems.add((*path, "of"), f"is for scores; {output.name} has the type {output.type}")
    elif words.of is not None and output.labels and words.of not in output.labels:
        problems.add((*path, "of"), f"no label `{words.of}`{instead(words.of, output.labels)}")
    for word in words.is_ or ():
        if output.labels and word not in output.labels:
            problems.add((*path, "is"), f"no label `{word}`{instead(word, output.labels)}")
    repeated(words.is_ or [], (*path, "is"), problems)


# -------------------------------------------------------------------------------------------------------------------- lines
def _lines(
    words: PolicyWords, output: Output | None, segments: Known[Segment], lanes: tuple[str, ...], path: Steps, problems: Problems
) -> dict[str, Line]:
    """A line for each lane that is called and for `truth`; for a policy of words 1, so that a truth of 1 is true and one of 0 is false."""
    at, where = words.at_least, (*path, "at_least")
    if at is None:
        return {name: Line(default=1.0) for name in (*lanes, "truth")}
    if isinstance(at, LineByLane):
        if words.decide is not None:
            problems.add(where, "got a line for each model beside `decide`; here it is the line on the truth: a number, or by a segment")
        truth = at.incumbent if at.truth is None else at.truth
        numbers = {"incumbent": at.incumbent, "challenger": at.challenger, "replica": at.incumbent, "truth": truth}
        for name, value in numbers.items():
            _in_range(value, output, (*where, name), problems)
        return {name: Line(default=value) for name, value in numbers.items() if name in (*lanes, "truth")}
    line = _line(at, output, segments, where, problems)
    return {name: line for name in (*lanes, "truth")}


def _line(words: float | LineBySegment, output: Output | None, segments: Known[Segment], path: Steps, problems: Problems) -> Line:
    if not isinstance(words, LineBySegment):
        _in_range(words, output, path, problems)
        return Line(default=float(words))
    values = dict(words.model_extra or {})
    segment = segments.find(words.by, (*path, "by"), problems)
    if segment is not None and segment.truth is not None:
        problems.add((*path, "by"), f"got `{words.by}`, a segment by truth; nobody knows it when the decision is taken")
    _in_range(words.default, output, (*path, "default"), problems)
    for value, number in values.items():
        _in_range(number, output, (*path, value), problems)
        if segment is not None:
            value_of(segment, value, (*path, value), problems)
    return Line(default=words.default, by=words.by, values=values)


def _in_range(line: float, output: Output | None, path: Steps, problems: Problems) -> None:
    if output is not None and output.range is not None and not output.range[0] <= line <= output.range[1]:
        low, high = output.range
        problems.add(path, f"got {line:g}, must be inside the range of {output.name}, {low:g} to {high:g}")


# ------------------------------------------------------------------------------------------------------------------ choices
def _choices(
    words: PolicyWords, output: Output | None, segments: Known[Segment], path: Steps, problems: Problems
) -> tuple[Choice, ...] | None:
    """The decisions from the highest line down; the last has none. None when one of them cannot be used."""
    found: list[Choice] = []
    where = (*path, "decide")
    listed_choices = words.decide or []
    for number, item in enumerate(listed_choices):
        last = number == len(listed_choices) - 1
        word, line = (item, None) if isinstance(item, str) else next(iter(item.items()))
        if last is (line is not None):
            needs_line = f"only the last has no line, expected {{{word}: {{at_least: ...}}}}"
            expected = "the last takes the rest, expected a word without a line" if last else needs_line
            problems.add((*where, number), expected)
            continue
        if word in TRUE_FALSE:
            problems.add((*where, number), f"got `{word}`, which is a decision of policies without `decide`; expected another word")
        found.append(Choice(decision=word, at_least=_choice_line(line, output, segments, (*where, number, word, "at_least"), problems)))
    repeated([choice.decision for choice in found], where, problems)
    lines = [choice.at_least for choice in found if choice.at_least is not None]
    for higher, lower in pairwise(lines):
        if not _falls(higher, lower):
            problems.add(where, f"got the line {lower.default:g} after {higher.default:g}, lines must fall from first to last")
    return None if problems.touches(where) else tuple(found)


def _choice_line(words: ChoiceLine | None, output: Output | None, segments: Known[Segment], path: Steps, problems: Problems) -> Line | None:
    if words is None:
        return None
    if isinstance(words.at_least, LineByLane):
        problems.add(path, "got a line for each model; expected one number, or {by: SEGMENT, default: ..., VALUE: ...}")
        return None
    return _line(words.at_least, output, segments, path, problems)


def _falls(higher: Line, lower: Line) -> bool:
    """Whether one line lies over the other for every event."""
    if higher.by is None or lower.by is None or higher.by == lower.by:
        values = {*higher.values, *lower.values}
        both = [(higher.values.get(value, higher.default), lower.values.get(value, lower.default)) for value in values]
        return all(a > b for a, b in [*both, (higher.default, lower.default)])
    return min(higher.default, *higher.values.values()) > max(lower.default, *lower.values.values())


# -------------------------------------------------------------------------------------------------------------------- harms
def harms(parts: Parts, known_policies: Known[Policy], problems: Problems) -> Known[Harm]:
    """Every harm of the config."""

    def build(name: str, words: HarmWords, path: Steps) -> Harm | None:
        policy = known_policies.find(words.policy, (*path, "policy"), problems)
        if policy is None:
            return None
        for word in words.decision:
            if word not in policy.decisions:
                problems.add((*path, "decision"), f"the policy {policy.name} never says `{word}`; expected {listed(policy.decisions)}")
        repeated(words.decision, (*path, "decision"), problems)
        if set(policy.decisions) <= set(words.decision):
            problems.add((*path, "decision"), "names every decision of the policy; its rate would be 1 whatever happens")
        return Harm(name=name, policy=policy.name, truth=words.truth, decisions=tuple(words.decision))

    return known("harm", ("harms",), parts.harms, build, parts.named("harms"))
