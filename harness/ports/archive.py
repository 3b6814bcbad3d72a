"""Sealed pairs and observations, by the SHA-256 of their bytes: what a decision rested on, for whoever wants to compute it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from analysis.types import PairTable
from harness.core.rollout import Rollout
from harness.core.sealed import Sealed


class Archive(Protocol):
    """Tables that are written once and never changed."""

    def seal(self, rollout: Rollout, table: PairTable, of: Sealed) -> str:
        """Writes the table and what it is of, durable on return, and returns its SHA-256, 64 hex digits.

        The same table gives the same hash, and is written once. The caller has taken ids out (`core.sealed.without_ids`).
        Raises UsageError when it cannot be written, with what to do.
        """

    def open(self, sha256: str) -> tuple[Mapping[str, Any], Sealed]:
        """(columns by name, as `commands.analyze.table_of` takes them; what the archive says of itself).

        Raises UsageError when there is no such archive; RecordError when its bytes are not those that were sealed.
        """

    def seal_observations(self, rows: Mapping[str, NDArray[Any]], of: Sealed) -> str:
        """Writes rows of `ports.observations.ROW` by source, in their order, as `seal` writes a table.

        The caller has taken ids out (`core.sealed.numbered`). Raises UsageError.
        """

    def open_observations(self, sha256: str) -> tuple[Mapping[str, NDArray[Any]], Sealed]:
        """(the rows by source; what the archive says of itself). A source without a row is not there. Raises as `open`."""
