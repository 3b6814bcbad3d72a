"""`shadow up` and what looks at a running rollout: status, decide, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from harness.adapters.anchor import WEB
from harness.api import address
from harness.cli import printing
from harness.cli.exporting import written
from harness.cli.logs import log_to_stderr
from harness.cli.role import API, stop_signals
from harness.cli.stores import Place, place, wire
from harness.commands import decide as deciding
from harness.commands import registry
from harness.commands.health import role_health
from harness.commands.replay import whole_table
from harness.commands.status import Watched
from harness.commands.status import document as status_document
from harness.core.errors import StoreFull, Unavailable, UsageError
from harness.core.rollout import Rollout
from harness.core.verdicts import EXIT_CODES
from harness.pages.arms import exposed_lines
from harness.pages.report import render
from harness.pages.words import place_words
from harness.supervisor import Supervisor
from harness.wiring import Wiring, create, open_directory, open_presence

STOP_S = 15.0
NOT_READY = 3
KINDS = ("router", "lane", "joiner", "observer", "analyst", "controller")  # of roles, in the order of the data
LOOK_S = 1.0


class Where(NamedTuple):
    """The addresses that a command was given."""

    bus: str | None
    store: str | None
    data: Path


class Api(NamedTuple):
    """Where the HTTP API listens, empty for no API, and whether reading needs a token."""

    listen: str
    closed: bool = False


# ------------------------------------------------------------------------------------------------------------------------ running
def up(
    rollouts: Sequence[Rollout], config_file: Path, where: Where, *, shards: int | None, roles: str | None, api: Api, anchor: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Creates the rollouts of a config or goes on with them, and runs their roles until a signal comes; returns the exit code."""
    stopped = stop_signals()
    log_to_stderr()
    with place(bus=where.bus, store=where.store, data=where.data, create=True) as there:
        wirings = [create(rollout, there.bus, there.store, shards=shards) for rollout in rollouts]
        wiring = wirings[0]
        names = chosen_roles(wirings, roles, api.listen)
        listen = address.free(api.listen) if API in names else ""
        commands = wiring.commands(config_file, names)
        if listen:
            commands[API] += ["--listen", listen, *(["--read-needs-token"] if api.closed else [])]
        told = {**wiring.environment, "SHADOW_DATA": str(where.data.resolve()), **anchored(anchor)}
        supervisor = Supervisor(commands, folder=where.data, on_event=say, environment=told)
        supervisor.start()
        asked = f" The API is at http://{listen} in a moment." if listen else ""
        printing.note(f"{_named(rollouts)} ({', '.join(names)}).{asked} Ctrl-C stops it; the same command goes on.")
        try:
            _watch(supervisor, wirings, there, stopped, as_json)
        finally:
            supervisor.stop(timeout_s=STOP_S)
    return 0


def anchored(anchor: str | None) -> dict[str, str]:
    """What tells the roles where the head of the chain is noted: a URL, or a file by its whole path."""
    return {} if anchor is None else {"SHADOW_ANCHOR": anchor if anchor.startswith(WEB) else str(Path(anchor).resolve())}


def _named(rollouts: Sequence[Rollout]) -> str:
    names = " and ".join(rollout.name for rollout in rollouts)
    return f"rollout {names} runs" if len(rollouts) == 1 else f"rollouts {names} run"


def chosen_roles(wirings: Sequence[Wiring], roles: str | None, listen: str) -> tuple[str, ...]:
    """The roles named by `--roles`, all without it; `api` only with an address. Raises UsageError for a name that is none."""
    every = dict.fromkeys(name for wiring in wirings for name in wiring.role_names())
    known = (*sorted(every, key=lambda name: KINDS.index(name.partition(":")[0])), *([API] if listen else []))
    if roles is None:
        return known
    names = tuple(dict.fromkeys(part.strip() for part in roles.split(",") if part.strip()))
    if not names or any(name not in known for name in names):
        raise UsageError(f"--roles {roles}: expected some of {', '.join(known)}")
    return names


def say(event: str, fields: Mapping[str, object]) -> None:
    """A log line."""
    structlog.get_logger().info(event, **fields)


def _watch(supervisor: Supervisor, wirings: Sequence[Wiring], there: Place, stopped: Callable[[], bool], as_json: bool) -> None:
    """Keeps the roles and a private server running until told to stop; prints a line when the counts or the verdict have changed."""
    shown: dict[str, str] = {}
    watched: list[Watched] = []
    while not stopped():
        until = time.monotonic() + LOOK_S
        supervisor.run(lambda until=until: stopped() or time.monotonic() > until)  # type: ignore[misc]
        try:
            watched = watched or [wiring.watched() for wiring in wirings]  # bus and store may be away here too
            documents = [status_document(each) for each in watched]
        except (Unavailable, StoreFull):  # the roles wait for it too, and say so
            if there.revive():
                printing.note("the private redis-server had ended and was started again; nothing that it acknowledged is lost")
            continue
        for document in documents:
            line = status_line(document)
            if line != shown.get(document["rollout"]):
                shown[document["rollout"]] = line
                if as_json:
                    printing.json_document(document)
                else:
                    printing.note(line)


# ------------------------------------------------------------------------------------------------------------------------ looking
def status_line(document: Mapping[str, Any]) -> str:
    """The same in one line."""
    counts, outcomes = document["counts"], document["outcomes"]
    missing = sum(n for by in counts["missing"].values() for n in by.values())
    wrong = f"; DOES NOT ADD UP: {'; '.join(document['identity'])}" if document["identity"] else ""
    return (
        f"{document['rollout']}: {counts['read']:,} read, {counts['paired']:,} paired, {missing:,} missing, {counts['invalid']:,} invalid, "
        f"{counts['duplicates']:,} duplicates, {counts['in_flight']:,} in flight; {outcomes['joined']:,} labels joined, "
        f"{outcomes['waiting']:,} waiting; {place_words(document)}; verdict {document['verdict']} "
        f"as of {document['as_of'] or 'no look yet'}{wrong}"
    )


def roles_line(document: Mapping[str, Any]) -> str:
    """What each role says of itself."""
    bus = "" if document["bus"] == "answers" else "; the bus is away"
    return ", ".join(f"{role} {health['says']}" for role, health in document["roles"].items()) + bus


def status(name: str | None, where: Where, *, as_json: bool) -> None:
    """Prints one look at a rollout, or at each."""
    with place(bus=where.bus, store=where.store, data=where.data, create=False) as there:
        names = [name] if name else registry.names(open_directory(there.store))
        found = [status_document(wire(each, there).watched()) for each in names]
    if as_json:
        printing.json_document(found[0] if name else found)
        return
    for document in found:
        printing.out.print(status_line(document), markup=False)
        printing.out.print(f"  roles: {roles_line(document)}", markup=False)
        for reason in document["reasons"]:
            printing.out.print(f"  - {reason}", markup=False)
        for line in exposed_lines(document):
            printing.out.print(f"  {line}", markup=False)
        lacking = [wait for wait in document["waits_for"] if wait not in document["reasons"]]
        if len(lacking) < len(document["waits_for"]):
            lacking.insert(0, "the reasons above")
        if lacking:
            printing.out.print(f"  the next move waits for: {'; '.join(lacking)}", markup=False)
    if not found:
        printing.note("no rollout here yet: start one with `shadow up CONFIG`")


def ready(role: str, name: str | None, where: Where) -> int:
    """Prints whether a role is at work; returns 0 if it is, 3 if not."""
    with place(bus=None, store=where.store, data=where.data, create=False) as there:
        wiring = wire(name, there)
        if role not in wiring.role_names():
            raise UsageError(f"role {role}: there is none; rollout {wiring.rollout.name} has {', '.join(wiring.role_names())}")
        (health,) = role_health([role], open_presence(there.store, wiring.rollout))
    printing.out.print(f"{role}: {health.says}", markup=False)
    return 0 if health.ready else NOT_READY


def decide(name: str | None, where: Where, *, timeout_s: float, final: bool, as_json: bool) -> int:
    """Prints the verdict of this moment; returns its exit code. final: that of the rollout's end instead."""
    with place(bus=None, store=where.store, data=where.data, create=False) as there:
        wiring = wire(name, there)
        if final:
            deciding.ends(wiring.rollout)
        found = deciding.wait_for(
            wiring.verdicts(), timeout_s=timeout_s, progress=lambda v: printing.note(f"{v['verdict']}: {v['reasons'][0]}"),
            until=deciding.is_over if final else deciding.is_said,
        )  # fmt: skip
    if as_json:
        printing.json_document(found)
    else:
        printing.verdict(wiring.rollout, found, None)
    if not final:
        return EXIT_CODES[found["verdict"]]
    if not as_json:
        printing.out.print(f"{'over' if deciding.is_over(found) else 'not over yet'}: {place_words(found)}", markup=False)
    return EXIT_CODES[deciding.ended(found)]


def report(name: str | None, where: Where, output: Path) -> None:
    """Writes the report."""
    with place(bus=None, store=where.store, data=where.data, create=False) as there:
        wiring = wire(name, there)
        found, waits = wiring.verdicts()(), wiring.waits_for()
        table = whole_table(wiring.rollout, [wiring.pair_log(shard) for shard in range(wiring.shards)])
    written(output, lambda: output.write_text(render(wiring.rollout, found, table, waits), encoding="utf-8"))
    printing.note(f"report: {output}")
