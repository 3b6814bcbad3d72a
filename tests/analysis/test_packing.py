"""Bytes of a state: exact, repeatable, and refused when damaged."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.packing import pack, unpack
from analysis.types import InputError

HEAD = {"a": [1, None, "x"], "n": 2**200}
ARRAYS = {"ids": np.array([1, 2**64 - 1], np.uint64), "none": np.zeros((0, 3), np.int64), "bits": np.eye(3, dtype=np.uint8)[:, ::-1]}


def test_what_is_packed_comes_back():
    """Integers of any size, empty arrays, all 64 bits."""
    head, arrays = unpack(pack(HEAD, ARRAYS))
    assert head == HEAD and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype and arrays[name].tolist() == array.tolist() and arrays[name].flags.writeable
    assert pack(HEAD, ARRAYS) == pack(dict(reversed(HEAD.items())), dict(reversed(ARRAYS.items())))


@pytest.mark.parametrize("damage", [
    lambda b: b"", lambda b: b"x" + b, lambda b: b[:-4], lambda b: b[:20] + b"????" + b[24:], lambda b: b[:6]])
def test_damaged_bytes_are_refused(damage):
    """Half a state would give a verdict of half the evidence."""
    with pytest.raises(InputError):
        unpack(damage(pack(HEAD, ARRAYS)))
