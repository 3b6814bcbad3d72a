"""People's moves by HTTP, each with a token, and the records that they and the controller made."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Query, Request, Response

from harness.api.errors import ApiError
from harness.api.guard import Guard
from harness.api.ingest import read_body
from harness.api.looking import NO_STORE
from harness.api.service import Served, Service
from harness.commands import moves
from harness.core.errors import UsageError
from harness.core.records import Author, parse
from harness.ports.tokens import Token

MOST_BYTES = 16_384
PAGE = 1_000


def moving_routes(service: Service, guard: Guard) -> APIRouter:
    """POST /v1/rollouts/{name}/approve, waive, pause, resume and rollback."""
    router, allowed = APIRouter(), guard.allows("approve")

    def token(request: Request) -> Token:
        return allowed(request)

    async def body(request: Request) -> bytes:
        return await read_body(request, MOST_BYTES)

    a_token, a_body = Depends(token), Depends(body)  # in this order: who may not is not listened to

    @router.post("/v1/rollouts/{name}/approve")
    def approve(name: str, who: Token = a_token, content: bytes = a_body) -> dict[str, Any]:
        """One person's approval of the stage that the body names."""
        said = _said(content, reason=str, stage=int)

        def move(served: Served, by: Author) -> moves.Moved:
            watched = served.watched
            return moves.approve(
                watched.rollout, served.journal, watched.clock, by=by, roles=who.roles, verdict=watched.verdict(), **said
            )

        return _done(service.asked(name), who, move)

    @router.post("/v1/rollouts/{name}/waive")
    def waive(name: str, who: Token = a_token, content: bytes = a_body) -> dict[str, Any]:
        """One person's waiver of a gate in this stage."""
        said = _said(content, reason=str, gate=str, expires=str)

        def move(served: Served, by: Author) -> moves.Moved:
            watched = served.watched
            return moves.waive(watched.rollout, served.journal, watched.clock, by=by, verdict=watched.verdict(), **said)

        return _done(service.asked(name), who, move)

    def plain(what: str, how: Callable[..., moves.Moved], *, sees: bool = False) -> None:
        @router.post(f"/v1/rollouts/{{name}}/{what}")
        def command(name: str, who: Token = a_token, content: bytes = a_body) -> dict[str, Any]:
            said = _said(content, reason=str)

            def move(served: Served, by: Author) -> moves.Moved:
                watched = served.watched
                seen = {"verdict": watched.verdict()} if sees else {}
                return how(watched.rollout, served.journal, watched.clock, by=by, **said, **seen)

            return _done(service.asked(name), who, move)

    for what, how in (("pause", moves.pause), ("resume", moves.resume), ("rollback", moves.rollback)):
        plain(what, how, sees=how is moves.rollback)
    return router


def _done(served: Served, who: Token, move: Callable[[Served, Author], moves.Moved]) -> dict[str, Any]:
    """Makes a move in the name of a token. Raises ApiError 409 for what cannot count now, 400 for what never could."""
    try:
        moved = move(served, Author(name=who.name, via="api", role=next(iter(who.roles), None)))
    except moves.Refused as error:
        raise ApiError(409, str(error)) from None
    except UsageError as error:
        raise ApiError(400, str(error)) from None
    return moves.document(served.watched.rollout.name, moved)


def record_routes(service: Service) -> APIRouter:
    """GET /v1/rollouts/{name}/records."""
    router = APIRouter()

    @router.get("/v1/rollouts/{name}/records")
    def records(name: str, start: int = Query(0, ge=0)) -> Response:
        """The chain from record number `start` on, at most a thousand; each record byte for byte as it was hashed."""
        links = service.asked(name).journal.read(start)[:PAGE]
        for link in links:
            parse(link.body)  # what is no JSON must not become a part of ours
        rows = [b'{"hash":"%s","previous":"%s","record":%s}' % (link.hash.encode(), link.previous.encode(), link.body) for link in links]
        after = start + len(links) if len(links) == PAGE else None
        head = json.dumps({"rollout": name, "start": start, "next": after})[:-1].encode()
        return Response(head + b', "records":[' + b",".join(rows) + b"]}", media_type="application/json", headers=NO_STORE)

    return router


def _said(content: bytes, **expected: type) -> dict[str, Any]:
    """The fields of a body: all of them, and no others. Raises ApiError 400 that names fields and never holds what stood there."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    names = ", ".join(f"{name} ({'text' if kind is str else 'a whole number'})" for name, kind in expected.items())
    if not isinstance(found, dict):
        raise ApiError(400, f"body: expected a JSON object with {names}")
    wrong = [name for name, kind in expected.items() if type(found.get(name)) is not kind]
    if wrong or found.keys() - expected:
        raise ApiError(400, f"body: expected exactly {names}" + (f"; wrong or not there: {', '.join(wrong)}" if wrong else ""))
    return found
