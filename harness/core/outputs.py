"""From a model's raw answer to the rollout's outputs: typed, finite, inside their range, or nothing at all.

Readers (`rollout.Reader`): the field a JSON pointer names, or a number made of band probabilities. n probabilities have n + 1 rising
edges; inside a band probability is spread evenly. Nothing here raises for what a model says: None is a bad output.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from itertools import pairwise
from operator import itemgetter
from typing import Any, Final, Literal

from harness.core.rollout import Output, Reader

BELOW_ZERO = 0.001  # a probability may be this much below zero and counts as zero: rounding of the model
SUM_OFF = 0.01  # probabilities may sum to one give or take this much, and are divided by their sum
LONGEST_LABEL = 256  # characters: a longer text is no word of a label, and would carry content into the store

OutputValue = float | str | tuple[float, ...]


class Missing(Enum):
    """That a pointer leads nowhere; JSON's null is a value, this is none."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_BAD_ESCAPE = re.compile(r"~(?![01])")


@lru_cache(maxsize=4096)
def tokens_of(path: str) -> tuple[str, ...] | None:
    """The keys of a pointer; None if it is no JSON pointer."""
    if path == "":
        return ()
    if not path.startswith("/") or _BAD_ESCAPE.search(path):
        return None
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in path[1:].split("/"))


def pointer(document: object, path: str) -> object | Literal[Missing.MISSING]:
    """What stands at a JSON pointer; MISSING if nothing does, or if `path` is no pointer. Lists take indexes without leading zeros.

    Source: RFC 6901.

    >>> pointer({"a/b": [10, 20]}, "/a~1b/1")
    20
    >>> pointer({"a": None}, "/b") is MISSING
    True
    """
    tokens = tokens_of(path)
    if tokens is None:
        return MISSING
    found = document
    for token in tokens:
        if isinstance(found, dict):
            if token not in found:
                return MISSING
            found = found[token]
        elif isinstance(found, list | tuple) and _INDEX.fullmatch(token) and int(token) < len(found):
            found = found[int(token)]
        else:
            return MISSING
    return found


def pointed(path: str) -> Callable[[object], object | Literal[Missing.MISSING]]:
    """`pointer` for one path that is read of every event: a field of an object is found with less work."""
    tokens = tokens_of(path)
    if tokens is None or len(tokens) != 1:
        return lambda document: pointer(document, path)
    field = tokens[0]

    def read(document: object) -> object | Literal[Missing.MISSING]:
        return document.get(field, MISSING) if type(document) is dict else pointer(document, path)

    return read


def finite(value: object) -> float | None:
    """A JSON number as a float; None for bool, text, null, NaN, infinities, and integers beyond a float."""
    if type(value) is float:  # what a number mostly is
        return value if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _number(output: Output, value: object) -> float | None:
    number = finite(value)
    if number is None or (output.range and not output.range[0] <= number <= output.range[1]):
        return None
    return number


def _label(output: Output, value: object) -> str | None:
    if not isinstance(value, str) or len(value) > LONGEST_LABEL or (output.labels and value not in output.labels):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no text that a bus or store could hold
        return None
    return value


def _scores(output: Output, value: object) -> tuple[float, ...] | None:
    """Object: a number under each label, other keys are let be. List: as long as the labels, in their order."""
    found: Sequence[object]
    if isinstance(value, dict):
        found = [value.get(label) for label in output.labels]
    elif isinstance(value, list | tuple) and len(value) == len(output.labels):
        found = value
    else:
        return None
    numbers = [_number(output, each) for each in found]
    good = tuple(number for number in numbers if number is not None)
    return good if good and len(good) == len(numbers) else None


def _bands(value: object, edges: Sequence[float]) -> list[float] | None:
    """The probabilities of the bands, none below zero, with a sum near one; None if they are none."""
    if not isinstance(value, list | tuple) or not value or len(value) + 1 != len(edges):
        return None
    probabilities = []
    for each in value:
        probability = finite(each)
        if probability is None or probability < -BELOW_ZERO:
            return None
        probabilities.append(max(probability, 0.0))
    try:
        total = math.fsum(probabilities)
    except OverflowError:
        return None
    return probabilities if 1 - SUM_OFF - 1e-9 <= total <= 1 + SUM_OFF + 1e-9 else None


def _median(probabilities: Sequence[float], edges: Sequence[float]) -> float:
    """At or above an edge exactly when the probability of being there is at least one half, so a tie goes upward."""
    total = math.fsum(probabilities)
    tails = [math.fsum(probabilities[k:]) for k in range(len(probabilities))]
    band = max(k for k, tail in enumerate(tails) if 2 * tail >= total)
    share = (tails[band] - total / 2) / probabilities[band]
    value = edges[band] + share * (edges[band + 1] - edges[band])
    return min(max(value, edges[band]), math.nextafter(edges[band + 1], -math.inf))


def _expectation(probabilities: Sequence[float], edges: Sequence[float]) -> float:
    """Each band counts at its mid point."""
    mids = [low / 2 + high / 2 for low, high in pairwise(edges)]
    mean = math.fsum(p * mid for p, mid in zip(probabilities, mids, strict=True)) / math.fsum(probabilities)
    return min(max(mean, edges[0]), edges[-1])


def _tail(probabilities: Sequence[float], edges: Sequence[float], at: float) -> float:
    """P(value >= at)."""
    if at <= edges[0]:
        return 1.0
    if at >= edges[-1]:
        return 0.0
    band = bisect_right(edges, at) - 1
    inside = probabilities[band] * ((edges[band + 1] - at) / (edges[band + 1] - edges[band]))
    tail = math.fsum([inside, *probabilities[band + 1 :]]) / math.fsum(probabilities)
    return min(max(tail, 0.0), 1.0)


def _from_bands(output: Output, value: object, reader: Reader) -> float | None:
    probabilities = _bands(value, reader.edges)
    if probabilities is None or output.type != "number":
        return None
    if reader.how == "median":
        return _number(output, _median(probabilities, reader.edges))
    if reader.how == "expectation":
        return _number(output, _expectation(probabilities, reader.edges))
    return None if reader.at is None else _number(output, _tail(probabilities, reader.edges, reader.at))


def read_output(output: Output, lane: str, answer: object) -> OutputValue | None:
    """One output of one lane's answer; None if it is bad or the lane has no reader. The replica reads as the incumbent does."""
    return _output_reader(output, lane)(answer)


def _reader_of(output: Output, lane: str) -> Reader | None:
    return output.readers.get(lane) or (output.readers.get("incumbent") if lane == "replica" else None)


def _output_reader(output: Output, lane: str) -> Callable[[object], OutputValue | None]:
    reader = _reader_of(output, lane)
    if reader is None:
        return lambda answer: None
    find = pointed(reader.pointer)
    if reader.how == "field" and output.type == "number":
        return _number_reader(output, find)
    read: Callable[[Output, object], OutputValue | None]
    read = partial(_from_bands, reader=reader) if reader.how != "field" else _label if output.type == "label" else _scores

    def found(answer: object) -> OutputValue | None:
        value = find(answer)
        return None if value is MISSING else read(output, value)

    return found


def _number_reader(output: Output, find: Callable[[object], object]) -> Callable[[object], OutputValue | None]:
    """A number in its range, which most answers are: found with one comparison."""
    low, high = output.range or (-sys.float_info.max, sys.float_info.max)

    def found(answer: object) -> OutputValue | None:
        value = find(answer)
        return value if type(value) is float and low <= value <= high else _number(output, value)

    return found


def outputs_reader(outputs: Mapping[str, Output], lane: str) -> Callable[[object], tuple[OutputValue, ...] | None]:
    """What reads every output of one lane's answers, in the order of rows; None (a bad output) if any of them is bad."""
    readers = [_output_reader(output, lane) for output in outputs.values()]
    if len(readers) == 1:
        only = readers[0]
        return lambda answer: None if (value := only(answer)) is None else (value,)

    def read(answer: object) -> tuple[OutputValue, ...] | None:
        values = []
        for each in readers:
            value = each(answer)
            if value is None:
                return None
            values.append(value)
        return tuple(values)

    return read


def all_outputs_reader(outputs: Mapping[str, Output], lane: str) -> Callable[[Sequence[object]], list[tuple[float, ...]] | None]:
    """What reads the outputs of many answers at once where each of them is a number in a field; None if one of them is anything else, or
    the rollout has other outputs: then each is read by itself."""
    wanted: list[tuple[Callable[[Any], float], tuple[float, float]]] = []
    for output in outputs.values():
        reader = _reader_of(output, lane)
        tokens = None if reader is None or reader.how != "field" or output.type != "number" else tokens_of(reader.pointer)
        if tokens is None or len(tokens) != 1:
            return lambda answers: None
        wanted.append((itemgetter(tokens[0]), output.range or (-sys.float_info.max, sys.float_info.max)))

    def read(answers: Sequence[object]) -> list[tuple[float, ...]] | None:
        if set(map(type, answers)) != {dict}:
            return None
        columns = []
        for find, (low, high) in wanted:
            try:
                values: list[float] = list(map(find, answers))
            except KeyError:
                return None
            if set(map(type, values)) != {float} or not (low <= min(values) and max(values) <= high and not math.isnan(sum(values))):
                return None
            columns.append(values)
        return list(zip(*columns, strict=True))

    return read


def read_outputs(outputs: Mapping[str, Output], lane: str, answer: object) -> tuple[OutputValue, ...] | None:
    """The outputs of one answer; see `outputs_reader`."""
    return outputs_reader(outputs, lane)(answer)


def bad_output(outputs: Mapping[str, Output], lane: str, answer: object) -> str:
    """Why an answer is a bad output: the first output that cannot be read, its pointer, and the type found there. Never a value."""
    for output in outputs.values():
        if read_output(output, lane, answer) is None:
            reader = output.readers.get(lane) or output.readers.get("incumbent")
            path = reader.pointer if reader is not None else ""
            where, found = path or "the whole answer", _kind(pointer(answer, path))
            return f"{output.name} at {where}: expected {_expected(output, reader)}, got {found}"
    return "no output is bad"


def _expected(output: Output, reader: Reader | None) -> str:
    if reader is not None and reader.how != "field":
        return f"{len(reader.edges) - 1} probabilities with a sum of one"
    if output.type == "number":
        return f"a number from {output.range[0]:g} to {output.range[1]:g}" if output.range else "a finite number"
    return f"a number for each of {len(output.labels)} labels" if output.type == "scores" else "a text that is one of its labels"


def _kind(value: object) -> str:
    """The type of a JSON value in words, and for a number whether its size is what is wrong."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "another number" if finite(value) is not None else "a number that is not finite"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    names: dict[object, str] = {str: "a text", dict: "an object", type(None): "null", Missing: "nothing"}
    return names.get(type(value), type(value).__name__)
