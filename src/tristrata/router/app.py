"""The router's HTTP application, and the server that runs it inside our own event loop."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tristrata.protocol.errors import TristrataError
from tristrata.router.endpoint import Endpoint
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.forwarding import FleetFront, Forwarder, leave_to_owner
from tristrata.router.http import Refusal, json_response, on_error, on_fault, on_refusal, on_unknown_url

_SHUTDOWN_SECONDS = 5


def create_app(
    routes: list[Route], health: Callable[[], dict[str, Any]], forwarder: Forwarder | None = None
) -> ASGIApp:
    """The API over its routes; ``health`` is what ``/health`` answers, ``forwarder`` is there in a fleet."""

    async def tell(_: Request) -> Response:
        return json_response(health())

    starlette = Starlette(
        routes=[Route("/health", tell), *routes],
        exception_handlers={
            Refusal: on_refusal,
            OwnedElsewhere: leave_to_owner,
            TristrataError: on_error,
            404: on_unknown_url,
            405: on_unknown_url,
            Exception: on_fault,
        },
    )
    direct = {route.path: route.app for route in routes if isinstance(route.endpoint, Endpoint)}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """The busiest endpoints stand before Starlette, whose layers cost as much as all that they do."""
        endpoint = direct.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        await (endpoint or starlette)(scope, receive, send)

    return app if forwarder is None else FleetFront(app, forwarder)


async def serve(app: ASGIApp, host: str, port: int) -> None:
    """Serve until cancelled; then let running answers end, for five seconds at most."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Signals are the process's business (`tristrata.process`), not the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
