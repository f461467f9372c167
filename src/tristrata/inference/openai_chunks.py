"""What OpenAI-compatible backends stream: chunks of chat completions and of completions, and the details in them.

https://platform.openai.com/docs/api-reference/chat-streaming and …/completions. Of the log probabilities of completions
there are two shapes: OpenAI's own lists, and llama.cpp's, which is that of chats.
"""

from typing import Annotated, Any

import msgspec

from tristrata.protocol.answers import Detail, TokenLogprob, ToolCallPart, TopLogprob

Count = Annotated[int, msgspec.Meta(ge=0)]


class ChunkDelta(msgspec.Struct, frozen=True):
    """What is new in a chat."""

    content: str | None = None
    tool_calls: tuple[ToolCallPart, ...] | None = None


class Logprobs(msgspec.Struct, frozen=True):
    """Log probabilities in either shape."""

    content: tuple[TokenLogprob, ...] | None = None
    tokens: tuple[str, ...] | None = None
    token_logprobs: tuple[float | None, ...] | None = None
    top_logprobs: tuple[dict[str, float] | None, ...] | None = None

    @property
    def listed(self) -> tuple[TokenLogprob, ...]:
        """One a token, as chats have them."""
        if self.content is not None or self.tokens is None:
            return self.content or ()
        said = self.token_logprobs or ()
        top = self.top_logprobs or (None,) * len(self.tokens)
        return tuple(
            TokenLogprob(token, logprob or 0.0, None, _likeliest(others))
            for token, logprob, others in zip(self.tokens, said, top, strict=False)
        )


class ChunkChoice(msgspec.Struct, frozen=True):
    """What is new in the one answer of a stream: ``delta`` in chats, ``text`` in completions."""

    delta: ChunkDelta | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    @property
    def said(self) -> str:
        """The new text."""
        return (self.delta.content if self.delta else self.text) or ""

    @property
    def detail(self) -> Detail | None:
        """What is there beside text."""
        tool_calls = (self.delta.tool_calls if self.delta else None) or ()
        logprobs = self.logprobs.listed if self.logprobs else ()
        return Detail(tool_calls, logprobs) if tool_calls or logprobs else None


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the backend counts them."""

    prompt_tokens: Count
    completion_tokens: Count


class Chunk(msgspec.Struct, frozen=True):
    """One event of a stream."""

    choices: tuple[ChunkChoice, ...] = ()
    usage: Usage | None = None
    error: Any = None


def _likeliest(others: dict[str, float] | None) -> tuple[TopLogprob, ...]:
    return tuple(TopLogprob(token, logprob) for token, logprob in (others or {}).items())
