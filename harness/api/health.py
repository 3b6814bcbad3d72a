"""Is the process alive; can it do its work. What it says it has just tried."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from harness.api.errors import ApiError
from harness.api.service import Service
from harness.commands.health import role_health
from harness.core.errors import Unavailable

WITHIN_S = 2.0


def health_routes(service: Service, *, closed: bool) -> APIRouter:
    """GET /healthz and /readyz. closed: readers need a token, so these two, which ask for none, name no rollout."""
    router = APIRouter()

    @router.get("/healthz")
    async def alive() -> dict[str, bool]:  # async: must answer when every thread of the pool hangs on a server that is away
        """The process is alive: nothing else is asked."""
        return {"alive": True}

    @router.get("/readyz")
    def ready() -> JSONResponse:
        """200 when bus and store answer within two seconds each, else 503 that names which does not. Roles are told, not judged: events are
        taken safely while they rest, and /v1/rollouts/{name}/ready judges them."""
        answers = {name: probe.answers(WITHIN_S) for name, probe in service.probes.items()}
        gone = [f"the {name} does not answer" for name, answered in answers.items() if not answered]
        said: dict[str, Any] = {name: "answers" if answered else "away" for name, answered in answers.items()}
        if gone:
            return JSONResponse({"error": f"not ready: {', '.join(gone)}", "ready": False, **said}, 503, {"Retry-After": "1"})
        if closed:
            return JSONResponse({"ready": True, **said})
        return JSONResponse({"ready": True, **said, "rollouts": {name: _roles(service, name) for name in service.names()}})

    return router


def _roles(service: Service, name: str) -> dict[str, str]:
    """What each role of a rollout says of itself."""
    try:
        watched = service.get(name).watched
        return {health.role: health.says for health in role_health(watched.roles, watched.presence)}
    except (Unavailable, ApiError) as error:
        return {"error": str(error)}
