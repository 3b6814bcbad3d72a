"""Archives keep their contract: as Parquet files and in memory; and a file is canonical, whole and free of ids."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from analysis.types import PairTable
from harness.adapters.archive import FileArchive
from harness.core.errors import RecordError, UsageError
from harness.core.sealed import numbered, without_ids
from harness.testing import samples
from harness.testing.archives import MemoryArchive
from harness.testing.contracts.archive import OF, ArchiveContract, observations, rows, table

HASH_OF_SAMPLE = """
from harness.adapters.archive import FileArchive
from harness.testing import samples
from harness.testing.contracts.archive import OF, table
from pathlib import Path
import sys
print(FileArchive(Path(sys.argv[1])).seal(samples.rollout(), table(), OF))
"""


class TestFileArchive(ArchiveContract):
    @pytest.fixture
    def archive(self, tmp_path):
        return FileArchive(tmp_path / "archive")

    @pytest.fixture
    def damage(self, tmp_path):
        def change(sha256):
            path = tmp_path / "archive" / f"{sha256}.parquet"
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)

        return change


class TestMemoryArchive(ArchiveContract):
    @pytest.fixture
    def archive(self):
        return MemoryArchive()

    @pytest.fixture
    def damage(self, archive):
        def change(sha256):
            archive.stored[sha256] += b" "

        return change


def test_two_processes_write_the_same_bytes_into_a_file_named_by_them(tmp_path):
    """Nothing of the moment, the machine or the process stands in an archive."""
    hashes = []
    for folder in ("one", "two"):
        done = subprocess.run(
            [sys.executable, "-c", HASH_OF_SAMPLE, str(tmp_path / folder)], capture_output=True, text=True, check=True, timeout=600
        )
        hashes.append(done.stdout.strip())
    files = [path for folder in ("one", "two") for path in (tmp_path / folder).iterdir()]
    assert [path.name for path in files] == [f"{hashes[0]}.parquet"] * 2
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in files} == {hashes[0]} == set(hashes)


def test_no_archive_holds_the_hash_of_anybody(tmp_path):
    """What is sealed cannot be taken out again when somebody asks to be forgotten, so it never gets in."""
    sealed = table()
    sha256 = FileArchive(tmp_path).seal(samples.rollout(), sealed, OF)
    found = pq.read_table(tmp_path / f"{sha256}.parquet").to_pydict()
    assert found["event_id"] == [f"{n:016x}" for n in range(5)]
    assert found["unit_id"] == [f"{n:016x}" for n in range(5)]
    ids = {samples.event(n, f"e{n}").unit for n in range(5)}
    assert ids.isdisjoint(int(unit, 16) for unit in found["unit_id"])


def test_units_are_numbered_as_they_first_came():
    """A unit that comes again keeps its number: it is counted once."""
    columns = {"unit_id": np.array([900, 7, 900, 3, 7], np.uint64), "event_id": np.zeros(5, "V14"), "arrived": np.arange(5)}
    assert without_ids(PairTable(columns, {}))["unit_id"].tolist() == [0, 1, 0, 2, 1]
    assert len(without_ids(PairTable({name: column[:0] for name, column in columns.items()}, {}))) == 0


def test_exposed_units_are_numbered_in_the_order_in_which_their_arms_are_folded():
    """By first exposure in the stage, and of one microsecond by hash, as the fold takes them; the others follow by first sight."""
    exposures = rows((7, 5, 1, 0), (3, 9, 1, 0), (900, 10, 0, 0), (7, 10, 1, 0), (5, 11, 1, 0))
    appeals = rows((1, 1, 1, 1), (900, 2, 1, 1), (8, 3, 1, 1), (2, 3, 1, 1))
    stage = {"exposures/0": exposures["arrived"] > 6}
    found = numbered({"exposures/0": exposures, "appeals/0": appeals}, exposed=stage)
    assert found["exposures/0"]["unit"].tolist() == [1, 0, 2, 1, 3]
    assert found["appeals/0"]["unit"].tolist() == [4, 2, 6, 5]
    assert exposures["unit"].tolist() == [7, 3, 900, 7, 5], "the caller's rows are as they were"
    assert numbered({}, exposed={}) == {}


def test_observations_of_a_release_that_wrote_less_of_each_are_still_read(tmp_path):
    """Fields are added behind the others, and archives are kept for years; one without what every release wrote is none."""
    archive = FileArchive(tmp_path)
    sha256 = archive.seal_observations(observations(), OF)
    path = tmp_path / f"{sha256}.parquet"
    whole = pq.read_table(path)
    for least, n in ((True, 5), (False, 4)):
        data = io.BytesIO()
        pq.write_table(whole.select(whole.column_names[:n]), data)
        older = hashlib.sha256(data.getvalue()).hexdigest()
        (tmp_path / f"{older}.parquet").write_bytes(data.getvalue())
        if not least:
            with pytest.raises(RecordError, match="holds source, unit, arrived, value, expected observations"):
                archive.open_observations(older)
            continue
        assert archive.open_observations(older)[0]["appeals/0"].tolist() == observations()["appeals/0"].tolist()


def test_an_archive_that_cannot_be_written_says_where_and_leaves_nothing(tmp_path):
    """A full disk or a file in the way is not a decision's end, but must be known."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"file/.*parquet: cannot be written"):
        FileArchive(tmp_path / "file").seal(samples.rollout(), table(), OF)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_pyarrow_it_says_what_to_install(tmp_path, monkeypatch):
    """The base installation has no Parquet; a record then says that nothing was sealed, and why."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"shadow-harness\[parquet\]"):
        FileArchive(tmp_path).seal(samples.rollout(), table(), OF)
