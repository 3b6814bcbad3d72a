"""Anchors: a file to which heads are appended as JSON lines, and a server to which they are posted as JSON."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from harness.core.errors import Unavailable
from harness.ports.anchor import Anchor

TIMEOUT_S = 5.0
WEB = ("http://", "https://")


def _note(rollout: str, record: int, head: str) -> bytes:
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return json.dumps({"rollout": rollout, "record": record, "head": head, "at": at}).encode()


def open_anchor(place: str) -> Anchor:
    """The anchor at a URL, or in a file."""
    return WebAnchor(place) if place.startswith(WEB) else FileAnchor(Path(place))


class FileAnchor:
    """`ports.anchor.Anchor` in a file: one on a disk that the store's owner cannot write is worth more."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, rollout: str, record: int, head: str) -> None:
        """Appends one line, on the disk on return."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(_note(rollout, record, head) + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise Unavailable(f"anchor {self._path}: cannot be written: {error.strerror or error}") from None


class WebAnchor:
    """`ports.anchor.Anchor` behind a URL: any answer from 200 to 299 means noted."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._timeout_s, self._where = url, timeout_s, urlsplit(url).hostname or "?"

    def put(self, rollout: str, record: int, head: str) -> None:
        """One POST. Messages name the host alone: a path may hold a token."""
        request = urllib.request.Request(
            self._url, data=_note(rollout, record, head), method="POST", headers={"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                answer.read(1)
        except urllib.error.HTTPError as error:
            raise Unavailable(f"anchor {self._where}: answered {error.code}") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise Unavailable(f"anchor {self._where}: does not take the head: {type(error).__name__}") from None
