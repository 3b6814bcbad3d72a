"""The HTTP API: parse, call a command, answer. Needs no state of its own; any number may run beside each other."""

from __future__ import annotations

from collections.abc import Mapping

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from harness.api.assigning import assigning_routes
from harness.api.errors import ApiError
from harness.api.guard import Guard
from harness.api.health import health_routes
from harness.api.ingest import MOST_BYTES, ingest_routes
from harness.api.looking import looking_routes
from harness.api.metrics import metrics_routes
from harness.api.moving import moving_routes, record_routes
from harness.api.service import Service
from harness.core.errors import BusUnavailable, ShadowError, StoreFull, Unavailable

RETRY = {"Retry-After": "1"}


def create_app(service: Service, *, closed: bool = False, most_bytes: int = MOST_BYTES) -> FastAPI:
    """The application. Every error is `{"error": "..."}` and holds nothing of a body. closed: reading needs a token, as moving a rollout
    always does. most_bytes: of one request's body."""
    app = FastAPI(title="Shadow Harness", openapi_url=None, redirect_slashes=False)
    guard = Guard(service.tokens, service.clock, closed=closed)
    app.include_router(health_routes(service, closed=closed))
    for routes in (looking_routes, metrics_routes, record_routes, assigning_routes):
        app.include_router(routes(service), dependencies=[Depends(guard.reading)])
    app.include_router(moving_routes(service, guard))
    app.include_router(ingest_routes(service, most_bytes=most_bytes))
    _handle_errors(app)
    return app


def _answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, dict(headers or {}))


def _handle_errors(app: FastAPI) -> None:
    """Errors to answers."""

    @app.exception_handler(ApiError)
    async def refused(_: Request, error: ApiError) -> JSONResponse:
        return _answer(error.status, error.message, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, str(error.detail).lower(), error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(400, f"parameters: {', '.join('.'.join(map(str, e['loc'])) for e in error.errors())} cannot be read")

    @app.exception_handler(ShadowError)
    async def failed(request: Request, error: ShadowError) -> JSONResponse:
        log = structlog.get_logger().bind(path=request.url.path, reason=type(error).__name__, error=str(error))
        if isinstance(error, Unavailable | StoreFull):
            log.warning("api.waits")
            full = isinstance(error, StoreFull)
            which = "bus" if isinstance(error, BusUnavailable) else "store"
            return _answer(503, f"the {which} {'has no room' if full else 'does not answer'}; ask again", RETRY)
        log.error("api.failed")
        return _answer(500, "this cannot be answered; the log of the API says why")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        structlog.get_logger().error("api.broken", path=request.url.path, reason=type(error).__name__)
        return _answer(500, "this cannot be answered; the log of the API says why")
