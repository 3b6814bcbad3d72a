"""The second pass: what events, models, outputs, outcomes, stages and the simple settings mean together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from harness.config import durations
from harness.config.gatewords import STAGES, DetectWords, KeepWords, StageWords
from harness.config.problems import Known, Problems, Steps, instead, listed
from harness.config.shape import Parts
from harness.config.words import (
    ExpectationReader,
    FieldReader,
    FieldSegment,
    MedianReader,
    ModelWords,
    OutputWords,
    TailReader,
    TruthSegment,
)
from harness.core.rollout import Detect, Harm, Keep, Model, Outcomes, Output, Reader, Segment, Stage

AnyReader = FieldReader | MedianReader | ExpectationReader | TailReader
S = TypeVar("S")
D = TypeVar("D")
IN_PROCESSES = ("python:", "onnx:")  # models that run in processes of the lane's own
SCHEMES = ("python:", "recorded:", "oip+http://", "oip+https://", "http://", "https://", "onnx:", "mlflow:models:/")
_DEFAULT_STAGES = (Stage(kind="shadow"),)  # nobody is served by a challenger unless the config says so
_COLUMNS = frozenset({"missing", "latency_ms", "segment", "truth"})
_SHAPES = {
    "python:": re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*\Z"),
    "mlflow:models:/": re.compile(r"[^/@\s]+[/@][^/@\s]+\Z"),
    "recorded:event:": re.compile(r"(/([^/~]|~[01])*)*\Z"),
}


def known(
    noun: str, path: tuple[str, ...], shaped: Mapping[str, S], build: Callable[[str, S, Steps], D | None], names: frozenset[str] | None
) -> Known[D]:
    """The usable entries of one mapping of the config, built in its order."""
    built = {name: build(name, entry, (*path, name)) for name, entry in shaped.items()}
    usable = {name: entry for name, entry in built.items() if entry is not None}
    return Known(noun, usable, names)


# -------------------------------------------------------------------------------------------------------- events, outcomes
def segments(parts: Parts, problems: Problems) -> Known[Segment]:
    """Every segment of the config."""

    def build(name: str, words: str | FieldSegment | TruthSegment, path: Steps) -> Segment | None:
        if isinstance(words, str):
            return Segment(name=name, field=words)
        if isinstance(words, TruthSegment):
            rising(words.bins, (*path, "bins"), problems)
            truths = parts.named("outcomes", "truth")
            if parts.outcomes is None or words.truth not in parts.outcomes.truth:
                Known("truth", {}, truths).find(words.truth, (*path, "truth"), problems)
            return Segment(name=name, truth=words.truth, bins=tuple(words.bins))
        repeated(words.values or (), (*path, "values"), problems)
        return Segment(name=name, field=words.field, values=tuple(words.values or ()), other=words.other, missing=words.missing)

    path = ("events", "segments")
    return known("segment", path, parts.events.segments if parts.events else {}, build, parts.named(*path))


def topics(parts: Parts, problems: Problems) -> None:
    """A rollout must not read what it writes, nor read one topic as two things."""
    name, events, outcomes = parts.simple["rollout"], parts.events, parts.outcomes
    for section, topic in (("events", events and events.topic), ("outcomes", outcomes and outcomes.topic)):
        if name and topic in {f"{name}.{part}" for part in ("mirror", "predictions", "records", "dead")}:
            problems.add((section, "topic"), f"got '{topic}', which this rollout writes itself")
    if events and outcomes and events.topic == outcomes.topic:
        problems.add(("outcomes", "topic"), f"got '{outcomes.topic}', the topic of the events; outcomes need their own")


def outcomes(parts: Parts, problems: Problems) -> Outcomes | None:
    """Where labels come from."""
    words = parts.outcomes
    if words is None:
        return None
    if words.requested is not None and words.propensity is None and "propensity" not in (parts.named("outcomes") or ()):
        problems.absent(("outcomes", "propensity"), "is missing; a request says with which chance the event was drawn, as in "
                                                    "{field: /sampling_prob, least: 0.1} (least: 1 where every event is)")
    if words.requested is not None and words.requested.field in words.truth.values():
        problems.add(("outcomes", "requested", "field"), f"got '{words.requested.field}', where a truth stands; expected "
                                                             "a place of its own")
    return Outcomes(
        topic=words.topic,
        event=words.event,
        truth=dict(sorted(words.truth.items())),  # by name, as rows are laid out
        matures_s=words.matures,
        propensity=words.propensity.field if words.propensity else None,
        least=words.propensity.least if words.propensity else None,
        requested=words.requested.field if words.requested else None,
    )


# ------------------------------------------------------------------------------------------------------- models and outputs
def models(parts: Parts, problems: Problems) -> dict[str, Model]:
    """The lanes, incumbent first."""
    if parts.models is None:
        return {}
    window = parts.simple["pairing"]
    found: dict[str, Model] = {}
    for lane, words in (("incumbent", parts.models.incumbent), ("challenger", parts.models.challenger)):
        _uri(words.uri, ("models", lane, "uri"), problems)
        if window and words.timeout and words.timeout > window.window:
            got, longest = durations.written(words.timeout), durations.written(window.window)
            problems.add(("models", lane, "timeout"), f"got {got}, must not be longer than pairing.window ({longest})")
        if words.memory is not None and not words.uri.startswith(IN_PROCESSES):
            problems.add(
                ("models", lane, "memory"), f"is for models of {' and '.join(IN_PROCESSES)}; another one is not run on this machine"
            )
        found[lane] = _model(lane, words)
    if parts.models.replica:
        found["replica"] = _model("replica", parts.models.incumbent, percent=parts.models.replica.percent)
    return found


def _model(lane: str, words: ModelWords, percent: float = 100.0) -> Model:
    return Model(
        lane=lane,
        uri=words.uri,
        timeout_s=words.timeout or 1.0,
        concurrency=words.concurrency,
        batch=words.batch,
        memory=words.memory,
        of="incumbent" if lane == "replica" else None,
        percent=percent,
    )


def _uri(uri: str, path: Steps, problems: Problems) -> None:
    """A model's address must be of a scheme we know and say what that scheme needs; nothing is opened."""
    scheme = next((scheme for scheme in SCHEMES if uri.startswith(scheme)), None)
    if scheme is None:
        problems.add(path, f"got '{uri[:60]}', expected one of {', '.join(SCHEMES)}")
        return
    rest = uri.removeprefix(scheme)
    if scheme == "recorded:" and rest.startswith("event:"):
        good, expected = bool(_SHAPES["recorded:event:"].match(rest.removeprefix("event:"))), "recorded:event:/json/pointer"
    elif scheme.endswith("://"):
        good, expected = _has_host(uri.removeprefix("oip+")), f"{scheme}HOST[:PORT]/PATH"
    elif scheme in _SHAPES:
        good = bool(_SHAPES[scheme].match(rest))
        expected = "python:package.module:function" if scheme == "python:" else "mlflow:models:/name@alias or mlflow:models:/name/version"
    else:
        good, expected = bool(rest.strip()), f"{scheme}FILE"
    if not good:
        problems.add(path, f"got '{uri[:60]}', expected {expected}")


def _has_host(url: str) -> bool:
    try:
        parsed = urlsplit(url)
        return bool(parsed.hostname) and (parsed.port is None or parsed.port > 0) and " " not in url
    except ValueError:
        return False


def outputs(parts: Parts, problems: Problems) -> Known[Output]:
    """Every output of the config."""
    replica = bool(parts.models and parts.models.replica)

    def build(name: str, words: OutputWords, path: Steps) -> Output:
        if name in _COLUMNS:
            problems.add(path, f"the name is taken by columns of the pair table ({', '.join(sorted(_COLUMNS))})")
        _labels(words, path, problems)
        span: tuple[float, float] | None = None
        if words.range is not None and rising(words.range, (*path, "range"), problems):
            span = (words.range[0], words.range[1])
        if words.range is not None and words.type == "label":
            problems.add((*path, "range"), "is for numbers and scores; a label has no range")
        readers = {lane: _reader(getattr(words, lane), words, (*path, lane), problems) for lane in ("incumbent", "challenger")}
        if replica:
            readers["replica"] = readers["incumbent"]
        return Output(name=name, type=words.type, readers=readers, unit=words.unit, range=span, labels=tuple(words.labels or ()))

    return known("output", ("outputs",), parts.outputs, build, parts.named("outputs"))


def _labels(words: OutputWords, path: Steps, problems: Problems) -> None:
    if words.type == "scores" and words.labels is None:
        problems.absent((*path, "labels"), "is missing; expected the labels that get a score each")
    if words.type == "number" and words.labels is not None:
        problems.add((*path, "labels"), "is for scores and labels; a number has none")
    repeated(words.labels or (), (*path, "labels"), problems)


def _reader(words: AnyReader, output: OutputWords, path: Steps, problems: Problems) -> Reader:
    if isinstance(words, FieldReader):
        return Reader(how="field", pointer=words.field)
    how: Literal["median", "expectation", "tail"]
    if isinstance(words, MedianReader):
        how, bands = "median", words.median
    elif isinstance(words, ExpectationReader):
        how, bands = "expectation", words.expectation
    else:
        how, bands = "tail", words.tail
    if output.type != "number":
        problems.add((*path, how), f"makes a number of bands; an output of type {output.type} is read with {{field: /pointer}}")
    at = words.at if isinstance(words, TailReader) else None
    if rising(bands.edges, (*path, how, "edges"), problems) and at is not None and not bands.edges[0] < at < bands.edges[-1]:
        problems.add((*path, "at"), f"got {at:g}, must be between the outer edges {bands.edges[0]:g} and {bands.edges[-1]:g}")
    return Reader(how=how, pointer=bands.probabilities, edges=tuple(bands.edges), at=at)


# ----------------------------------------------------------------------------------------------------- stages and settings
def stages(parts: Parts, harms: Known[Harm], problems: Problems) -> tuple[Stage, ...]:
    """The way from shadow to live: one shadow first, canaries whose percent rises, promote last."""
    if "stages" not in parts.document:
        return _DEFAULT_STAGES
    found = [(number, stage) for number, words in parts.stages.items() if (stage := _stage(words, harms, ("stages", number), problems))]
    kinds = [stage.kind for _, stage in found]
    if found and not problems.is_broken(("stages",)):
        if found[0][0] == 0 and kinds[0] != "shadow":
            problems.add(("stages",), f"the first is {kinds[0]}, must be shadow: nobody is exposed to a model that was never watched")
        if "shadow" in kinds[1:] or "promote" in kinds[:-1]:
            problems.add(("stages",), f"got {', '.join(kinds)}; expected shadow once and first, promote once and last")
    for number, stage in found:
        _counts(parts, stage, ("stages", number, "stop_after"), problems)
    percents = [stage.percent for _, stage in found if stage.kind == "canary"]
    for before, after in pairwise(percents):
        if after <= before:
            problems.add(("stages",), f"canary percent got {after:g} after {before:g}, must rise")
    return tuple(stage for _, stage in found)


def _counts(parts: Parts, stage: Stage, path: Steps, problems: Problems) -> None:
    """Whether harms of people whom the challenger served can be counted."""
    if stage.stop_after and "outcomes" not in parts.document:
        problems.add(path, "needs `outcomes`; without labels no harm is known")
    if stage.stop_after and stage.kind == "canary" and "exposures" not in parts.document:
        problems.add(path, "needs `exposures` in a canary; without them nobody knows whom the challenger served")


def _stage(words: StageWords, harms: Known[Harm], path: Steps, problems: Problems) -> Stage | None:
    said = [word for word in STAGES if getattr(words, word) is not None]
    if not said:
        problems.absent(path, f"expected one of {listed(STAGES)}")
        return None
    if len(said) > 1:
        problems.add(path, f"got {' and '.join(said)}, a stage has one of {listed(STAGES)}")
        return None
    approval = words.approval
    people, roles = (approval.people, tuple(approval.roles or ())) if approval else (0, ())
    stop_after = dict(words.stop_after or {})
    for harm in stop_after:
        harms.find(harm, (*path, "stop_after", harm), problems)
    ends = Stage(kind="shadow", people=people, roles=roles, pairs=words.pairs or 0, stop_after=stop_after, at_least_s=words.at_least or 0.0)
    if words.promote is not None:
        if words.at_least is not None:
            problems.add((*path, "at_least"), "is for shadow and canary; promote has {bake: ...}")
        return replace(ends, kind="promote", bake_s=words.promote.bake, at_least_s=0.0)
    if words.canary is not None:
        return replace(ends, kind="canary", percent=words.canary.percent)
    if stop_after:
        problems.add((*path, "stop_after"), "is for canary and promote; in shadow the challenger serves nobody")
    return replace(ends, percent=words.shadow.percent if words.shadow else 100.0)


def detect(words: DetectWords | None) -> Detect:
    """The bounds of the change detectors."""
    default = Detect()
    return default if words is None else Detect(window_s=words.window or default.window_s, units=words.units or default.units)


def keep(words: KeepWords | None, outcomes: Outcomes | None, problems: Problems) -> Keep:
    """How long things are kept; pairs long enough for their labels to mature."""
    default, matures_s = Keep(), outcomes.matures_s if outcomes else 0.0
    if words is None:
        return Keep(pairs_s=max(default.pairs_s, matures_s))
    if words.pairs is not None and words.pairs < matures_s:
        got, needed = durations.written(words.pairs), durations.written(matures_s)
        problems.add(("keep", "pairs"), f"got {got}, must not be shorter than outcomes.matures ({needed}), or no label ever counts")
    return Keep(
        pairs_s=words.pairs or max(default.pairs_s, matures_s), records_s=words.records or default.records_s, ids=words.ids or default.ids
    )


# ----------------------------------------------------------------------------------------------------------------- helpers
def rising(numbers: list[float], path: Steps, problems: Problems) -> bool:
    """Whether each number is larger than the one before; reports the first that is not."""
    for before, after in pairwise(numbers):
        if after <= before:
            problems.add(path, f"got {after:g} after {before:g}, must rise")
            return False
    return True


def repeated(words: tuple[str, ...] | list[str], path: Steps, problems: Problems) -> None:
    """Reports the first word that stands twice."""
    for number, word in enumerate(words):
        if word in words[:number]:
            problems.add(path, f"`{word}` stands twice")
            return


def value_of(segment: Segment, value: str, path: Steps, problems: Problems) -> None:
    """Reports a value that a segment with listed values can never have."""
    if segment.values and value not in (*segment.values, segment.other, segment.missing):
        known_values = {*segment.values, segment.other, segment.missing}
        problems.add(path, f"the segment {segment.name} has no value `{value}`{instead(value, known_values)}")
