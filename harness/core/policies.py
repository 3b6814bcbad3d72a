"""Outputs to decisions: lines applied to columns of outputs. Codes index into the policy's words; -1 is no decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.core.rollout import Line, Output, Policy

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]
SegmentCodes = Callable[[str], tuple[Codes, tuple[str, ...]]]


def thresholds(line: Line, n: int, segment: SegmentCodes) -> Floats:
    """The line of each of n rows: its default, or that of the row's segment value."""
    found = np.full(n, line.default)
    if line.by is not None:
        codes, words = segment(line.by)
        for value, threshold in line.values.items():
            if value in words:
                found[codes == words.index(value)] = threshold
    return found


def decide(policy: Policy, output: Output, lane: str, values: Floats | Codes, words: tuple[str, ...], segment: SegmentCodes) -> Codes:
    """What the policy says of one lane's outputs, before anything that production recorded.

    Args:
        values: (n,) numbers (NaN = missing), or codes into `words` for a label output (-1 = missing).
        segment: gives a segment's codes and words, for lines that differ by segment.
    """
    if output.type == "label":
        meant = np.array([word in policy.is_one_of for word in words] or [False])
        return np.where(values < 0, -1, meant[np.maximum(values, 0).astype(np.int64)].astype(np.int32)).astype(np.int32)
    missing = np.isnan(values)
    if not policy.choices:
        said = (values >= thresholds(policy.lines[lane], len(values), segment)).astype(np.int32)
    else:
        said = np.full(len(values), len(policy.choices) - 1, np.int32)
        for code in reversed(range(len(policy.choices))):
            line = policy.choices[code].at_least
            if line is not None:
                said[values >= thresholds(line, len(values), segment)] = code
    said[missing] = -1
    return said


def truth_class(policy: Policy, truth: Floats, is_boolean: NDArray[np.bool_], segment: SegmentCodes) -> Codes:
    """0 or 1 for each row: a boolean truth is the class itself, a number is cut at the policy's line; -1 without a label."""
    above = truth >= thresholds(policy.lines["truth"], len(truth), segment)
    found = np.where(is_boolean, truth > 0.5, above).astype(np.int32)
    found[np.isnan(truth)] = -1
    return found


def recorded_words(policy: Policy, recorded: Mapping[str, object] | None, seen: tuple[str, ...]) -> tuple[str, ...]:
    """The policy's decisions, then what production recorded beyond them: an unknown word is a decision of its own, never a match."""
    extra = [word for word in seen if word not in policy.decisions] if recorded else []
    return (*policy.decisions, *dict.fromkeys(extra))
