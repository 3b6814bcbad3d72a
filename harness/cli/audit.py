"""`shadow audit`: verify what the records say, show them on paper, write them to a file, seal the pairs of the moment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.adapters import recordsfile
from harness.adapters.archive import FileArchive
from harness.cli import printing
from harness.cli.stores import DATA, place, wire
from harness.commands import audit as auditing
from harness.commands.recompute import LEVELS
from harness.core.errors import UsageError
from harness.pages import records as pages
from harness.ports.journal import Link
from harness.roles.sealing import Sealer
from harness.wiring import code_version, open_journal

app = typer.Typer(no_args_is_help=True, help="The records of a rollout: computed again, on paper, in a file.")
Name = Annotated[str | None, typer.Argument(help="The rollout's name; may be left out when there is one.", show_default=False)]
Records = Annotated[Path | None, typer.Option(help="The chain as a file, records.jsonl, instead of a store.")]
Archive = Annotated[
    Path | None, typer.Option(envvar="SHADOW_ARCHIVE", help="Folder of the archives.", show_default="`archive` beside --records, in --data")
]
Store = Annotated[str | None, typer.Option(envvar="SHADOW_STORE", help="Address of the store.", show_default="the private Redis of --data")]
Data = Annotated[Path, typer.Option(help="Folder of the private Redis.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


@app.command()
def verify(
    name: Name = None,
    records: Records = None,
    archive: Archive = None,
    head: Annotated[list[str] | None, typer.Option(help="A hash that was anchored elsewhere: must be in the chain; repeatable.")] = None,
    level: Annotated[str, typer.Option(help="Check up to this level: chain, statistics or pairs.")] = "pairs",
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Compute again what the records say. Exit 0 all agrees, 3 an archive is not there, 4 something disagrees."""
    if level not in LEVELS:
        raise UsageError(f"--level {level}: expected one of {', '.join(LEVELS)}")
    links = _links(name, records, store, data)
    folder = archive or (records.parent if records is not None else data) / "archive"
    for given in head or []:
        if not re.fullmatch("[0-9a-f]{64}", given):
            raise UsageError(f"--head {given}: expected the hash of a record, 64 hex digits, as an anchor holds it under `head`")
    found = auditing.verify(links, FileArchive(folder), heads=head or [], level=level)
    if json:
        printing.json_document(found.document())
    else:
        _print(found)
    raise typer.Exit(found.exit_code)


def _print(found: auditing.Audit) -> None:
    say = printing.out.print
    say(f"{found.rollout}: {found.records:,} records, head {found.head}", markup=False)
    for decision in found.decisions:
        why = f": {decision.why}" if decision.why else ""
        say(f"  record {decision.record}, {decision.kind}: level {decision.level}{why}", markup=False)
    for wrong in found.disagreements:
        where = "chain" if wrong.record is None else f"record {wrong.record}"
        say(f"  - {where}: {wrong.what}: found {wrong.found}, expected {wrong.expected}", markup=False)
    if found.unsealed:
        say(f"  what was seen in {', '.join(f'record {n}' for n in found.unsealed)} has not been sealed", markup=False)
    if found.later:
        say(f"  {found.later:,} records came after the anchored head", markup=False)
    ends = {auditing.AGREES: "everything agrees", auditing.NOT_CHECKED: "nothing disagrees, but an archive is not there"}
    said = ends.get(found.exit_code, f"{len(found.disagreements):,} disagreements")
    say(f"audit: {said}, level {found.level}", markup=False)


@app.command()
def show(
    name: Name = None,
    records: Records = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write an HTML page that prints, instead.")] = None,
    store: Store = None,
    data: Data = DATA,
) -> None:
    """Show the records in plain words, one section each. Checks nothing: `verify` does."""
    chain, asked = auditing.readable(_links(name, records, store, data))
    if output is None:
        for piece in pages.shown(chain, asked):
            printing.out.print(piece)
        return
    _write(output, pages.render(chain, asked).encode())
    printing.note(f"records: {output}")


@app.command(name="records")
def records_(
    name: Name = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("records.jsonl"),
    store: Store = None,
    data: Data = DATA,
) -> None:
    """Write the chain as JSON lines: with the archives all that an audit needs."""
    links = _links(name, None, store, data)
    _write(output, b"".join(map(recordsfile.line, links)))
    printing.note(f"{output}: {len(links):,} records, head {links[-1].hash}")


@app.command()
def seal(name: Name = None, archive: Archive = None, store: Store = None, data: Data = DATA, json: Json = False) -> None:
    """Seal the pairs of the present stage up to the last look, and print the SHA-256. Changes no record."""
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        chain, _ = auditing.readable(open_journal(there.store, wiring.rollout).read())
        logs = [wiring.pair_log(shard) for shard in range(wiring.shards)]
        sealer = Sealer(
            wiring.rollout, pair_logs=logs, archive=FileArchive(archive or data / "archive"), code_version=code_version(),
            observations=wiring.observations,
        )  # fmt: skip
        found = sealer.evidence(wiring.verdicts()(), chain)
    proof: dict[str, Any] = found.parts["reproduction"]
    if proof["archive"] is None:
        raise UsageError(f"nothing was sealed: {proof['no_archive']}")
    if json:
        printing.json_document({**proof, "rows": found.parts["population"]["rows"], "agrees": found.agrees, "differs": list(found.differs)})
    else:
        printing.out.print(f"{proof['archive']}.parquet: {found.parts['population']['rows']:,} rows", markup=False)
        if proof["observations"] is not None:
            printing.out.print(f"{proof['observations']}.parquet: what was observed of the canary", markup=False)


def _links(name: str | None, records: Path | None, store: str | None, data: Path) -> Sequence[Link]:
    """The chain: of a file, or of a rollout's journal."""
    if records is not None:
        if name is not None:
            raise UsageError(f"--records {records}: holds one rollout, so leave its name out; got {name}")
        return auditing.read_lines(records)
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        links = open_journal(there.store, wiring.rollout).read()
    if not links:
        raise UsageError(f"rollout {wiring.rollout.name}: has no records in this store; name a file with --records")
    return links


def _write(output: Path, content: bytes) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror or error}") from None
