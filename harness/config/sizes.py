"""Sizes of memory as people write them: a whole number and its unit, as in 512MiB or 2GiB. A GiB has 1024 MiB."""

from __future__ import annotations

import re

_BYTES = {"MiB": 1 << 20, "GiB": 1 << 30}
PATTERN = r"^[0-9]{1,6}(MiB|GiB)$"
_SHAPE = re.compile(PATTERN.replace("$", r"\Z"))


def in_bytes(text: object) -> int:
    """A size in bytes.

    Raises:
        ValueError: it is no size; the message says what one looks like.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise ValueError(f"got {text}, a size needs its unit, as in {text:g}MiB or {text:g}GiB")
    match = _SHAPE.match(text) if isinstance(text, str) else None
    if not isinstance(text, str) or match is None:
        quoted = repr(text[:40]) if isinstance(text, str) else type(text).__name__
        raise ValueError(f"got {quoted}, expected a size as in 512MiB or 2GiB")
    unit = match.group(1)
    return int(text.removesuffix(unit)) * _BYTES[unit]


def written(n_bytes: int) -> str:
    """Bytes as a size, in the largest unit that divides them."""
    return f"{n_bytes >> 30}GiB" if n_bytes % _BYTES["GiB"] == 0 else f"{n_bytes >> 20}MiB"
