"""What a runtime can do beyond plain text, found by asking it: three short questions, each ended when it is clear.

Many servers accept ``tools`` and ``response_format`` and ignore them, so only what is seen in an answer counts.
"""

from contextlib import aclosing

import msgspec

from tristrata.inference.runtime import InferenceError, Request, Runtime, TextPiece
from tristrata.protocol.answers import JSON, LOGPROBS, TOOLS
from tristrata.protocol.decoding import UNDECODABLE

_MAX_TOKENS, _PREAMBLE = 200, 16
"""The longest answer to a question, and how many pieces of text may come before the call of a tool."""

_SCHEMA = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}},
    "required": ["ready"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "report", "description": "Report whether you are ready.", "parameters": _SCHEMA}


class _Ready(msgspec.Struct, forbid_unknown_fields=True):
    ready: bool


async def probe(runtime: Runtime) -> tuple[str, ...]:
    """The features of a started runtime, in the order of the alphabet; none where it fails to answer."""
    checks = {JSON: _keeps_to_a_schema, LOGPROBS: _tells_logprobs, TOOLS: _calls_tools}
    found = []
    for feature, check in checks.items():
        try:
            if await check(runtime):
                found.append(feature)
        except InferenceError:
            continue
    return tuple(found)


async def _keeps_to_a_schema(runtime: Runtime) -> bool:
    schema = {"name": "readiness", "schema": _SCHEMA, "strict": True}
    request = _ask("Say hello.", response_format={"type": "json_schema", "json_schema": schema})
    text = ""
    async with aclosing(runtime.stream(request)) as pieces:
        async for piece in pieces:
            text += piece.text if isinstance(piece, TextPiece) else ""
            if text.strip() and not text.lstrip().startswith("{"):
                return False
    try:
        msgspec.json.decode(text, type=_Ready)
    except UNDECODABLE:
        return False
    return True


async def _tells_logprobs(runtime: Runtime) -> bool:
    request = {**_ask("Say hello.", logprobs=True, top_logprobs=2), "max_tokens": 1}
    async with aclosing(runtime.stream(request)) as pieces:
        return any([isinstance(piece, TextPiece) and piece.detail is not None async for piece in pieces])


async def _calls_tools(runtime: Runtime) -> bool:
    request = _ask(
        "Report that you are ready.",
        tools=[{"type": "function", "function": _FUNCTION}],
        tool_choice="required",
    )
    said = 0
    async with aclosing(runtime.stream(request)) as pieces:
        async for piece in pieces:
            if isinstance(piece, TextPiece) and piece.detail is not None and piece.detail.tool_calls:
                return True
            said += isinstance(piece, TextPiece)
            if said > _PREAMBLE:
                return False
    return False


def _ask(text: str, **options: object) -> Request:
    message = {"role": "user", "content": text}
    return {"messages": [message], "max_tokens": _MAX_TOKENS, "temperature": 0, "seed": 1, **options}
