"""Tables of scores as people have them: CSV, Parquet or JSON lines, with gaps, text among numbers, and ids that stand twice.

Everything that is not a clean number is counted and named by its row, never by its value: a table of scores is personal data.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from analysis.frames import rows_named
from harness.adapters import parquet
from harness.core.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

ABSENT = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "<na>", "#n/a"})
TRUE, FALSE = frozenset({"true", "t", "yes", "y"}), frozenset({"false", "f", "no", "n"})
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".parquet", ".pq")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
ID_COLUMNS = ("event_id", "id")
MOST_GROUPS, KEPT_GROUPS = 30, 12


@dataclass(slots=True)
class Notes:
    """What was assumed, and what was found in the table; printed, so that nothing is done behind anybody's back."""

    assumed: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """One column read as numbers: NaN where there is none; `bad` where something stands that is no finite number."""

    values: NDArray[np.float64]
    bad: NDArray[np.bool_]


# ----------------------------------------------------------------------------------------------------------------------- files
def read(path: Path, notes: Notes) -> pd.DataFrame:
    """The table of a file, by its suffix: text cells of a CSV stay text.

    Raises:
        UsageError: there is no such file, its kind is not known, it cannot be read, or it holds no row.
    """
    name = path.name.lower()
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if not name.endswith(SUFFIXES):
        raise UsageError(f"{path}: expected a name that ends with {', '.join(SUFFIXES)}")
    try:
        if name.endswith((".parquet", ".pq")):
            frame = _frame(parquet.read(path)[0])
        elif ".jsonl" in name or name.endswith(".ndjson"):
            frame = _json_lines(path)
        else:
            frame = _delimited(path, notes)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text; save it as UTF-8 (in a spreadsheet: CSV UTF-8)") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not len(frame):
        raise UsageError(f"{path}: has a header ({', '.join(map(str, frame.columns)) or 'without a name'}) and no row")
    return frame


def _frame(columns: Any) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _open(path: Path) -> TextIO:
    if path.name.lower().endswith(".gz"):
        return TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _delimited(path: Path, notes: Notes) -> pd.DataFrame:
    import pandas as pd

    with _open(path) as file:
        first = file.readline()
        while first.count('"') % 2 and (more := file.readline()):  # a name may hold a line break
            first += more
        if not first.strip():
            raise UsageError(f"{path}: is empty; expected a first line with the names of the columns")
        separator = max(SEPARATORS, key=first.count) if any(s in first for s in SEPARATORS) else ","
        if separator != ("\t" if ".tsv" in path.name.lower() else ","):
            notes.assumed.append(f"{path.name}: its columns are separated by {SEPARATORS[separator]}")
        names = [name.strip() for name in next(csv.reader([first], delimiter=separator))]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise UsageError(f"{path}: the column {', '.join(double)} stands twice in the header; give each its own name")
        try:
            frame = pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False, names=names, header=None)
        except pd.errors.EmptyDataError:
            return pd.DataFrame({name: [] for name in names})
        except pd.errors.ParserError as error:
            raise UsageError(f"{path}: cannot be read: {str(error).strip()} (counted without the header)") from None
    if not isinstance(frame.index, pd.RangeIndex):
        raise UsageError(f"{path}: its rows have more fields than the header, which has {len(names)}")
    return frame


def _json_lines(path: Path) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise UsageError(f"{path}: line {number} is no JSON object; expected one a line")
            rows.append(row)
    if not rows:
        raise UsageError(f"{path}: is empty; expected a JSON object a line")
    names = dict.fromkeys(name for row in rows for name in row)
    return _frame({name: np.array([*(row.get(name) for row in rows), None], dtype=object)[:-1] for name in names})


def join(one: pd.DataFrame, other: pd.DataFrame, on: str, notes: Notes) -> pd.DataFrame:
    """The rows of the first file with the second's columns beside them, by id; a row of the first that the second lacks has gaps there.

    Raises:
        UsageError: the id is in only one file, or no row is in both.
    """
    import pandas as pd

    for number, frame in ((1, one), (2, other)):
        if on not in frame.columns:
            raise UsageError(f"--on {on}: file {number} has no such column; it has {', '.join(map(str, frame.columns))}")
    left, right = once(one, on, notes, "file 1"), once(other, on, notes, "file 2")
    key = pd.Index([text(value) for value in right[on]])
    places = key.get_indexer(pd.Index([text(value) for value in left[on]]))
    n_both = int((places >= 0).sum())
    if not n_both:
        raise UsageError(f"--on {on}: no row of file 1 has its id in file 2; are these the ids of the same events?")
    alone, beyond = len(left) - n_both, len(right) - n_both
    if alone:
        notes.found.append(f"{alone:,} rows of file 1 are not in file 2: the new model has no answer there")
    if beyond:
        notes.found.append(f"{beyond:,} rows of file 2 are not in file 1: left out")
    joined = {f"1:{name}": left[name].to_numpy(object) for name in left.columns}
    for name in right.columns:
        values = np.array([*right[name], None], dtype=object)
        joined[f"2:{name}"] = values[places]
    return pd.DataFrame(joined)


def once(frame: pd.DataFrame, on: str, notes: Notes, where: str) -> pd.DataFrame:
    """The first row of each id; rows without an id, and later rows of one, are left out and counted."""
    ids = np.array([text(value) for value in frame[on]], dtype=object)
    absent = np.array([is_absent(value) for value in ids])
    again = frame.assign(**{on: ids}).duplicated(on).to_numpy(bool) & ~absent
    for wrong, what in ((absent, "have no id"), (again, "repeat an id: the first counts")):
        if wrong.any():
            notes.found.append(f"{where}: {int(wrong.sum()):,} rows {what} ({rows_named(np.flatnonzero(wrong) + 1)}); left out")
    kept: pd.DataFrame = frame[~(absent | again)].reset_index(drop=True)
    return kept


# --------------------------------------------------------------------------------------------------------------------- columns
def column(frame: pd.DataFrame, name: str, option: str, first: int = 1) -> pd.Series[Any]:
    """A column by its name; of two joined files that of `first`, else of the other.

    Raises:
        UsageError: there is none, naming what there is.
    """
    for candidate in (name, f"{first}:{name}", f"{3 - first}:{name}"):
        if candidate in frame.columns:
            return frame[candidate]
    there = list(dict.fromkeys(str(c).removeprefix("1:").removeprefix("2:") for c in frame.columns))
    raise UsageError(f"{option} {name}: there is no such column; the table has {', '.join(there)}")


def is_null(value: Any) -> bool:
    """Whether a cell is None, NaN or a null of pandas."""
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or bool(isinstance(value, float) and value != value)


def text(value: Any) -> str:
    """A cell as text, without outer blanks; null is empty, 7.0 is 7."""
    if is_null(value):
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer() and abs(float(value)) < 2**53:
        return str(int(value))
    return str(value).strip()


def is_absent(cell: str) -> bool:
    """Whether a cell says that there is nothing."""
    return cell.lower() in ABSENT


def numbers(cells: pd.Series[Any], option: str, name: str) -> Numbers:
    """A column read as numbers. Booleans are no numbers here.

    Raises:
        UsageError: cells are filled and not one is a number.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(cells.dtype) and not pd.api.types.is_bool_dtype(cells.dtype):
        values = cells.astype("Float64").to_numpy(np.float64, na_value=np.nan)
        bad = np.isinf(values)
    else:
        plain = np.array([text(cell) for cell in cells], dtype=object)
        values = np.array(pd.to_numeric(pd.Series(plain, dtype=object), errors="coerce"), np.float64)
        flags = np.array([isinstance(cell, (bool, np.bool_)) for cell in cells], bool)
        values[flags] = np.nan
        bad = ~np.isfinite(values) & ~np.array([is_absent(cell) for cell in plain], bool)
        if bad.any() and not np.isfinite(values).any():
            comma = any(cell.replace(",", ".", 1).replace(".", "", 1).lstrip("-").isdigit() for cell in plain[bad])
            hint = "; they look like numbers with a decimal comma, write 12.5 for 12,5" if comma else "; is it another column?"
            raise UsageError(f"{option} {name}: none of its {int(bad.sum()):,} filled cells is a number{hint}")
    return Numbers(values=np.where(bad, np.nan, values), bad=bad)


def truths(cells: pd.Series[Any], name: str, notes: Notes) -> tuple[NDArray[np.float64], bool]:
    """(truth of each row, NaN without one; whether it is a class: true or false)."""
    plain = np.array([text(cell).lower() for cell in cells], dtype=object)
    filled = plain[[not is_absent(cell) for cell in plain]]
    said = np.isin(filled, list(TRUE | FALSE))
    if len(filled) and said.sum() * 2 > len(filled):
        values = np.where(np.isin(plain, [*TRUE, "1"]), 1.0, np.where(np.isin(plain, [*FALSE, "0"]), 0.0, np.nan))
        bad = np.isnan(values) & ~np.array([is_absent(cell) for cell in plain], bool)
        is_class = True
    else:
        read_ = numbers(cells, "--truth", name)
        values, bad = read_.values, read_.bad
        known = values[np.isfinite(values)]
        is_class = bool(len(known)) and bool(np.isin(known, (0.0, 1.0)).all())
    if bad.any():
        what = "true or false" if is_class else "a number"
        notes.found.append(f"{name}: {int(bad.sum()):,} cells are not {what} ({rows_named(np.flatnonzero(bad) + 1)}): kept as unlabelled")
    return values, is_class


def group(cells: pd.Series[Any], name: str, notes: Notes) -> tuple[list[str | None], tuple[str, ...]]:
    """(value of each row, None without one; the values to tell apart, largest first). Of 30 and more the 12 largest are kept."""
    import pandas as pd

    plain = [text(cell) for cell in cells]
    values = [None if is_absent(cell) else cell[:100] for cell in plain]
    sizes = pd.Series([value for value in values if value is not None], dtype=object).value_counts(sort=False)
    ordered = [str(value) for value in sorted(sizes.index, key=lambda value: (-int(sizes[value]), str(value)))]
    if not ordered:
        raise UsageError(f"--by {name}: every cell of it is empty")
    absent = sum(value is None for value in values)
    if absent:
        notes.found.append(f"{name}: {absent:,} rows have no value: their group is unknown")
    if len(ordered) < MOST_GROUPS:
        return values, tuple(ordered)
    kept = ordered[:KEPT_GROUPS]
    rest = sum(int(sizes[value]) for value in ordered[KEPT_GROUPS:])
    notes.assumed.append(f"{name} has {len(ordered):,} values: the {KEPT_GROUPS} largest are told apart, the other {rest:,} rows are other")
    return values, tuple(kept)


def units(frame: pd.DataFrame, name: str | None, notes: Notes) -> list[str]:
    """Who each row is of; a row that names nobody is a unit of its own."""
    if name is None:
        notes.assumed.append("each row is a person (or item) of its own; if some have several rows, name their column with --unit")
        return [f"row {k}" for k in range(1, len(frame) + 1)]
    plain = [text(cell) for cell in column(frame, name, "--unit")]
    absent = [k for k, cell in enumerate(plain, start=1) if is_absent(cell)]
    if absent:
        notes.found.append(f"{name}: {len(absent):,} rows name nobody ({rows_named(absent)}): each is a unit of its own")
    return [f"row {k}" if is_absent(cell) else f"unit {cell}" for k, cell in enumerate(plain, start=1)]


def counted_bad(name: str, what: Numbers, notes: Notes) -> None:
    """Says how many cells of a score are no finite number, and where."""
    if what.bad.any():
        rows = np.flatnonzero(what.bad) + 1
        notes.found.append(f"{name}: {len(rows):,} cells are not finite numbers ({rows_named(rows)}): no answer of that model (bad_output)")
    absent = np.flatnonzero(np.isnan(what.values) & ~what.bad) + 1
    if len(absent):
        notes.found.append(f"{name}: {len(absent):,} cells are empty ({rows_named(absent)}): no answer of that model (no_answer)")


def names_in(columns: Sequence[str]) -> set[str]:
    """The words in some names of columns: true_age -> true, age."""
    return {word for name in columns for word in "".join(c if c.isalnum() else " " for c in name.lower()).split()}
