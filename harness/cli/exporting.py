"""`shadow export`: the pair table of a rollout, or the people whom its challenger served."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness.adapters import parquet
from harness.cli import printing
from harness.cli.stores import DATA, place, wire
from harness.commands.exposed import COLUMNS, ExposedUnits, exposed_units
from harness.commands.replay import kept_ids, whole_table
from harness.core.errors import UsageError
from harness.core.reading import timestamp
from harness.roles.standing import Follower

TIMES = ("first", "last")


def export(
    name: Annotated[str | None, typer.Argument(help="The rollout's name; may be left out when there is one.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default="pairs.parquet; exposed.csv with --exposed"),
    ] = None,
    exposed: Annotated[
        bool, typer.Option("--exposed", help="The people whom the challenger served, one row each: .csv or .parquet.")
    ] = False,
    store: Annotated[
        str | None, typer.Option(envvar="SHADOW_STORE", help="Address of the store.", show_default="the private Redis of --data")
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the private Redis.")] = DATA,
) -> None:
    """Write the pair table of a rollout as Parquet, one row an event; or with --exposed whom the challenger served."""
    if exposed:
        _exposed(name, store, data, output or Path("exposed.csv"))
        return
    output = output or Path("pairs.parquet")
    if output.suffix == ".csv":
        raise UsageError(f"{output}: the pair table is written as Parquet; expected a name that ends in .parquet")
    _needs_pyarrow()
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        logs = [wiring.pair_log(shard) for shard in range(wiring.shards)]
        table, ids = whole_table(wiring.rollout, logs), kept_ids(wiring.rollout, logs, wiring.all_plain_ids())
    written(output, lambda: parquet.write(wiring.rollout, table, output, ids))
    printing.note(f"{output}: {len(table):,} rows")


def _exposed(name: str | None, store: str | None, data: Path, output: Path) -> None:
    if output.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{output}: expected a name that ends in .csv or .parquet")
    if output.suffix == ".parquet":
        _needs_pyarrow()
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        if wiring.rollout.exposures is None:
            raise UsageError(f"rollout {wiring.rollout.name}: has no `exposures`, so nobody knows whom the challenger served")
        found = exposed_units(wiring.observations, Follower(wiring.journal).now().spans)
    written(output, lambda: write_exposed(found, output))
    printing.note(f"{output}: {len(found):,} units that the challenger served")


def write_exposed(found: ExposedUnits, path: Path) -> None:
    """One row a unit, as CSV or as Parquet: units as 16 hex digits, as in the pair table; times in UTC."""
    columns = {name: getattr(found, name) for name in COLUMNS}
    columns["unit_id"] = [f"{unit:016x}" for unit in found.unit_id.tolist()]
    if path.suffix == ".parquet":
        parquet.write_columns(columns, TIMES, path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        plain = [column if isinstance(column, list) else column.tolist() for column in columns.values()]
        for unit, first, last, percent, *where in zip(*plain, strict=True):
            writer.writerow([unit, timestamp(first), timestamp(last), f"{percent:g}", *where])


def _needs_pyarrow() -> None:
    if not parquet.available():
        raise UsageError("export needs pyarrow: pip install 'shadow-harness[parquet]'; with --exposed it can write .csv without")


def written(output: Path, write: Callable[[], object]) -> None:
    """Writes a file, its folder if it is missing. Raises UsageError when that cannot be done."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from None
