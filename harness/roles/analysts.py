"""Which worker has a rollout's verdict: the one that holds it folds, the others stand by."""

from __future__ import annotations

from collections.abc import Callable

from harness.roles.analyst import Analyst


class Analysts:
    """The analyst of a rollout while this worker holds it; another one stands by. `make` opens it, from what is stored."""

    def __init__(self, make: Callable[[], Analyst]) -> None:
        self._make = make
        self._held: Analyst | None = None

    def hold(self, parts: tuple[str, ...]) -> None:
        """Takes up or lays down the verdict."""
        if not parts:
            self.close()
        elif self._held is None:
            self._held = self._make()

    def step(self, wait_s: float = 0.0) -> int:
        """One step, if it is this worker's."""
        return self._held.step(wait_s) if self._held is not None else 0

    def close(self) -> None:
        """Saves and lays down the verdict."""
        if self._held is not None:
            held, self._held = self._held, None
            held.close()
