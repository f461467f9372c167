"""What the endpoints take and refuse, in OpenAI's words."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params as response_params

from tristrata.router.openai import chat_request, completions, response_request
from tristrata.router.openai.chat_request import ChatCall, parse_chat
from tristrata.router.openai.completions import CompletionCall, parse_completion
from tristrata.router.openai.parameters import RequestInvalid
from tristrata.router.openai.response_request import ResponseCall, parse_response

HELLO = [{"role": "user", "content": "Hello"}]
FUNCTION = {"name": "weather", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
SCHEMA = {"name": "answer", "schema": {"type": "object"}, "strict": True}


def chat(**fields: Any) -> ChatCall:
    return parse_chat(msgspec.json.encode({"model": "m", "messages": HELLO, **fields}))


def completion(**fields: Any) -> CompletionCall:
    return parse_completion(msgspec.json.encode({"model": "m", "prompt": "Hello", **fields}))


def response(**fields: Any) -> ResponseCall:
    return parse_response(msgspec.json.encode({"model": "m", "input": "Hello", **fields}))


def refused(parse: Callable[..., Any], fields: dict[str, Any]) -> dict[str, Any]:
    with pytest.raises(RequestInvalid) as caught:
        parse(**fields)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    assert error["type"] == "invalid_request_error"
    return error


@pytest.mark.parametrize(
    ("table", "module"),
    [
        (chat_request._TABLE, chat_params),
        (completions._TABLE, completion_params),
        (response_request._TABLE, response_params),
    ],
)
def test_tables__official_client__knows_the_same_parameters(table: dict[str, Any], module: Any) -> None:
    kinds = [getattr(module, name) for name in dir(module) if name.startswith(("CompletionCreate", "ResponseCreate"))]
    assert set(table) == {name for kind in kinds for name in getattr(kind, "__annotations__", {})}


@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"foo": 1}, None, None, "Unrecognized request argument supplied: foo"),
        ({"foo": 1, "bar": 2}, None, None, "Unrecognized request arguments supplied: foo, bar"),
        ({"model": None}, "model", "missing_required_parameter", "Missing required parameter: 'model'."),
        ({"messages": []}, "messages", "empty_array", "minimum length 1"),
        ({"messages": "hi"}, "messages", "invalid_type", "expected an array, but got a string instead"),
        ({"messages": [1]}, "messages[0]", "invalid_type", "expected an object"),
        ({"messages": HELLO * 2_049}, "messages", "array_above_max_length", "maximum length 2048"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "invalid_value", "'robot'"),
        ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", "role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter", "got null"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "invalid_type", "an integer"),
        ({"messages": [{"role": "user", "content": "x", "y": 1}]}, "messages[0].y", "unknown_parameter", "Unknown"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content[0].type",
            "unsupported_value",
            "image_url is only supported by certain models",
        ),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c1"}]},
            "messages[0].role",
            None,
            "must be a response to a preceding message",
        ),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "unsupported_value", "'tool'"),
        ({"temperature": 3}, "temperature", "decimal_above_max_value", "Expected a value <= 2, but got 3 instead"),
        ({"temperature": -1}, "temperature", "decimal_below_min_value", ">= 0"),
        ({"temperature": "1"}, "temperature", "invalid_type", "expected a decimal, but got a string instead."),
        ({"temperature": True}, "temperature", "invalid_type", "a boolean"),
        ({"max_tokens": 0}, "max_tokens", "integer_below_min_value", "Expected a value >= 1, but got 0 instead."),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_type", "expected an integer, but got a decimal number instead."),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens", "invalid_parameter_combination", "same time"),
        ({"n": 9}, "n", "integer_above_max_value", "Expected a value <= 8, but got 9 instead."),
        ({"seed": 2**70}, "seed", "integer_above_max_value", ""),
        ({"stop": ["a"] * 5}, "stop", "array_above_max_length", ""),
        ({"stop": 1}, "stop", "invalid_type", ""),
        ({"stream": "yes"}, "stream", "invalid_type", "expected a boolean"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None, "only allowed when 'stream' is enabled"),
        ({"top_logprobs": 2}, "top_logprobs", None, "only allowed when 'logprobs' is enabled"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "integer_above_max_value", ""),
        ({"logit_bias": {"a": 1}}, "logit_bias", None, "non-negative integers"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1", "decimal_above_max_value", ""),
        ({"tool_choice": "required"}, "tool_choice", None, "only allowed when 'tools' are specified"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type", "unsupported_value", "'function'"),
        ({"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter", ""),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "invalid_value", ""),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            None,
            "not found in 'tools'",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value", "'json_object'"),
        ({"response_format": {"type": "json_object"}}, "messages", None, "must contain the word 'json'"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter", ""),
        ({"service_tier": "flex"}, "service_tier", "invalid_value", "'auto', and 'default'"),
        ({"store": True}, "store", "unsupported_value", ""),
        ({"modalities": ["text", "audio"]}, "modalities[1]", "unsupported_value", ""),
        ({"audio": {}}, "audio", "unsupported_parameter", "is not supported with this model"),
        ({"prediction": {}}, "prediction", "unsupported_parameter", ""),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter", ""),
        ({"functions": []}, "functions", "unsupported_parameter", ""),
        ({"verbosity": "low"}, "verbosity", "unsupported_value", "'medium'"),
        ({"metadata": {str(number): "x" for number in range(17)}}, "metadata", "object_above_max_properties", "16"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "string_above_max_length", "512"),
    ],
)
def test_parse_chat__against_a_rule__is_refused(
    fields: dict[str, Any], param: str | None, code: str | None, words: str
) -> None:
    error = refused(chat, fields)
    assert (error["param"], error["code"]) == (param, code)
    assert words in error["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto", "store": False, "modalities": ["text"]},
        {"safety_identifier": "x", "prompt_cache_key": "y", "prompt_cache_retention": "24h", "verbosity": "medium"},
        {"tools": [], "tool_choice": "none", "functions": None, "audio": None, "logprobs": False, "stop": None},
        {"response_format": {"type": "text"}, "temperature": None, "n": None},
    ],
)
def test_parse_chat__what_changes_nothing__is_taken_and_left_out(fields: dict[str, Any]) -> None:
    call = chat(**fields)
    assert call.request == {"messages": [{"role": "user", "content": "Hello"}]}
    assert (call.needs, call.choices, call.stream) == (frozenset(), 1, False)


def test_parse_chat__options__reach_the_miner() -> None:
    options = {"temperature": 0.5, "top_p": 1, "stop": ["a"], "presence_penalty": -2, "logit_bias": {"7": -100}}
    call = chat(**options, seed=-5, max_completion_tokens=9, n=2, stream=True, stream_options={"include_usage": True})
    assert call.request == {"messages": [{"role": "user", "content": "Hello"}], **options}
    assert (call.seed, call.max_tokens, call.choices, call.stream, call.include_usage) == (-5, 9, 2, True, True)


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False}, {"tools"}),
        ({"logprobs": True, "top_logprobs": 0}, {"logprobs"}),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, {"json"}),
        ({"tools": [TOOL], "logprobs": True}, {"tools", "logprobs"}),
    ],
)
def test_parse_chat__abilities__are_what_the_miner_needs(fields: dict[str, Any], needs: set[str]) -> None:
    call = chat(**fields)
    assert call.needs == needs
    assert {name: call.request[name] for name in fields} == fields


def test_parse_chat__a_conversation_with_tools__reaches_the_miner_whole() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather"}, {"type": "text", "text": "?"}], "name": "me"},
        {"role": "assistant", "content": None, "refusal": None, "annotations": [], "audio": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
    ]
    call = chat(messages=messages)
    assert call.request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "sunny", "tool_call_id": "c1"},
    ]
    assert call.needs == {"tools"}


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"prompt": [1, 2]}, "prompt", "unsupported_value"),
        ({"prompt": []}, "prompt", "empty_array"),
        ({"prompt": ["a"] * 9}, "prompt", "array_above_max_length"),
        ({"prompt": ["a"] * 3, "n": 3}, "prompt", None),
        ({"suffix": "x"}, "suffix", "unsupported_parameter"),
        ({"best_of": 3}, "best_of", "unsupported_value"),
        ({"echo": True, "logprobs": 1}, "echo", "unsupported_value"),
        ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
        ({"logprobs": True}, "logprobs", "invalid_type"),
        ({"messages": HELLO}, None, None),
    ],
)
def test_parse_completion__against_a_rule__is_refused(
    fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    error = refused(completion, fields)
    assert (error["param"], error["code"]) == (param, code)


def test_parse_completion__prompts_and_choices__are_asked_one_by_one() -> None:
    call = completion(prompt=["a", "b"], n=2, best_of=2, logprobs=0)
    assert call.asked == ["a", "a", "b", "b"]
    assert (call.needs, call.request) == ({"logprobs"}, {"logprobs": 0})


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"foo": 1}, "foo", "unknown_parameter"),
        ({"input": []}, "input", "empty_array"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type", "invalid_value"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type", None),
        ({"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_value"),
        ({"tool_choice": "required"}, "tool_choice", None),
        ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
        ({"background": True}, "background", "unsupported_value"),
        ({"truncation": "auto"}, "truncation", "unsupported_value"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort", "unsupported_parameter"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]", "unsupported_value"),
        ({"text": {"format": {"type": "json_object"}}}, "input", None),
        ({"conversation": "c"}, "conversation", "unsupported_parameter"),
    ],
)
def test_parse_response__against_a_rule__is_refused(
    fields: dict[str, Any], param: str | None, code: str | None
) -> None:
    error = refused(response, fields)
    assert error["param"] == param
    assert error["code"] == code or code is None


def test_parse_response__items_of_a_conversation__are_a_chat() -> None:
    call = response(
        instructions="Be brief.",
        input=[
            {"role": "user", "content": "Weather?"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sunny"}]},
        ],
        tools=[{"type": "function", **FUNCTION, "strict": None}],
        tool_choice={"type": "function", "name": "weather"},
    )
    assert call.chat([{"role": "user", "content": "Hi"}]) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Wait."},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        "tools": [{"type": "function", "function": {**FUNCTION, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": True,
    }
    assert call.needs == {"tools"}


@pytest.mark.parametrize("parse", [parse_chat, parse_completion, parse_response])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"a\xff":1}', b'{"model":"\\ud800"}', b"1e400", b"1" * 5_000]
)
def test_parse__what_is_no_json_object__is_refused(parse: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(RequestInvalid):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(["user", "assistant", "tool", "text", "function", "json_schema", "message", "input_text", "m"])
KEYS = st.sampled_from(
    ["type", "role", "content", "text", "name", "function", "tool_calls", "tool_call_id", "id", "arguments", "output"]
)
SHAPED = st.recursive(
    WORDS | JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("parse", "table"),
    [
        (parse_chat, chat_request._TABLE),
        (parse_completion, completions._TABLE),
        (parse_response, response_request._TABLE),
    ],
)
def test_parse__any_json__is_a_call_or_a_refusal(parse: Callable[[bytes], Any], table: dict[str, Any]) -> None:
    valid: dict[str, Any] = {"model": "m", "messages": HELLO, "prompt": "x", "input": "x"}
    required = {name: value for name, value in valid.items() if name in table}

    @given(st.dictionaries(st.sampled_from(sorted(table)), SHAPED | JSON, max_size=4), JSON)
    def any_json(fields: dict[str, Any], alone: Any) -> None:
        for body in ({**required, **fields}, alone):
            try:
                call = parse(msgspec.json.encode(body))
            except RequestInvalid as error:
                msgspec.json.encode(error.body)
            else:
                msgspec.json.encode(call)

    any_json()
