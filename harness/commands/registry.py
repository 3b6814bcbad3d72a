"""How a rollout is created and found again: its entry in the directory, and the first record of its journal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import HeadMoved, UsageError
from harness.core.records import Author, body
from harness.core.rollout import LAYOUT, Family, Rollout
from harness.ports.clock import Clock
from harness.ports.directory import Directory
from harness.ports.journal import ROOT, Journal
from harness.roles.standing import Follower


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A rollout as it was created: its config as plain values, where its relative paths start, and its shards, fixed for good."""

    name: str
    document: Mapping[str, Any]
    folder: Path
    shards: int
    sha256: str
    family: Family | None = None


def register(
    rollout: Rollout, *, shards: int | None, default_shards: int, directory: Directory, journal: Journal, by: Author, clock: Clock,
    code_version: str,
) -> Registered:  # fmt: skip
    """Creates a rollout, or finds it as it was created and last amended. by: who creates it; that person's approval will not count.

    Raises UsageError when the name was created with another config (its gates would mix two questions), other challengers beside it,
    another number of shards, or by a release with another layout of rows.
    """
    if rollout.family is not None:
        _register_family(rollout.family, directory)
    entry = entry_of(rollout, shards=shards or default_shards)
    found = _parse(rollout.name, directory.register(rollout.name, json.dumps(entry, sort_keys=True).encode()))
    if found.sha256 != rollout.sha256 and Follower(journal).now().config_sha256 == rollout.sha256:
        found = replaced(rollout, shards=found.shards, directory=directory)  # amended, and whoever did it died before this
    if found.sha256 != rollout.sha256:
        raise UsageError(
            f"rollout {rollout.name} was started with another config (sha256 {found.sha256[:12]}..., this one {rollout.sha256[:12]}...): "
            "a changed config asks a new question; `shadow amend CONFIG --reason TEXT` begins a new attempt with it, "
            "or give it another name or another --data folder or store"
        )
    if shards is not None and shards != found.shards:
        raise UsageError(f"rollout {rollout.name} was created with {found.shards} shards, which are fixed for good; got --shards {shards}")
    if not journal.read():
        record = body(
            "registered", rollout=rollout.name, at=clock.now(), by=by, reason="the question, before the first look",
            **{**entry, "shards": found.shards}, code_version=code_version,
        )  # fmt: skip
        with suppress(HeadMoved):  # another worker registered it at the same moment
            journal.append(record, after=ROOT)
    return found


def _register_family(family: Family, directory: Directory) -> None:
    """Writes which challengers share a mirror, once and for good. Raises UsageError when they are others."""
    entry = json.dumps({"challengers": list(family.challengers)}).encode()
    found = json.loads(directory.register(family.name, entry)).get("challengers") or []
    if sorted(found) != sorted(family.challengers):
        was = f"with the challengers {', '.join(found)}" if found else "with one challenger"
        raise UsageError(
            f"rollout {family.name} was created {was}, and this config has {', '.join(family.challengers)}: they share one mirror, "
            "and alpha; give the config another name"
        )


def entry_of(rollout: Rollout, *, shards: int) -> dict[str, Any]:
    """What the directory, and the record of its question, say of a rollout."""
    folder = str(rollout.folder.resolve())
    family = {} if rollout.family is None else {"family": asdict(rollout.family)}
    document = dict(rollout.document)
    return {"config": document, "folder": folder, "shards": shards, "sha256": rollout.sha256, "layout": LAYOUT, **family}


def replaced(rollout: Rollout, *, shards: int, directory: Directory) -> Registered:
    """Writes the config of an amendment that the journal has; found again from then on."""
    entry = json.dumps(entry_of(rollout, shards=shards), sort_keys=True).encode()
    directory.replace(rollout.name, entry)
    return _parse(rollout.name, entry)


def find(name: str | None, directory: Directory) -> Registered:
    """A rollout by name, or the only one there is. Raises UsageError that lists what there is, and for the name of several challengers."""
    everything = directory.all()
    entries = {key: entry for key, entry in everything.items() if _challengers(entry) is None}
    if name is not None and name in everything and name not in entries:
        raise UsageError(f"rollout {name}: has several challengers, each a rollout; name one of {', '.join(family(name, directory))}")
    if name is None and len(entries) == 1:
        name = next(iter(entries))
    if name is None or name not in entries:
        there = ", ".join(sorted(entries)) or "none"
        raise UsageError(f"rollout {name}: not in this store; it has {there}" if name else f"name a rollout; this store has {there}")
    return _parse(name, entries[name])


def names(directory: Directory) -> list[str]:
    """The rollouts of a store that this release can read, by name."""
    entries = {name: json.loads(entry) for name, entry in directory.all().items()}
    return sorted(name for name, entry in entries.items() if "challengers" not in entry and entry.get("layout") == LAYOUT)


def family(name: str, directory: Directory) -> tuple[str, ...]:
    """The rollouts of the challengers that one config has under this name, in its order; empty if there is no such family."""
    found = directory.all().get(name)
    return tuple(f"{name}.{challenger}" for challenger in (found and _challengers(found)) or ())


def _challengers(entry: bytes) -> list[str] | None:
    found: list[str] | None = json.loads(entry).get("challengers")
    return found


def _parse(name: str, entry: bytes) -> Registered:
    found = json.loads(entry)
    if "challengers" in found:
        raise UsageError(
            f"rollout {name} was created with the challengers {', '.join(found['challengers'])}, which share its topics; "
            "give this config another name"
        )
    if found.get("layout") != LAYOUT:
        raise UsageError(
            f"rollout {name}: another release created it and laid its rows out otherwise, so this one cannot tell their columns apart; "
            "read it with that release, or give the config another name or another --data folder or store"
        )
    beside = found.get("family")
    return Registered(
        name=name, document=found["config"], folder=Path(found["folder"]), shards=found["shards"], sha256=found["sha256"],
        family=None if beside is None else Family(**{**beside, "challengers": tuple(beside["challengers"])}),
    )  # fmt: skip
