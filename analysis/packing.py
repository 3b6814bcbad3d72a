"""A state of numbers as bytes and back: a JSON head and plain arrays, compressed. No pickle, nothing that runs."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import InputError

_MAGIC = b"SHEV1\n"


def pack(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The same head and arrays give the same bytes. Arrays are stored little-endian, in the order of their names."""
    parts = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    shapes = {name: [part.dtype.newbyteorder("<").str, list(part.shape)] for name, part in parts.items()}
    text = json.dumps({"head": head, "arrays": shapes}, sort_keys=True, separators=(",", ":")).encode()
    body = b"".join(part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes() for part in parts.values())
    return _MAGIC + zlib.compress(struct.pack("<Q", len(text)) + text + body, 1)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(head, arrays).

    Raises:
        InputError: these are no bytes of `pack`.
    """
    if not data.startswith(_MAGIC):
        raise InputError("evidence bytes do not start as this version writes them")
    try:
        raw = zlib.decompress(data[len(_MAGIC) :])
        (length,) = struct.unpack_from("<Q", raw)
        found = json.loads(raw[8 : 8 + length])
        arrays, at = {}, 8 + length
        for name, (kind, shape) in sorted(found["arrays"].items()):
            dtype, n = np.dtype(kind), int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(raw, dtype, n, at).reshape(shape).astype(dtype.newbyteorder("="))
            at += n * dtype.itemsize
    except (zlib.error, struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"evidence bytes are damaged: {error}") from error
    return found["head"], arrays


def keep(data: bytes, prefixes: tuple[str, ...]) -> bytes:
    """The same head with only the arrays whose names start so, as `fill` takes them. Raises InputError: these are no bytes of `pack`."""
    head, arrays = unpack(data)
    return pack(head, {name: array for name, array in arrays.items() if name.startswith(prefixes)})


def fill(data: bytes, other: bytes) -> bytes:
    """What `keep` left, with its other arrays taken from another state. Raises InputError: these are no bytes of `pack`."""
    head, arrays = unpack(data)
    return pack(head, unpack(other)[1] | arrays)
