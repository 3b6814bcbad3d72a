"""Clocks of roles that a test sets ahead or back while they run; `role_clocks/sitecustomize.py` is the other half."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

HOOK = Path(__file__).with_name("role_clocks")


class Clocks:
    """The wall clocks of the roles of one `shadow up`; they are right until they are set."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def environment(self) -> dict[str, str]:
        """What `shadow up` is started with."""
        path = os.pathsep.join(filter(None, (str(HOOK), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "SHADOW_TEST_CLOCKS": str(self._folder)}

    def set(self, roles: Iterable[str], ahead_s: float) -> None:
        """From now on the clocks of these roles are so far ahead; below 0: behind."""
        for role in roles:
            beside = self._folder / f"{role}.new"
            beside.write_text(str(ahead_s))
            beside.replace(self._folder / role)
