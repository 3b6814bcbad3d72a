"""How 256 rows are kept: the label apart, and of a full chunk the facts column by column, packed once.

A sealed chunk is one byte of version, the id hashes as they are (nothing packs them), and zlib of the other bytes: the units, then
every byte of a row in a plane of its own, so that equal bytes stand together. An arrival time is the difference to the row before.
All is exact: what comes out is what went in, bit by bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import RecordError
from harness.core.routing import ID_BYTES, KEY_BYTES
from harness.core.table import RowLayout

CHUNK_ROWS = 256
SEALED = b"\x01"
_LEVEL = 1
Bytes = NDArray[np.uint8]


class Chunks:
    """Rows of one layout to what is stored of them, and back. facts: the part of a row before its label."""

    def __init__(self, layout: RowLayout) -> None:
        self._dtype, self._width, self.facts_bytes = layout.dtype, layout.width, layout.label_at
        self._no_label = np.frombuffer(layout.pack_label(None), np.uint8)
        self._arrived, self._unit = slice(KEY_BYTES, KEY_BYTES + 8), slice(KEY_BYTES + 8, KEY_BYTES + 16)

    def split(self, rows: bytes) -> tuple[bytes, dict[int, bytes]]:
        """(facts of packed rows, label of each row that has one by its place)."""
        matrix = np.frombuffer(rows, np.uint8).reshape(-1, self._width)
        labels = matrix[:, self.facts_bytes :]
        found = np.flatnonzero((labels != self._no_label).any(axis=1))
        return matrix[:, : self.facts_bytes].tobytes(), {int(n): labels[n].tobytes() for n in found}

    def seal(self, facts: bytes) -> bytes:
        """A full chunk as it is kept."""
        matrix = np.frombuffer(facts, np.uint8).reshape(CHUNK_ROWS, self.facts_bytes)
        planes = np.ascontiguousarray(matrix.T)
        arrived = np.ascontiguousarray(matrix[:, self._arrived]).view("<i8").ravel()
        steps = np.concatenate([arrived[:1], np.diff(arrived)]).astype("<i8")
        planes[self._arrived] = steps.view(np.uint8).reshape(CHUNK_ROWS, 8).T
        planes[self._unit] = np.ascontiguousarray(matrix[:, self._unit]).reshape(8, CHUNK_ROWS)  # whole: a unit comes back
        return SEALED + planes[:ID_BYTES].tobytes() + zlib.compress(planes[ID_BYTES:].tobytes(), _LEVEL)

    def open(self, sealed: Sequence[bytes]) -> Bytes:
        """The packed rows of sealed chunks, without labels, (n, width of a row). Raises RecordError when one is none."""
        if not sealed:
            return np.empty((0, self._width), np.uint8)
        parts = [part for chunk in sealed for part in self._parts(chunk)]
        planes = np.frombuffer(b"".join(parts), np.uint8).reshape(len(sealed), self.facts_bytes, CHUNK_ROWS)
        matrix = np.empty((len(sealed), CHUNK_ROWS, self._width), np.uint8)
        matrix[:, :, : self.facts_bytes] = planes.transpose(0, 2, 1)
        matrix[:, :, self.facts_bytes :] = self._no_label
        records = matrix.reshape(-1).view(self._dtype).reshape(len(sealed), CHUNK_ROWS)
        records["unit"] = np.ascontiguousarray(planes[:, self._unit]).reshape(len(sealed), -1).view("<u8")
        records["arrived"] = np.cumsum(records["arrived"], axis=1)
        return matrix.reshape(-1, self._width)

    def _parts(self, chunk: bytes) -> tuple[bytes, bytes]:
        cut = 1 + ID_BYTES * CHUNK_ROWS
        try:
            rest = zlib.decompress(chunk[cut:])
        except zlib.error:
            rest = b""
        if chunk[:1] != SEALED or len(rest) != (self.facts_bytes - ID_BYTES) * CHUNK_ROWS:
            raise RecordError(f"{len(chunk)} bytes that are no chunk of pairs of this config and of a release up to this one")
        return chunk[1:cut], rest

    def begun(self, facts: bytes) -> Bytes:
        """The packed rows of a chunk that is not full yet, without labels, (n, width of a row)."""
        matrix = np.empty((len(facts) // self.facts_bytes, self._width), np.uint8)
        matrix[:, : self.facts_bytes] = np.frombuffer(facts, np.uint8).reshape(-1, self.facts_bytes)
        matrix[:, self.facts_bytes :] = self._no_label
        return matrix

    def put(self, labels: Mapping[int, bytes], rows: Bytes) -> None:
        """Writes labels into rows, each at its row's place; places beyond the rows are let be."""
        found = {place: label for place, label in labels.items() if place < len(rows)}
        if found:
            rows[list(found), self.facts_bytes :] = np.frombuffer(b"".join(found.values()), np.uint8).reshape(len(found), -1)
