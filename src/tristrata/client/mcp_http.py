"""Tools for agents over HTTP: each request brings an API key, with which the tools ask the router; nothing is kept.

https://modelcontextprotocol.io/specification, transport "Streamable HTTP".
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

from tristrata.client.mcp import make_server
from tristrata.client.sdk import AsyncClient
from tristrata.protocol.errors import TristrataError

PATH = "/mcp"
MAX_BODY_BYTES = 1_048_576


class KeyMissing(TristrataError):
    """A call without an API key."""


def make_app(router: str, *, network: str, hosts: list[str], origins: list[str]) -> ASGIApp:
    """The app over the router at an address. ``hosts`` and ``origins`` are those that requests may name.

    The latter keeps web pages of other origins out of a server on somebody's machine (DNS rebinding).
    """

    @asynccontextmanager
    async def client_of(context: Context) -> AsyncIterator[AsyncClient]:
        key = _key_of(dict(context.headers or {}).get("authorization", ""))
        if not key:
            raise KeyMissing("no API key was given", remedy="send it as 'Authorization: Bearer …'")
        async with AsyncClient(router, api_key=key) as client:
            yield client

    security = TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
    app = make_server(client_of, network=network).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=MAX_BODY_BYTES,
        transport_security=security,
    )

    async def with_key(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _key_of(_header(scope, b"authorization")):
            await _refuse(send)
        else:
            await app(scope, receive, send)

    return with_key


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for known, value in scope["headers"] if known == name), "")


def _key_of(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key if scheme.lower() == "bearer" else ""


async def _refuse(send: Send) -> None:
    message = "no API key was given: send it as 'Authorization: Bearer …'"
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": message}})
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
