"""The in-memory double of the archive: keeps plain lists of columns. For tests, like those of `harness.testing.doubles`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.types import PairTable
from harness.core.errors import RecordError, UsageError
from harness.core.rollout import TRUE_FALSE, Rollout
from harness.core.sealed import Sealed, coded_columns, facts, from_facts
from harness.ports.observations import ROW

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemoryArchive:
    """`ports.archive.Archive` in a dict of bytes, which tests may damage."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def seal(self, rollout: Rollout, table: PairTable, of: Sealed) -> str:
        """Keeps the columns as JSON."""
        return self._kept({"facts": facts(of), "columns": _plain(rollout, table)})

    def seal_observations(self, rows: Mapping[str, NDArray[Any]], of: Sealed) -> str:
        """Keeps the rows as JSON."""
        return self._kept({"facts": facts(of), "rows": {source: each.tolist() for source, each in sorted(rows.items()) if len(each)}})

    def _kept(self, content: Mapping[str, Any]) -> str:
        data = json.dumps(content).encode()
        found = sha256(data).hexdigest()
        self.stored[found] = data
        return found

    def open(self, sha256_: str) -> tuple[Mapping[str, Any], Sealed]:
        """The columns as lists."""
        found, of = self._found(sha256_, "columns")
        columns = found["columns"]
        for name in ("arrived", "label_time"):
            columns[name] = [None if at is None else _EPOCH + timedelta(microseconds=at) for at in columns[name]]
        return columns, of

    def open_observations(self, sha256_: str) -> tuple[Mapping[str, NDArray[Any]], Sealed]:
        """The rows."""
        found, of = self._found(sha256_, "rows")
        return {source: np.array([tuple(row) for row in rows], ROW) for source, rows in found["rows"].items()}, of

    def _found(self, sha256_: str, part: str) -> tuple[Any, Sealed]:
        data = self.stored.get(sha256_)
        if data is None:
            raise UsageError(f"archive {sha256_}: none here")
        if sha256(data).hexdigest() != sha256_:
            raise RecordError(f"archive {sha256_}: its bytes are not what was sealed")
        found = json.loads(data)
        of = from_facts(found["facts"])
        if of is None or part not in found:
            raise RecordError(f"archive {sha256_}: does not say what it is of, or holds no {part}")
        return found, of


def _plain(rollout: Rollout, table: PairTable) -> dict[str, list[Any]]:
    coded = coded_columns(rollout, table)
    found: dict[str, list[Any]] = {}
    for name, column in table.columns.items():
        if name == "event_id":
            found[name] = [bytes(key).hex() for key in column.tolist()]
        elif name == "unit_id":
            found[name] = [f"{unit:016x}" for unit in column.tolist()]
        elif name in ("arrived", "label_time"):
            found[name] = [at if at >= 0 else None for at in column.tolist()]
        elif name in coded:
            words: list[Any] = [False, True] if coded[name] == TRUE_FALSE else list(coded[name])
            found[name] = [words[code] if code >= 0 else None for code in column.tolist()]
        else:
            found[name] = [None if np.isnan(value) else value for value in column.tolist()]
    return found
