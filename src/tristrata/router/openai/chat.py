"""Chat completions: from a checked call to its answer, whole or in chunks.

https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming.
"""

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata.fabric.frames import Delta
from tristrata.protocol.answers import TokenLogprob, ToolCallPart, ToolCalls, decode_detail
from tristrata.router.endpoint import Events
from tristrata.router.http import json_response
from tristrata.router.openai.asking import Answers
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.chat_request import ChatCall
from tristrata.router.openai.events import DONE, REQUEST_ID_HEADER, Chunks, event, usage_of
from tristrata.router.openai.receipts import Entry, receipt_event, receipt_header
from tristrata.router.serving import Began, Ended, Pieces


async def chat_events(answers: Answers, call: ChatCall, model: ServedModel, headers: dict[str, str]) -> Events:
    """The answer's chunks, encoded; ``headers`` gets the request's id before the first of them."""
    choices: list[Chunks] = []
    head: dict[str, Any] = {}
    entries: dict[int, Entry] = {}
    async with aclosing(answers):
        async for number, served in answers:
            if isinstance(served, Pieces):
                choice = choices[number]
                if any(delta.detail for delta in served.deltas):
                    yield b"".join([_detailed(choice, delta) for delta in served.deltas]), False
                else:
                    yield choice.texts([delta.text for delta in served.deltas]), False
            elif isinstance(served, Ended):
                entries[number] = served.entry
                last = [choices[number].end(_finish_reason(served.finish_reason, choices[number].calls_tools))]
                if len(entries) == call.choices:
                    receipts = [entry.receipt for _, entry in sorted(entries.items())]
                    if call.include_usage:
                        last.append(event({**head, "choices": [], "usage": usage_of(receipts)}))
                    last += [DONE, *(receipt_event(entries[each]) for each in sorted(entries))]
                yield b"".join(last), len(entries) == call.choices
            elif isinstance(served, Began) and not choices:
                request_id = headers[REQUEST_ID_HEADER] = served.request_id.hex()
                head = _head(request_id, "chat.completion.chunk", model)
                if call.include_usage:
                    head["usage"] = None
                choices = [Chunks(head, each) for each in range(call.choices)]


async def complete_chat(answers: Answers, call: ChatCall, model: ServedModel) -> Response:
    """The whole answer."""
    choices = [_Choice(number) for number in range(call.choices)]
    request_id = ""
    async with aclosing(answers):
        async for number, served in answers:
            if isinstance(served, Pieces):
                choices[number].add(served.deltas)
            elif isinstance(served, Ended):
                choices[number].ended = served
            elif isinstance(served, Began):
                request_id = request_id or served.request_id.hex()
    entries = [choice.entry for choice in choices]
    body = {
        **_head(request_id, "chat.completion", model),
        "choices": [choice.written for choice in choices],
        "usage": usage_of([entry.receipt for entry in entries]),
    }
    return json_response(body, headers={**receipt_header(entries), REQUEST_ID_HEADER: request_id})


class _Choice:
    """One of the answers while it comes."""

    def __init__(self, number: int) -> None:
        self.ended: Ended | None = None
        self._number = number
        self._text: list[str] = []
        self._calls = ToolCalls()
        self._logprobs: list[TokenLogprob] = []

    @property
    def entry(self) -> Entry:
        """Its receipt."""
        assert self.ended is not None  # an answer that does not raise ends in a receipt
        return self.ended.entry

    def add(self, deltas: Sequence[Delta]) -> None:
        self._text += [delta.text for delta in deltas]
        for data in [delta.detail for delta in deltas if delta.detail]:
            detail = decode_detail(data)
            self._calls.add(detail.tool_calls)
            self._logprobs += detail.logprobs

    @property
    def written(self) -> dict[str, Any]:
        """The choice as OpenAI writes it."""
        assert self.ended is not None
        text, calls = "".join(self._text), self._calls.all
        message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
        if calls:
            message["tool_calls"] = calls
        return {
            "index": self._number,
            "message": {**message, "annotations": []},
            "logprobs": _logprobs(self._logprobs) if self._logprobs else None,
            "finish_reason": _finish_reason(self.ended.finish_reason, bool(calls)),
        }


def _head(request_id: str, kind: str, model: ServedModel) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{request_id}",
        "object": kind,
        "created": int(time.time()),
        "model": model.name,
        "service_tier": "default",
        "system_fingerprint": model.fingerprint,
    }


def _detailed(choice: Chunks, delta: Delta) -> bytes:
    """A chunk that has more than text."""
    if not delta.detail:
        return choice.texts([delta.text])
    detail = decode_detail(delta.detail)
    said: dict[str, Any] = {"content": delta.text} if delta.text else {}
    if detail.tool_calls:
        said["tool_calls"] = [_tool_call(part) for part in detail.tool_calls]
        choice.calls_tools = True
    return choice.detailed(said, _logprobs(detail.logprobs) if detail.logprobs else None)


def _tool_call(part: ToolCallPart) -> dict[str, Any]:
    function = msgspec.to_builtins(part.function) if part.function else {}
    begun = {"id": part.id, "type": "function"} if part.id else {}
    return {"index": part.index, **begun, "function": {"arguments": "", **function}}


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    return {"content": tokens, "refusal": None}


def _finish_reason(reason: str, calls_tools: bool) -> str:
    if calls_tools and reason == "stop":
        return "tool_calls"
    return reason if reason in ("stop", "length", "tool_calls", "content_filter") else "stop"
