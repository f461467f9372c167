"""What an answer said, read from OpenAI's own format as it passes by: what a receipt's ``output_hash`` must cover."""

import base64
from array import array
from typing import Any

import msgspec

from tristrata.protocol.answers import FunctionPart, ToolCallPart, ToolCalls, output_of
from tristrata.protocol.decoding import UNDECODABLE


class Outputs:
    """The texts and tool calls of one call's answers, by choice. ``receipts`` are the documents that came with them."""

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}
        self._calls: dict[int, ToolCalls] = {}
        self.receipts: list[dict[str, Any]] = []

    @property
    def all(self) -> list[str]:
        """Each choice's output, in order."""
        numbers = sorted({*self._texts, *self._calls}) or [0]
        return [
            output_of("".join(self._texts.get(number, [])), self._calls.get(number, ToolCalls()).all)
            for number in numbers
        ]

    def event(self, data: str) -> None:
        """Take in an event of a stream. What is no JSON object is none of an answer's."""
        try:
            document = msgspec.json.decode(data)
        except UNDECODABLE:
            return
        if not isinstance(document, dict):
            return
        if document.get("type") == "response.output_text.delta":
            self._say(0, document["delta"])
        elif document.get("type") == "response.completed":
            self._take_response(document["response"], with_text=False)
        for choice in document.get("choices") or ():
            number, delta = choice["index"], choice.get("delta") or {}
            self._say(number, delta.get("content") or choice.get("text") or "")
            self._call(number, delta.get("tool_calls") or ())

    def whole(self, document: dict[str, Any]) -> None:
        """Take in an answer that did not stream."""
        if document.get("object") == "response":
            self._take_response(document, with_text=True)
        for choice in document.get("choices") or ():
            message = choice.get("message") or {}
            self._say(choice["index"], message.get("content") or choice.get("text") or "")
            calls = message.get("tool_calls") or ()
            self._call(choice["index"], [{"index": number, **call} for number, call in enumerate(calls)])
        if document.get("object") == "list":
            for each in document["data"]:
                self._say(0, _vector_text(each["embedding"]))

    def _take_response(self, response: dict[str, Any], *, with_text: bool) -> None:
        number = 0
        for item in response.get("output") or ():
            if item["type"] == "message" and with_text:
                self._say(0, "".join(part.get("text", "") for part in item["content"]))
            elif item["type"] == "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                self._call(0, [{"index": number, "id": item["call_id"], "function": function}])
                number += 1

    def _say(self, choice: int, text: str) -> None:
        self._texts.setdefault(choice, []).append(text)

    def _call(self, choice: int, parts: Any) -> None:
        calls = self._calls.setdefault(choice, ToolCalls())
        calls.add(
            ToolCallPart(
                part["index"],
                part.get("id"),
                FunctionPart(**{name: (part.get("function") or {}).get(name) for name in ("name", "arguments")}),
            )
            for part in parts
        )


def _vector_text(embedding: Any) -> str:
    """A vector as its miner sent it: base64 of float32, whichever way the router tells it."""
    return embedding if isinstance(embedding, str) else base64.b64encode(array("f", embedding).tobytes()).decode()
