"""The chain of records outside its store: a hash anybody can recompute, and one JSON line a record.

    hash = SHA-256(hash of the record before, as 64 hex digits; then the record as canonical JSON), from 64 zeros on

Canonical JSON: keys sorted, no spaces, UTF-8, numbers as Python writes them (the shortest that reads back as the same double).
"""

from __future__ import annotations

import json

from harness.core.errors import RecordError
from harness.core.records import canonical


def from_line(text: bytes) -> tuple[str, str, bytes]:
    """(hash, previous, body) of a line, or of a record's CloudEvent on the bus; nothing of it is checked yet. Raises RecordError."""
    try:
        found = json.loads(text)
        names = ("id", "previous", "data") if "specversion" in found else ("hash", "previous", "record")
        hash, previous, record = (found[name] for name in names)
    except (ValueError, KeyError, TypeError):
        raise RecordError("expected a JSON object with hash, previous and record") from None
    if not (isinstance(hash, str) and isinstance(previous, str) and isinstance(record, dict)):
        raise RecordError("expected texts as hash and previous, and an object as record")
    return hash, previous, canonical(record)
