"""The runtime over a backend that runs elsewhere: any server that speaks OpenAI's completions over HTTP.

Protocol: https://platform.openai.com/docs/api-reference/chat and …/completions. Such a server reveals
neither its chat template nor its tokenizer, so the prompt that is hashed is the messages themselves, and a count it
does not send is a lower bound.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
import msgspec
from aiohttp.http_exceptions import LineTooLong

from tristrata.inference.openai_chunks import Chunk, Usage
from tristrata.inference.runtime import (
    BackendUnavailable,
    ContextExceeded,
    Done,
    Piece,
    Request,
    RequestRejected,
    TextPiece,
    require_text,
)
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.decoding import UNDECODABLE

MAX_EVENT_BYTES = 1_048_576
"""The most that one event of a stream, or one other answer, may be."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=5, sock_read=120)
_FAILURES = (aiohttp.ClientError, LineTooLong, TimeoutError)
_NOT_THE_REQUESTS_FAULT = (401, 403, 404, 408, 429)
_PATHS = {TaskKind.CHAT: "/chat/completions", TaskKind.COMPLETION: "/completions"}
# How vLLM, llama.cpp and OpenAI word it; none has a code that the others share.
_CONTEXT_WORDS = ("context length", "context size", "context_length_exceeded")
_SHOWN_CHARACTERS = 500
_SHOWN_MODELS = 20


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...] | None = None


class OpenAiRuntime:
    """One model of the backend at ``url``, such as ``http://127.0.0.1:8000/v1``; ``model`` is its name there."""

    def __init__(self, url: str, *, model: str, api_key: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Reach the backend. Raises `BackendUnavailable` when it does not answer, or lists models without this one."""
        # A connection per request: aiohttp sends no POST again that met a kept connection just as the backend closed it
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._http = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=_TIMEOUT)
        try:
            await self._require_model(self._http)
        except BackendUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        """Close every connection."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The messages, and the tools if any, as canonical JSON (keys sorted, no spaces); of a completion, its prompt.

        The backend does not reveal its chat template: this is what ``prompt_hash`` is made of with this runtime, and of
        a chat it is not what the model sees.
        """
        require_text(kind)
        if kind is TaskKind.COMPLETION:
            return str(request["prompt"])
        messages, tools = _messages(request), request.get("tools")
        shown = {"messages": messages, "tools": tools} if tools else messages
        return msgspec.json.encode(shown, order="sorted").decode()

    async def count_tokens(self, text: str) -> int:
        """The fewest tokens that ``text`` can be: its words that hold a letter or digit, at least 1.

        Tokenizers of the GPT, Llama, Qwen, Mistral and Gemma families merge no letters across white space, so each such
        word is a token or more. The usual "a token is 4 bytes" is an average, and overbills plain English.
        """
        return max(1, sum(any(map(str.isalnum, word)) for word in text.split()))

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """The answer, piece by piece; closing it closes the connection, at which backends stop.

        Without ``usage`` from the backend, each piece counts as one token, which it is at least, and the prompt as
        `count_tokens` of `render`: neither can overbill. Raises `RequestRejected` or `BackendUnavailable`; their
        messages travel to the client, so the backend's address is in the remedy only.
        """
        if kind is TaskKind.CHAT:
            _messages(request)
        body = {**request, "model": self._model, "stream": True, "stream_options": {"include_usage": True}}
        finish_reason, usage, pieces = "", None, 0
        try:
            async with self._post(_PATHS[kind], body) as response:
                if response.status != 200:
                    raise await self._refusal(response)
                while data := await _next_event(response.content):
                    chunk = self._decode(data)
                    usage = chunk.usage or usage
                    for choice in chunk.choices:
                        finish_reason = choice.finish_reason or finish_reason
                        text, detail = choice.said, choice.detail
                        if text or detail:
                            pieces += 1
                            yield TextPiece(text, 1, detail)
        except _FAILURES as error:
            raise self._broken(type(error).__name__) from error
        if not finish_reason:
            raise self._broken("its answer ended without a finish_reason")
        if usage is None:
            usage = Usage(await self.count_tokens(await self.render(request, kind)), pieces)
        yield Done(finish_reason, usage.prompt_tokens, usage.completion_tokens)

    async def _require_model(self, http: aiohttp.ClientSession) -> None:
        names = await self._list_models(http)
        if names and self._model not in names:
            raise BackendUnavailable(
                f"the backend {self._url} has no model {self._model!r}; it lists {_show(names)}",
                remedy="give one of the names that it lists, or load the model there",
            )

    async def _list_models(self, http: aiohttp.ClientSession) -> list[str]:
        url = f"{self._url}/models"
        try:
            async with http.get(url, allow_redirects=False) as response:
                body = await _read(response.content)
        except _FAILURES as error:
            raise BackendUnavailable(
                f"the backend does not answer at {url}: {str(error) or type(error).__name__}",
                remedy="start it, or correct its address",
            ) from error
        if response.status != 200:
            raise BackendUnavailable(
                f"the backend answers {response.status} at {url}: {_error_in(body)}",
                remedy="correct its address (most end in /v1) and its API key, or wait until it has loaded the model",
            )
        try:
            return [model.id for model in msgspec.json.decode(body, type=_Models).data or ()]
        except UNDECODABLE as error:
            raise BackendUnavailable(
                f"the backend answers at {url} with something other than a list of models: {error}",
                remedy="correct its address: it must be an OpenAI-compatible one (most end in /v1)",
            ) from error

    def _post(self, path: str, body: dict[str, Any]) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        if self._http is None:
            raise BackendUnavailable("the backend was not reached yet, or is closed", remedy="start the runtime first")
        return self._http.post(self._url + path, json=body, allow_redirects=False)

    async def _refusal(self, response: aiohttp.ClientResponse) -> RequestRejected | BackendUnavailable:
        message = _error_in(await _read(response.content))
        if response.status == 400 and any(words in message.lower() for words in _CONTEXT_WORDS):
            return ContextExceeded(f"the backend refuses the request: {message}")
        if 400 <= response.status < 500 and response.status not in _NOT_THE_REQUESTS_FAULT:
            return RequestRejected(f"the backend refuses the request ({response.status}): {message}")
        return self._broken(f"it answers {response.status}: {message}")

    def _decode(self, data: bytes) -> Chunk:
        try:
            chunk = msgspec.json.decode(data, type=Chunk)
        except UNDECODABLE as error:
            raise self._broken(f"it sent an event that is no completion chunk: {error}") from error
        if chunk.error is not None:
            raise self._broken(_error_in(data))
        return chunk

    def _broken(self, reason: str) -> BackendUnavailable:
        return BackendUnavailable(f"the backend broke off: {reason}", remedy=f"look at the backend at {self._url}")


def _messages(request: Request) -> list[Any]:
    messages: list[Any] | None = request.get("messages")
    if not messages:
        raise RequestRejected("messages is empty; a chat needs at least one message")
    return messages


async def _next_event(content: aiohttp.StreamReader) -> bytes:
    """The data of the next server-sent event, a line each in this protocol; empty at the end."""
    while line := await content.readline(max_line_length=MAX_EVENT_BYTES):
        if line.startswith(b"data:") and (data := line.removeprefix(b"data:").strip()):
            return b"" if data == b"[DONE]" else data
    return b""


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while block := await content.readany():
        body += block
        if len(body) > MAX_EVENT_BYTES:
            raise BackendUnavailable(f"the backend's answer is longer than {MAX_EVENT_BYTES} bytes")
    return bytes(body)


def _error_in(body: bytes) -> str:
    """The message in OpenAI's error envelope, or whatever is there instead."""
    try:
        error = msgspec.json.decode(body)["error"]
        message = str(error["message"] if isinstance(error, dict) else error)
    except (*UNDECODABLE, LookupError, TypeError):
        message = body.decode(errors="replace").strip()
    return message[:_SHOWN_CHARACTERS]


def _show(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
    return ", ".join(names[:_SHOWN_MODELS]) + more
