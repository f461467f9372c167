"""The busiest endpoints, over raw ASGI: who asks, the body, the answer in few writes, and clients that leave.

Starlette's own way costs each answer two tasks and each piece of it three more calls (measured: docs/benchmarks.md).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from tristrata.protocol.errors import TristrataError
from tristrata.router.callers import Caller, Callers
from tristrata.router.http import Refusal, on_error, on_fault, on_refusal, read_body
from tristrata.storage.api_keys import Scope

WRITE_SECONDS = 30.0
"""How long a client may leave a piece of its answer unread, once the socket's buffers are full."""

Handler = Callable[[Caller, bytes], Awaitable[ASGIApp]]
"""From who asks and the body to the response. Raises `Refusal` or `TristrataError`."""


class Endpoint:
    """An ASGI app: authenticates, reads the body, answers. Whoever leaves meanwhile has its handler cancelled."""

    def __init__(self, callers: Callers, scope: Scope, handler: Handler) -> None:
        self._callers = callers
        self._scope = scope
        self._handler = handler

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        leaving: _Leaving | None = None
        try:
            caller = self._callers.authenticate(request)
            caller.require(self._scope)
            body = await read_body(request)
            leaving = _Leaving(receive)
            response = await self._handler(caller, body)
            await response(scope, receive, send)
        except asyncio.CancelledError:
            if leaving is None or not leaving.has_left:
                raise
        except Refusal as refusal:
            await (await on_refusal(request, refusal))(scope, receive, send)
        except TristrataError as error:
            await (await on_error(request, error))(scope, receive, send)
        except Exception as error:
            await (await on_fault(request, error))(scope, receive, send)
        finally:
            if leaving is not None:
                leaving.close()


class EventStream:
    """Server-sent events as a response. ``events`` gives what is ready, encoded, and whether it is the last."""

    def __init__(self, events: AsyncGenerator[tuple[bytes, bool], None], headers: dict[str, str]) -> None:
        self._events = events
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Send the events as they come; a client that does not read is left after 30 s."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        async with aclosing(self._events):
            async for data, is_last in self._events:
                deadline = loop.call_later(WRITE_SECONDS, task.cancel)
                await send({"type": "http.response.body", "body": data, "more_body": not is_last})
                deadline.cancel()


class _Leaving:
    """Cancels the task that made it when its client leaves."""

    def __init__(self, receive: Receive) -> None:
        self.has_left = False
        self._receive = receive
        self._task = asyncio.current_task()
        self._watch = asyncio.ensure_future(self._wait())

    def close(self) -> None:
        self._watch.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.has_left = True
        if self._task is not None:
            self._task.cancel()
