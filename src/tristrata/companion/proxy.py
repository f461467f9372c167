"""The local OpenAI endpoint: passes everything to the router as it comes, and reads along what answers say."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from tristrata.client.outputs import Outputs
from tristrata.client.sse import events
from tristrata.companion.payer import Payer
from tristrata.custody.limits import LimitReached
from tristrata.protocol import codec
from tristrata.protocol.decoding import UNDECODABLE

MAX_BODY_BYTES = 1_048_576
RECEIPT_HEADER, RECEIPT_EVENT = "x-tristrata-receipt", "tristrata.receipt"
_ANSWERING = frozenset(("chat/completions", "completions", "responses", "embeddings"))
_NOT_PASSED_ON = frozenset(
    ("host", "connection", "content-length", "transfer-encoding", "authorization", "accept-encoding")
)
_NO_BOUND = 2**30
"""For requests whose prompt is longer than they are: those that go on from a response that the router keeps."""


class Proxy:
    """Forwards to the router at ``url`` with ``api_key``; whoever calls shows ``local_key``."""

    def __init__(self, url: str, api_key: str, local_key: str, payer: Payer, http: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._api_key = api_key
        self._local_key = local_key
        self._payer = payer
        self._http = http
        self._reading: set[asyncio.Task[None]] = set()

    @property
    def app(self) -> ASGIApp:
        """The ASGI application."""
        methods = ["GET", "POST", "DELETE"]
        return Starlette(routes=[Route("/v1/{path:path}", self._answer, methods=methods)])

    async def _answer(self, request: Request) -> Response:
        _, _, key = request.headers.get("authorization", "").partition(" ")
        if not hmac.compare_digest(key.encode(), self._local_key.encode()):
            return _error(401, "invalid_api_key", "this is not the companion's key; it was printed when it started")
        path = request.path_params["path"]
        pays = request.method == "POST" and path in _ANSWERING
        if pays and self._payer.problem:
            return _error(402, "companion_stopped", f"the companion asks no more: {self._payer.problem}")
        if pays:
            try:
                self._payer.require_budget()
            except LimitReached as reached:
                return _error(402, "insufficient_quota", f"{reached.message}. {reached.remedy}")
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                return _error(413, "request_too_large", f"the body is longer than {MAX_BODY_BYTES} bytes")
        return await self._forward(request, path, bytes(body), pays=pays)

    async def _forward(self, request: Request, path: str, body: bytes, *, pays: bool) -> Response:
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        headers["authorization"] = f"Bearer {self._api_key}"
        query = f"?{request.url.query}" if request.url.query else ""
        try:
            upstream = await self._http.request(
                request.method, f"{self._url}/v1/{path}{query}", data=body, headers=headers, allow_redirects=False
            )
        except aiohttp.ClientError as error:
            return _error(502, "router_unreachable", f"the router at {self._url} does not answer: {error}")
        passed = {name: value for name, value in upstream.headers.items() if name.lower() not in _NOT_PASSED_ON}
        if pays and upstream.status == 200 and upstream.content_type == "text/event-stream":
            return StreamingResponse(self._streamed(upstream, body), upstream.status, passed)
        whole = await upstream.read()
        if pays and upstream.status == 200:
            outputs = Outputs()
            outputs.whole(msgspec.json.decode(whole))
            outputs.receipts = [_receipt(each) for each in upstream.headers.get(RECEIPT_HEADER, "").split(", ") if each]
            await self._payer.answered(outputs.all, outputs.receipts, _request_bytes(body))
        return Response(whole, upstream.status, passed)

    async def _streamed(self, upstream: aiohttp.ClientResponse, body: bytes) -> AsyncIterator[bytes]:
        """The router's bytes as they come.

        They are read to the end also when the client leaves, or stops at OpenAI's ``[DONE]``: the receipt comes after
        it, and what was not seen whole could not be checked.
        """
        passed_on: asyncio.Queue[bytes | None] = asyncio.Queue()
        reading = asyncio.create_task(self._read(upstream, passed_on, body))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        while (chunk := await passed_on.get()) is not None:
            yield chunk

    async def _read(
        self, upstream: aiohttp.ClientResponse, passed_on: "asyncio.Queue[bytes | None]", body: bytes
    ) -> None:
        outputs, received = Outputs(), list[bytes]()
        try:
            async for chunk in upstream.content.iter_any():
                received.append(chunk)
                passed_on.put_nowait(chunk)
        except (aiohttp.ClientError, ConnectionError):
            pass  # half an answer: the client sees it end, and there is no receipt
        finally:
            passed_on.put_nowait(None)
            upstream.close()
        async for event in events(_each(received)):
            if event.name == RECEIPT_EVENT:
                outputs.receipts.append(msgspec.json.decode(event.data))
            else:
                outputs.event(event.data)
        if outputs.receipts:
            await self._payer.answered(outputs.all, outputs.receipts, _request_bytes(body))

    async def drain(self) -> None:
        """Wait until every answer that was begun is read, checked and paid."""
        while self._reading:
            await asyncio.wait(self._reading)


async def _each(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _request_bytes(body: bytes) -> int:
    try:
        goes_on = bool(msgspec.json.decode(body).get("previous_response_id"))
    except (*UNDECODABLE, AttributeError):
        goes_on = False
    return _NO_BOUND if goes_on else len(body)


def _receipt(encoded: str) -> dict[str, Any]:
    document: dict[str, Any] = codec.decode(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    return document


def _error(status: int, code: str, message: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Response(msgspec.json.encode(body), status, media_type="application/json")
