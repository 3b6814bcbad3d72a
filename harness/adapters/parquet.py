"""The pair table as a Parquet file, for people's own notebooks. Needs the extra `parquet` (pyarrow)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from analysis.types import Column, PairTable
from harness.core.errors import UsageError
from harness.core.rollout import TRUE_FALSE, Rollout


def available() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write(rollout: Rollout, table: PairTable, path: Path) -> None:
    """Writes one row an event: keyed hashes as hex text, decisions as booleans or words, times in UTC, null where nothing is known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    coded = _coded_columns(rollout, table)
    arrays: dict[str, Any] = {}
    for name, column in table.columns.items():
        if name == "event_id":
            arrays[name] = pa.array([bytes(key).hex() for key in column.tolist()], pa.string())
        elif name == "unit_id":
            arrays[name] = pa.array([f"{unit:016x}" for unit in column.tolist()], pa.string())
        elif name in ("arrived", "label_time"):
            arrays[name] = pa.array(column, pa.timestamp("us", tz="UTC"), mask=column < 0)
        elif name in coded:
            arrays[name] = _words(column, coded[name])
        else:
            arrays[name] = pa.array(column, pa.float64(), mask=np.isnan(column))
    metadata = {b"shadow.rollout": rollout.name.encode(), b"shadow.config_sha256": rollout.sha256.encode()}
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), path)


def _coded_columns(rollout: Rollout, table: PairTable) -> dict[str, tuple[str, ...]]:
    """Coded column -> its words."""
    found = {name: words for name, words in table.words.items() if name.startswith("segment.")}
    lanes = (*rollout.lanes, "truth")
    found |= {f"{policy}.{lane}": table.words[policy] for policy in rollout.policies for lane in lanes}
    found |= {f"{policy}.truth": TRUE_FALSE for policy in rollout.policies}
    found |= {f"missing.{lane}": table.words["missing"] for lane in rollout.lanes}
    labels = [output.name for output in rollout.outputs.values() if output.type == "label"]
    return found | {f"{name}.{lane}": table.words[name] for name in labels for lane in rollout.lanes}


def _words(codes: Column, words: tuple[str, ...]) -> Any:
    import pyarrow as pa

    if words == TRUE_FALSE:
        return pa.array(codes > 0, pa.bool_(), mask=codes < 0)
    lookup = np.array([*words, ""], dtype=object)
    return pa.array(lookup[codes], pa.string(), mask=codes < 0)


def read(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """(columns as pandas Series by name, what its metadata says of shadow: `rollout`, `config_sha256`).

    Raises:
        UsageError: pyarrow is not installed, there is no such file, or it is no Parquet.
    """
    if not available():
        raise UsageError(f"{path}: reading Parquet needs pyarrow: pip install 'shadow-harness[parquet]'")
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            table = pq.read_table(file)
        said = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (table.schema.metadata or {}).items()}
        columns = {name: table.column(place).to_pandas() for place, name in enumerate(table.column_names)}
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    return columns, {key.removeprefix("shadow."): value for key, value in said.items() if key.startswith("shadow.")}
