"""`shadow explain` and `shadow forget`: what people may ask of a rollout about one event, and about themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import printing
from harness.cli.stores import DATA, place, wire
from harness.commands import explain as explaining
from harness.commands import forget as forgetting
from harness.core.errors import UsageError
from harness.core.routing import Hasher
from harness.ports.clock import SystemClock
from harness.wiring import author, open_journal, secret

Name = Annotated[str, typer.Argument(help="The rollout's name.", show_default=False)]
Store = Annotated[str | None, typer.Option(envvar="SHADOW_STORE", help="Address of the store.", show_default="the private Redis of --data")]
Data = Annotated[Path, typer.Option(help="Folder of the private Redis.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
NOT_FOUND = 3


def explain(
    name: Name,
    event_id: Annotated[str, typer.Argument(help="The event's id as its producer wrote it; - reads it from standard input.")],
    unit: Annotated[str | None, typer.Option(help="Whose event it is: tells whether it was sampled.")] = None,
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Say what is known of one event: both outputs, decisions and their lines, stage and config. Exit 0 found, 3 not."""
    id = _plain(event_id)
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        found = explaining.explain(
            wiring.rollout, id, hasher=Hasher(wiring.rollout.mirror, secret()),
            pair_logs=[wiring.pair_log(shard) for shard in range(wiring.shards)], plain_ids=wiring.all_plain_ids(),
            journal=open_journal(there.store, wiring.rollout), unit=unit,
        )  # fmt: skip
    if json:
        printing.json_document(found)
    else:
        for line in explaining.lines(found):
            printing.out.print(line, markup=False)
    raise typer.Exit(0 if found["status"] == explaining.FOUND else NOT_FOUND)


def forget(
    name: Name,
    unit: Annotated[str, typer.Argument(help="The unit as its producer wrote it; - reads it from standard input.")],
    reason: Annotated[str, typer.Option(help="Why; without naming the unit.")],
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Take a unit's rows out of the store, and record how many they were. Exit 0."""
    whose = _plain(unit)
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        found = forgetting.forget(
            wiring.rollout, whose, reason=reason, hasher=Hasher(wiring.rollout.mirror, secret()), by=author("cli"), clock=SystemClock(),
            pair_logs=[wiring.pair_log(shard) for shard in range(wiring.shards)], plain_ids=wiring.all_plain_ids(),
            observations=wiring.observations, journal=open_journal(there.store, wiring.rollout),
        )  # fmt: skip
    if json:
        printing.json_document(found)
    else:
        observed = f" and {found['observed']:,} observations" if found["observed"] else ""
        printing.out.print(f"{found['rows']:,} rows{observed} forgotten, record {found['record']}", markup=False)
    if found["in_flight"]:
        printing.note(f"{found['in_flight']:,} events of this unit are in flight: run it again when they are settled")


def _plain(given: str) -> str:
    """The argument, or one line of standard input: a command line can be read by everybody on a machine."""
    if given != "-":
        return given
    read = sys.stdin.readline().rstrip("\r\n")
    if not read:
        raise UsageError("- reads the id from standard input, and nothing stood there")
    return read


def register(app: typer.Typer) -> None:
    """Adds the commands to `shadow`."""
    app.command(name="explain")(explain)
    app.command(name="forget")(forget)
