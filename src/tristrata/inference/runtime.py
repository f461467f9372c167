"""What a runtime does, whatever runs the model: render, stream, stop."""

from collections.abc import AsyncGenerator
from typing import Any, Protocol

import msgspec

from tristrata.protocol.answers import Detail, TaskKind
from tristrata.protocol.errors import TristrataError


class InferenceError(TristrataError):
    """The model gave no answer, or no more of it."""


class BackendUnavailable(InferenceError):
    """The backend does not answer, or broke off."""


class RequestRejected(InferenceError):
    """The backend cannot answer this request: no messages, a schema that it does not understand."""


class ContextExceeded(RequestRejected):
    """The prompt is longer than the model's context."""


class UnsupportedCpu(InferenceError):
    """The embedded runtime needs instructions that this processor does not have."""


class TextPiece(msgspec.Struct, frozen=True):
    """A piece of the answer, how many tokens it took, and what it has beside text: tool calls, probabilities."""

    text: str
    tokens: int
    detail: Detail | None = None


class Done(msgspec.Struct, frozen=True):
    """The end of the answer: why it ended, and the tokens used."""

    finish_reason: str
    prompt_tokens: int
    output_tokens: int


Piece = TextPiece | Done
Request = dict[str, Any]
"""An OpenAI request, checked at the router's edge: ``messages`` or ``prompt``, ``max_tokens``, ``seed``, …"""


def require_text(kind: TaskKind) -> None:
    """Refuse to make embeddings with a model that makes text. Raises `RequestRejected`."""
    if kind is TaskKind.EMBEDDING:
        raise RequestRejected("this model makes text, and no embeddings")


class Runtime(Protocol):
    """A model that can be asked. Closing the iterator of `stream` stops the generation."""

    async def start(self) -> None:
        """Load the model or reach the backend. Raises `InferenceError`."""

    async def close(self) -> None:
        """Let go of everything."""

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The prompt exactly as the model sees it; what ``prompt_hash`` is made of."""

    async def count_tokens(self, text: str) -> int:
        """How many tokens a text is to this model."""

    def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """The answer, piece by piece, and `Done` last. Raises `InferenceError`."""
