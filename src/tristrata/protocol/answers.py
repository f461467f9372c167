"""What an answer is made of beside its text, and which of it the receipt covers. Pure.

The shapes are OpenAI's (https://platform.openai.com/docs/api-reference/chat): miners pass on what backends give.
"""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import TristrataError

TOOLS, JSON, LOGPROBS = "tools", "json", "logprobs"
"""What a model's runtime may be able to do beyond plain text: call tools, keep to a JSON schema, tell probabilities."""

MAX_TOOL_CALLS = 128
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class DetailInvalid(TristrataError):
    """The details of a piece that are none."""


class TaskKind(StrEnum):
    """What a miner is asked to do."""

    CHAT = "chat"
    COMPLETION = "completion"
    EMBEDDING = "embedding"


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that the model might have said, and the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that it said, and the likeliest ones in its place."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple[TopLogprob, ...] = ()


class FunctionPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a function call: its name, the next characters of its arguments (JSON)."""

    name: str | None = None
    arguments: str | None = None


class ToolCallPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the tool call with this index."""

    index: int
    id: str | None = None
    function: FunctionPart | None = None


class Detail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a piece of an answer has beside its text."""

    tool_calls: tuple[ToolCallPart, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


class Function(msgspec.Struct, frozen=True):
    """A function that the model wants called; ``arguments`` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model wants made. Its type is ``function`` always."""

    id: str
    function: Function
    type: str = "function"


class ToolCalls:
    """The tool calls of one answer, put together from its pieces."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}

    def add(self, parts: Iterable[ToolCallPart]) -> None:
        """Take in the next pieces. Raises `DetailInvalid` when there are too many calls."""
        for part in parts:
            known = self._calls.get(part.index) or ToolCall("", Function("", ""))
            said = part.function or FunctionPart()
            name = known.function.name + (said.name or "")
            arguments = known.function.arguments + (said.arguments or "")
            self._calls[part.index] = ToolCall(known.id or part.id or "", Function(name, arguments))
        if len(self._calls) > MAX_TOOL_CALLS:
            raise DetailInvalid(f"an answer calls more than {MAX_TOOL_CALLS} tools")

    @property
    def all(self) -> list[ToolCall]:
        """The calls, in the order of their indices."""
        return [call for _, call in sorted(self._calls.items())]


_detail_decoder = msgspec.json.Decoder(Detail)


def encode_detail(detail: Detail) -> bytes:
    """A detail as it travels: JSON; nothing for one that is empty."""
    return msgspec.json.encode(detail) if detail.tool_calls or detail.logprobs else b""


def decode_detail(data: bytes) -> Detail:
    """A detail as it came. Raises `DetailInvalid`."""
    try:
        return _detail_decoder.decode(data)
    except UNDECODABLE as error:
        raise DetailInvalid(f"the details of a piece are not what they should be: {error}") from error


def output_of(text: str, tool_calls: list[ToolCall]) -> str:
    """What a receipt's ``output_hash`` and ``output_tokens`` cover: the text, then the tool calls if there are any.

    These are written as canonical JSON: a list in order of their indices, keys sorted, no spaces.
    """
    return text + _encode_sorted(tool_calls).decode() if tool_calls else text
