"""Requests for responses as they come from outside: checked once, and turned into the chat that miners are asked.

https://platform.openai.com/docs/api-reference/responses/create.
"""

from typing import Any

import msgspec

from tristrata.protocol.answers import JSON, LOGPROBS, TOOLS
from tristrata.router.openai.chat_request import (
    LABELS,
    MAX_MESSAGES,
    SAMPLING,
    check_function_name,
    check_stream_options,
    require_the_word_json,
)
from tristrata.router.openai.parameters import (
    RequestInvalid,
    Table,
    anything,
    array,
    boolean,
    free_object,
    integer,
    one_of,
    only,
    read,
    record,
    text,
    unsupported,
    variant,
    wrong_type,
)

LOGPROBS_INCLUDED = "message.output_text.logprobs"
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "user",
)
Message = dict[str, Any]


class ResponseCall(msgspec.Struct, frozen=True):
    """A checked request for a response.

    ``items`` is the input as OpenAI lists it, ``messages`` the same as a chat, without the instructions. ``options`` is
    what miners get beside messages; ``echoed`` are the fields that the response repeats.
    """

    model: str
    items: list[dict[str, Any]]
    messages: list[Message]
    instructions: str | None
    options: dict[str, Any]
    needs: frozenset[str]
    max_tokens: int | None
    previous: str | None
    store: bool
    stream: bool
    echoed: dict[str, Any]

    def chat(self, before: list[Message]) -> dict[str, Any]:
        """The chat that miners are asked, with the conversation ``before`` this input."""
        first = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return {"messages": [*first, *before, *self.messages], **self.options}


def parse_response(body: bytes) -> ResponseCall:
    """The request in ``body``. Raises `RequestInvalid` that names the field and the rule."""
    fields = read(body, _TABLE, ("model", "input"), names_unknown=True)
    check_stream_options(fields)
    items, tools = fields["input"], fields.get("tools", [])
    messages = _messages(items)
    if not tools and fields.get("tool_choice") not in (None, "none", "auto"):
        raise RequestInvalid("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    choice = fields.get("tool_choice", "auto")
    if isinstance(choice, dict) and choice["name"] not in [tool["name"] for tool in tools]:
        raise RequestInvalid(f"Tool choice '{choice['name']}' not found in 'tools' parameter.", "tool_choice")
    text_format = fields.get("text", {}).get("format", {"type": "text"})
    if text_format["type"] == "json_object":
        require_the_word_json([{"content": fields.get("instructions", "")}, *messages], "input")
    with_logprobs = LOGPROBS_INCLUDED in fields.get("include", ()) or fields.get("top_logprobs", 0) > 0
    needs = {
        JSON: text_format["type"] != "text",
        LOGPROBS: with_logprobs,
        TOOLS: bool(tools) or any(message["role"] == "tool" or "tool_calls" in message for message in messages),
    }
    return ResponseCall(
        model=fields["model"],
        items=items,
        messages=messages,
        instructions=fields.get("instructions"),
        options=_options(fields, text_format, with_logprobs=with_logprobs),
        needs=frozenset(feature for feature, is_needed in needs.items() if is_needed),
        max_tokens=fields.get("max_output_tokens"),
        previous=fields.get("previous_response_id"),
        store=fields.get("store", True),
        stream=fields.get("stream", False),
        echoed={
            **{name: fields.get(name) for name in _ECHOED},
            "metadata": fields.get("metadata", {}),
            "parallel_tool_calls": fields.get("parallel_tool_calls", True),
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "background": False,
            "store": fields.get("store", True),
            "temperature": fields.get("temperature", 1.0),
            "text": {"format": text_format, "verbosity": "medium"},
            "tool_choice": choice,
            "tools": tools,
            "top_logprobs": fields.get("top_logprobs", 0),
            "top_p": fields.get("top_p", 1.0),
            "truncation": "disabled",
        },
    )


def _options(fields: dict[str, Any], text_format: dict[str, Any], *, with_logprobs: bool) -> dict[str, Any]:
    options: dict[str, Any] = {name: each for name, each in fields.items() if name in ("temperature", "top_p")}
    if tools := fields.get("tools"):
        options["tools"] = [
            {"type": "function", "function": {name: each for name, each in tool.items() if name != "type"}}
            for tool in tools
        ]
        choice = fields.get("tool_choice", "auto")
        named = isinstance(choice, dict)
        options["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}} if named else choice
        options["parallel_tool_calls"] = fields.get("parallel_tool_calls", True)
    if text_format["type"] == "json_schema":
        schema = {name: each for name, each in text_format.items() if name != "type"}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif text_format["type"] == "json_object":
        options["response_format"] = text_format
    if with_logprobs:
        options |= {"logprobs": True, "top_logprobs": fields.get("top_logprobs", 0)}
    return options


def _messages(items: list[dict[str, Any]]) -> list[Message]:
    """Items as a chat: calls that follow one another are one message of the assistant's."""
    messages: list[Message] = []
    for item in items:
        if item["type"] == "message":
            role = "system" if item["role"] == "developer" else item["role"]
            messages.append({"role": role, "content": "".join(part_text(part) for part in item["content"])})
        elif item["type"] == "function_call":
            call = {
                "id": item["call_id"],
                "type": "function",
                "function": {"name": item["name"], "arguments": item["arguments"]},
            }
            if messages and "tool_calls" in messages[-1]:
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
    return messages


def part_text(part: dict[str, Any]) -> str:
    """The text of a content part."""
    return str(part.get("text", part.get("refusal", "")))


def _input(value: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [_spoken("user", [{"type": "input_text", "text": value}])]
    if not isinstance(value, list):
        raise wrong_type(where, "one of a string or array of input items", value)
    return array(_item, MAX_MESSAGES, 1)(value, where)  # type: ignore[no-any-return]


def _item(value: Any, where: str) -> dict[str, Any]:
    fields = free_object(value, where)
    typed = {"type": "message", **fields} if "role" in fields else fields
    checked: dict[str, Any] = _ANY_ITEM(typed, where)
    if checked["type"] == "message":
        return _spoken(checked["role"], checked["content"])
    return checked


def _spoken(role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    if role == "assistant":
        said = [{"type": "output_text", "annotations": [], "text": part_text(part)} for part in content]
        return {"type": "message", "role": role, "status": "completed", "content": said}
    return {"type": "message", "role": role, "status": "completed", "content": content}


def _content(value: Any, where: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"type": "input_text", "text": value}]
    if not isinstance(value, list):
        raise wrong_type(where, "one of a string or array of objects", value)
    return array(_ANY_PART, MAX_MESSAGES, 1)(value, where)  # type: ignore[no-any-return]


def _output(value: Any, where: str) -> str:
    """What a function gave: text, or text parts, which are joined."""
    return "".join(part_text(part) for part in _content(value, where))


def _text_only(value: Any, where: str) -> Any:
    raise RequestInvalid(
        f"Invalid content type. {value['type']} is only supported by certain models.",
        f"{where}.type",
        "unsupported_value",
    )


def _tool(value: Any, where: str) -> dict[str, Any]:
    kind = free_object(value, where).get("type")
    if isinstance(kind, str) and kind != "function":
        raise RequestInvalid(
            f"Tool '{kind[:64]}' is not supported with this model. Supported are: 'function'.",
            where,
            "unsupported_value",
        )
    tool: dict[str, Any] = _FUNCTION_TOOL(value, where)
    return {"parameters": {}, "strict": True, **tool}


def _tool_choice(value: Any, where: str) -> str | dict[str, Any]:
    if isinstance(value, str):
        return str(one_of("none", "auto", "required")(value, where))
    chosen: dict[str, Any] = _CHOSEN(value, where)
    return chosen


_TEXT = record(
    {
        "type": anything,
        "text": text(),
        "annotations": anything,
        "logprobs": anything,
        "prompt_cache_breakpoint": anything,
    },
    ("text",),
)
_ANY_PART = variant(
    "type",
    input_text=_TEXT,
    output_text=_TEXT,
    refusal=record({"type": anything, "refusal": text()}, ("refusal",)),
    input_image=_text_only,
    input_file=_text_only,
    input_audio=_text_only,
)
_STATUS = {"type": anything, "id": text(256), "status": one_of("in_progress", "completed", "incomplete")}
_ANY_ITEM = variant(
    "type",
    message=record(
        {
            **_STATUS,
            "role": one_of("user", "assistant", "system", "developer"),
            "content": _content,
            "phase": anything,
        },
        ("role", "content"),
    ),
    function_call=record(
        {**_STATUS, "call_id": text(256, 1), "name": text(64, 1), "arguments": text()},
        ("call_id", "name", "arguments"),
    ),
    function_call_output=record({**_STATUS, "call_id": text(256, 1), "output": _output}, ("call_id", "output")),
)
_FUNCTION_TOOL = variant(
    "type",
    function=record(
        {
            "type": anything,
            "name": check_function_name,
            "description": text(),
            "parameters": free_object,
            "strict": boolean,
        },
        ("name",),
    ),
)
_CHOSEN = variant("type", function=record({"type": anything, "name": text(64, 1)}, ("name",)))
_FORMAT = variant(
    "type",
    text=record({"type": anything}),
    json_object=record({"type": anything}),
    json_schema=record(
        {
            "type": anything,
            "name": check_function_name,
            "description": text(),
            "schema": free_object,
            "strict": boolean,
        },
        ("name", "schema"),
    ),
)
_TABLE: Table = {
    **SAMPLING,
    **LABELS,
    "input": _input,
    "instructions": text(),
    "max_output_tokens": integer(16, 2**31 - 1),
    "max_tool_calls": integer(1, 2**31 - 1),
    "previous_response_id": text(256, 1),
    "store": boolean,
    "stream": boolean,
    "stream_options": record({"include_obfuscation": boolean}),
    "text": record({"format": _FORMAT, "verbosity": only("medium")}),
    "tools": array(_tool, 128),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": boolean,
    "top_logprobs": integer(0, 20),
    "include": array(only(LOGPROBS_INCLUDED), 8),
    "truncation": only("disabled"),
    "background": only(False),
    "reasoning": record({"effort": unsupported, "summary": unsupported, "generate_summary": unsupported}),
    "access_programs": unsupported,
    "background_options": unsupported,
    "context_management": unsupported,
    "conversation": unsupported,
    "image": unsupported,
    "prompt": unsupported,
}
"""Every parameter of OpenAI's, each with its rule; a test compares the names with the official client's."""
