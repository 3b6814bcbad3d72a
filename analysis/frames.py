"""Any data frame with the columns of the contract -> a pair table: pandas, PyArrow, or a mapping of lists.

What the columns mean is told from their names, what they hold from their types: decisions are booleans or words, hashed ids are text,
times are timestamps. Whatever cannot be is refused with the column, the row (counted from 1) and never the value: it may be personal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from analysis.types import Column, InputError, PairTable

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["number", "boolean", "text", "time", "empty", "other"]
FALSE_TRUE = ("false", "true")
LANES = ("incumbent", "challenger", "replica")
NEEDED = ("event_id", "unit_id", "arrived", "missing.incumbent", "missing.challenger")
_HASHED = re.compile(r"[0-9a-f]{16}\Z")
_MOST_ROWS_NAMED = 5


def pair_table(frame: Any, *, words: Mapping[str, Sequence[str]] | None = None) -> PairTable:
    """The pair table of a data frame, in the order (arrival time, event id).

    Args:
        frame: Anything with named columns: a data frame, an Arrow table, or a mapping name -> values. Columns of other names than the
            contract's are left out.
        words: Words of coded columns that have their codes from the start, by name: `segment.<name>`, a policy, a label output,
            `missing`. Others get theirs in the order in which they are seen. A name in it is never read as a number.

    Raises:
        InputError: a column is missing or of the wrong type, an id is absent or stands twice, or a value cannot be where it is.
    """
    columns = series(frame)
    absent = [name for name in NEEDED if name not in columns]
    if absent:
        raise InputError(f"the table has no column {', '.join(absent)}; it has {_listed(columns)}")
    order = _order(columns)
    columns = {name: column.iloc[order] for name, column in columns.items()}
    origin = order + 1
    found: dict[str, Column] = {
        "event_id": np.asarray(columns["event_id"].astype(str), dtype=object),
        "unit_id": unit_ids(columns["unit_id"], origin),
        "arrived": times("arrived", columns["arrived"], origin, null=False),
    }
    known: dict[str, tuple[str, ...]] = {name: tuple(given) for name, given in (words or {}).items()}
    for name, column in columns.items():
        _plain(name, column, origin, found, known)
    for prefix, lanes in _by_prefix(columns).items():
        _of_lanes(prefix, lanes, origin, found, known)
    for name in ("label_time", "propensity"):
        if name not in found:
            found[name] = np.full(len(order), -1, np.int64) if name == "label_time" else np.full(len(order), np.nan)
    table = PairTable(found, known)
    _check(table, origin)
    return table


# ---------------------------------------------------------------------------------------------------------------- columns
def series(frame: Any) -> dict[str, pd.Series[Any]]:
    """Name -> pandas Series of each column of a frame, with a fresh index.

    Raises:
        InputError: there are no named columns, or they differ in length.
    """
    import pandas as pd

    names = getattr(frame, "column_names", None) or getattr(frame, "columns", None)
    if isinstance(frame, Mapping):
        names = list(frame)
    if names is None:
        raise InputError(f"expected a data frame or a mapping of columns, got {type(frame).__name__}")
    found: dict[str, pd.Series[Any]] = {}
    for name in names:
        data = frame[name]
        if not isinstance(data, pd.Series):
            data = data.to_pandas() if hasattr(data, "to_pandas") else pd.Series(data)
        found[str(name)] = data.infer_objects().reset_index(drop=True)
    lengths = {name: len(column) for name, column in found.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns must be of one length, got {lengths}")
    return found


def kind(column: pd.Series[Any]) -> Kind:
    """What a column holds, whatever its nulls; "empty" when it holds nulls only."""
    from pandas.api import types

    values = column.dropna()
    if not len(values):
        return "empty" if not types.is_datetime64_any_dtype(column.dtype) else "time"
    if types.is_bool_dtype(column.dtype):
        return "boolean"
    if types.is_datetime64_any_dtype(column.dtype):
        return "time"
    if types.is_numeric_dtype(column.dtype) and not types.is_complex_dtype(column.dtype):
        return "number"
    inferred = types.infer_dtype(values.astype(object), skipna=True)
    return {"string": "text", "boolean": "boolean"}.get(inferred, "other")  # type: ignore[return-value]


def numbers(name: str, column: pd.Series[Any], origin: NDArray[np.int64]) -> NDArray[np.float64]:
    """A column as float64, NaN for null; booleans are 0 and 1. Raises InputError for other types and, but of a latency, for infinities."""
    found = kind(column)
    if found not in ("number", "boolean", "empty"):
        raise InputError(f"{name}: expected numbers, found {_KINDS[found]}")
    values = np.full(len(column), np.nan) if found == "empty" else column.astype("Float64").to_numpy(np.float64, na_value=np.nan)
    _refuse(np.isinf(values) & (not name.startswith("latency_ms.")), origin, f"{name}: expected finite numbers, found an infinite one")
    return np.asarray(values, np.float64)


def times(name: str, column: pd.Series[Any], origin: NDArray[np.int64], *, null: bool) -> NDArray[np.int64]:
    """A column of timestamps as microseconds since 1970 in UTC, -1 for null; one without a zone is taken as UTC."""
    found = kind(column)
    if found == "empty" and null:
        return np.full(len(column), -1, np.int64)
    if found not in ("time", "empty"):
        raise InputError(f"{name}: expected timestamps, found {_KINDS[found]}")
    gone = column.isna().to_numpy()
    if not null:
        _refuse(gone, origin, f"{name}: expected a time in every row, found none")
    zone = getattr(column.dtype, "tz", None)
    plain = column.dt.tz_convert("UTC").dt.tz_localize(None) if zone is not None else column
    stamps = plain.to_numpy().astype("datetime64[us]").astype(np.int64) if len(column) else np.zeros(0, np.int64)
    _refuse(~gone & (stamps < 0), origin, f"{name}: expected times after 1970, found one before")
    return np.where(gone, -1, stamps).astype(np.int64)


def coded(
    name: str, column: pd.Series[Any], origin: NDArray[np.int64], words: Sequence[str] = (),
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """(codes, words) of a column of words or booleans: -1 for null; new words come after the given ones, in order of first sight."""
    import pandas as pd

    found = kind(column)
    if found == "empty":
        return np.full(len(column), -1, np.int32), tuple(words)
    if found == "boolean":
        values, column = (FALSE_TRUE, column.astype("boolean"))
        own, distinct = column.to_numpy(np.float64, na_value=-1.0).astype(np.int64), list(values)
    elif found == "text":
        own, seen = pd.factorize(np.asarray(column.astype(object)))
        distinct = [str(word) for word in seen]
    else:
        raise InputError(f"{name}: expected booleans or words, found {_KINDS[found]}")
    shared = {word: code for code, word in enumerate(words)}
    lookup = np.array([*(shared.setdefault(word, len(shared)) for word in distinct), -1], np.int32)
    return lookup[own], tuple(shared)


def unit_ids(column: pd.Series[Any], origin: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
    """Who a row is of, as 64 bits: 16 hex digits as we write them are taken as they are, any other text or number is hashed.

    Raises:
        InputError: a row has none, or they are neither text nor whole numbers.
    """
    import pandas as pd
    from pandas.api import types

    rows = np.arange(1, len(column) + 1) if origin is None else origin
    codes, distinct = pd.factorize(np.asarray(column.astype(object)))
    _refuse(codes < 0, rows, "unit_id: expected one in every row, found none")
    found = kind(column)
    if found not in ("text", "number", "empty"):
        raise InputError(f"unit_id: expected text or whole numbers, found {_KINDS[found]}")
    if found == "number" and not types.is_integer_dtype(column.dtype):
        raise InputError("unit_id: expected text or whole numbers, found numbers with a point")
    ids = np.array([_unit(str(unit)) for unit in distinct] or [0], np.uint64)
    return ids[codes]


def _unit(text: str) -> int:
    if _HASHED.match(text):
        return int(text, 16)
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, person=b"shadow-unit").digest(), "big")


# ------------------------------------------------------------------------------------------------------------- by their names
def _order(columns: Mapping[str, pd.Series[Any]]) -> NDArray[np.int64]:
    """Rows in the order (arrival time, event id), from columns that can be ordered."""
    import pandas as pd

    ids = columns["event_id"]
    rows = np.arange(1, len(ids) + 1)
    if len(ids) and kind(ids) not in ("text", "number", "empty"):
        raise InputError(f"event_id: expected text, found {_KINDS[kind(ids)]}")
    _refuse(ids.isna().to_numpy(), rows, "event_id: expected one in every row, found none")
    _refuse(ids.duplicated().to_numpy(bool), rows, "event_id: an event stands in the table more than once, again")
    arrived = times("arrived", columns["arrived"], rows, null=False)
    frame = pd.DataFrame({"arrived": arrived, "id": ids.astype(str).to_numpy()})
    return np.asarray(frame.sort_values(["arrived", "id"], kind="stable").index.to_numpy(), np.int64)


def _plain(
    name: str, column: pd.Series[Any], origin: NDArray[np.int64], found: dict[str, Column], words: dict[str, tuple[str, ...]]
) -> None:
    """Columns that stand for themselves."""
    if name.startswith("segment."):
        found[name], words[name] = coded(name, column, origin, words.get(name, ()))
    elif name.startswith("truth.") or name.startswith("latency_ms.") or name == "propensity":
        found[name] = numbers(name, column, origin)
    elif name.startswith("missing."):
        found[name], words["missing"] = coded(name, column, origin, words.get("missing", ()))
    elif name == "label_time":
        found[name] = times(name, column, origin, null=True)
    elif name.endswith(".truth"):
        found[name], said = coded(name, column, origin, FALSE_TRUE)
        if said != FALSE_TRUE:
            raise InputError(f"{name}: expected booleans, the class of the truth under the policy's line")


def _by_prefix(columns: Mapping[str, pd.Series[Any]]) -> dict[str, dict[str, pd.Series[Any]]]:
    """Output or policy -> lane -> its column."""
    found: dict[str, dict[str, pd.Series[Any]]] = {}
    for name, column in columns.items():
        prefix, _, lane = name.rpartition(".")
        if prefix and lane in LANES and prefix.partition(".")[0] not in ("missing", "latency_ms", "segment", "truth"):
            found.setdefault(prefix, {})[lane] = column
    return found


def _of_lanes(
    prefix: str, lanes: Mapping[str, pd.Series[Any]], origin: NDArray[np.int64], found: dict[str, Column], words: dict[str, tuple[str, ...]]
) -> None:
    """The columns of one output or policy: numbers in every lane, or booleans and words with shared codes."""
    kinds = {lane: kind(column) for lane, column in lanes.items()}
    if prefix not in words and not {"text", "boolean"} & set(kinds.values()):
        for lane, column in lanes.items():
            found[f"{prefix}.{lane}"] = numbers(f"{prefix}.{lane}", column, origin)
        return
    for lane, column in lanes.items():
        name = f"{prefix}.{lane}"
        start = FALSE_TRUE if kinds[lane] == "boolean" and prefix not in words else words.get(prefix, ())
        found[name], words[prefix] = coded(name, column, origin, start)


# -------------------------------------------------------------------------------------------------------------------- checks
def _check(table: PairTable, origin: NDArray[np.int64]) -> None:
    """An answer is there exactly where its lane answered; latencies are not negative; a propensity is a chance."""
    for name, column in table.columns.items():
        prefix, _, lane = name.rpartition(".")
        if name.startswith("latency_ms.") or name == "propensity":
            with np.errstate(invalid="ignore"):
                _refuse(column < 0, origin, f"{name}: expected no number below 0, found one")
        elif lane in LANES and f"missing.{lane}" in table.columns and prefix not in ("missing", ""):
            null = np.isnan(column) if column.dtype.kind == "f" else column < 0
            gone = table[f"missing.{lane}"] >= 0
            _refuse(null & ~gone, origin, f"{name}: expected a value where missing.{lane} is null, as that lane answered; found none")
            _refuse(~null & gone, origin, f"{name}: expected null where missing.{lane} gives a reason, found a value")


def _refuse(wrong: Any, origin: NDArray[np.int64], said: str) -> None:
    """Raises InputError naming the first rows that are wrong, if there is any."""
    at = np.flatnonzero(np.asarray(wrong, bool))
    if len(at):
        raise InputError(f"{said} in {rows_named(origin[at])}")


def rows_named(rows: NDArray[np.int64] | Sequence[int]) -> str:
    """The first of some rows in words, as in "rows 3, 9 and 12 more"."""
    first = ", ".join(str(row) for row in sorted(int(r) for r in rows)[:_MOST_ROWS_NAMED])
    more = len(rows) - _MOST_ROWS_NAMED
    return f"row {first}" if len(rows) == 1 else f"rows {first}" + (f" and {more:,} more" if more > 0 else "")


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(_few(iter(names))) or "no column"


def _few(names: Iterator[str], most: int = 40) -> list[str]:
    found = list(names)
    return found if len(found) <= most else [*found[:most], f"and {len(found) - most} more"]


_KINDS: dict[Kind, str] = {
    "number": "numbers", "boolean": "booleans", "text": "text", "time": "timestamps", "empty": "nothing",
    "other": "values of mixed or other types",
}
