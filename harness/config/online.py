"""The second pass for canaries: where exposures come from, and what is measured of the units that an arm served."""

from __future__ import annotations

from harness.config.problems import Known, Problems, Steps
from harness.config.shape import Parts
from harness.config.words import OnlineWords
from harness.core.rollout import Exposures, Measure, Segment

_MOST_CROSSED = 2**32
_POINTERS = {"binary": (), "count": (), "mean": ("value",), "ratio": ("value", "of")}


def exposures(parts: Parts, segments: Known[Segment], problems: Problems) -> Exposures | None:
    """Where production says which arm served a unit, and what it says of the unit."""
    words = parts.exposures
    if words is None:
        return None
    n_crossed = 1
    for name in words.segments:
        where = ("exposures", "segments", name)
        segment = segments.find(name, where, problems)
        if segment is not None and segment.truth is not None:
            problems.add(where, "is a segment by truth, which nobody knows when a unit is exposed")
        elif segment is not None and not segment.values:
            problems.add(where, f"lists no values; arms are compared by segments with events.segments.{name}.values")
        elif segment is not None:
            n_crossed *= len(segment.words)
    if n_crossed > _MOST_CROSSED:
        problems.add(("exposures", "segments"), f"have {n_crossed} combinations of values, at most {_MOST_CROSSED} can be told apart")
    return Exposures(topic=words.topic, unit=words.unit, arm=words.arm, percent=words.percent, segments=dict(words.segments))


def measures(parts: Parts, problems: Problems) -> dict[str, Measure]:
    """What is measured, in the config's order."""
    if parts.online and "exposures" not in parts.document:
        problems.absent(("exposures",), "is missing; without exposures nobody knows which arm served a unit, and `online` measures nothing")
    return {name: _measure(name, words, ("online", name), problems) for name, words in parts.online.items()}


def _measure(name: str, words: OnlineWords, path: Steps, problems: Problems) -> Measure:
    for key in ("value", "of"):
        said, needed = getattr(words, key), key in _POINTERS[words.type]
        if needed and said is None:
            problems.absent((*path, key), f"is missing; a {words.type} needs a pointer to the number as in /minutes")
        if said is not None and not needed:
            problems.add((*path, key), f"is not for a {words.type}, which counts records; expected type mean or ratio")
    return Measure(
        name=name, topic=words.topic, unit=words.unit, type=words.type, window_s=words.window, better=words.better, value=words.value,
        of=words.of,
    )  # fmt: skip


def topics(parts: Parts, problems: Problems) -> None:
    """Each thing has a topic of its own, and none that this rollout writes."""
    name = parts.simple["rollout"]
    taken = {f"{name}.{kind}": "which this rollout writes itself" for kind in ("mirror", "predictions", "records")} if name else {}
    for section, words in (("events", parts.events), ("outcomes", parts.outcomes), ("exposures", parts.exposures)):
        if words is None:
            continue
        if section == "exposures" and words.topic in taken:
            problems.add((section, "topic"), f"got '{words.topic}', {taken[words.topic]}")
        taken.setdefault(words.topic, f"the topic of the {section}; they need their own")
    for measure, its in parts.online.items():
        if its.topic in taken:
            problems.add(("online", measure, "topic"), f"got '{its.topic}', {taken[its.topic]}")
        taken.setdefault(its.topic, f"the topic of online.{measure}; each measure needs its own")
