"""Which worker of a role does which part: short leases, so that workers can be added and removed while all run.

A lease saves work, it does not protect anything: two workers that both believe to hold a part do the same work twice, and the head of
the part's state refuses one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

REPLACES = "SHADOW_REPLACES"
"""The environment variable by which a worker that is started again is told which process it replaces: one that has surely ended."""


class Shares(Protocol):
    """The parts of the roles of one rollout, shared fairly among living workers."""

    def take(self, role: str, worker: str, parts: Sequence[str], *, ttl_s: float) -> tuple[str, ...]:
        """Says that a worker lives, renews what it holds, takes what is free up to its fair share (parts / workers, rounded up) and gives
        back what is over it. Returns the parts it holds for the next `ttl_s`, in the order of `parts`.

        A worker that has not called for `ttl_s` holds nothing and is counted no more. Raises StoreUnavailable, retriable.
        """

    def leave(self, role: str, worker: str) -> None:
        """Gives everything back at once."""

    def workers(self, role: str) -> Mapping[str, Sequence[str]]:
        """Living workers of a role, each with the parts it holds."""
