"""Server-sent events as OpenAI writes them, encoded in few steps: a long answer has thousands."""

from collections.abc import Sequence
from typing import Any

import msgspec

from tristrata.protocol.receipt import Receipt

REQUEST_ID_HEADER = "x-request-id"
DONE = b"data: [DONE]\n\n"
_HOLE = "\x00"
_encode = msgspec.json.Encoder().encode
_ENCODED_HOLE = _encode(_HOLE)


class Chunks:
    """The chunks of one choice of a chat: all are alike but for their text, so the rest of them is encoded once."""

    def __init__(self, head: dict[str, Any], index: int) -> None:
        self._head = head
        self._index = index
        self.calls_tools = False
        self._before, self._after = self._around({"content": _HOLE})
        self._first, _ = self._around({"role": "assistant", "content": _HOLE, "refusal": None})
        self._has_begun = False

    def texts(self, texts: Sequence[str]) -> bytes:
        """The chunks of the next pieces of text, at least one."""
        before, after = self._before, self._after
        first = before if self._has_begun else self._first
        self._has_begun = True
        encoded = [_encode(text) for text in texts]
        return first + encoded[0] + after + b"".join([before + text + after for text in encoded[1:]])

    def detailed(self, delta: dict[str, Any], logprobs: dict[str, Any] | None) -> bytes:
        """A chunk that has more than text."""
        opening = b"" if self._has_begun else self.texts([""])
        return opening + self._chunk(delta, logprobs=logprobs)

    def end(self, finish_reason: str) -> bytes:
        """The last chunk."""
        opening = b"" if self._has_begun else self.texts([""])
        return opening + self._chunk({}, finish_reason=finish_reason)

    def _around(self, delta: dict[str, Any]) -> tuple[bytes, bytes]:
        before, after = self._chunk(delta).split(_ENCODED_HOLE)
        return before, after

    def _chunk(self, delta: dict[str, Any], **fields: Any) -> bytes:
        choice = {"index": self._index, "delta": delta, "logprobs": None, "finish_reason": None, **fields}
        return event({**self._head, "choices": [choice]})


def event(data: dict[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + _encode(data) + b"\n\n"


def usage_of(receipts: Sequence[Receipt]) -> dict[str, Any]:
    """What is billed, as OpenAI counts it."""
    prompt = sum(receipt.prompt_tokens for receipt in receipts)
    output = sum(receipt.output_tokens for receipt in receipts)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
