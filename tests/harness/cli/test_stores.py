"""Which store a command works on: one `shadow up` a data folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.stores import place
from harness.core.errors import UsageError


def test_a_second_up_in_one_folder_is_refused_and_a_look_is_not(tmp_path: Path):
    """Two supervisors would write over each other's roles and logs; a second port makes them no other rollout."""
    data = tmp_path / "data"
    with place(bus=None, store=None, data=data, create=True) as first:
        with pytest.raises(UsageError, match=r"another `shadow up` runs in this folder.*--data"):
            place(bus=None, store=None, data=data, create=True).__enter__()
        with place(bus=None, store=None, data=data, create=False) as looking:
            assert looking.store == first.store
        with place(bus="redis://elsewhere", store=None, data=data, create=True) as other:
            assert not other.private
    with place(bus=None, store=None, data=data, create=True) as again:
        assert again.private
