"""Events and outcomes by HTTP: where a mirror, a service or a labelling tool posts them. Answered after the bus has them, not before."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.requests import ClientDisconnect

from harness.api.cloudevents import Cut, cut
from harness.api.errors import ApiError, away
from harness.api.service import Served, Service
from harness.core.errors import StoreFull, Unavailable
from harness.core.events import Invalid, InvalidOutcome
from harness.core.reading import WATERMARK, timestamp
from harness.ports.bus import Partition

MOST_BYTES = 1 << 20
BODY_S = 10.0
REQUEST_TYPE = "io.shadow-harness.request"
LOG_EVERY_S = 1.0


class Refusals:
    """At most one log line a second for requests that were refused: how many, and why the last one."""

    def __init__(self, event: str) -> None:
        self._event, self._lock, self._n, self._said = event, threading.Lock(), 0, 0.0

    def add(self, rollout: str, error: ApiError) -> None:
        """One more. Its message names headers and fields only."""
        with self._lock:
            self._n += 1
            if time.monotonic() - self._said < LOG_EVERY_S:
                return
            n, self._n, self._said = self._n, 0, time.monotonic()
        structlog.get_logger().warning(self._event, rollout=rollout, n=n, status=error.status, reason=error.message)


def ingest_routes(service: Service, *, most_bytes: int = MOST_BYTES) -> APIRouter:
    """POST /v1/rollouts/{name}/events and /outcomes. most_bytes: of one request's body."""
    router, refusals = APIRouter(), Refusals("ingest.refused")

    async def body(request: Request) -> bytes:
        return await read_body(request, most_bytes)

    def take(name: str, kind: str, request: Request, content: bytes) -> dict[str, int]:
        try:
            return {"accepted": _take(service, name, kind, request, content)}
        except ApiError as error:
            refusals.add(name, error)
            raise

    @router.post("/v1/rollouts/{name}/events", status_code=202)
    def events(name: str, request: Request, content: bytes = Depends(body)) -> dict[str, int]:
        """Appends events to the rollout's topic of events."""
        return take(name, "events", request, content)

    @router.post("/v1/rollouts/{name}/outcomes", status_code=202)
    def outcomes(name: str, request: Request, content: bytes = Depends(body)) -> dict[str, int]:
        """Appends outcomes to the rollout's topic of outcomes."""
        return take(name, "outcomes", request, content)

    return router


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises ApiError 413 before it holds more than `most` bytes, 408 when it takes too long to come."""
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > most:
        raise ApiError(413, f"body: more than {most} bytes")
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise ApiError(413, f"body: more than {most} bytes")
    except TimeoutError:
        raise ApiError(408, f"body: did not come within {BODY_S:g} s") from None
    except ClientDisconnect:
        raise ApiError(400, "body: the connection was closed before its end") from None
    return bytes(content)


def _take(service: Service, name: str, kind: str, request: Request, content: bytes) -> int:
    """1 cut the body into events   2 judge each as the router will: one bad, none taken   3 append, each to its partition. Between the
    partitions of one batch an append may fail: what was appended is known again when the client sends the batch anew."""
    served = service.get(next(iter(service.several(name)), name))  # challengers share their topics
    partitions = served.partitions(kind)
    if not partitions:
        raise ApiError(404, "this rollout has no outcomes in its config")
    attributes = _mirrored(service, name, request) if kind == "events" else None
    cuts = cut(request.headers.raw, content, decode=served.codec.json, attributes=attributes)
    by_partition: dict[Partition, list[bytes]] = {}
    for one in cuts:
        problem = _problem(served, kind, one.document)
        if problem is not None:
            raise ApiError(400, f"{one.where}{problem}; nothing was taken" if one.where else problem)
        by_partition.setdefault(partitions[_place(served, one) % len(partitions)], []).append(one.record)
    try:
        for partition, records in by_partition.items():
            served.watched.bus.append(partition, records)
    except Unavailable as error:
        structlog.get_logger().warning("ingest.waits", rollout=name, error=str(error))
        raise away("the bus does not answer; send it again") from error
    except StoreFull as error:
        structlog.get_logger().warning("ingest.waits", rollout=name, error=str(error))
        raise away("the bus has no room; send it again later") from error
    return len(cuts)


def _mirrored(service: Service, name: str, request: Request) -> Callable[[], Mapping[str, str]]:
    """Attributes of a plain production request: its id is the proxy's, if that sends one."""
    return lambda: {
        "specversion": "1.0", "id": request.headers.get("x-request-id") or str(uuid4()), "source": f"/http/{name}",
        "type": REQUEST_TYPE, "time": timestamp(service.clock.now()),
    }  # fmt: skip


def _problem(served: Served, kind: str, document: Any) -> str | None:
    """Why the router would count it as invalid, in the router's own words; None if it would not."""
    if isinstance(document, dict) and document.get("type") == WATERMARK:
        return f"type: {WATERMARK} is the harness's own and moves record time; it is not taken by HTTP"
    if kind == "events":
        event, _, _ = served.reader.event(document, position=0, payload=b"")
        return event.reason if isinstance(event, Invalid) else None
    outcome = served.reader.outcome(document, position=0, time=0)
    return outcome.reason if isinstance(outcome, InvalidOutcome) else None


def _place(served: Served, one: Cut) -> int:
    """A number that is the same for every event of a subject, or for every copy of an event without one: their order is kept."""
    subject = one.document.get("subject")
    text = subject if isinstance(subject, str) and subject else f"{one.document['source']}\0{one.document['id']}"
    return int.from_bytes(served.hasher.digest(b"partition", text, 8), "big")
