"""What people do to a rollout from the command line: approve, waive, pause, resume, rollback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness import config
from harness.cli import printing
from harness.cli.stores import DATA, Place, place, wire
from harness.commands import amend as amending
from harness.commands import moves
from harness.commands import tokens as guarding
from harness.core.errors import UsageError
from harness.core.records import Author
from harness.ports.clock import SystemClock
from harness.ports.tokens import Token
from harness.wiring import Wiring, author, open_directory, open_journal, open_tokens

VIA = "cli"
Name = Annotated[str | None, typer.Argument(help="The rollout's name; may be left out when there is one.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, in words; stands in the record for good.", show_default=False)]
Store = Annotated[
    str | None,
    typer.Option(
        envvar="SHADOW_STORE", help="Address of the store, as in redis://host:6379/0.", show_default="the private Redis of --data"
    ),
]
Data = Annotated[Path, typer.Option(help="Folder of the private Redis.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="File with the token that says who you are.", show_default="the token in SHADOW_TOKEN")
]
Json = Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")]


def presented(there: Place, file: Path | None) -> Token | None:
    """The token of a command, in a file or as SHADOW_TOKEN; None when there is none. Raises Unknown for one that lets nobody in."""
    secret = os.environ.get("SHADOW_TOKEN")
    if file is not None:
        try:
            secret = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"--token-file {file}: cannot be read: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise UsageError(f"--token-file {file}: is no text; expected the token that `shadow token create` printed") from None
    return guarding.check(open_tokens(there.store), SystemClock(), secret, scope="read") if secret else None


def _by(token: Token | None, *, needed: bool) -> Author:
    """Who acts: whom the token names; without one and where none is needed, who runs the command."""
    if token is None and not needed:
        return author(VIA)
    if token is None:
        raise UsageError("this needs a token: give it as SHADOW_TOKEN or --token-file; `shadow token create` makes one")
    if not token.allows("approve"):
        raise guarding.NotAllowed(f"this needs a token of scope approve; this one has {token.scope}")
    return Author(name=token.name, via=VIA, role=next(iter(token.roles), None))


def _done(wiring: Wiring, moved: moves.Moved, *, as_json: bool) -> None:
    if as_json:
        printing.json_document(moves.document(wiring.rollout.name, moved))
        return
    printing.out.print(moved.says, markup=False)


_Move = Callable[[Wiring, Token | None], moves.Moved]


def _run(name: str | None, store: str | None, data: Path, *, token_file: Path | None, as_json: bool, move: _Move) -> None:
    with place(bus=None, store=store, data=data, create=False) as there:
        wiring = wire(name, there)
        _done(wiring, move(wiring, presented(there, token_file)), as_json=as_json)


def approve(
    reason: Reason,
    name: Name = None,
    stage: Annotated[
        int | None, typer.Option(help="The stage you mean, from 0; refused when it is not the next one.", show_default="the next")
    ] = None,
    token_file: TokenFile = None,
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Approve the next stage. Needs a token of scope approve, in a role that the stage asks for."""

    def move(wiring: Wiring, who: Token | None) -> moves.Moved:
        by = _by(who, needed=True)
        return moves.approve(
            wiring.rollout, open_journal(wiring.store_url, wiring.rollout), wiring.clock, by=by, roles=who.roles if who else (),
            reason=reason, verdict=wiring.verdicts()(), stage=stage,
        )  # fmt: skip

    _run(name, store, data, token_file=token_file, as_json=json, move=move)


def waive(
    name: Annotated[str, typer.Argument(help="The rollout's name.", show_default=False)],
    gate: Annotated[str, typer.Argument(help="The gate's name, as the config writes it.", show_default=False)],
    reason: Reason,
    expires: Annotated[
        str, typer.Option(help="Until when: a record time (RFC 3339), or a duration after the last look, as in 24h.", show_default=False)
    ],
    token_file: TokenFile = None,
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Let this stage go on without a gate; takes two people. Needs a token of scope approve."""

    def move(wiring: Wiring, who: Token | None) -> moves.Moved:
        return moves.waive(
            wiring.rollout, open_journal(wiring.store_url, wiring.rollout), wiring.clock, by=_by(who, needed=True), reason=reason,
            gate=gate, expires=expires, verdict=wiring.verdicts()(),
        )  # fmt: skip

    _run(name, store, data, token_file=token_file, as_json=json, move=move)


def amend(
    config_file: Annotated[Path, typer.Argument(help="The changed rollout's YAML file.", show_default=False, metavar="CONFIG")],
    reason: Reason,
    challenger: Annotated[
        str | None, typer.Option(help="Of several challengers, this one.", show_default="those whose config changed")
    ] = None,
    token_file: TokenFile = None,
    store: Store = None,
    data: Data = DATA,
    json: Json = False,
) -> None:
    """Begin a new attempt with a changed config or model: from shadow, with no evidence, at a smaller part of alpha."""
    rollouts = config.load_all(config_file) if challenger is None else (config.load(config_file, challenger),)
    with place(bus=None, store=store, data=data, create=False) as there:
        if len(rollouts) > 1:
            rollouts = amending.changed(rollouts, open_directory(there.store))
        for rollout in rollouts:
            wiring, who = wire(rollout.name, there), presented(there, token_file)
            moved = amending.amend(
                rollout, open_journal(wiring.store_url, rollout), open_directory(wiring.store_url), wiring.clock,
                by=_by(who, needed=False), reason=reason, verdict=wiring.verdicts()(),
            )  # fmt: skip
            _done(wiring, moved, as_json=json)


def _plain(move: Callable[..., moves.Moved], *, needs_token: bool, help: str, sees: bool = False) -> Callable[..., None]:
    """A command that needs a reason and nothing else. sees: its record says something of the verdict."""

    def command(
        reason: Reason,
        name: Name = None,
        token_file: TokenFile = None,
        store: Store = None,
        data: Data = DATA,
        json: Json = False,
    ) -> None:
        def made(wiring: Wiring, who: Token | None) -> moves.Moved:
            journal = open_journal(wiring.store_url, wiring.rollout)
            seen = {"verdict": wiring.verdicts()()} if sees else {}
            return move(wiring.rollout, journal, wiring.clock, by=_by(who, needed=needs_token), reason=reason, **seen)

        _run(name, store, data, token_file=token_file, as_json=json, move=made)

    command.__doc__ = help
    return command


def register(app: typer.Typer) -> None:
    """Adds the commands to `shadow`."""
    app.command(name="amend")(amend)
    app.command(name="approve")(approve)
    app.command(name="waive")(waive)
    pause = "Keep a rollout in its stage until somebody resumes it; what hurts still goes back."
    app.command(name="pause")(_plain(moves.pause, needs_token=False, help=pause))
    app.command(name="resume")(_plain(moves.resume, needs_token=True, help="End a pause. Needs a token of scope approve."))
    rollback = "Go back to the incumbent for everybody, at once and for good."
    app.command(name="rollback")(_plain(moves.rollback, needs_token=False, help=rollback, sees=True))
