"""Packed chunks of rows: exact for any bytes, small for real ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.redis.chunks import CHUNK_ROWS, Chunks
from harness.core.errors import RecordError
from harness.core.table import Dictionary, RowLayout
from harness.testing import samples

LAYOUT = RowLayout(samples.rollout())
CHUNKS = Chunks(LAYOUT)
F, W = CHUNKS.facts_bytes, LAYOUT.width
EMPTY = LAYOUT.pack_label(None)


def unlabelled(facts: bytes) -> bytes:
    return b"".join(facts[at : at + F] + EMPTY for at in range(0, len(facts), F))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([0, 1, 255]))
def test_any_rows_come_back_bit_by_bit(seed, most):
    """NaNs, times that run backwards, differences that overflow: a pair that changes in the store would change a verdict."""
    facts = np.random.default_rng(seed).integers(0, most + 1, (2, CHUNK_ROWS * F), dtype=np.uint8)
    sealed = [CHUNKS.seal(chunk.tobytes()) for chunk in facts]
    assert CHUNKS.open(sealed).tobytes() == unlabelled(facts.tobytes())
    assert CHUNKS.open([]).shape == CHUNKS.begun(b"").shape == (0, W)


def test_labels_are_taken_off_and_put_back():
    """Nine rows in ten never get one."""
    label = LAYOUT.pack_label(samples.outcome(1, "e1"))
    facts = bytes(range(256)) * F
    plain = unlabelled(facts[: 5 * F])
    rows = plain[: 4 * W] + plain[4 * W : 4 * W + F] + label
    assert CHUNKS.split(rows) == (facts[: 5 * F], {4: label})
    found = CHUNKS.begun(facts[: 5 * F])
    CHUNKS.put({4: label, 9: label}, found)
    assert found.tobytes() == rows


def test_rows_of_a_stream_take_less_than_a_third():
    """What a store costs is what people ask first. Ids and units do not pack: 18 bytes a row here."""
    answers = {lane: samples.answer("x", age=30.0) for lane in ("incumbent", "challenger")}
    words = Dictionary()
    facts = b"".join(LAYOUT.pack(samples.event(n, f"e{n}"), answers, None, words)[:F] for n in range(CHUNK_ROWS))
    assert len(CHUNKS.seal(facts)) < len(facts) / 3


@pytest.mark.parametrize("bad", [b"", b"\x01", b"\x01" + bytes(5_000), b"\x02" + CHUNKS.seal(bytes(CHUNK_ROWS * F))[1:]])
def test_bytes_that_are_no_chunk_are_refused(bad):
    """Never rows of noise."""
    with pytest.raises(RecordError, match="no chunk of pairs"):
        CHUNKS.open([bad])
