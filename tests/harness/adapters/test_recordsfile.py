"""The file of records: a copy of the chain, byte for byte, whatever was in it before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.adapters.recordsfile import bring_up, line
from harness.core.records import Author, body, digest
from harness.testing.doubles import MemoryJournal


@pytest.fixture
def journal() -> MemoryJournal:
    """Three records, one of them not in ASCII."""
    found, head = MemoryJournal(), "0" * 64
    for n, who in enumerate(("ada", "Zoë", "cyd")):
        record = body("paused", rollout="r", at=n, by=Author(name=who, via="test"), reason="wait")
        head = found.append(record, after=head).hash
    return found


def test_a_file_grows_with_the_chain_and_each_line_gives_its_hash(journal: MemoryJournal, tmp_path: Path):
    """Whoever has the file alone can check it."""
    chain, path = journal.read(), tmp_path / "records.jsonl"
    for n in (1, 3, 3):
        bring_up(path, chain[:n])
        assert len(path.read_bytes().splitlines()) == n
    for text, link in zip(path.read_bytes().splitlines(), chain, strict=True):
        found = json.loads(text)
        assert digest(found["previous"], text.partition(b'"record": ')[2][:-1]) == found["hash"] == link.hash


@pytest.mark.parametrize("damage", ["cut", "edited", "foreign", "longer"])
def test_a_file_that_does_not_begin_the_chain_is_written_anew(damage: str, journal: MemoryJournal, tmp_path: Path):
    """After a crash in the middle of a line, an edit, or another chain's data folder: the store is the truth."""
    chain, path = journal.read(), tmp_path / "records.jsonl"
    whole = b"".join(map(line, chain))
    path.write_bytes({"cut": whole[:-9], "edited": whole.replace(b"ada", b"eve"), "foreign": b"{}\n", "longer": whole + b"{}\n"}[damage])
    bring_up(path, chain)
    assert path.read_bytes() == whole
    assert [each.name for each in tmp_path.iterdir()] == ["records.jsonl"]


def test_records_that_the_store_has_lost_are_put_aside_and_not_destroyed(journal: MemoryJournal, tmp_path: Path):
    """The store was put back to an older state: the file may be the only place that still says what was decided since."""
    chain, path = journal.read(), tmp_path / "records.jsonl"
    bring_up(path, chain)
    whole = path.read_bytes()
    bring_up(path, chain[:1])
    assert path.read_bytes() == line(chain[0])
    assert (tmp_path / f"records.jsonl.{chain[-1].hash[:12]}").read_bytes() == whole
