"""Durations as people write them: a number and its unit, as in 300ms, 30s, 5m, 6h, 14d, 6y. A day has 24 hours, a year 365 days."""

from __future__ import annotations

import re
from decimal import Decimal

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000, "y": 365 * 86_400_000}
PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d|w|y)$"
LONGEST = "100y"
_SHAPE = re.compile(PATTERN.replace("$", r"\Z"))


def milliseconds(text: object) -> float:
    """A duration in milliseconds, exact to the digits written.

    Raises:
        ValueError: it is no duration; the message says what one looks like.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise ValueError(f"got {text}, a duration needs its unit, as in {text:g}s (ms, s, m, h, d, w or y)")
    match = _SHAPE.match(text) if isinstance(text, str) else None
    if not isinstance(text, str) or match is None:
        quoted = repr(text[:40]) if isinstance(text, str) else type(text).__name__
        raise ValueError(f"got {quoted}, expected a duration as in 300ms, 30s, 5m, 6h, 14d or 6y")
    unit = match.group(2)
    value = Decimal(text.removesuffix(unit)) * _MILLISECONDS[unit]
    if value > 100 * _MILLISECONDS["y"]:
        raise ValueError(f"got {text}, must be at most {LONGEST}")
    return float(value)


def seconds(text: object) -> float:
    """A duration in seconds; raises ValueError as `milliseconds` does."""
    return milliseconds(text) / 1_000


def written(duration_s: float) -> str:
    """Seconds as a duration, in the largest unit that divides them."""
    total = round(duration_s * 1_000)
    for unit in ("d", "h", "m", "s"):
        if total and total % _MILLISECONDS[unit] == 0:
            return f"{total // _MILLISECONDS[unit]}{unit}"
    return f"{total}ms"
