"""The router's HTTP API: OpenAI's chat completions, and the receipts that go with them."""

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import ModelId, RequestId, SessionId, parse_bytes32, show
from tristrata.protocol.voucher_book import BudgetExhausted, ExposureReached, SessionEnding
from tristrata.router.matching import NoCapacity
from tristrata.router.requests import MAX_BODY_BYTES, ChatCall, RequestInvalid, parse_chat
from tristrata.router.serving import Began, Desk, Ended, MinerLost, Receipted, RequestUnanswerable, Served, Text
from tristrata.router.sessions import ServedSession, ServedSessions
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

RECEIPT_HEADER = "x-tristrata-receipt"
RECEIPT_EVENT = "tristrata.receipt"
Result = TypeVar("Result")


class ServedModel(msgspec.Struct, frozen=True):
    """A model that the router offers. ``context_length`` is in tokens."""

    name: str
    model_id: ModelId
    context_length: int


class ApiKeys(msgspec.Struct):
    """Which session an API key uses, by the key's SHA-256: the keys themselves are known to their holders only."""

    sessions: dict[bytes, SessionId]


class Refusal(Exception):
    """An answer in OpenAI's error envelope."""

    def __init__(self, status: int, code: str | None, message: str, parameter: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": _envelope(status, code, message, parameter)}


def create_app(
    desk: Desk, sessions: ServedSessions, keys: ApiKeys, models: list[ServedModel], book: ReceiptBook
) -> Starlette:
    """The API over a desk. Everything it needs is in memory, but for receipts that are asked for."""
    api = _Api(desk, sessions, keys, {model.name: model for model in models}, book)
    return Starlette(
        routes=[
            Route("/health", api.health),
            Route("/v1/models", api.list_models),
            Route("/v1/chat/completions", api.chat, methods=["POST"]),
            Route("/v1/receipts/{request_id}", api.receipt),
        ],
        exception_handlers={Refusal: _refused, 404: _not_found, 405: _not_found},
    )


class _Api:
    def __init__(
        self, desk: Desk, sessions: ServedSessions, keys: ApiKeys, models: dict[str, ServedModel], book: ReceiptBook
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._keys = keys
        self._models = models
        self._book = book

    async def health(self, _: Request) -> Response:
        return _json({"status": "ok"})

    async def list_models(self, request: Request) -> Response:
        self._authenticate(request)
        return _json({"object": "list", "data": [_model(model) for model in self._models.values()]})

    async def receipt(self, request: Request) -> Response:
        session = self._authenticate(request)
        try:
            request_id = RequestId(parse_bytes32(request.path_params["request_id"], "receipt id"))
        except TristrataError as error:
            raise Refusal(400, "invalid_receipt_id", error.message, "request_id") from error
        entry = await self._book.entry(request_id)
        if entry is None or entry.receipt.session != session.book.session:
            raise Refusal(404, "receipt_not_found", f"session has no receipt {show(request_id)}")
        return _json(_receipt_document(entry, session))

    async def chat(self, request: Request) -> Response:
        session = self._authenticate(request)
        try:
            call = parse_chat(await _body(request))
        except RequestInvalid as error:
            raise Refusal(400, None, error.message, error.parameter) from error
        model = self._models.get(call.model)
        if model is None:
            known = ", ".join(self._models)
            raise Refusal(404, "model_not_found", f"model {call.model!r} does not exist; there is {known}", "model")
        if session.book.terms.model_id != model.model_id:
            raise Refusal(400, "wrong_model", f"this key's session is not for {model.name}", "model")
        room = model.context_length // 2
        answer = self._desk.serve(session, model.model_id, call.request, min(call.max_tokens or room, room))
        try:
            first = await _unless_gone(request, anext(answer))
            assert isinstance(first, Began)
            request_id = first.request_id.hex()
            if not call.stream:
                return await _unless_gone(request, _complete(answer, request_id, call))
        except TristrataError as error:
            raise _refusal(error) from error
        headers = {"cache-control": "no-cache", "x-request-id": request_id}
        return StreamingResponse(_stream(answer, request_id, call), media_type="text/event-stream", headers=headers)

    def _authenticate(self, request: Request) -> ServedSession:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise Refusal(401, "invalid_api_key", "no API key was given: send it as 'Authorization: Bearer …'")
        session = self._keys.sessions.get(sha256(secret.encode()).digest())
        if session is None:
            raise Refusal(401, "invalid_api_key", "this API key is not known here, or was revoked")
        return self._sessions.get(session)


async def _stream(answer: AsyncGenerator[Served, None], request_id: str, call: ChatCall) -> AsyncIterator[bytes]:
    head = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.model,
    }
    role: dict[str, str] = {"role": "assistant"}
    async with aclosing(answer):
        try:
            async for served in answer:
                if isinstance(served, Text):
                    yield _event({**head, "choices": [_choice(delta={**role, "content": served.text})]})
                    role = {}
                elif isinstance(served, Ended):
                    reason = _openai_reason(served.finish_reason)
                    yield _event({**head, "choices": [_choice(delta={}, finish_reason=reason)]})
                    if call.include_usage:
                        yield _event({**head, "choices": [], "usage": _usage(served)})
                    yield b"data: [DONE]\n\n"
                elif isinstance(served, Receipted):
                    yield b"event: " + RECEIPT_EVENT.encode() + b"\n" + _event(_signed_receipt(served.entry))
        except TristrataError as error:
            yield _event(_refusal(error).body)


async def _complete(answer: AsyncGenerator[Served, None], request_id: str, call: ChatCall) -> Response:
    text: list[str] = []
    ended: Ended | None = None
    entry: BookEntry | None = None
    async with aclosing(answer):
        async for served in answer:
            if isinstance(served, Text):
                text.append(served.text)
            elif isinstance(served, Ended):
                ended = served
            elif isinstance(served, Receipted):
                entry = served.entry
    if ended is None or entry is None:
        raise Refusal(502, "no_receipt", "the answer ended without a receipt; nothing was billed")
    message = {"role": "assistant", "content": "".join(text), "refusal": None}
    body = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [_choice(message=message, finish_reason=_openai_reason(ended.finish_reason))],
        "usage": _usage(ended),
    }
    signed = base64.urlsafe_b64encode(codec.encode(_signed_receipt(entry))).rstrip(b"=").decode()
    return _json(body, headers={RECEIPT_HEADER: signed, "x-request-id": request_id})


async def _unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """What ``work`` gives; it is cancelled when the client leaves first."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refusal(499, "client_left", "the client closed the connection")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(413, "request_too_large", f"the body is longer than {MAX_BODY_BYTES} bytes")
    return bytes(body)


def _refusal(error: TristrataError) -> Refusal:
    message = f"{error.message}. {error.remedy}" if error.remedy else error.message
    if isinstance(error, BudgetExhausted):
        return Refusal(402, "insufficient_quota", message)
    if isinstance(error, SessionEnding):
        return Refusal(402, "session_ending", message)
    if isinstance(error, ExposureReached):
        return Refusal(429, "exposure_reached", message)
    if isinstance(error, NoCapacity):
        return Refusal(503, "no_capacity", message)
    if isinstance(error, RequestUnanswerable):
        return Refusal(400, "context_length_exceeded", message, "messages")
    if isinstance(error, MinerLost):
        return Refusal(502, "miner_lost", message)
    return Refusal(502, "answer_refused", message)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = {"retry-after": "1"} if error.status in (429, 503) else {}
    return _json(error.body, status=error.status, headers=headers)


async def _not_found(request: Request, _: Exception) -> Response:
    message = f"{request.method} {request.url.path} does not exist here"
    return _json({"error": _envelope(404, "unknown_url", message, None)}, status=404)


def _envelope(status: int, code: str | None, message: str, parameter: str | None) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"message": message, "type": kind, "param": parameter, "code": code}


def _choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "logprobs": None, "finish_reason": None, **fields}


def _usage(ended: Ended) -> dict[str, int]:
    total = ended.prompt_tokens + ended.output_tokens
    return {
        "prompt_tokens": ended.prompt_tokens,
        "completion_tokens": ended.output_tokens,
        "total_tokens": total,
    }


def _openai_reason(reason: str) -> str:
    return reason if reason in ("stop", "length") else "stop"


def _model(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "tristrata"}


def _signed_receipt(entry: BookEntry) -> dict[str, Any]:
    return {
        "chain": entry.chain,
        "receipt": codec.receipt_to_json(entry.receipt),
        "signature": show(entry.signature),
    }


def _receipt_document(entry: BookEntry, session: ServedSession) -> dict[str, Any]:
    charged = session.book.charged >= entry.voucher.voucher.cumulative
    return {
        "object": "receipt",
        "id": show(entry.receipt.request_id),
        **_signed_receipt(entry),
        "salts": {"prompt": show(entry.prompt_salt), "output": show(entry.output_salt)},
        "position": entry.position,
        "voucher": codec.voucher_to_json(entry.voucher),
        "stage": "charged" if charged else "vouchered",
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def _json(body: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, headers, "application/json")
