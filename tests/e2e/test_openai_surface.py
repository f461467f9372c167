"""What the official client for Python can ask a real model: choices, probabilities, JSON, completions, responses.

The tests share one router and one miner.
"""

import base64
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.support.world import MODEL, OWNER, POOR_KEY, SESSION, World, eventually, open_world
from tristrata.protocol import codec
from tristrata.router.openai.receipts import RECEIPT_HEADER

pytestmark = pytest.mark.asyncio(loop_scope="module")
ANSWER = "The capital of Japan is Tokyo."
QUESTION: Any = [{"role": "user", "content": "What is the capital of Japan?"}]
EXACT: Any = {"model": MODEL, "temperature": 0, "seed": 7}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("world"), smollm2) as world:
        yield world


async def test_chat__three_choices__differ_by_seed_and_have_a_receipt_each(shared: World) -> None:
    before = len(await shared.book.entries(SESSION))
    ask = {"model": MODEL, "messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 12, "seed": 5}
    raw = await shared.client().chat.completions.with_raw_response.create(**ask, n=3)
    answer = raw.parse()

    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) == 3
    entries = (await shared.book.entries(SESSION))[before:]
    shown = [codec.decode(_unbase64(part)) for part in raw.headers[RECEIPT_HEADER].split(", ")]
    assert {each["receipt"]["request_id"] for each in shown} == {
        f"0x{entry.receipt.request_id.hex()}" for entry in entries
    }
    assert answer.usage.completion_tokens == sum(entry.receipt.output_tokens for entry in entries)
    assert answer.usage.prompt_tokens == sum(entry.receipt.prompt_tokens for entry in entries)

    alone = await shared.client().chat.completions.create(**{**ask, "seed": 7})
    assert alone.choices[0].message.content == answer.choices[2].message.content


async def test_chat__three_choices_streaming__come_side_by_side(shared: World) -> None:
    stream = await shared.client().chat.completions.create(
        **EXACT, messages=QUESTION, n=3, stream=True, stream_options={"include_usage": True}
    )
    texts, roles, last = {}, [], None
    async for chunk in stream:
        last = chunk
        for choice in chunk.choices:
            assert chunk.usage is None
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            roles += [choice.delta.role] if choice.delta.role else []
    assert texts == dict.fromkeys(range(3), ANSWER)
    assert roles == ["assistant"] * 3
    assert last is not None
    assert (last.choices, last.usage.completion_tokens) == ([], 24)


async def test_chat__client_leaves_two_choices__both_stop_and_are_billed(shared: World) -> None:
    before = len(await shared.book.entries(SESSION))
    story: Any = [{"role": "user", "content": "Tell a very long story."}]
    stream = await shared.client().chat.completions.create(
        model=MODEL, messages=story, n=2, max_tokens=1_000, stream=True
    )
    seen = set()
    async for chunk in stream:
        seen |= {choice.index for choice in chunk.choices}
        if seen == {0, 1}:
            break
    await stream.close()

    async def billed() -> bool:
        return len(await shared.book.entries(SESSION)) == before + 2 and shared.rich.book.in_flight == 0

    await eventually(billed)
    assert all(entry.receipt.output_tokens < 500 for entry in (await shared.book.entries(SESSION))[before:])


async def test_chat__logprobs__tell_each_token(shared: World) -> None:
    ask = {**EXACT, "messages": QUESTION, "max_tokens": 40, "logprobs": True, "top_logprobs": 2}
    answer = await shared.client().chat.completions.create(**ask)
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == ANSWER
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)

    streamed = []
    async for chunk in await shared.client().chat.completions.create(**ask, stream=True):
        for choice in chunk.choices:
            streamed += choice.logprobs.content if choice.logprobs else []
    assert [token.token for token in streamed] == [token.token for token in tokens]


async def test_chat__json_schema__is_kept_to(shared: World) -> None:
    answer = await shared.client().chat.completions.create(
        **EXACT,
        messages=[{"role": "user", "content": "The capital of Japan, as JSON."}],
        response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": CITY, "strict": True}},
    )
    assert set(json.loads(answer.choices[0].message.content)) == {"city"}


async def test_chat__what_the_model_cannot_do__is_refused_and_costs_nothing(shared: World) -> None:
    before = len(await shared.book.entries(SESSION))
    nonsense = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    for change, parameter, words in (
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "no miner of this model supports"),
        ({"response_format": nonsense}, None, "unrecognized type nonsense"),
        ({"max_tokens": 2_049}, "max_tokens", "supports at most 2048"),
        ({"messages": [{"role": "user", "content": "a " * 9_000}]}, "messages", "at least 9000 tokens"),
        ({"messages": [{"role": "user", "content": "a," * 3_000}]}, "messages", "context"),
    ):
        with pytest.raises(openai.BadRequestError, match=words) as caught:
            await shared.client().chat.completions.create(**{**EXACT, "messages": QUESTION, **change})
        assert caught.value.param == parameter
    assert shared.rich.book.in_flight == 0
    assert len(await shared.book.entries(SESSION)) == before


async def test_completions__prompts_and_choices__are_raw_and_in_order(shared: World) -> None:
    answer = await shared.client().completions.create(
        **EXACT, prompt=["The capital of Japan is", "The capital of France is"], n=2, max_tokens=3, logprobs=1
    )
    assert [choice.text for choice in answer.choices] == [" Tokyo.\n"] * 2 + [" Paris.\n"] * 2
    told = answer.choices[0].logprobs
    assert (told.tokens, told.text_offset) == ([" Tokyo", ".", "\n"], [0, 6, 7])
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 12


async def test_completions__streaming_with_echo_and_a_banned_token__says_the_prompt_first(shared: World) -> None:
    stream = await shared.client().completions.create(
        **EXACT,
        prompt="The capital of Japan is",
        echo=True,
        logit_bias={"19081": -100},
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    assert text.startswith("The capital of Japan is the")
    assert "Tokyo" not in text
    assert chunks[-1].usage.completion_tokens == 16  # OpenAI's default


async def test_responses__kept__can_be_continued_listed_and_deleted_by_its_owner(shared: World) -> None:
    client = shared.client()
    first = await client.responses.create(model=MODEL, input=QUESTION[0]["content"], temperature=0)
    assert (first.output_text, first.status, first.usage.output_tokens) == (ANSWER, "completed", 8)
    assert await client.responses.retrieve(first.id) == first

    second = await client.responses.create(
        model=MODEL, input="And of France?", temperature=0, previous_response_id=first.id, instructions="Be brief."
    )
    assert second.output_text == "The capital of France is Paris."
    [item] = [item async for item in client.responses.input_items.list(second.id)]
    assert item.content[0].text == "And of France?"

    await client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        await client.responses.create(model=MODEL, input="x", previous_response_id=first.id)
    assert caught.value.code == "previous_response_not_found"


async def test_responses__another_owner_or_not_to_be_stored__is_not_found(shared: World) -> None:
    client = shared.client()
    kept = await client.responses.create(model=MODEL, input="Tell a long story.", max_output_tokens=16)
    assert (kept.status, kept.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    gone = await client.responses.create(model=MODEL, input="Hi", max_output_tokens=16, store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(gone.id)
    await _grant_to_another_owner(shared)
    with pytest.raises(openai.NotFoundError):
        await shared.client("sk-tri-stranger").responses.retrieve(kept.id)


async def test_responses__streaming__events_are_numbered_typed_and_whole(shared: World) -> None:
    stream = await shared.client().responses.create(
        model=MODEL,
        input=[{"role": "user", "content": [{"type": "input_text", "text": QUESTION[0]["content"]}]}],
        temperature=0,
        top_logprobs=1,
        include=["message.output_text.logprobs"],
        stream=True,
    )
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert "".join(event.delta for event in deltas) == ANSWER
    assert all(event.logprobs for event in deltas)
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == ANSWER


async def test_responses__json_schema__the_clients_own_accumulator_has_it(shared: World) -> None:
    async with shared.client().responses.stream(
        model=MODEL,
        input="The capital of Japan, as JSON.",
        temperature=0,
        text={"format": {"type": "json_schema", "name": "answer", "schema": CITY, "strict": True}},
    ) as stream:
        async for _ in stream:
            pass
        answer = await stream.get_final_response()
    assert set(json.loads(answer.output_text)) == {"city"}


async def test_every_endpoint__no_money_left__is_402(shared: World) -> None:
    client = shared.client(POOR_KEY)
    for asking in (
        client.chat.completions.create(model=MODEL, messages=QUESTION, n=2),
        client.completions.create(model=MODEL, prompt="x"),
        client.responses.create(model=MODEL, input="x", stream=True),
    ):
        with pytest.raises(openai.APIStatusError, match="top up") as caught:
            await asking
        assert caught.value.status_code == 402


async def _grant_to_another_owner(world: World) -> None:
    await world.keys.grant(sha256(b"sk-tri-stranger").digest(), b"\x99" * len(OWNER), SESSION, 0)


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
