"""Chat completion requests as they come from outside: checked once, against OpenAI's rules and ours.

https://platform.openai.com/docs/api-reference/chat/create. Parameters of abilities that no model here has are refused
as OpenAI refuses them for its models without the ability; those that change nothing are checked and left out.
"""

from typing import Any

import msgspec

from tristrata.protocol.answers import JSON, LOGPROBS, MAX_TOOL_CALLS, TOOLS
from tristrata.router.openai.parameters import (
    Check,
    RequestInvalid,
    Table,
    anything,
    array,
    boolean,
    decimal,
    free_object,
    integer,
    metadata,
    one_of,
    only,
    read,
    record,
    text,
    unsupported,
    variant,
    wrong_type,
)

MAX_MESSAGES, MAX_CHOICES, MAX_STOPS = 2_048, 8, 4
_MOST_TOKENS = 2**31 - 1
_PASSED_ON = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "stop",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
)
_NAME = text(64, 1)


class ChatCall(msgspec.Struct, frozen=True):
    """A checked chat request.

    ``request`` is what miners get, but for the seed. ``max_tokens`` and ``seed`` are `None` where nothing was asked;
    ``max_tokens_name`` is what the client called the former; ``needs`` are the features that a miner must have.
    """

    model: str
    request: dict[str, Any]
    needs: frozenset[str]
    max_tokens: int | None
    max_tokens_name: str
    seed: int | None
    choices: int
    stream: bool
    include_usage: bool


def parse_chat(body: bytes) -> ChatCall:
    """The chat request in ``body``. Raises `RequestInvalid` that names the field and the rule."""
    fields = read(body, _TABLE, ("model", "messages"))
    check_stream_options(fields)
    _check_pairs(fields)
    messages = [_for_miners(message) for message in fields["messages"]]
    _check_tool_messages(messages)
    response_format = fields.get("response_format", {}).get("type", "text")
    if response_format == "text":
        fields.pop("response_format", None)
    elif response_format == "json_object":
        require_the_word_json(messages, "messages")
    if not fields.get("logprobs"):
        fields.pop("logprobs", None)
    limit = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    needs = set()
    if "response_format" in fields:
        needs.add(JSON)
    if "logprobs" in fields:
        needs.add(LOGPROBS)
    if fields.get("tools") or any(message["role"] == "tool" or "tool_calls" in message for message in messages):
        needs.add(TOOLS)
    return ChatCall(
        model=fields["model"],
        request={"messages": messages, **{name: fields[name] for name in _PASSED_ON if name in fields}},
        needs=frozenset(needs),
        max_tokens=fields.get(limit),
        max_tokens_name=limit,
        seed=fields.get("seed"),
        choices=fields.get("n", 1),
        stream=fields.get("stream", False),
        include_usage=fields.get("stream_options", {}).get("include_usage", False),
    )


def check_stop(value: Any, where: str) -> str | list[str]:
    """A text, or a list of up to four."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type(where, "a string or an array of strings", value)
    stops: list[str] = array(text(least=1), MAX_STOPS)(value, where)
    return stops


def check_logit_bias(value: Any, where: str) -> dict[str, float]:
    """From token ids, as text, to biases from -100 to 100."""
    biases = free_object(value, where)
    for token, bias in biases.items():
        if not token.isascii() or not token.isdigit() or len(token) > 9:
            raise RequestInvalid(
                f"Invalid key in '{where}': {token[:32]}. You should only be submitting non-negative integers.", where
            )
        decimal(-100, 100)(bias, f"{where}.{token}")
    if len(biases) > 1_024:
        raise RequestInvalid(f"Invalid '{where}': it has {len(biases)} entries; at most 1024 are taken.", where)
    return biases


def check_stream_options(fields: dict[str, Any]) -> None:
    """``stream_options`` makes sense in a stream only. Raises `RequestInvalid`."""
    if "stream_options" in fields and not fields.get("stream"):
        raise RequestInvalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )


def _check_pairs(fields: dict[str, Any]) -> None:
    if "max_tokens" in fields and "max_completion_tokens" in fields:
        raise RequestInvalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
            "invalid_parameter_combination",
        )
    if "top_logprobs" in fields and not fields.get("logprobs"):
        raise RequestInvalid("'top_logprobs' is only allowed when 'logprobs' is enabled.", "top_logprobs")
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in fields and not fields.get("tools") and fields[name] not in ("none", "auto"):
            raise RequestInvalid(f"'{name}' is only allowed when 'tools' are specified.", name)
    if not fields.get("tools"):
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            fields.pop(name, None)
    check_tool_choice(fields.get("tool_choice"), [tool["function"]["name"] for tool in fields.get("tools", ())])


def check_tool_choice(choice: Any, names: list[str]) -> None:
    """A function that is to be called must be one of the tools. Raises `RequestInvalid`."""
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        raise RequestInvalid(
            f"Tool choice '{choice['function']['name']}' not found in 'tools' parameter.", "tool_choice"
        )


def _check_tool_messages(messages: list[dict[str, Any]]) -> None:
    """A tool's message answers a call of the assistant's message before it."""
    called: set[str] = set()
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            called = {call["id"] for call in message.get("tool_calls", ())}
        elif message["role"] != "tool":
            called = set()
        elif message["tool_call_id"] not in called:
            raise RequestInvalid(
                f"Invalid parameter: messages with role 'tool' must be a response to a preceding message with "
                f"'tool_calls': there is no call {message['tool_call_id'][:64]!r}.",
                f"messages[{number}].role",
            )


def require_the_word_json(messages: list[dict[str, Any]], parameter: str) -> None:
    """OpenAI's condition of free JSON: without the word, models may never stop. Raises `RequestInvalid`."""
    if not any("json" in (message.get("content") or "").lower() for message in messages):
        raise RequestInvalid(
            f"'{parameter}' must contain the word 'json' in some form, to use 'json_object' as the format.",
            parameter,
        )


def _for_miners(message: dict[str, Any]) -> dict[str, Any]:
    """A message as chat templates know it: ``developer`` is their ``system``."""
    role = "system" if message["role"] == "developer" else message["role"]
    kept = {name: value for name, value in message.items() if name in ("tool_calls", "tool_call_id")}
    content = message.get("content", message.get("refusal", "" if role != "assistant" else None))
    return {"role": role, "content": content, **kept}


def _content(value: Any, where: str) -> str:
    """Text, or a list of text parts, which are joined."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong_type(where, "one of a string or array of objects", value)
    return "".join(array(_part, MAX_MESSAGES, 1)(value, where))


def _part(value: Any, where: str) -> str:
    kind = free_object(value, where).get("type")
    if kind in ("image_url", "input_audio", "file"):
        raise RequestInvalid(
            f"Invalid content type. {kind} is only supported by certain models.", f"{where}.type", "unsupported_value"
        )
    part = _ANY_PART(value, where)
    return str(part.get("text", part.get("refusal")))


def _message(value: Any, where: str) -> dict[str, Any]:
    checked: dict[str, Any] = _ANY_MESSAGE(value, where)
    if "content" not in checked and not checked.get("tool_calls") and not checked.get("refusal"):
        inner = f"{where}.content"
        raise RequestInvalid(
            f"Invalid value for '{inner}': expected a string, got null.", inner, "missing_required_parameter"
        )
    return checked


def _custom_tool(value: Any, where: str) -> Any:
    raise RequestInvalid(
        f"Unsupported value: '{where}.type' does not support 'custom' with this model. Supported values are: "
        "'function'.",
        f"{where}.type",
        "unsupported_value",
    )


def _tool_choice(value: Any, where: str) -> str | dict[str, Any]:
    if isinstance(value, str):
        return str(one_of("none", "auto", "required")(value, where))
    chosen: dict[str, Any] = _ANY_CHOSEN(value, where)
    return chosen


def check_function_name(value: Any, where: str) -> str:
    """The name of a function or schema: up to 64 letters, digits, dashes and underscores."""
    name = str(_NAME(value, where))
    if not all(character.isascii() and (character.isalnum() or character in "-_") for character in name):
        raise RequestInvalid(
            f"Invalid '{where}': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            where,
            "invalid_value",
        )
    return name


_TEXT_PART = record({"type": anything, "text": text(), "prompt_cache_breakpoint": anything}, ("text",))
_REFUSAL_PART = record({"type": anything, "refusal": text()}, ("refusal",))
_ANY_PART = variant("type", text=_TEXT_PART, refusal=_REFUSAL_PART)
_FUNCTION_CALL = record({"name": text(64), "arguments": text()}, ("name", "arguments"))
_TOOL_CALL = record(
    {"id": text(256, 1), "type": one_of("function"), "function": _FUNCTION_CALL, "index": anything},
    ("id", "type", "function"),
)
_SPOKEN: Table = {"role": anything, "content": _content, "name": text(64)}
_MESSAGES: dict[str, Check] = {
    "system": record(_SPOKEN),
    "developer": record(_SPOKEN),
    "user": record(_SPOKEN),
    "assistant": record(
        {
            **_SPOKEN,
            "refusal": text(),
            "tool_calls": array(_TOOL_CALL, MAX_TOOL_CALLS, 1),
            "annotations": anything,
            "audio": unsupported,
            "function_call": unsupported,
        }
    ),
    "tool": record({"role": anything, "content": _content, "tool_call_id": text(256, 1)}, ("tool_call_id",)),
    "function": lambda value, where: only("system", "developer", "user", "assistant", "tool")(
        "function", f"{where}.role"
    ),
}
_ANY_MESSAGE = variant("role", **_MESSAGES)
_FUNCTION = record(
    {"name": check_function_name, "description": text(), "parameters": free_object, "strict": boolean}, ("name",)
)
_TOOL = variant("type", function=record({"type": anything, "function": _FUNCTION}, ("function",)), custom=_custom_tool)
_CHOSEN = record({"type": anything, "function": record({"name": text(64, 1)}, ("name",))}, ("function",))
_ANY_CHOSEN = variant("type", function=_CHOSEN, custom=_custom_tool, allowed_tools=unsupported)
_SCHEMA = record(
    {"name": check_function_name, "description": text(), "schema": free_object, "strict": boolean}, ("name", "schema")
)
_FORMAT = variant(
    "type",
    text=record({"type": anything}),
    json_object=record({"type": anything}),
    json_schema=record({"type": anything, "json_schema": _SCHEMA}, ("json_schema",)),
)
SAMPLING: Table = {
    "model": text(256, 1),
    "temperature": decimal(0, 2),
    "top_p": decimal(0, 1),
    "user": text(),
}
"""What all endpoints have that ask a model."""

LABELS: Table = {
    "metadata": metadata,
    "safety_identifier": text(),
    "prompt_cache_key": text(),
    "prompt_cache_retention": one_of("in_memory", "in-memory", "24h"),
    "prompt_cache_options": free_object,
    "service_tier": one_of("auto", "default"),
    "moderation": unsupported,
}
"""What chats and responses have beside: checked, and of no effect here."""

STREAM_OPTIONS = record({"include_usage": boolean, "include_obfuscation": boolean})
PENALTIES: Table = {
    "presence_penalty": decimal(-2, 2),
    "frequency_penalty": decimal(-2, 2),
    "seed": integer(-(2**63), 2**63 - 1),
    "stop": check_stop,
    "logit_bias": check_logit_bias,
    "stream": boolean,
    "stream_options": STREAM_OPTIONS,
    "n": integer(1, MAX_CHOICES),
}
"""What chats and completions have in common."""

_TABLE: Table = {
    **SAMPLING,
    **LABELS,
    **PENALTIES,
    "messages": array(_message, MAX_MESSAGES, 1),
    "max_tokens": integer(1, _MOST_TOKENS),
    "max_completion_tokens": integer(1, _MOST_TOKENS),
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "tools": array(_TOOL, 128),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": boolean,
    "response_format": _FORMAT,
    "store": only(False),
    "modalities": array(only("text"), 8, 1),
    "verbosity": only("medium"),
    "audio": unsupported,
    "function_call": unsupported,
    "functions": unsupported,
    "prediction": unsupported,
    "reasoning_effort": unsupported,
    "web_search_options": unsupported,
}
"""Every parameter of OpenAI's, each with its rule; a test compares the names with the official client's."""
