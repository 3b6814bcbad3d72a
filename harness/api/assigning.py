"""What production asks: which share of the units the challenger serves, and which model serves this one."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from harness.api.looking import NO_STORE
from harness.api.service import Served, Service
from harness.assign import INCUMBENT, choose, read
from harness.commands.assignment import document
from harness.core.errors import RecordError, ShadowError, Unavailable


def assigning_routes(service: Service) -> APIRouter:
    """GET /v1/rollouts/{name}/assignment and /assign."""
    router = APIRouter()

    def told(served: Served) -> dict[str, Any]:
        watched, at = served.watched, service.clock.now()
        return document(watched.rollout, served.follower.now(), at=at, hasher=served.arms)

    @router.get("/v1/rollouts/{name}/assignment")
    def assignment(name: str) -> JSONResponse:
        """The document by which `harness.assign` assigns in the process that serves."""
        return JSONResponse(told(service.asked(name)), headers=NO_STORE)

    @router.get("/v1/rollouts/{name}/assign")
    def assign(name: str, unit: str = "") -> JSONResponse:
        """The arm of one unit; the incumbent, and why, when it cannot be known."""
        try:
            served = service.asked(name)
            arm = choose(read(told(served), name, served.arms), unit, served.arms)
        except (Unavailable, RecordError) as error:
            structlog.get_logger().warning("assign.waits", rollout=name, error=str(error))
            return _incumbent(name, error)
        found = arm.document
        facts = {} if found is None else {"percent": found.percent, "standing": found.standing, "stage": found.stage, "head": found.head}
        return JSONResponse({"rollout": name, "arm": arm.arm, "reason": arm.reason, "says": arm.says, **facts}, headers=NO_STORE)

    return router


def _incumbent(name: str, error: ShadowError) -> JSONResponse:
    says = "the store does not answer" if isinstance(error, Unavailable) else "the chain of records is damaged"
    return JSONResponse({"rollout": name, "arm": INCUMBENT, "reason": "error", "says": says}, headers=NO_STORE)
