"""The busiest endpoints, over raw ASGI: who asks, the body, the answer in few writes, and clients that leave.

Starlette's own way costs each answer two tasks and each piece of it three more calls (measured: docs/benchmarks.md).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec
import structlog
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from tristrata.protocol.errors import TristrataError
from tristrata.router.callers import Caller, Callers
from tristrata.router.fleet import OwnedElsewhere
from tristrata.router.http import (
    LEAVING,
    MORE_HEADERS,
    REFUSED,
    Refusal,
    code_of,
    fault_body,
    on_error,
    on_fault,
    on_refusal,
    read_body,
    refusal_of,
)
from tristrata.storage.api_keys import Scope

_log = structlog.get_logger()
KEEP_ALIVE_SECONDS = 10.0
WRITE_SECONDS = 30.0
"""How long a client may leave a piece of its answer unread, once the socket's buffers are full.

It is looked at when a comment may be due, so that a client has as much more at most as `KEEP_ALIVE_SECONDS`.
"""

Events = AsyncGenerator[tuple[bytes, bool], None]
Handler = Callable[[Caller, bytes], Awaitable[ASGIApp]]
"""From who asks and the body to the response. Raises `Refusal` or `TristrataError`."""

WalkIn = Callable[[Request, bytes], Awaitable[ASGIApp]]
"""As a `Handler`, for a request without an API key."""


class Endpoint:
    """An ASGI app: authenticates, counts, reads the body, answers. Whoever leaves has its handler cancelled.

    Who has no API key is answered by ``walk_in``, if there is one, and counted by address.
    """

    def __init__(self, callers: Callers, scope: Scope, handler: Handler, walk_in: WalkIn | None = None) -> None:
        self._callers = callers
        self._scope = scope
        self._handler = handler
        self._walk_in = walk_in

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        leaving: Leaving | None = None
        admitted: str | None = None
        try:
            if self._walk_in is not None and "authorization" not in request.headers:
                name, tokens, handler = (
                    f"address {(scope.get('client') or [''])[0]}",
                    0,
                    partial(self._walk_in, request),
                )
            else:
                caller = self._callers.authenticate(request)
                caller.require(self._scope)
                name, tokens = caller.name, caller.key.tokens if caller.key else 0
                handler = partial(self._handler, caller)
            headers = self._callers.limiter.admit(name, tokens)
            admitted = name
            scope.get(MORE_HEADERS, []).extend(headers)
            body = await read_body(request)
            leaving = Leaving(scope, receive)
            response = await handler(body)
            await response(scope, receive, send)
        except asyncio.CancelledError:
            if leaving is None or not leaving.has_left:
                raise
        except Refusal as refusal:
            await (await on_refusal(request, refusal))(scope, receive, send)
        except OwnedElsewhere:
            raise
        except TristrataError as error:
            await (await on_error(request, error))(scope, receive, send)
        except Exception as error:
            await (await on_fault(request, error))(scope, receive, send)
        finally:
            if leaving is not None:
                leaving.close()
            if admitted is not None:
                self._callers.limiter.leave(admitted)


class EventStream:
    """Server-sent events as a response. ``events`` gives what is ready, encoded, and whether it is the last.

    The status and ``headers`` are sent with the first of them: what is raised before is an HTTP error, what is raised
    after is an event. While nothing comes, a comment is sent every ten seconds, so that no proxy between gives up.
    """

    def __init__(self, events: Events, headers: dict[str, str]) -> None:
        self._events = events
        self._headers = headers
        self._has_begun = False
        self._comment: asyncio.Task[None] | None = None
        self._is_writing = False

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the events as they come; a client that does not read is left."""
        self._send = send
        self._loop = loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._sent_at = loop.time()
        self._timer = loop.call_later(KEEP_ALIVE_SECONDS, self._keep_alive)
        try:
            async with aclosing(self._events):
                async for data, is_last in self._events:
                    self._sent_at, self._is_writing = loop.time(), True
                    if self._comment is not None:
                        await self._comment
                    if not self._has_begun:
                        await self._begin()
                    await send({"type": "http.response.body", "body": data, "more_body": not is_last})
                    self._is_writing = False
        except (Refusal, TristrataError) as error:
            if not self._has_begun:
                raise
            refusal = refusal_of(error) if isinstance(error, TristrataError) else error
            scope.get(REFUSED, []).append(code_of(refusal.body))
            await self._fail(refusal.body)
        except Exception as error:
            if not self._has_begun:
                raise
            _log.error("stream failed", path=scope["path"], exc_info=error)
            scope.get(REFUSED, []).append("internal_error")
            await self._fail(fault_body())
        finally:
            self._timer.cancel()
            if self._comment is not None:
                self._comment.cancel()

    async def _begin(self) -> None:
        self._has_begun = True
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            *((name.encode(), value.encode()) for name, value in self._headers.items()),
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    def _keep_alive(self) -> None:
        silent = self._loop.time() - self._sent_at
        if self._is_writing:
            if silent >= WRITE_SECONDS and self._task is not None:
                self._task.cancel()
            silent = 0
        elif silent >= KEEP_ALIVE_SECONDS:
            self._comment = self._loop.create_task(self._say_alive())
            silent = 0
        self._timer = self._loop.call_later(KEEP_ALIVE_SECONDS - silent, self._keep_alive)

    async def _say_alive(self) -> None:
        if not self._has_begun:
            await self._begin()
        await self._send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
        self._sent_at = self._loop.time()

    async def _fail(self, body: dict[str, Any]) -> None:
        data = b"data: " + msgspec.json.encode(body) + b"\n\n"
        await self._send({"type": "http.response.body", "body": data, "more_body": False})


class Leaving:
    """Cancels the task that made it when its client leaves: told by our server, or by watching ``receive``."""

    def __init__(self, scope: AsgiScope, receive: Receive) -> None:
        self.has_left = False
        self._task = asyncio.current_task()
        self._told: list[Callable[[], None]] | None = scope.get(LEAVING)
        self._watch: asyncio.Task[None] | None = None
        if self._told is not None:
            self._told.append(self._leave)
        else:
            self._watch = asyncio.create_task(self._wait(receive))

    def close(self) -> None:
        """Watch no more."""
        if self._watch is not None:
            self._watch.cancel()
        elif self._told:
            self._told.clear()

    async def _wait(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self.has_left = True
        if self._task is not None:
            self._task.cancel()
