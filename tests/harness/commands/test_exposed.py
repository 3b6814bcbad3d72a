"""The people whom the challenger served, as those get them who must tell them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from harness.cli.exporting import write_exposed
from harness.commands.exposed import COLUMNS, ExposedUnits, exposed_units
from harness.core.observations import Observation
from harness.core.stages import Span
from harness.ports.observations import Observed
from harness.testing.doubles import MemoryObservationLog

DAY = 86_400_000_000
SPANS = (
    Span(), Span(stage=1, since=DAY, percent=1.0), Span(stage=2, since=3 * DAY, percent=10.0), Span(attempt=1, since=5 * DAY),
    Span(attempt=1, stage=1, since=6 * DAY, percent=2.0),
)  # fmt: skip


def log_of(*rows: tuple[str, int, float, float, float]) -> MemoryObservationLog:
    """(source, unit, days, value, percent) of each row."""
    log = MemoryObservationLog()
    for n, (source, unit, days, value, percent) in enumerate(rows):
        before = log.load(source)
        after = Observed(position=before.position + 1, arrived=int(days * DAY))
        log.append(source, [Observation(b"%014d" % n, unit, int(days * DAY), value, percent)], after, after=before)
    return log


@pytest.fixture
def found() -> ExposedUnits:
    log = log_of(
        ("exposures/0", 7, 1.5, 1.0, math.nan), ("exposures/1", 2**63 + 9, 1.2, 1.0, 0.5), ("exposures/1", 7, 3.5, 1.0, 10.0),
        ("exposures/0", 8, 2.0, 0.0, 1.0), ("appeals/0", 11, 2.0, 1.0, 1.0), ("exposures/0", 12, 7.0, 1.0, math.nan),
        ("exposures/1", 13, 3.0, 1.0, math.nan), ("exposures/0", 8, 4.0, 0.0, 10.0),
    )  # fmt: skip
    return exposed_units(log, SPANS)


def test_each_is_one_row_with_the_first_and_the_last_exposure_and_the_stage_of_the_first(found: ExposedUnits) -> None:
    """Of any partition; nobody whom only the incumbent served. A stage begins after the look on which it was entered."""
    rows = list(zip(*(getattr(found, name).tolist() for name in COLUMNS), strict=True))
    assert rows == [
        (2**63 + 9, int(1.2 * DAY), int(1.2 * DAY), 0.5, 0, 1),
        (7, int(1.5 * DAY), int(3.5 * DAY), 1.0, 0, 1),
        (13, 3 * DAY, 3 * DAY, 1.0, 0, 1),
        (12, 7 * DAY, 7 * DAY, 2.0, 1, 1),
    ]
    assert len(exposed_units(MemoryObservationLog(), SPANS)) == 0


def test_the_file_holds_keyed_hashes_as_the_pair_table_does(found: ExposedUnits, tmp_path: Path) -> None:
    """CSV and Parquet say the same, and an empty one has its columns."""
    write_exposed(found, tmp_path / "e.csv")
    write_exposed(found, tmp_path / "e.parquet")
    with (tmp_path / "e.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert [row["unit_id"] for row in rows] == [row["unit_id"] for row in table] == [
        "8000000000000009", "0000000000000007", "000000000000000d", "000000000000000c",
    ]  # fmt: skip
    assert rows[0] == {
        "unit_id": "8000000000000009", "first": "1970-01-02T04:48:00Z", "last": "1970-01-02T04:48:00Z", "percent": "0.5", "attempt": "0",
        "stage": "1",
    }  # fmt: skip
    assert table[1]["last"].isoformat() == "1970-01-04T12:00:00+00:00"
    nobody = exposed_units(MemoryObservationLog(), SPANS)
    write_exposed(nobody, tmp_path / "nobody.csv")
    write_exposed(nobody, tmp_path / "nobody.parquet")
    assert (tmp_path / "nobody.csv").read_text() == ",".join(COLUMNS) + "\n"
    assert pq.read_table(tmp_path / "nobody.parquet").column_names == list(COLUMNS)
