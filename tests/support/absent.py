"""What a test does whose server or tool is not on this machine: one rule for all."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skips at home, and fails where CI is set: there it must not hide a test."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
