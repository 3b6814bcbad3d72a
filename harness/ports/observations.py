"""What was observed of a canary's units, in the order of arrival of each source, with the position up to which the source was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from harness.core.observations import Observation

ROW = [("unit", "<u8"), ("arrived", "<i8"), ("value", "<f8"), ("of", "<f8"), ("segments", "<u8")]
"""The fields of a row, as a NumPy dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How far one source was read. position: the last record (-1: none). arrived: no later row has an arrival time at or before it,
    microseconds. read = invalid + duplicates + rows, and exposures to another of several challengers. overrun: times that records were
    lost before they were read."""

    position: int = -1
    arrived: int = 0
    read: int = 0
    invalid: int = 0
    overrun: int = 0


class ObservationLog(Protocol):
    """The durable rows of the sources of one rollout."""

    def load(self, source: str) -> Observed:
        """The state of a source; `Observed()` before the first append."""

    def append(self, source: str, observations: Sequence[Observation], observed: Observed, *, after: Observed) -> None:
        """Adds the rows whose key the source has not had (within the time that keys are kept) and replaces the state, all durable on
        return, or nothing.

        Raises HeadMoved when the stored state is not `after` (another worker was faster); StoreUnavailable, retriable; StoreFull.
        """

    def rows(self, source: str, start: int) -> tuple[NDArray[Any], int]:
        """(rows of `ROW`, next start) from chunk number `start` on, in order of arrival; a start that is the end gives no row."""

    def sources(self) -> Sequence[str]:
        """The sources that have rows, sorted."""

    def forget(self, unit: int) -> int:
        """Takes the rows of a unit out of every source, and returns how many it were; places of chunks stay as they are. Counts stay.

        Raises StoreUnavailable, retriable: done again it does the rest.
        """
