"""What a record says: canonical JSON, so that the same record has the same bytes, and its hash anybody can recompute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from harness.core.errors import RecordError
from harness.core.reading import timestamp
from harness.core.rollout import Rollout
from harness.core.stages import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who makes a record. via: cli, api, or the role that acted by itself."""

    name: str
    via: str
    role: str | None = None


CONTROLLER = Author(name="controller", via="controller")


def canonical(record: Mapping[str, Any]) -> bytes:
    """The bytes of a record: keys sorted, no spaces, UTF-8, numbers as Python writes them (the shortest that reads back as the same
    double). Raises RecordError for what JSON does not have."""
    try:
        return json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise RecordError(f"a record that is no JSON: {error}") from None


def body(kind: str, *, rollout: str, at: int, by: Author, reason: str, **more: Any) -> bytes:
    """The bytes of a record. at: wall time, microseconds. more: what its kind needs, plain values."""
    return canonical({"kind": kind, "rollout": rollout, "at": timestamp(at), "by": asdict(by), "reason": reason, **more})


def parse(record: bytes) -> Mapping[str, Any]:
    """The record of these bytes. Raises RecordError."""
    try:
        found = json.loads(record)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RecordError(f"{len(record)} bytes that are no record; the chain is damaged")
    return found


def digest(previous: str, record: bytes) -> str:
    """The hash of a record behind the one whose hash is `previous`: SHA-256 of both, 64 hex digits."""
    return sha256(previous.encode() + record).hexdigest()


def evidence_of(rollout: Rollout, state: State, verdict: Mapping[str, Any], *, code_version: str) -> dict[str, Any]:
    """What a move of the controller rests on: the question by its hash, the whole verdict, the people's words, and the code that judged.

    Every record that moves a rollout has these keys; what else it must prove is added here.
    """
    return {
        "evidence": dict(verdict),
        "approvals": [{"by": said.by, "role": said.role} for said in state.approvals],
        "waivers": [{"by": said.by, "gate": said.gate, "expires": timestamp(said.expires)} for said in state.waivers],
        "config_sha256": rollout.sha256,
        "code_version": code_version,
    }
