"""The router's HTTP application."""

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tristrata.config.network import Serving
from tristrata.protocol.errors import TristrataError
from tristrata.router.edge import Edge
from tristrata.router.endpoint import Endpoint
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.forwarding import FleetFront, Forwarder, leave_to_owner
from tristrata.router.http import Refusal, json_response, on_error, on_fault, on_refusal, on_unknown_url
from tristrata.router.metrics import Metrics
from tristrata.router.openapi import describe


def create_app(
    routes: list[Route],
    health: Callable[[], dict[str, Any]],
    forwarder: Forwarder | None = None,
    *,
    metrics: Metrics | None = None,
    serving: Serving | None = None,
) -> ASGIApp:
    """The API over its routes; ``health`` is what ``/health`` answers, ``forwarder`` is there in a fleet."""

    async def tell(_: Request) -> Response:
        return json_response(health())

    document = describe(routes)

    async def tell_document(_: Request) -> Response:
        return json_response(document)

    all_routes = [Route("/health", tell), Route("/openapi.json", tell_document), *routes]
    starlette = Starlette(
        routes=all_routes,
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

    inner = app if forwarder is None else FleetFront(app, forwarder)
    paths = {route.endpoint: route.path for route in all_routes}
    return Edge(inner, metrics or Metrics(), serving or Serving(), paths)
