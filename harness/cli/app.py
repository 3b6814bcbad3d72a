"""The command line: parse, call a command, print. Facts go to stdout, the rest to stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness import config
from harness.adapters.models.recorded import check_recorded
from harness.api import address
from harness.cli import audit, demo, exporting, live, moving, people, printing, replaying, role, tables, tokens
from harness.cli.stores import DATA
from harness.wiring import code_version

app = typer.Typer(
    name="shadow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Shadow Harness: may the new model take over? Compares incumbent and challenger on production traffic.",
)
ConfigFile = Annotated[Path, typer.Argument(help="The rollout: a YAML file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]
Store = Annotated[
    str | None,
    typer.Option(
        envvar="SHADOW_STORE", help="Address of the store, as in redis://host:6379/0.", show_default="the private Redis of --data"
    ),
]
Bus = Annotated[
    str | None, typer.Option(envvar="SHADOW_BUS", help="Address of the bus, as in kafka://host:9092.", show_default="that of the store")
]
Data = Annotated[Path, typer.Option(help="Folder of the private Redis.")]
Name = Annotated[str | None, typer.Argument(help="The rollout's name; may be left out when there is one.", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        printing.out.print(f"shadow-harness {code_version()}")
        raise typer.Exit


@app.callback()
def shadow(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")] = False,
) -> None:
    """Shadow Harness: may the new model take over? Compares incumbent and challenger on production traffic."""


@app.command()
def validate(config_file: ConfigFile, json: Json = False) -> None:
    """Check a rollout config: every problem at once, by path. Opens no connection. Exit 0 or 2."""
    rollouts = config.load_all(config_file)
    check_recorded(*rollouts)
    printing.validated(config_file, rollouts, as_json=json)


@app.command()
def replay(
    config_file: ConfigFile,
    events: Annotated[Path, typer.Option(help="Recorded events: .jsonl or .jsonl.gz, one structured CloudEvent a line, as they arrived.")],
    outcomes: Annotated[Path | None, typer.Option(help="Recorded outcomes, in the same form.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for verdict.json, report.html and pairs.parquet.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop record time here (RFC 3339) instead of when every wait is over.")] = None,
    stage: Annotated[int, typer.Option(help="Which stage of the config to judge, from 0.", min=0)] = 0,
    challenger: Annotated[str | None, typer.Option(help="Of several challengers, judge this one.", show_default="each of them")] = None,
    json: Json = False,
) -> None:
    """Send recorded events through the very same pipeline, then give the verdict. Exit 0 promote, 3 hold, 4 rollback."""
    rollouts = config.load_all(config_file) if challenger is None else (config.load(config_file, challenger),)
    raise typer.Exit(replaying.replay(rollouts, events, outcomes, out=out, until=until, stage=stage, as_json=json))


@app.command()
def up(
    config_file: ConfigFile,
    bus: Bus = None,
    store: Store = None,
    data: Data = DATA,
    shards: Annotated[int | None, typer.Option(help="Shards, fixed when the rollout is created.", min=1, max=256, show_default="1")] = None,
    roles: Annotated[str | None, typer.Option(help="Comma-separated, as in router,lane:challenger.", show_default="all")] = None,
    listen: Annotated[
        str, typer.Option(help="Where the HTTP API listens: HOST:PORT, port 0 for a free one, '' for no API.")
    ] = address.DEFAULT,
    read_needs_token: Annotated[
        bool, typer.Option("--read-needs-token", help="Reading by HTTP needs a token of scope read; moving a rollout always needs one.")
    ] = False,
    anchor: Annotated[
        str | None, typer.Option(envvar="SHADOW_ANCHOR", help="File or URL that is told the head of the chain of records.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a rollout: router, lanes, joiner, analyst, controller and API, supervised. Ctrl-C stops it; start it again and it goes on."""
    where = live.Where(bus, store, data)
    found, api = config.load_all(config_file), live.Api(listen, read_needs_token)
    raise typer.Exit(live.up(found, config_file, where, shards=shards, roles=roles, api=api, anchor=anchor, as_json=json))


app.command(hidden=True)(role.role)


@app.command()
def status(name: Name = None, bus: Bus = None, store: Store = None, data: Data = DATA, json: Json = False) -> None:
    """Show what a rollout is doing: counts, what they add up to, the verdict."""
    live.status(name, live.Where(bus, store, data), as_json=json)


@app.command()
def ready(
    role: Annotated[str, typer.Argument(help="As in router or lane:challenger.")],
    name: Annotated[str | None, typer.Option("--rollout", help="The rollout; may be left out when there is one.")] = None,
    store: Store = None,
    data: Data = DATA,
) -> None:
    """Say whether a role is at work, for health checks. Exit 0 if it is, 3 if not."""
    raise typer.Exit(live.ready(role, name, live.Where(None, store, data)))


@app.command()
def decide(
    name: Name = None,
    store: Store = None,
    data: Data = DATA,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the verdict is no hold.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait at most.", min=0)] = 3600.0,
    final: Annotated[
        bool, typer.Option("--final", help="Exit by the rollout's end: 0 only when it was promoted, its bake over; 4 rolled back; else 3.")
    ] = False,
    json: Json = False,
) -> None:
    """Give the verdict of this moment. Exit 0 promote, 3 hold, 4 rollback; evidence that is stale never promotes."""
    where = live.Where(None, store, data)
    raise typer.Exit(live.decide(name, where, timeout_s=timeout if wait else 0.0, final=final, as_json=json))


app.command()(exporting.export)


@app.command()
def report(
    name: Name = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    store: Store = None,
    data: Data = DATA,
) -> None:
    """Write the report of a rollout: one HTML file that needs nothing else."""
    live.report(name, live.Where(None, store, data), output)


moving.register(app)
app.add_typer(tokens.app, name="token")
tables.register(app)
app.add_typer(audit.app, name="audit")
people.register(app)
app.command(name="demo")(demo.demo)
