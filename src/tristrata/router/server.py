"""The HTTP server inside our own event loop: uvicorn, with bounds on what comes before a request is whole."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tristrata.config.network import Serving
from tristrata.router.edge import new_request_id, security_headers
from tristrata.router.http import LEAVING, envelope

_SHUTDOWN_SECONDS = 5


async def serve(app: ASGIApp, host: str, port: int, serving: Serving | None = None) -> None:
    """Serve until cancelled; then let running answers end, for five seconds at most."""
    serving = serving or Serving()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=bounded(serving),
        log_config=None,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        access_log=False,
        ws="none",
        ssl_certfile=serving.tls_certificate,
        ssl_keyfile=serving.tls_key,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = _Server(config)
    running = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(running)
    finally:
        server.should_exit = True
        await running


class _Server(uvicorn.Server):
    """Signals are the process's business (`tristrata.process`), not the server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Corked:
    """A transport that writes what is written in one turn of the event loop at once.

    uvicorn writes the head of an answer apart from its body, and uvloop does so at once: a system call each.
    """

    __slots__ = ("_chunks", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._chunks: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._chunks:
            self._loop.call_soon(self._flush)
        self._chunks.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._chunks:
            chunks, self._chunks = self._chunks, []
            self._transport.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))


def bounded(serving: Serving) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol, with bounds: connections, and heads and trailers that are too long or too slow.

    It tells at once whoever is listed in the scope's `LEAVING` that the client has left.
    """

    security = security_headers(serving)

    class Bounded(HttpToolsProtocol):
        _head_bytes = 0
        _is_in_head = False
        _unread_bytes = 0  # since the last piece of a body: framing and trailers
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(_Corked(transport, self.loop))  # type: ignore[arg-type]
            if len(self.connections) > serving.max_connections:
                self._refuse(503, "too_many_connections", "too many connections: try again later")
                return
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)
            cycles = [self.cycle, *(cycle for cycle, _ in self.pipeline)]
            for scope in [cast("dict[str, Any]", cycle.scope) for cycle in cycles if cycle is not None]:
                for told in list(scope.get(LEAVING, ())):
                    told()

        def data_received(self, data: bytes) -> None:
            if self._is_in_head:
                self._head_bytes += len(data)
            else:
                self._unread_bytes += len(data)
            super().data_received(data)
            if self._is_in_head and self._timer is None:  # mostly a head comes whole, and needs none
                self._await_head()
            if self._is_in_head and self._head_bytes > serving.max_head_bytes:
                self._refuse_head(f"the request's head is longer than {serving.max_head_bytes} bytes")
            elif not self._is_in_head and self._unread_bytes > serving.max_head_bytes:
                self._refuse_head(f"more than {serving.max_head_bytes} bytes came that are no part of the body")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head_bytes, self._is_in_head = 0, True
            self._stop_timer()

        def on_header(self, name: bytes, value: bytes) -> None:
            if self._is_in_head:  # trailers are dropped: uvicorn would add them to the headers of a running request
                super().on_header(name, value)
                self._head_bytes += len(name) + len(value) + 4

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            self._stop_timer()
            if self.transport.is_closing():
                return
            if len(self.headers) > serving.max_headers:
                self._refuse_head(
                    f"the request has {len(self.headers)} headers; at most {serving.max_headers} are taken"
                )
            elif len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > serving.max_head_bytes:
                self._refuse_head(f"the request's head is longer than {serving.max_head_bytes} bytes")
            else:
                cast("dict[str, Any]", self.scope)[LEAVING] = []
                super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unread_bytes = 0
            if self.cycle is not None:
                super().on_body(body)

        def on_message_complete(self) -> None:
            self._unread_bytes = 0
            if self.cycle is not None:
                super().on_message_complete()

        def _await_head(self) -> None:
            self._stop_timer()
            self._timer = self.loop.call_later(serving.head_seconds, self._head_is_late)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _head_is_late(self) -> None:
            self._refuse(408, "request_timeout", f"the request's head did not come within {serving.head_seconds:g} s")

        def _refuse_head(self, message: str) -> None:
            self._refuse(431, "headers_too_large", message)

        def _refuse(self, status: int, code: str, message: str) -> None:
            if self.transport.is_closing():
                return
            if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
                self.transport.close()  # half of an answer is out
                return
            self.transport.write(_refusal(status, code, message, security))
            self.transport.close()

    return Bounded


def _refusal(status: int, code: str, message: str, security: list[tuple[bytes, bytes]]) -> bytes:
    """A whole answer to what never became a request, as others are: with an id, and OpenAI's error."""
    body = msgspec.json.encode({"error": envelope(status, code, message, None)})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", new_request_id()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),
        *security,
    ]
    if status in (408, 503):
        headers.append((b"retry-after", b"1"))
    lines = [b"%s: %s\r\n" % header for header in headers]
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (status, HTTPStatus(status).phrase.encode(), b"".join(lines), body)
