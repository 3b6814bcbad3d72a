"""A model server with plain JSON: one POST an event, or one POST a batch.

One event: the body is the event's `data`, the answer any JSON. With `batch` above 1: the body is an array of up to so many `data`, the
answer an array of as many answers, in order. `x-model-version` in the headers, or `model_version` in an answer, is the model's version.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from harness.adapters.models.breaker import Breaker
from harness.adapters.models.server import Headers, Posted, Server, encoded, header_text, version
from harness.ports.model import Call, Reply

_ATTRIBUTES = ("specversion", "id", "source", "type")  # those that every CloudEvent has; `subject` is a person and stays out of headers


class HttpModel:
    """A plain JSON server. `call` may be used by as many threads as there are `connections`."""

    def __init__(self, url: str, *, lane: str, batch: int = 1, connections: int = 1, breaker: Breaker | None = None) -> None:
        """Opens no connection. `batch` above 1 means arrays. Raises UsageError if the address cannot be used."""
        self._server = Server(url, lane=lane, connections=connections, breaker=breaker)
        self._arrays = batch > 1

    def call(self, calls: Sequence[Call], *, timeout_s: float) -> Sequence[Reply]:
        """One reply a call. All of them together have `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        if self._arrays:
            return self._together(calls, deadline)
        return [self._alone(call, deadline) for call in calls]

    def _alone(self, call: Call, deadline: float) -> Reply:
        body = encoded(call.data)
        if body is None:
            return Reply(status="error")
        posted = self._server.post(body, event_headers(call), deadline=deadline)
        return _reply(posted, posted.document)

    def _together(self, calls: Sequence[Call], deadline: float) -> list[Reply]:
        bodies = [encoded(call.data) for call in calls]
        sound = [body for body in bodies if body is not None]
        if not sound:
            return [Reply(status="error")] * len(calls)
        key = batch_key([call.event_id for call, body in zip(calls, bodies, strict=True) if body is not None])
        headers = [(b"Idempotency-Key", key.encode())]
        posted = self._server.post(b"[" + b",".join(sound) + b"]", headers, deadline=deadline, events=len(sound))
        answers: list[Any] = [None] * len(sound)
        if posted.status == "answered":
            if isinstance(posted.document, list) and len(posted.document) == len(sound):
                answers = posted.document
            else:
                posted = Posted(status="bad_output", version=posted.version, latency_ms=posted.latency_ms)
        replies = (_reply(posted, answer) for answer in answers)
        return [Reply(status="error") if body is None else next(replies) for body in bodies]

    def close(self) -> None:
        """Closes the connections."""
        self._server.close()


def _reply(posted: Posted, answer: Any) -> Reply:
    found = version(answer.get("model_version")) if isinstance(answer, dict) else None
    return posted.reply(answer, version=found)


def event_headers(call: Call) -> Headers:
    """The event's id as idempotency key, and the attributes that make the request a CloudEvent."""
    event = {**call.event, "specversion": "1.0", "id": call.event_id}
    texts = [(name, event.get(name)) for name in _ATTRIBUTES]
    attributes = [(f"ce-{name}".encode(), header_text(text)) for name, text in texts if isinstance(text, str) and text]
    return [(b"Idempotency-Key", header_text(call.event_id)), *attributes]


def batch_key(event_ids: Sequence[str]) -> str:
    """An idempotency key for a call about these events, in this order."""
    digest = sha256()
    for event_id in event_ids:
        text = event_id.encode(errors="surrogatepass")
        digest.update(len(text).to_bytes(8, "big") + text)
    return digest.hexdigest()[:32]
