"""The commands that need no bus and no server: analyze a pair table, compare two columns of scores, plan how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import config
from harness.adapters import parquet
from harness.cli import printing
from harness.commands import analyze as analyzing
from harness.core.errors import UsageError
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.core.verdicts import EXIT_CODES
from harness.pages import terminal
from harness.pages.sentence import sentence

ConfigFile = Annotated[Path, typer.Argument(help="The rollout: a YAML file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def analyze(
    config_file: ConfigFile,
    pairs: Annotated[Path, typer.Option(help="The pair table: a Parquet file, as `shadow export` and `shadow replay` write it.")],
    until: Annotated[str | None, typer.Option(help="Stop record time here (RFC 3339): later events and labels do not count.")] = None,
    json: Json = False,
) -> None:
    """Fold the gates of a config over a pair table: the numbers of the replay. Exit 0 promote, 3 hold, 4 rollback."""
    rollout = config.load(config_file)
    stop = microseconds(until) if until is not None else None
    if until is not None and stop is None:
        raise UsageError(f"--until {until}: expected an RFC 3339 time, as in 2026-03-16T00:00:00Z")
    table = analyzing.table_of(rollout, _read(rollout, pairs), source=str(pairs))
    found = analyzing.analyze(rollout, table, until=stop)
    if json:
        printing.json_document(found)
    else:
        if all(f"{name}.{lane}" in table.columns for name in rollout.policies for lane in rollout.lanes):
            printing.out.print(sentence(rollout, {**found, "stage": rollout.stages[0].kind}, table).plain, markup=False)
            printing.out.print()
        printing.out.print(terminal.gate_table(rollout, found))
        printing.out.print()
        for reason in found["reasons"]:
            printing.out.print(f"  - {reason}", markup=False)
        printing.out.print(f"verdict: {found['verdict']}, {found['pairs']:,} pairs of {found['rows']:,} rows of {pairs}", markup=False)
    raise typer.Exit(EXIT_CODES[found["verdict"]])


def _read(rollout: Rollout, pairs: Path) -> dict[str, object]:
    """The columns of a Parquet file; says so when another config wrote them."""
    columns, metadata = parquet.read(pairs)
    if metadata.get("rollout", rollout.name) != rollout.name:
        printing.note(f"{pairs}: the table of the rollout {metadata['rollout']}, analyzed with the gates of {rollout.name}")
    elif metadata.get("config_sha256", rollout.sha256) != rollout.sha256:
        printing.note(f"{pairs}: written under another config of {rollout.name}; what follows uses the gates of this one")
    return columns


def register(app: typer.Typer) -> None:
    """Adds the commands to `shadow`."""
    app.command(name="analyze")(analyze)
