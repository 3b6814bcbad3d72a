"""What a verdict leaves behind in a folder: verdict.json, report.html, pairs.parquet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.types import PairTable
from harness.adapters import parquet
from harness.cli import printing
from harness.core.errors import UsageError
from harness.core.rollout import Rollout
from harness.pages.report import render
from harness.roles.analyst import canonical


def write(
    folder: Path, rollout: Rollout, verdict: Mapping[str, Any], table: PairTable, plain_ids: Mapping[bytes, str] | None = None
) -> None:
    """Writes all three; plain ids stand in the last alone, and a file whose extra is not installed is left out and named.

    Raises UsageError when the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(render(rollout, verdict, table), encoding="utf-8")
        if parquet.available():
            parquet.write(rollout, table, folder / "pairs.parquet", plain_ids)
        else:
            printing.note("pairs.parquet: left out, it needs pyarrow: pip install 'shadow-harness[parquet]'")
        (folder / "verdict.json").write_bytes(canonical(verdict))
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from None
