"""Recorded files, line by line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.commands.replay import lines


@pytest.mark.parametrize("name", ["events.jsonl", "events.jsonl.gz"])
def test_a_byte_order_mark_costs_no_event(name: str, tmp_path: Path):
    """Some editors and exports put one before the first line, where it made that event unreadable; elsewhere it is what it is."""
    body = b'\xef\xbb\xbf{"a": 1}\r\n\n\xef\xbb\xbf{"b": 2}'
    (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith("gz") else body)
    assert list(lines(tmp_path / name)) == [b'{"a": 1}', b'\xef\xbb\xbf{"b": 2}']
