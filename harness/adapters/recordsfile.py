"""The chain of records as a file of lines: `records.jsonl`, a copy for people and backups. The journal in the store is the truth."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from harness.core.chain import from_line
from harness.core.errors import RecordError
from harness.core.records import digest
from harness.ports.journal import ROOT, Link

NAME = "records.jsonl"


def line(link: Link) -> bytes:
    """A record with its hash and the hash before it; the record stands there byte for byte, so that its hash can be recomputed."""
    head = json.dumps({"hash": link.hash, "previous": link.previous}).encode()
    return head[:-1] + b', "record": ' + link.body + b"}\n"


def bring_up(path: Path, chain: Sequence[Link]) -> None:
    """Appends what a file lacks of a chain; a file that does not begin the chain is replaced by it, whole or not at all.

    One with records that hold together and that the chain does not have is put aside under the beginning of its head's hash: the store was
    put back to an older state, or it is another store. Raises OSError.
    """
    wanted = b"".join(map(line, chain))
    there = path.read_bytes() if path.exists() else b""
    if there == wanted:
        return
    if wanted.startswith(there) and (not there or there.endswith(b"\n")):
        with path.open("ab") as file:
            _write(file.fileno(), wanted[len(there) :])
        return
    head = _head(there)
    if head is not None and all(link.hash != head for link in chain):
        path.replace(path.with_name(f"{path.name}.{head[:12]}"))
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        _write(file.fileno(), wanted)
    beside.replace(path)


def _head(there: bytes) -> str | None:
    """The hash of the last line, if every line follows the one before and is what its hash says."""
    head = ROOT
    for text in there.splitlines():
        try:
            hash, previous, body = from_line(text)
        except RecordError:
            return None
        if previous != head or hash != digest(previous, body):
            return None
        head = hash
    return head if there else None


def _write(file: int, data: bytes) -> None:
    """All of it, on the disk on return."""
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)
