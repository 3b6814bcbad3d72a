"""What people and machines read of a rollout: its status, its verdict, its report."""

from __future__ import annotations

import threading
from typing import Any

from fastapi import APIRouter, Response

from harness.api.errors import ApiError, away
from harness.api.service import Service
from harness.commands.health import role_health
from harness.commands.replay import whole_table
from harness.commands.status import document
from harness.pages.report import render
from harness.roles.analyst import canonical

NO_STORE = {"Cache-Control": "no-store"}
PAGE = {**NO_STORE, "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
REPORT_WAIT_S = 10.0


def looking_routes(service: Service) -> APIRouter:
    """GET /v1/rollouts and what is under each."""
    router = APIRouter()
    drawing = threading.Lock()  # a report holds a whole pair table: one at a time

    @router.get("/v1/rollouts")
    def rollouts() -> dict[str, list[str]]:
        """The rollouts of the store, by name."""
        return {"rollouts": list(service.names())}

    @router.get("/v1/rollouts/{name}")
    def status(name: str) -> dict[str, Any]:
        """What the rollout is doing: the document of `shadow status --json`."""
        return document(service.asked(name).watched)

    @router.get("/v1/rollouts/{name}/verdict")
    def verdict(name: str) -> Response:
        """The object of verdict.json at this moment: 200 as soon as the rollout exists, also before the first look."""
        return Response(canonical(service.asked(name).watched.verdict()), media_type="application/json", headers=NO_STORE)

    @router.get("/v1/rollouts/{name}/ready")
    def ready(name: str, role: str | None = None) -> dict[str, Any]:
        """Whether every role of the rollout, or the one named, is at work: 200, or 503 that says which is not."""
        watched = service.asked(name).watched
        if role is not None and role not in watched.roles:
            raise ApiError(404, f"no such role; this rollout has {', '.join(watched.roles)}")
        found = role_health([role] if role else watched.roles, watched.presence)
        idle = [f"{health.role} ({health.says})" for health in found if not health.ready]
        if idle:
            raise away(f"not at work: {', '.join(idle)}")
        return {"ready": True, "roles": {health.role: health.says for health in found}}

    @router.get("/v1/rollouts/{name}/report")
    def report(name: str) -> Response:
        """The report: one HTML page that needs nothing else."""
        watched = service.asked(name).watched
        if not drawing.acquire(timeout=REPORT_WAIT_S):
            raise away("another report is being drawn")
        try:
            page = render(watched.rollout, watched.verdict(), whole_table(watched.rollout, watched.pair_logs), watched.waits_for())
        finally:
            drawing.release()
        return Response(page, media_type="text/html; charset=utf-8", headers=PAGE)

    return router
