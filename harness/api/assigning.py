"""What production asks: which share of the units the challenger serves, and which model serves this one."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from harness.api.looking import NO_STORE
from harness.api.service import Served, Service
from harness.assign import CHALLENGER, INCUMBENT, choose, read
from harness.commands.assignment import document
from harness.core.errors import RecordError, ShadowError, Unavailable
from harness.core.stages import serves


def assigning_routes(service: Service) -> APIRouter:
    """GET /v1/rollouts/{name}/assignment and /assign."""
    router = APIRouter()

    def told(served: Served, name: str) -> dict[str, Any]:
        watched, at = served.watched, service.clock.now()
        return document(watched.rollout, served.follower.now(), at=at, hasher=served.arms, asked=name)

    def asked(name: str) -> Served:
        """The rollout; for the name of several challengers that of the one which serves, or of the first when none does."""
        several = [service.asked(each) for each in service.several(name)]
        return next((each for each in several if serves(each.follower.now())), several[0]) if several else service.asked(name)

    @router.get("/v1/rollouts/{name}/assignment")
    def assignment(name: str) -> JSONResponse:
        """The document by which `harness.assign` assigns in the process that serves."""
        return JSONResponse(told(asked(name), name), headers=NO_STORE)

    @router.get("/v1/rollouts/{name}/assign")
    def assign(name: str, unit: str = "") -> JSONResponse:
        """The arm of one unit; the incumbent, and why, when it cannot be known."""
        try:
            served = asked(name)
            arm = choose(read(told(served, name), name, served.arms.of(name)), unit, served.arms.of(name))
        except (Unavailable, RecordError) as error:
            structlog.get_logger().warning("assign.waits", rollout=name, error=str(error))
            return _incumbent(name, error)
        found = arm.document
        facts = {} if found is None else {"percent": found.percent, "standing": found.standing, "stage": found.stage, "head": found.head}
        if found is not None and found.challenger != CHALLENGER:
            facts["challenger"] = found.challenger
        return JSONResponse({"rollout": name, "arm": arm.arm, "reason": arm.reason, "says": arm.says, **facts}, headers=NO_STORE)

    return router


def _incumbent(name: str, error: ShadowError) -> JSONResponse:
    says = "the store does not answer" if isinstance(error, Unavailable) else "the chain of records is damaged"
    return JSONResponse({"rollout": name, "arm": INCUMBENT, "reason": "error", "says": says}, headers=NO_STORE)
