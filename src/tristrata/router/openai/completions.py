"""Completions, OpenAI's older endpoint: a prompt that goes to the model as it is, without a chat template.

https://platform.openai.com/docs/api-reference/completions.
"""

import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.responses import Response

from tristrata.fabric.frames import Delta
from tristrata.protocol.answers import LOGPROBS, TokenLogprob, decode_detail
from tristrata.router.endpoint import Events
from tristrata.router.http import json_response
from tristrata.router.openai.asking import Answers
from tristrata.router.openai.catalogue import ServedModel
from tristrata.router.openai.chat_request import PENALTIES, SAMPLING, check_stream_options
from tristrata.router.openai.events import DONE, REQUEST_ID_HEADER, event, usage_of
from tristrata.router.openai.parameters import (
    RequestInvalid,
    Table,
    array,
    boolean,
    integer,
    read,
    text,
    unsupported,
    wrong_type,
)
from tristrata.router.openai.receipts import Entry, receipt_event, receipt_header
from tristrata.router.serving import Began, Ended, Pieces

DEFAULT_TOKENS, MAX_ANSWERS = 16, 8
"""OpenAI's default of ``max_tokens``; and how many answers one call may ask for, over all its prompts."""

_PASSED_ON = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "stop", "logit_bias", "logprobs")


class CompletionCall(msgspec.Struct, frozen=True):
    """A checked completion request; ``request`` is what miners get, but for prompt and seed."""

    model: str
    prompts: list[str]
    request: dict[str, Any]
    needs: frozenset[str]
    max_tokens: int | None
    seed: int | None
    choices: int
    echo: bool
    stream: bool
    include_usage: bool

    @property
    def asked(self) -> list[str]:
        """The prompt of each answer, in order of their indices."""
        return [prompt for prompt in self.prompts for _ in range(self.choices)]


def parse_completion(body: bytes) -> CompletionCall:
    """The completion request in ``body``. Raises `RequestInvalid` that names the field and the rule."""
    fields = read(body, _TABLE, ("model", "prompt"))
    check_stream_options(fields)
    prompts, choices = fields["prompt"], fields.get("n", 1)
    if len(prompts) * choices > MAX_ANSWERS:
        raise RequestInvalid(
            f"{len(prompts)} prompts with {choices} answers each are {len(prompts) * choices} answers; a call may have "
            f"at most {MAX_ANSWERS}.",
            "prompt" if len(prompts) > 1 else "n",
        )
    if fields.get("best_of", choices) != choices:
        raise RequestInvalid(
            f"Unsupported value: 'best_of' does not support '{fields['best_of']}' with this model. It must be as 'n', "
            f"which is {choices}: every answer is billed, so every answer is given.",
            "best_of",
            "unsupported_value",
        )
    if fields.get("echo") and "logprobs" in fields:
        raise RequestInvalid(
            "Unsupported value: 'echo' does not support 'true' with 'logprobs': miners tell no log probabilities of "
            "prompts.",
            "echo",
            "unsupported_value",
        )
    return CompletionCall(
        model=fields["model"],
        prompts=prompts,
        request={name: fields[name] for name in _PASSED_ON if name in fields},
        needs=frozenset({LOGPROBS} if "logprobs" in fields else ()),
        max_tokens=fields.get("max_tokens"),
        seed=fields.get("seed"),
        choices=choices,
        echo=fields.get("echo", False),
        stream=fields.get("stream", False),
        include_usage=fields.get("stream_options", {}).get("include_usage", False),
    )


async def completion_events(
    answers: Answers, call: CompletionCall, model: ServedModel, headers: dict[str, str]
) -> Events:
    """The answer's chunks, encoded; ``headers`` gets the request's id before the first of them."""
    choices = [_Choice(number, prompt, call.echo) for number, prompt in enumerate(call.asked)]
    head: dict[str, Any] = {}
    entries: dict[int, Entry] = {}
    async with aclosing(answers):
        async for number, served in answers:
            if isinstance(served, Pieces):
                chunks = [choices[number].chunk(delta) for delta in served.deltas]
                yield b"".join([event({**head, "choices": [chunk]}) for chunk in chunks]), False
            elif isinstance(served, Ended):
                entries[number] = served.entry
                last = [event({**head, "choices": [choices[number].end(served.finish_reason)]})]
                is_last = len(entries) == len(choices)
                if is_last:
                    receipts = [entries[each].receipt for each in sorted(entries)]
                    if call.include_usage:
                        last.append(event({**head, "choices": [], "usage": usage_of(receipts)}))
                    last += [DONE, *(receipt_event(entries[each]) for each in sorted(entries))]
                yield b"".join(last), is_last
            elif isinstance(served, Began) and not head:
                request_id = headers[REQUEST_ID_HEADER] = served.request_id.hex()
                head = {**_head(request_id, model), **({"usage": None} if call.include_usage else {})}


async def complete(answers: Answers, call: CompletionCall, model: ServedModel) -> Response:
    """The whole answer."""
    choices = [_Choice(number, prompt, call.echo) for number, prompt in enumerate(call.asked)]
    chunks: list[list[dict[str, Any]]] = [[] for _ in choices]
    ended: dict[int, Ended] = {}
    request_id = ""
    async with aclosing(answers):
        async for number, served in answers:
            if isinstance(served, Pieces):
                chunks[number] += [choices[number].chunk(delta) for delta in served.deltas]
            elif isinstance(served, Ended):
                ended[number] = served
                chunks[number].append(choices[number].end(served.finish_reason))
            elif isinstance(served, Began):
                request_id = request_id or served.request_id.hex()
    entries = [ended[number].entry for number in sorted(ended)]
    body = {
        **_head(request_id, model),
        "choices": [_join(each) for each in chunks],
        "usage": usage_of([entry.receipt for entry in entries]),
    }
    return json_response(body, headers={**receipt_header(entries), REQUEST_ID_HEADER: request_id})


class _Choice:
    """One of the answers while it comes. Log probabilities tell how far into the text each token stands."""

    def __init__(self, number: int, prompt: str, echo: bool) -> None:
        self._number = number
        self._unsaid = prompt if echo else ""
        self._offset = 0

    def chunk(self, delta: Delta) -> dict[str, Any]:
        """The next piece; the first has the prompt in front where that is to be repeated."""
        said, self._unsaid = self._unsaid + delta.text, ""
        tokens = decode_detail(delta.detail).logprobs if delta.detail else ()
        return self._choice(said, self._logprobs(tokens) if tokens else None, None)

    def end(self, reason: str) -> dict[str, Any]:
        """The last chunk."""
        return self._choice(self._unsaid, None, reason if reason in ("stop", "length", "content_filter") else "stop")

    def _choice(self, said: str, logprobs: dict[str, Any] | None, finish_reason: str | None) -> dict[str, Any]:
        return {"text": said, "index": self._number, "logprobs": logprobs, "finish_reason": finish_reason}

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token.token)
        return {
            "tokens": [token.token for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [{top.token: top.logprob for top in token.top_logprobs} for token in tokens],
            "text_offset": offsets,
        }


def _head(request_id: str, model: ServedModel) -> dict[str, Any]:
    return {
        "id": f"cmpl-{request_id}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": model.name,
        "system_fingerprint": model.fingerprint,
    }


def _join(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One choice of its chunks."""
    told = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"]]
    logprobs = {name: [each for part in told for each in part[name]] for name in told[0]} if told else None
    return {**chunks[-1], "text": "".join(chunk["text"] for chunk in chunks), "logprobs": logprobs}


def _prompts(value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and not all(isinstance(each, str) for each in value):
        raise RequestInvalid(
            f"Unsupported value: '{where}' does not support arrays of tokens with this model: send text.",
            where,
            "unsupported_value",
        )
    if not isinstance(value, list):
        raise wrong_type(where, "a string or an array of strings", value)
    prompts: list[str] = array(text(), MAX_ANSWERS, 1)(value, where)
    return prompts


_TABLE: Table = {
    **SAMPLING,
    **PENALTIES,
    "prompt": _prompts,
    "max_tokens": integer(1, 2**31 - 1),
    "logprobs": integer(0, 5),
    "echo": boolean,
    "best_of": integer(1, 20),
    "suffix": unsupported,
}
"""Every parameter of OpenAI's, each with its rule; a test compares the names with the official client's."""
