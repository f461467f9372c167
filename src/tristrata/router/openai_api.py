"""OpenAI's part of the HTTP API: models and chat completions, each answer with its receipt."""

import base64
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import ModelId, show
from tristrata.protocol.receipt import Receipt
from tristrata.router.callers import Caller, Callers
from tristrata.router.endpoint import Endpoint, EventStream
from tristrata.router.http import Refusal, json_response, refusal_of
from tristrata.router.requests import ChatCall, RequestInvalid, parse_chat
from tristrata.router.serving import Began, Desk, Ended, Pieces, Served
from tristrata.storage.api_keys import Scope
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.receipt_book import BookEntry

RECEIPT_HEADER = "x-tristrata-receipt"
RECEIPT_EVENT = "tristrata.receipt"
REQUEST_ID_HEADER = "x-request-id"
_HOLE = "\x00"
_encode = msgspec.json.Encoder().encode
_ENCODED_HOLE = _encode(_HOLE)


class ServedModel(msgspec.Struct, frozen=True):
    """A model that the router offers. ``context_length`` is in tokens."""

    name: str
    model_id: ModelId
    context_length: int


class OpenAiApi:
    """Models and chat completions over a desk. Everything it needs is in memory."""

    def __init__(self, desk: Desk, callers: Callers, models: list[ServedModel]) -> None:
        self._desk = desk
        self._callers = callers
        self._models = {model.name: model for model in models}

    @property
    def routes(self) -> list[Route]:
        """What is served here."""
        return [
            Route("/v1/models", self._list_models),
            Route("/v1/models/{name:path}", self._model),
            Route("/v1/chat/completions", Endpoint(self._callers, Scope.INFERENCE, self._chat), methods=["POST"]),
        ]

    async def _list_models(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response({"object": "list", "data": [_describe(model) for model in self._models.values()]})

    async def _model(self, request: Request) -> Response:
        self._callers.authenticate(request)
        return json_response(_describe(self._find(request.path_params["name"])))

    async def _chat(self, caller: Caller, body: bytes) -> ASGIApp:
        try:
            call = parse_chat(body)
        except RequestInvalid as error:
            raise Refusal(400, None, error.message, error.parameter) from error
        model = self._find(call.model)
        session = caller.session_for(model.model_id, model.name)
        room = model.context_length // 2
        most = min(call.max_tokens or room, room)
        answer = self._desk.serve(session, model.model_id, call.request, most, key=caller.key)
        first = await anext(answer)
        assert isinstance(first, Began)
        request_id = first.request_id.hex()
        if not call.stream:
            return await _complete(answer, request_id, call)
        return EventStream(_stream(answer, request_id, call), {REQUEST_ID_HEADER: request_id})

    def _find(self, name: str) -> ServedModel:
        model = self._models.get(name)
        if model is None:
            known = ", ".join(self._models)
            raise Refusal(404, "model_not_found", f"model {name!r} does not exist; there is {known}", "model")
        return model


def signed_receipt(entry: BookEntry | AwaitingReceipt) -> dict[str, Any]:
    """A receipt as the API gives it away: its hub, its fields, the miner's signature.

    One that awaits its owner's voucher has its salts, so that the owner can check it and sign at once.
    """
    signed = {
        "chain": entry.chain,
        "receipt": msgspec.Raw(codec.receipt_document(entry.receipt)),
        "signature": show(entry.signature),
    }
    if isinstance(entry, AwaitingReceipt):
        return {**signed, "salts": {"prompt": show(entry.prompt_salt), "output": show(entry.output_salt)}}
    return signed


async def _stream(
    answer: AsyncGenerator[Served, None], request_id: str, call: ChatCall
) -> AsyncGenerator[tuple[bytes, bool], None]:
    head = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": call.model,
    }
    # All chunks of an answer are alike but for their text, so that the rest of them is encoded once.
    before, after = _event({**head, "choices": [_choice(delta={"content": _HOLE})]}).split(_ENCODED_HOLE)
    first, _ = _event({**head, "choices": [_choice(delta={"role": "assistant", "content": _HOLE})]}).split(
        _ENCODED_HOLE
    )
    async with aclosing(answer):
        try:
            async for served in answer:
                if isinstance(served, Pieces):
                    texts = [_encode(delta.text) for delta in served.deltas]
                    yield first + texts[0] + after + b"".join([before + text + after for text in texts[1:]]), False
                    first = before
                elif isinstance(served, Ended):
                    receipt = served.entry.receipt
                    reason = _openai_reason(served.finish_reason)
                    last = [_event({**head, "choices": [_choice(delta={}, finish_reason=reason)]})]
                    if call.include_usage:
                        last.append(_event({**head, "choices": [], "usage": _usage(receipt)}))
                    last.append(b"data: [DONE]\n\n")
                    last.append(b"event: " + RECEIPT_EVENT.encode() + b"\n" + _event(signed_receipt(served.entry)))
                    yield b"".join(last), True
        except TristrataError as error:
            yield _event(refusal_of(error).body), True


async def _complete(answer: AsyncGenerator[Served, None], request_id: str, call: ChatCall) -> Response:
    text: list[str] = []
    ended: Ended | None = None
    async with aclosing(answer):
        async for served in answer:
            if isinstance(served, Pieces):
                text += [delta.text for delta in served.deltas]
            elif isinstance(served, Ended):
                ended = served
    assert ended is not None  # an answer that does not raise ends in a receipt
    message = {"role": "assistant", "content": "".join(text), "refusal": None}
    body = {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [_choice(message=message, finish_reason=_openai_reason(ended.finish_reason))],
        "usage": _usage(ended.entry.receipt),
    }
    signed = base64.urlsafe_b64encode(codec.encode(signed_receipt(ended.entry))).rstrip(b"=").decode()
    return json_response(body, headers={RECEIPT_HEADER: signed, REQUEST_ID_HEADER: request_id})


def _choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "logprobs": None, "finish_reason": None, **fields}


def _usage(receipt: Receipt) -> dict[str, int]:
    return {
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.output_tokens,
        "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
    }


def _openai_reason(reason: str) -> str:
    return reason if reason in ("stop", "length") else "stop"


def _describe(model: ServedModel) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "tristrata"}


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + _encode(data) + b"\n\n"
