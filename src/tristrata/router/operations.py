"""What operators look at, on a port of its own: metrics, whether the process lives, whether it can serve."""

from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tristrata.router.http import json_response
from tristrata.router.metrics import Metrics

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Check(msgspec.Struct, frozen=True):
    """One thing that a router needs: what is wrong with it is told by ``fails``, empty while nothing is."""

    name: str
    fails: Callable[[], Awaitable[str]]


def operations_app(metrics: Metrics, checks: Sequence[Check]) -> ASGIApp:
    """``/metrics``, ``/health`` and ``/ready``. Only operators should reach it."""

    async def tell_metrics(_: Request) -> Response:
        return Response(metrics.text(), media_type=_TEXT)

    async def tell_health(_: Request) -> Response:
        return json_response({"status": "ok"})

    async def tell_ready(_: Request) -> Response:
        reasons = {check.name: reason for check in checks if (reason := await check.fails())}
        return json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    return Starlette(
        routes=[Route("/metrics", tell_metrics), Route("/health", tell_health), Route("/ready", tell_ready)]
    )
