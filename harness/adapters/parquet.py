"""The pair table as a Parquet file, for people's own notebooks and for archives. Needs the extra `parquet` (pyarrow)."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from analysis.types import Column, PairTable
from harness.core.errors import RecordError, UsageError
from harness.core.rollout import TRUE_FALSE, Rollout
from harness.core.sealed import coded_columns
from harness.ports.observations import ROW

# Everything that the bytes depend on is said here, so that the same table gives the same bytes with the same version of pyarrow.
CANONICAL: Mapping[str, Any] = {
    "version": "2.6", "data_page_version": "1.0", "compression": "zstd", "compression_level": 3, "use_dictionary": True,
    "write_statistics": True, "row_group_size": 65_536, "data_page_size": 1_048_576, "store_schema": True,
}  # fmt: skip

OBSERVED = ("source", "unit", "arrived", "value", "of")  # what every release wrote of an observation


def available() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def write(rollout: Rollout, table: PairTable, path: Path, plain_ids: Mapping[bytes, str] | None = None) -> None:
    """Writes one row an event: keyed hashes as hex text, decisions as booleans or words, times in UTC, null where nothing is known.

    plain_ids: key -> plain id, a last column `plain_id`, null for an event of which none is kept; None: there is no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = _arrow(rollout, table, {"rollout": rollout.name, "config_sha256": rollout.sha256})
    if plain_ids is not None:
        kept = [plain_ids.get(bytes(key)) for key in table["event_id"].tolist()]
        found = found.append_column("plain_id", pa.array(kept, pa.string()))
    pq.write_table(found, path)


def encode(rollout: Rollout, table: PairTable, facts: Mapping[str, str]) -> bytes:
    """The same as bytes: the same table and facts (its metadata `shadow.*`) give the same ones. Nothing in them says when."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(_arrow(rollout, table, facts), buffer, **CANONICAL)
    return buffer.getvalue()


def encode_observations(rows: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> bytes:
    """Rows of observations, those of a source together, as canonical bytes: `source`, then the fields of a row; NaN is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sources = sorted(source for source, each in rows.items() if len(each))
    every = np.concatenate([np.empty(0, ROW), *(rows[source] for source in sources)])
    which = np.repeat(np.arange(len(sources), dtype=np.int32), [len(rows[source]) for source in sources])
    arrays = {"source": pa.DictionaryArray.from_arrays(which, pa.array(sources, pa.string())).cast(pa.string())}
    for name in every.dtype.names or ():
        column = np.ascontiguousarray(every[name])
        mask = np.isnan(column) if column.dtype.kind == "f" else None
        arrays[name] = pa.array(column, pa.timestamp("us", tz="UTC") if name == "arrived" else None, mask=mask)
    metadata = {f"shadow.{name}".encode(): value.encode() for name, value in facts.items()}
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), buffer, **CANONICAL)
    return buffer.getvalue()


def decode_observations(file: BinaryIO, *, source: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The rows that `encode_observations` wrote, by source, and its facts; a field that a release of before did not have is 0.

    Raises UsageError; RecordError when they are none.
    """
    _needed(source)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{source}: is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    known = ["source", *(name for name, _ in ROW)]
    names = table.column_names
    if names != known[: len(names)] or len(names) < len(OBSERVED):
        raise RecordError(f"{source}: holds {', '.join(names)}, expected observations: {', '.join(known)}")
    every = np.zeros(len(table), ROW)
    try:
        for name in names[1:]:
            column = table.column(name)
            every[name] = column.cast(pa.int64() if name == "arrived" else column.type).to_numpy()
        named = table.column("source").cast(pa.string()).combine_chunks().dictionary_encode()
        which, sources = named.indices.to_numpy(), named.dictionary.to_pylist()
        found = {source: every[which == number] for number, source in enumerate(sources)}
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise RecordError(f"{source}: holds other values than observations have: {str(error).splitlines()[0]}") from None
    return found, _facts(table.schema.metadata)


def _facts(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    """What a file says of shadow."""
    said = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (metadata or {}).items()}
    return {key.removeprefix("shadow."): value for key, value in said.items() if key.startswith("shadow.")}


def write_columns(columns: Mapping[str, Any], times: Collection[str], path: Path) -> None:
    """Writes plain columns, all of one length; those of `times` are microseconds, and become times in UTC."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: pa.timestamp("us", tz="UTC") if name in times else None for name in columns}
    pq.write_table(pa.table({name: pa.array(column, kinds[name]) for name, column in columns.items()}), path)


def _arrow(rollout: Rollout, table: PairTable, facts: Mapping[str, str]) -> Any:
    import pyarrow as pa

    coded = coded_columns(rollout, table)
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
    metadata = {f"shadow.{name}".encode(): value.encode() for name, value in facts.items()}
    return pa.table(arrays).replace_schema_metadata(metadata)


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
    _needed(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    with path.open("rb") as file:
        return decode(file, source=str(path))


def decode(file: BinaryIO, *, source: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The same of an open file, which `source` names in messages. Raises UsageError."""
    _needed(source)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        columns = {name: table.column(place).to_pandas() for place, name in enumerate(table.column_names)}
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{source}: is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    return columns, _facts(table.schema.metadata)


def _needed(source: object) -> None:
    if not available():
        raise UsageError(f"{source}: reading Parquet needs pyarrow: pip install 'shadow-harness[parquet]'")
