"""The outermost part of the HTTP API: request ids, security headers, browsers (CORS), and counts of requests."""

import os
import time
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tristrata.config.network import Serving
from tristrata.router.http import MORE_HEADERS, REFUSED, SERVING
from tristrata.router.metrics import Metrics

_PREFLIGHT_SECONDS = b"86400"
_EXPOSED = b"x-request-id, x-tristrata-receipt, retry-after, " + b", ".join(
    b"x-ratelimit-%s-%s" % (kind, what)
    for what in (b"requests", b"tokens")
    for kind in (b"limit", b"remaining", b"reset")
)
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]
_TLS_ONLY = (b"strict-transport-security", b"max-age=31536000")
_MOST_REQUESTED_HEADERS = 2_048


def security_headers(serving: Serving) -> list[tuple[bytes, bytes]]:
    """What every answer says to browsers."""
    return [*_SECURITY, _TLS_ONLY] if serving.tls_key is not None else _SECURITY


def new_request_id() -> bytes:
    """An id for an answer that no receipt names."""
    return b"req_" + os.urandom(16).hex().encode()


class Edge:
    """An ASGI app around the API."""

    def __init__(self, app: ASGIApp, metrics: Metrics, serving: Serving, paths: Mapping[Any, str]) -> None:
        """``paths`` has the path of each of Starlette's endpoints, by which requests are counted."""
        self._app = app
        self._paths = paths
        self._known = frozenset(paths.values())
        self._metrics = metrics
        self._serving = serving
        self._origins = frozenset(origin.encode() for origin in serving.cors_origins)
        self._security = security_headers(serving)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        allowed = self._allowed_origin(scope)
        if scope["method"] == "OPTIONS" and (requested := _header(scope, b"access-control-request-method")):
            await self._preflight(scope, requested, allowed, send)
            return
        more: list[tuple[bytes, bytes]] = []
        refused: list[str] = []
        scope[MORE_HEADERS] = more
        scope[REFUSED] = refused
        scope[SERVING] = self._serving
        status, started, first_at = 0, time.perf_counter(), 0.0

        async def send_more(message: Message) -> None:
            nonlocal status, first_at
            if message["type"] == "http.response.start":
                status, first_at = message["status"], time.perf_counter()
                message["headers"] = self._complete(list(message["headers"]), more, allowed)
            await send(message)

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, send_more)
        finally:
            self._metrics.in_flight -= 1
            path = scope["path"] if scope["path"] in self._known else self._paths.get(scope.get("endpoint"), "other")
            self._metrics.answered(path, status, (first_at or time.perf_counter()) - started)
            for code in refused:
                self._metrics.refusals.labels(code).inc()

    def _complete(
        self, headers: list[tuple[bytes, bytes]], more: list[tuple[bytes, bytes]], allowed: bytes | None
    ) -> list[tuple[bytes, bytes]]:
        names = {name for name, _ in headers}
        if b"x-request-id" not in names:
            headers.append((b"x-request-id", new_request_id()))
        if b"cache-control" not in names:
            headers.append((b"cache-control", b"no-store"))
        headers += more
        headers += [header for header in self._security if header[0] not in names]
        if allowed is not None:
            headers += [(b"access-control-allow-origin", allowed), (b"access-control-expose-headers", _EXPOSED)]
        if self._origins:
            headers.append((b"vary", b"origin"))
        return headers

    def _allowed_origin(self, scope: Scope) -> bytes | None:
        if not self._origins:
            return None
        origin = _header(scope, b"origin")
        if origin and (origin in self._origins or b"*" in self._origins):
            return origin
        return None

    async def _preflight(self, scope: Scope, method: bytes, allowed: bytes | None, send: Send) -> None:
        """What a browser asks before it sends a request of another origin; nothing of it needs an API key."""
        headers = [(b"content-length", b"0"), (b"vary", b"origin, access-control-request-headers"), *self._security]
        if allowed is not None:
            requested = _header(scope, b"access-control-request-headers") or b""
            headers += [
                (b"access-control-allow-origin", allowed),
                (b"access-control-allow-methods", b"GET, POST, PATCH, DELETE"),
                (b"access-control-allow-headers", requested[:_MOST_REQUESTED_HEADERS]),
                (b"access-control-max-age", _PREFLIGHT_SECONDS),
            ]
        await send({"type": "http.response.start", "status": 204 if allowed else 403, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _header(scope: Scope, name: bytes) -> bytes | None:
    return next((value for known, value in scope["headers"] if known == name), None)
