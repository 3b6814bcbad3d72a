"""The API as a process: one uvicorn on one socket. `shadow up` runs it as the role `api`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

import structlog
import uvicorn

from harness.api import address
from harness.api.app import create_app
from harness.api.service import Service
from harness.core.errors import ShadowError

MOST_CONNECTIONS = 1_024
STOP_S = 5
AGAIN_S = 1.0


def serve(service: Service, listen: str, *, rollout: str, stopped: Callable[[], bool], closed: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; requests under way get five seconds. rollout: is opened first, so that it can be answered for while
    the bus is away. closed: reading needs a token. A port that is taken is waited for: an API that cannot listen must not stop what counts.

    Raises UsageError for an address that is not this machine's.
    """
    log = structlog.get_logger().bind(role="api")
    host, port = address.parse(listen)
    try:
        service.get(rollout)
    except ShadowError as error:
        log.warning("role.waits", error=str(error))
    while not stopped():
        try:
            bound = address.bind(host, port)
        except address.Taken as error:
            log.warning("role.waits", error=str(error), retry_in_s=AGAIN_S)
            time.sleep(AGAIN_S)
            continue
        url, reading = f"http://{address.text(host, bound.getsockname()[1])}", "with a token" if closed else "open"
        log.info("api.listens", url=url, reach=_reach(host), reading=reading)
        _Server(_settings(service, closed=closed), stopped).run(sockets=[bound])
        log.info("role.stopped")
        return


class _Server(uvicorn.Server):
    """One that heard of a signal also when it came before it listened to signals itself: while its modules were loaded."""

    def __init__(self, settings: uvicorn.Config, stopped: Callable[[], bool]) -> None:
        super().__init__(settings)
        self._stopped = stopped

    async def on_tick(self, counter: int) -> bool:
        return self._stopped() or await super().on_tick(counter)


def _reach(host: str) -> str:
    """Who can ask: the API knows no passwords, so what is not loopback needs a proxy or a network policy in front."""
    try:
        return "this machine" if ipaddress.ip_address(host).is_loopback else "the network, without a password"
    except ValueError:
        return "this machine" if host == "localhost" else "the network, without a password"


def _settings(service: Service, *, closed: bool) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(service, closed=closed),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,  # its own lines are about connections; what matters is logged by the handlers
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,  # beyond it, 503
        timeout_keep_alive=20,
        timeout_graceful_shutdown=STOP_S,
    )
