"""`shadow token`: who may approve, and who may read, by name."""

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import typer

from harness.cli import printing
from harness.cli.moving import Data, Json, Store, TokenFile, presented
from harness.cli.stores import DATA, place
from harness.commands import tokens as commands
from harness.config import durations
from harness.core.errors import UsageError
from harness.core.reading import timestamp
from harness.ports.clock import SystemClock
from harness.ports.tokens import Scope, Token
from harness.wiring import open_tokens

app = typer.Typer(no_args_is_help=True, help="Tokens: who may approve, by CLI and HTTP, and who may read.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who will act with it: the name that records show.", show_default=False)],
    role: Annotated[list[str] | None, typer.Option(help="A role the person speaks in, as stages ask for it; may be repeated.")] = None,
    scope: Annotated[str, typer.Option(help="read, approve (and read), or admin (and make tokens).")] = "approve",
    expires: Annotated[str, typer.Option(help="How long it is good for, at most 366d.")] = durations.written(commands.LASTS_S),
    token_file: TokenFile = None,
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Make a token and show it, once. While there is one of scope admin, only that one makes others."""
    try:
        lasts_s = durations.seconds(expires)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None
    with place(bus=None, store=store, data=data, create=False) as there:
        made, text = commands.create(
            open_tokens(there.store), SystemClock(), name=name, roles=role or [], scope=cast(Scope, scope), lasts_s=lasts_s,
            by=presented(there, token_file),
        )  # fmt: skip
    if json:
        printing.json_document({**_document(made), "token": text})
        return
    sys.stdout.write(text + "\n")
    printing.note(f"{_line(made)}. It is shown this once; keep it as SHADOW_TOKEN or in a file, never on a command line.")


@app.command(name="list")
def show(store: Store = None, data: Data = DATA, json: Json = False) -> None:
    """Show whose tokens there are, with their ids; nothing that lets anybody in."""
    with place(bus=None, store=store, data=data, create=False) as there:
        found = open_tokens(there.store).all()
    if json:
        printing.json_document({"tokens": [_document(token) for token in found]})
        return
    for token in found:
        printing.out.print(_line(token), markup=False)
    if not found:
        printing.note("no token here: make one with `shadow token create NAME`")


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The token's id, as `shadow token list` shows it.", show_default=False)],
    token_file: TokenFile = None,
    store: Store = None,
    data: Data = DATA,
) -> None:
    """Make a token worthless, at once. While there is one of scope admin, only that one may."""
    with place(bus=None, store=store, data=data, create=False) as there:
        gone = commands.revoke(open_tokens(there.store), SystemClock(), id=id, by=presented(there, token_file))
    printing.out.print(f"revoked: {_line(gone)}", markup=False)


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.id, "name": token.name, "roles": list(token.roles), "scope": token.scope, "created": timestamp(token.created),
        "expires": timestamp(token.expires), "expired": SystemClock().now() >= token.expires,
    }  # fmt: skip


def _line(token: Token) -> str:
    said = _document(token)
    roles = f", roles {', '.join(token.roles)}" if token.roles else ""
    return f"{token.id}: {token.name}, scope {token.scope}{roles}, {'expired' if said['expired'] else 'expires'} {said['expires']}"
