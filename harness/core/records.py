"""What a record says: canonical JSON, so that the same record has the same bytes, and its hash anybody can recompute."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.core.errors import RecordError
from harness.core.reading import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who makes a record. via: cli, api, or the role that acted by itself."""

    name: str
    via: str
    role: str | None = None


CONTROLLER = Author(name="controller", via="controller")


def body(kind: str, *, rollout: str, at: int, by: Author, reason: str, **more: Any) -> bytes:
    """The bytes of a record. at: wall time, microseconds. more: what its kind needs, plain values."""
    document = {"kind": kind, "rollout": rollout, "at": timestamp(at), "by": asdict(by), "reason": reason, **more}
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def parse(record: bytes) -> Mapping[str, Any]:
    """The record of these bytes. Raises RecordError."""
    try:
        found = json.loads(record)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RecordError(f"{len(record)} bytes that are no record; the chain is damaged")
    return found
