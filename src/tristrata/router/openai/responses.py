"""Responses, OpenAI's newer endpoint: from a checked call to its answer, whole or in typed events.

https://platform.openai.com/docs/api-reference/responses/object.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata.fabric.frames import Delta
from tristrata.protocol.answers import decode_detail
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.receipt import Receipt
from tristrata.router.endpoint import Events
from tristrata.router.http import Refusal, json_response, refusal_of
from tristrata.router.openai.asking import Answers
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.events import DONE, REQUEST_ID_HEADER
from tristrata.router.openai.receipts import receipt_event, receipt_header
from tristrata.router.openai.response_output import Event, Output
from tristrata.router.openai.response_request import Message, ResponseCall
from tristrata.router.openai.response_store import ResponseStore, StoredResponse
from tristrata.router.serving import Began, Ended, Pieces

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Conversation(msgspec.Struct, frozen=True):
    """Whose response it is, what was said before, and where it is kept."""

    owner: bytes
    before: list[Message]
    store: ResponseStore


async def response_events(
    answers: Answers, call: ResponseCall, model: ServedModel, conversation: Conversation, headers: dict[str, str]
) -> Events:
    """The response's events, encoded; ``headers`` gets the request's id before the first of them."""
    writing = _Writing(call, model, conversation)
    number = 0
    async with aclosing(writing.events(answers)) as batches:
        async for events, ended in batches:
            if REQUEST_ID_HEADER not in headers:
                headers[REQUEST_ID_HEADER] = writing.request_id
            encoded = []
            for event in events:
                name, data = event["type"].encode(), msgspec.json.encode({**event, "sequence_number": number})
                encoded.append(b"event: %b\ndata: %b\n\n" % (name, data))
                number += 1
            is_last = writing.is_over
            if is_last:
                encoded.append(DONE)
            if ended is not None:
                encoded.append(receipt_event(ended.entry))
            yield b"".join(encoded), is_last


async def complete_response(
    answers: Answers, call: ResponseCall, model: ServedModel, conversation: Conversation
) -> Response:
    """The whole response."""
    writing = _Writing(call, model, conversation)
    last: Ended | None = None
    async with aclosing(writing.events(answers, fails=True)) as batches:
        async for _, ended in batches:
            last = ended or last
    assert last is not None  # an answer that does not raise ends in a receipt
    return json_response(writing.body, headers={**receipt_header([last.entry]), REQUEST_ID_HEADER: writing.request_id})


class _Writing:
    """A response while it is written."""

    def __init__(self, call: ResponseCall, model: ServedModel, conversation: Conversation) -> None:
        self._call = call
        self._model = model
        self._conversation = conversation
        self.request_id = ""
        self.is_over = False
        self.body: dict[str, Any] = {}
        self._output = Output("")

    async def events(
        self, answers: Answers, *, fails: bool = False
    ) -> AsyncGenerator[tuple[list[Event], Ended | None], None]:
        """The events that are ready now, and the end of the answer with the last of them.

        What fails after the first is told as an event, unless it ``fails``.
        """
        try:
            async with aclosing(answers):
                async for _, served in answers:
                    if isinstance(served, Pieces):
                        yield [event for delta in served.deltas for event in self._say(delta)], None
                    elif isinstance(served, Ended):
                        yield self._end(served), served
                    elif isinstance(served, Began):
                        yield self._begin(served), None
        except (TristrataError, Refusal) as error:
            if fails or not self.request_id:
                raise
            yield [self._fail(error)], None

    def _begin(self, began: Began) -> list[Event]:
        self.request_id = began.request_id.hex()
        self._output = Output(self.request_id)
        self.body = {
            "id": f"resp_{self.request_id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self._model.name,
            "output": [],
            "usage": None,
            **self._call.echoed,
        }
        return [{"type": f"response.{name}", "response": {**self.body}} for name in ("created", "in_progress")]

    def _say(self, delta: Delta) -> list[Event]:
        if not delta.detail:
            return self._output.say(delta.text, ())
        detail = decode_detail(delta.detail)
        said = self._output.say(delta.text, detail.logprobs) if delta.text or detail.logprobs else []
        return [*said, *(event for part in detail.tool_calls for event in self._output.call(part))]

    def _end(self, ended: Ended) -> list[Event]:
        self.is_over = True
        reason = _INCOMPLETE.get(ended.finish_reason)
        status = "incomplete" if reason else "completed"
        # An answer of no tokens is an empty message, so that there is one.
        opening = [] if self._output.items else self._output.say("", ())
        events = [*opening, *self._output.close(status)]
        self.body |= {
            "status": status,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": self._output.items,
            "usage": _usage(ended.entry.receipt),
        }
        if status == "completed":
            self.body["completed_at"] = int(time.time())
        if self._call.store:
            conversation = self._conversation
            messages = [*conversation.before, *self._call.messages, self._output.message]
            conversation.store.put(StoredResponse(conversation.owner, self.body, self._call.items, messages))
        return [*events, {"type": f"response.{status}", "response": self.body}]

    def _fail(self, error: TristrataError | Refusal) -> Event:
        self.is_over = True
        refusal = error if isinstance(error, Refusal) else refusal_of(error)
        failed = {"code": "server_error", "message": refusal.body["error"]["message"]}
        self.body |= {"status": "failed", "error": failed, "output": self._output.items}
        return {"type": "response.failed", "response": self.body}


def _usage(receipt: Receipt) -> dict[str, Any]:
    """What is billed, as OpenAI counts it here. Miners do not say what they had in a cache, and bill all of it."""
    return {
        "input_tokens": receipt.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": receipt.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": receipt.prompt_tokens + receipt.output_tokens,
    }
