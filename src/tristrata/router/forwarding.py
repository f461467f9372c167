"""A request that another router of the fleet must answer: sent there whole, and its answer passed back as it comes."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tristrata.protocol.errors import TristrataError
from tristrata.router.endpoint import Leaving
from tristrata.router.fleet import OwnedElsewhere, OwnerLost, OwnerUnreachable
from tristrata.router.http import MORE_HEADERS, on_error
from tristrata.storage.ownership import LEASE_SECONDS

FORWARDED_HEADER = b"x-tristrata-forwarded"
"""Names the router that forwarded a request. One that has it is not forwarded again."""

_ELSEWHERE = "tristrata.elsewhere"
_CHECK_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
_PATIENCE = aiohttp.ClientTimeout(total=None, connect=1.0, sock_read=None)
_OF_ONE_CONNECTION = frozenset(
    (b"host", b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"upgrade", b"te", b"trailer")
)


class Forwarder:
    """Forwards requests in the name of one router. Use as an async context manager.

    ``is_alive`` tells whether a router was heard lately: one that is not is not waited for, for it can charge nothing.
    """

    def __init__(self, name: str, is_alive: Callable[[str], Awaitable[bool]]) -> None:
        self._name = name
        self._is_alive = is_alive
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Forwarder":
        connector = aiohttp.TCPConnector(limit=0)
        self._http = aiohttp.ClientSession(timeout=_PATIENCE, connector=connector, auto_decompress=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def forward(self, scope: Scope, body: bytes, owner: OwnedElsewhere, send: Send) -> None:
        """Ask the owner, and send its answer. Raises `OwnerUnreachable` or `OwnerLost`.

        When it goes away after its answer began, so does the connection to the client: half an answer is no answer.
        """
        asking = asyncio.create_task(self._ask(scope, body, owner.address, send))
        try:
            while not (await asyncio.wait((asking,), timeout=_CHECK_SECONDS))[0]:
                if not await self._is_alive(owner.router):
                    asking.cancel()
                    await asyncio.wait((asking,))
                    if asking.cancelled():
                        raise OwnerUnreachable(f"router {owner.router!r} is silent", remedy="ask again")
            await asking
        finally:
            asking.cancel()

    async def _ask(self, scope: Scope, body: bytes, address: str, send: Send) -> None:
        assert self._http is not None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in _passed_on(scope["headers"])]
        query = scope.get("query_string", b"").decode("latin-1")
        url = address.rstrip("/") + scope["path"] + (f"?{query}" if query else "")
        has_begun = False
        try:
            async with self._http.request(
                scope["method"],
                url,
                headers=[*headers, (FORWARDED_HEADER.decode(), self._name)],
                data=body,
                allow_redirects=False,
            ) as response:
                answer_headers = list(_passed_on([(name.lower(), value) for name, value in response.raw_headers]))
                has_begun = True
                await send({"type": "http.response.start", "status": response.status, "headers": answer_headers})
                async for chunk in response.content.iter_any():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if has_begun:
                raise ConnectionResetError("the session's router fell silent while it answered") from None
            raise
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise OwnerUnreachable("the session's router cannot be reached", remedy="ask again") from error
        except (aiohttp.ClientError, ConnectionError, asyncio.IncompleteReadError) as error:
            if has_begun:
                raise ConnectionResetError("the session's router went away while it answered") from error
            raise OwnerLost(
                "the session's router went away before it answered", remedy="see the receipts, then ask again"
            ) from error


class FleetFront:
    """The app of a router in a fleet: what another router owns is forwarded there, once.

    An owner that takes no connection is waited for, until its lease is over and this router takes the session over.
    """

    def __init__(self, app: ASGIApp, forwarder: Forwarder) -> None:
        self._app = app
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive)
        deadline = asyncio.get_running_loop().time() + 3 * LEASE_SECONDS
        while (elsewhere := await self._answer_here(scope, body, send)) is not None:
            leaving = Leaving(scope, receive)
            try:
                if is_forwarded(scope) or asyncio.get_running_loop().time() > deadline:
                    raise elsewhere
                scope.get(MORE_HEADERS, []).clear()  # the owner's count
                await self._forwarder.forward(scope, body.whole, elsewhere, send)
                return
            except OwnerUnreachable:
                await asyncio.sleep(_PAUSE_SECONDS)
            except TristrataError as error:
                await (await on_error(Request(scope), error))(scope, receive, send)
                return
            except asyncio.CancelledError:
                if not leaving.has_left:
                    raise
                return
            finally:
                leaving.close()

    async def _answer_here(self, scope: Scope, body: "_Body", send: Send) -> OwnedElsewhere | None:
        scope = {**scope}
        body.rewind()
        try:
            await self._app(scope, body.receive, send)
        except OwnedElsewhere as elsewhere:
            return elsewhere
        return scope.get(_ELSEWHERE)


async def leave_to_owner(_: Request, error: Exception) -> Response:
    """Starlette's handler of `OwnedElsewhere`: sends nothing, and tells the `FleetFront` around it."""

    return _Nothing(error)


class _Nothing(Response):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_ELSEWHERE] = self._error


class _Body:
    """A request's body, as it was read: once from the client, then from here."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: list[Message] = []
        self._next = 0

    @property
    def whole(self) -> bytes:
        return b"".join([message.get("body", b"") for message in self._messages])

    def rewind(self) -> None:
        self._next = 0

    async def receive(self) -> Message:
        if self._next < len(self._messages):
            self._next += 1
            return self._messages[self._next - 1]
        message = await self._receive()
        if message["type"] == "http.request":
            self._messages.append(message)
            self._next += 1
        return message


def is_forwarded(scope: Scope) -> bool:
    """Whether another router has sent this request here."""
    return any(name == FORWARDED_HEADER for name, _ in scope["headers"])


def _passed_on(headers: "list[tuple[bytes, bytes]]") -> "list[tuple[bytes, bytes]]":
    return [(name, value) for name, value in headers if name not in _OF_ONE_CONNECTION and name != FORWARDED_HEADER]
