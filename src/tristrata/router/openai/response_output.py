"""What a response says, item by item, and the events that tell it.

https://platform.openai.com/docs/api-reference/responses-streaming.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from tristrata.protocol.answers import Function, TokenLogprob, ToolCall, ToolCallPart

Event = dict[str, Any]


class Output:
    """The items of one response: at most one message, and calls of functions. An item ends where the next begins."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._open: _Message | _Call | None = None
        self._items: list[_Message | _Call] = []

    @property
    def items(self) -> list[dict[str, Any]]:
        """All items, as they are now."""
        return [item.written for item in self._items]

    @property
    def message(self) -> dict[str, Any]:
        """All of it as the assistant's message in a chat."""
        text = "".join(item.said for item in self._items if isinstance(item, _Message))
        calls = [msgspec.to_builtins(item.call) for item in self._items if isinstance(item, _Call)]
        return {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}

    def say(self, text: str, logprobs: Sequence[TokenLogprob]) -> list[Event]:
        """The next text."""
        events = []
        if not isinstance(self._open, _Message):
            events += self.close()
            events += self._begin(_Message(f"msg_{self._request_id}", len(self._items)))
        assert isinstance(self._open, _Message)
        return [*events, self._open.add(text, logprobs)]

    def call(self, part: ToolCallPart) -> list[Event]:
        """The next part of a call."""
        events = []
        if not isinstance(self._open, _Call) or self._open.index != part.index:
            events += self.close()
            events += self._begin(_Call(f"fc_{self._request_id}_{part.index}", len(self._items), part))
        assert isinstance(self._open, _Call)
        return [*events, *self._open.add(part)]

    def close(self, status: str = "completed") -> list[Event]:
        """The end of the open item, if there is one."""
        item, self._open = self._open, None
        if item is None:
            return []
        item.status = status
        done = {"type": "response.output_item.done", "output_index": item.place, "item": item.written}
        return [*item.done(), done]

    def _begin(self, item: "_Message | _Call") -> list[Event]:
        self._open = item
        self._items.append(item)
        added = {"type": "response.output_item.added", "output_index": item.place, "item": item.begun}
        return [added, *item.begin()]


class _Message:
    def __init__(self, name: str, place: int) -> None:
        self.place = place
        self.status = "in_progress"
        self._name = name
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def said(self) -> str:
        return "".join(self._text)

    @property
    def begun(self) -> dict[str, Any]:
        return {"id": self._name, "type": "message", "status": "in_progress", "role": "assistant", "content": []}

    @property
    def written(self) -> dict[str, Any]:
        return {**self.begun, "status": self.status, "content": [self._part(self.said, self._logprobs)]}

    def begin(self) -> list[Event]:
        return [{"type": "response.content_part.added", **self._where, "part": self._part("", [])}]

    def add(self, text: str, logprobs: Sequence[TokenLogprob]) -> Event:
        self._text.append(text)
        self._logprobs += logprobs
        return {"type": "response.output_text.delta", **self._where, "delta": text, "logprobs": _told(logprobs)}

    def done(self) -> list[Event]:
        told = _told(self._logprobs)
        return [
            {"type": "response.output_text.done", **self._where, "text": self.said, "logprobs": told},
            {"type": "response.content_part.done", **self._where, "part": self._part(self.said, self._logprobs)},
        ]

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._name, "output_index": self.place, "content_index": 0}

    def _part(self, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": _told(logprobs)}


class _Call:
    def __init__(self, name: str, place: int, part: ToolCallPart) -> None:
        self.place = place
        self.index = part.index
        self.status = "in_progress"
        self._name = name
        self._id = part.id or name
        self._function = (part.function.name if part.function else None) or ""
        self._arguments: list[str] = []

    @property
    def call(self) -> ToolCall:
        return ToolCall(self._id, Function(self._function, "".join(self._arguments)))

    @property
    def begun(self) -> dict[str, Any]:
        named = {"call_id": self._id, "name": self._function, "arguments": ""}
        return {"id": self._name, "type": "function_call", "status": "in_progress", **named}

    @property
    def written(self) -> dict[str, Any]:
        return {**self.begun, "status": self.status, "arguments": "".join(self._arguments)}

    def begin(self) -> list[Event]:
        return []

    def add(self, part: ToolCallPart) -> list[Event]:
        said = (part.function.arguments if part.function else None) or ""
        self._arguments.append(said)
        return [{"type": "response.function_call_arguments.delta", **self._where, "delta": said}] if said else []

    def done(self) -> list[Event]:
        arguments = "".join(self._arguments)
        named = {"name": self._function, "arguments": arguments}
        return [{"type": "response.function_call_arguments.done", **self._where, **named}]

    @property
    def _where(self) -> dict[str, Any]:
        return {"item_id": self._name, "output_index": self.place}


def _told(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    tokens: list[dict[str, Any]] = msgspec.to_builtins(logprobs)
    for token in tokens:
        for each in (token, *token["top_logprobs"]):
            each["bytes"] = each["bytes"] or list(each["token"].encode())
    return tokens
