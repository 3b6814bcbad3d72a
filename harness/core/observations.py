"""What production reports of a canary: which arm served a unit (an exposure), and what happened to it later (a measurement).

Both are structured CloudEvents. Nothing of a record is kept but its keyed hashes, its time, its numbers and which
of the values that the config lists its unit has.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.core.outputs import finite
from harness.core.outputs import pointer as resolve
from harness.core.reading import attributes_problem, field_reader, segment_reader, stated_time, word_of
from harness.core.rollout import CHALLENGER, Exposures, Measure, Rollout, Segment
from harness.core.routing import Hasher

ARMS = ("incumbent", CHALLENGER)
OTHERS = "an exposure to another challenger"


class Observation(NamedTuple):
    """One exposure (value 0: incumbent, 1: challenger; of: the challenger's percent, NaN where it is not said) or one measurement (value,
    and of for a ratio). key: 14 bytes that tell a second copy. arrived: microseconds, rising along a source. segments: of an exposure its
    values of the exposed segments, as one number (`segment_codes`)."""

    key: bytes
    unit: int
    arrived: int
    value: float
    of: float
    segments: int = 0


def exposed_segments(rollout: Rollout) -> tuple[Segment, ...]:
    """The segments that exposures carry, by name, read from where they stand there."""
    places = rollout.exposures.segments if rollout.exposures is not None else {}
    return tuple(replace(segment, field=places[segment.name])
                 for segment in sorted(rollout.events.segments, key=lambda each: each.name) if segment.name in places)  # fmt: skip


def segment_codes(rollout: Rollout, packed: NDArray[np.uint64]) -> dict[str, NDArray[np.int64]]:
    """The code of each value among its segment's words, by name, shape (n,) each, from what exposures carry."""
    found, left = {}, packed
    for segment in exposed_segments(rollout):
        left, code = np.divmod(left, np.uint64(len(segment.words)))
        found[segment.name] = code.astype(np.int64)
    return found


class ObservationReader:
    """Decoded records of one source to observations. source: "exposures" or the name of a measure."""

    def __init__(self, rollout: Rollout, hasher: Hasher, source: str) -> None:
        spec: Exposures | Measure | None = rollout.exposures if source == "exposures" else rollout.online[source]
        if spec is None:
            raise ValueError("this rollout reads no exposures")
        self._hasher, self._family = hasher, rollout.family
        self._unit: Callable[[Any], object] = field_reader(spec.unit)
        exposed = exposed_segments(rollout) if source == "exposures" else ()
        self._segments = [(segment_reader(each), {word: code for code, word in enumerate(each.words)}) for each in reversed(exposed)]
        self._numbers = self._of_exposure(spec) if isinstance(spec, Exposures) else self._of_measure(spec)

    def read(self, document: Any) -> Observation | str:
        """The observation with the time it states as `arrived` (-1: none), or why the record is none; never repeats what it says."""
        problem = attributes_problem(document)
        if problem is not None:
            return problem
        happened, recorded = stated_time(document, "time"), stated_time(document, "recordedtime")
        stated = happened if recorded is None else recorded
        if isinstance(happened, str) or isinstance(stated, str):
            return happened if isinstance(happened, str) else str(stated)
        unit = word_of(self._unit(document))
        if unit is None:
            return "it names no unit"
        numbers = self._numbers(document.get("data"))
        if isinstance(numbers, str):
            return numbers
        key = self._hasher.key(document["source"], document["id"])
        return Observation(key, self._hasher.unit(unit), -1 if stated is None else stated, *numbers, self._packed(document))

    def _packed(self, document: Any) -> int:
        """The values of its segments as one number, the first segment lowest; see `segment_codes`."""
        packed = 0
        for value, codes in self._segments:
            packed = packed * len(codes) + codes[value(document)]
        return packed

    def _of_exposure(self, spec: Exposures) -> Callable[[Any], tuple[float, float] | str]:
        family = self._family
        own, others = (family.challenger, family.siblings) if family is not None else (CHALLENGER, ())
        names = {CHALLENGER: CHALLENGER, own: CHALLENGER, ARMS[0]: ARMS[0]}
        if others:  # `challenger` alone may be any of them
            names = {own: CHALLENGER, ARMS[0]: ARMS[0]}
        expected = "incumbent, or the name of one of several challengers" if others else "incumbent or challenger"

        def numbers(data: Any) -> tuple[float, float] | str:
            said = resolve(data, spec.arm)
            if said in others:
                return OTHERS
            arm = names.get(said) if isinstance(said, str) else None
            if arm is None:
                return f"{spec.arm}: expected {expected}"
            percent = math.nan if spec.percent is None else finite(resolve(data, spec.percent))
            if percent is None or not (math.isnan(percent) or 0.0 <= percent <= 100.0):
                return f"{spec.percent}: expected a percent from 0 to 100"
            return float(ARMS.index(arm)), percent

        return numbers

    def _of_measure(self, spec: Measure) -> Callable[[Any], tuple[float, float] | str]:
        def numbers(data: Any) -> tuple[float, float] | str:
            found = []
            for pointer in (spec.value, spec.of):
                number = 1.0 if pointer is None else finite(resolve(data, pointer))
                if number is None:
                    return f"{pointer}: expected a finite number"
                found.append(number)
            if found[1] < 0.0:
                return f"{spec.of}: expected a number that is not negative"
            return found[0], found[1]

        return numbers
