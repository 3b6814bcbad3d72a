"""Archives as Parquet files in a folder, each named by the SHA-256 of its bytes. Needs the extra `parquet` (pyarrow)."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from analysis.types import PairTable
from harness.adapters import parquet
from harness.core.errors import RecordError, UsageError
from harness.core.rollout import Rollout
from harness.core.sealed import Sealed, facts, from_facts

_SHA256 = re.compile(r"[0-9a-f]{64}")


class FileArchive:
    """`ports.archive.Archive` in a folder of one machine, or one that is mounted on all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def seal(self, rollout: Rollout, table: PairTable, of: Sealed) -> str:
        """Writes `SHA256.parquet`: to another name, synced, then renamed, so that a file of that name is always whole."""
        if not parquet.available():
            raise UsageError("sealing an archive needs pyarrow: pip install 'shadow-harness[parquet]'")
        return self._kept(parquet.encode(rollout, table, facts(of)))

    def seal_observations(self, rows: Mapping[str, NDArray[Any]], of: Sealed) -> str:
        """The same of observations."""
        if not parquet.available():
            raise UsageError("sealing an archive needs pyarrow: pip install 'shadow-harness[parquet]'")
        return self._kept(parquet.encode_observations(rows, facts(of)))

    def _kept(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self._folder / f"{sha256}.parquet"
        try:
            if not (path.is_file() and path.read_bytes() == data):
                self._put(path, data)
        except OSError as error:
            raise UsageError(f"archive {path}: cannot be written: {error.strerror or error}") from None
        return sha256

    def _put(self, path: Path, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=self._folder, prefix=".sealing-")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        place = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(place)  # the name too is on the disk
        finally:
            os.close(place)

    def open(self, sha256: str) -> tuple[Mapping[str, Any], Sealed]:
        """The columns of an archive whose bytes are still those that were sealed."""
        path, data = self._found(sha256)
        columns, said = parquet.decode(io.BytesIO(data), source=f"archive {path}")
        return columns, _of(path, said)

    def open_observations(self, sha256: str) -> tuple[Mapping[str, NDArray[Any]], Sealed]:
        """The rows of an archive whose bytes are still those that were sealed."""
        path, data = self._found(sha256)
        rows, said = parquet.decode_observations(io.BytesIO(data), source=f"archive {path}")
        return rows, _of(path, said)

    def _found(self, sha256: str) -> tuple[Path, bytes]:
        if not _SHA256.fullmatch(sha256):
            raise RecordError("the name of an archive is no SHA-256")
        path = self._folder / f"{sha256}.parquet"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UsageError(f"archive {path}: no such file") from None
        except OSError as error:
            raise UsageError(f"archive {path}: cannot be read: {error.strerror or error}") from None
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            raise RecordError(f"archive {path}: its bytes have the SHA-256 {found}: it is not what was sealed")
        return path, data


def _of(path: Path, said: Mapping[str, str]) -> Sealed:
    of = from_facts(said)
    if of is None:
        raise RecordError(f"archive {path}: does not say what it is of; it was not sealed by this product")
    return of
