"""The commands that need no bus and no server: analyze a pair table, compare two columns of scores, plan how long it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import config
from harness.adapters import parquet
from harness.cli import comparison, planning, printing
from harness.commands import analyze as analyzing
from harness.commands import compare as comparing
from harness.commands.companions import with_companions
from harness.commands.plan import plan as forecasts
from harness.core.errors import UsageError
from harness.core.reading import microseconds
from harness.core.rollout import Rollout
from harness.core.verdicts import EXIT_CODES
from harness.pages import terminal
from harness.pages.companions import companion_table, companion_views
from harness.pages.equality import equalities, equality_table
from harness.pages.report import render
from harness.pages.sentence import sentence
from harness.wiring import code_version

Challenger = Annotated[str | None, typer.Option(help="Of several challengers, this one.", show_default="the only one")]
ConfigFile = Annotated[Path, typer.Argument(help="The rollout: a YAML file.", show_default=False)]
LINES = "Lines at which a score becomes a decision, as in 13,16,18. Needed unless the truth is true and false; then 0.5 is assumed."
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def analyze(
    config_file: ConfigFile,
    pairs: Annotated[Path, typer.Option(help="The pair table: a Parquet file, as `shadow export` and `shadow replay` write it.")],
    until: Annotated[str | None, typer.Option(help="Stop record time here (RFC 3339): later events and labels do not count.")] = None,
    challenger: Challenger = None,
    json: Json = False,
) -> None:
    """Fold the gates of a config over a pair table: the numbers of the replay. Exit 0 promote, 3 hold, 4 rollback."""
    rollout = config.load(config_file, challenger)
    stop = microseconds(until) if until is not None else None
    if until is not None and stop is None:
        raise UsageError(f"--until {until}: expected an RFC 3339 time, as in 2026-03-16T00:00:00Z")
    if stop is not None and rollout.outcomes is not None and rollout.outcomes.requested is not None:
        raise UsageError(f"--until {until}: a pair table does not say when a label was asked for; replay the records with --until")
    table = analyzing.table_of(rollout, _read(rollout, pairs), source=str(pairs))
    found = analyzing.analyze(rollout, table, until=stop)
    known, look = analyzing.known_at(rollout, table, stop) if stop is not None else table, analyzing.last_look(rollout, stop)
    if json:
        printing.json_document(with_companions(rollout, found, known, look=look))
    else:
        if all(f"{name}.{lane}" in table.columns for name in rollout.policies for lane in rollout.lanes):
            printing.out.print(sentence(rollout, {**found, "stage": rollout.stages[0].kind}, table).plain, markup=False)
            printing.out.print()
        printing.out.print(terminal.gate_table(rollout, found))
        printing.out.print()
        printing.out.print(companion_table(companion_views(rollout, found, known, look=look)))
        printing.out.print()
        if answers := equalities(rollout, known, look=look):
            printing.out.print(equality_table(answers, rollout.alpha))
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


def compare(
    files: Annotated[list[Path], typer.Argument(help="A table of scores, or two that are joined by --on: CSV, JSON lines or Parquet.")],
    old: Annotated[str, typer.Option(help="Column with the score of the model that decides now.")],
    new: Annotated[str, typer.Option(help="Column with the score of the model on trial.")],
    truth: Annotated[str | None, typer.Option(help="Column with what turned out to be true: a number, or true and false.")] = None,
    at: Annotated[str | None, typer.Option(help=LINES)] = None,
    unit: Annotated[str | None, typer.Option(help="Column with the person (or item) that a row is of.")] = None,
    by: Annotated[str | None, typer.Option(help="Columns to split by, as in gender,region.")] = None,
    on: Annotated[str | None, typer.Option(help="Column with the id of a row; joins two files.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for report.html and the draft, rollout.yaml.")] = None,
    json: Json = False,
) -> None:
    """Compare two columns of scores: what would change, for whom, in both directions. No bus, no server. Exit 0 when it worked."""
    ask = comparing.Ask(files=tuple(files), old=old, new=new, truth=truth, at=_lines(at), unit=unit, by=tuple(_split(by)), on=on)
    found = comparing.compare(ask, code_version=code_version())
    if out is not None:
        _write(out, found)
    if json:
        printing.json_document(comparison.document(found))
    else:
        for line in comparison.notes(found):
            printing.out.print(line, markup=False)
        printing.out.print()
        if found.shifts or found.groups:  # nothing without a truth
            printing.out.print(comparison.table(found))
            printing.out.print()
        for line in comparison.changes(found):
            printing.out.print(line, markup=False)
    if out is not None:
        printing.note(f"report: {out / 'report.html'}; a draft of a rollout: {out / 'rollout.yaml'}")


def _split(words: str | None) -> list[str]:
    return [word.strip() for word in (words or "").split(",") if word.strip()]


def _lines(at: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _split(at))
    except ValueError:
        raise UsageError(f"--at {at}: expected numbers, as in --at 13,16,18") from None


def _write(folder: Path, found: comparing.Compared) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file; expected a folder, for report.html and rollout.yaml")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.html").write_text(render(found.rollout, found.verdict, found.table), encoding="utf-8")
        (folder / "rollout.yaml").write_text(found.yaml, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror or error}") from None


def plan(
    config_file: ConfigFile,
    per_day: Annotated[float | None, typer.Option(help="Events a day, before sampling.", min=1e-6)] = None,
    pairs: Annotated[Path | None, typer.Option(help="A pair table (Parquet) to measure on, as of a first shadow week.")] = None,
    challenger: Challenger = None,
    json: Json = False,
) -> None:
    """Say how many events, labels and days each gate takes to decide, which never can, and what that assumes. Exit 0."""
    rollout = config.load(config_file, challenger)
    table = None if pairs is None else analyzing.table_of(rollout, _read(rollout, pairs), source=str(pairs))
    rows = forecasts(rollout, per_day=per_day, table=table)
    if json:
        printing.json_document(planning.document(rows))
        return
    printing.out.print(planning.table(rows))
    printing.out.print()
    for line in planning.assumptions(rows):
        printing.out.print(line, markup=False)
    printing.out.print(planning.verdict(rows), markup=False)


def register(app: typer.Typer) -> None:
    """Adds the commands to `shadow`."""
    app.command(name="compare")(compare)
    app.command(name="plan")(plan)
    app.command(name="analyze")(analyze)
