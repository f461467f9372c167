"""Tools, from the official client to a backend that calls them and back, with receipts that cover the calls."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.backends import CITY, tool_backend
from tests.support.world import MODEL, SESSION, World, open_world
from tristrata.inference.openai_backend import OpenAiRuntime
from tristrata.protocol.answers import Function, ToolCall, output_of
from tristrata.protocol.receipt import salted_hash

FUNCTION: dict[str, Any] = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
TOOL: Any = {"type": "function", "function": FUNCTION}
QUESTION: Any = {"role": "user", "content": "Weather in Kyōto?"}
CALL = ToolCall("call_1", Function("weather", CITY))


@pytest.fixture
async def asked() -> AsyncIterator[list[dict[str, Any]]]:
    async with tool_backend() as (url, asked):
        asked.append({"url": url})
        yield asked


@pytest.fixture
async def tools_world(tmp_path: Path, smollm2: Path, asked: list[dict[str, Any]]) -> AsyncIterator[World]:
    runtime = OpenAiRuntime(asked.pop()["url"], model="m")
    async with open_world(tmp_path, smollm2, runtime) as world:
        asked.clear()  # what the probe asked
        yield world


async def require_receipt_over(world: World, output: str) -> None:
    entry = (await world.book.entries(SESSION))[-1]
    assert salted_hash(entry.output_salt, output) == entry.receipt.output_hash
    assert entry.receipt.output_tokens == 12


async def test_chat__a_tool_is_called_and_answered__the_receipts_cover_both(
    tools_world: World, asked: list[dict[str, Any]]
) -> None:
    client = tools_world.client()
    answer = await client.chat.completions.create(
        model=MODEL, messages=[QUESTION], tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    [choice] = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Wait.")
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "weather", CITY)
    await require_receipt_over(tools_world, output_of("Wait.", [CALL]))

    said = choice.message.model_dump()
    told = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    last = await client.chat.completions.create(model=MODEL, messages=[QUESTION, said, told], tools=[TOOL])
    assert last.choices[0].message.content == "It says: sunny"
    assert [message["role"] for message in asked[-1]["messages"]] == ["user", "assistant", "tool"]
    assert (asked[0]["tools"], asked[0]["tool_choice"], asked[0]["parallel_tool_calls"]) == ([TOOL], "required", False)


async def test_chat__streaming__the_clients_own_accumulator_has_the_call(tools_world: World) -> None:
    async with tools_world.client().chat.completions.stream(model=MODEL, messages=[QUESTION], tools=[TOOL]) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_completion()

    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    assert [(call.id, call.function.arguments) for call in calls] == [("call_1", CITY)]
    assert answer.choices[0].finish_reason == "tool_calls"
    await require_receipt_over(tools_world, output_of("Wait.", [CALL]))


async def test_responses__a_tool_is_called_and_answered__items_and_events_say_so(tools_world: World) -> None:
    client, tool = tools_world.client(), {"type": "function", **FUNCTION, "strict": False}
    types, last = [], None
    async for event in await client.responses.create(model=MODEL, input="Weather?", tools=[tool], stream=True):
        types.append(event.type)
        last = event
    assert types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert last is not None
    message, call = last.response.output
    assert (message.content[0].text, call.name, call.arguments) == ("Wait.", "weather", CITY)

    told = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    answer = await client.responses.create(
        model=MODEL, input=[told], tools=[tool], previous_response_id=last.response.id
    )
    assert answer.output_text == "It says: sunny"


async def test_chat__json_and_logprobs__are_refused_where_the_backend_has_neither(tools_world: World) -> None:
    client = tools_world.client()
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    for parameter, value in (("response_format", schema), ("logprobs", True)):
        with pytest.raises(Exception, match="no miner of this model supports") as caught:
            await client.chat.completions.create(model=MODEL, messages=[QUESTION], **{parameter: value})
        assert (caught.value.status_code, caught.value.param) == (400, parameter)
    assert tools_world.rich.book.in_flight == 0
