"""The official `openai` client against the router, over a real NATS server, with the real model as the miner."""

import asyncio
import base64
import os
import signal
from typing import Any

import openai
import pytest
from msgspec.structs import replace

from tests.support.world import (
    KEY,
    MINER,
    MODEL,
    POOR_KEY,
    QUESTION,
    SEPARATOR,
    SESSION,
    SESSION_KEY,
    SIGNING_KEY,
    World,
    eventually,
    make_session,
)
from tristrata.client import AnswerDone, ReceiptArrived, RouterApi, RouterRefused, TextDelta
from tristrata.protocol import codec
from tristrata.protocol.receipt import salted_hash
from tristrata.protocol.signing import address_of, digest, require_signer
from tristrata.router.openai.receipts import RECEIPT_HEADER
from tristrata.router.sessions import replay


async def test_models__official_client__lists_what_is_served(world: World) -> None:
    assert [model.id async for model in world.client().models.list()] == [MODEL, "other"]


async def test_chat__not_streaming__answers_with_usage_and_a_receipt_that_proves_it(world: World) -> None:
    raw = await world.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=QUESTION, temperature=0, seed=7, max_tokens=40
    )
    answer = raw.parse()

    assert answer.choices[0].message.content == "The capital of Japan is Tokyo."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    header = raw.headers[RECEIPT_HEADER]
    document = codec.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    receipt = codec.receipt_from_json(document["receipt"])
    signer = address_of(SIGNING_KEY.public_key)
    require_signer(
        digest(SEPARATOR, receipt.struct_hash), bytes.fromhex(document["signature"][2:]), signer, "the receipt"
    )
    async with RouterApi(world.url, KEY) as api:
        kept = await api.receipt(answer.id.removeprefix("chatcmpl-"))
    assert kept["receipt"] == document["receipt"]
    assert kept["stage"] == "vouchered"
    salt = bytes.fromhex(kept["salts"]["output"][2:])
    assert salted_hash(salt, answer.choices[0].message.content) == receipt.output_hash
    voucher = codec.voucher_from_json(kept["voucher"])
    require_signer(
        digest(SEPARATOR, voucher.voucher.struct_hash),
        voucher.signature,
        address_of(SESSION_KEY.public_key),
        "the voucher",
    )


async def test_chat__streaming__the_official_client_sees_text_and_usage_and_no_receipt(world: World) -> None:
    stream = await world.client().chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        seed=7,
        max_tokens=40,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "The capital of Japan is Tokyo."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 8
    assert len({chunk.id for chunk in chunks}) == 1


async def test_chat__our_client__gets_the_receipt_as_the_last_event(world: World) -> None:
    async with RouterApi(world.url, KEY) as api:
        request = {"model": MODEL, "messages": QUESTION, "temperature": 0, "seed": 7, "max_tokens": 40}
        events = [event async for event in api.stream_chat(request)]

    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "The capital of Japan is Tokyo."
    assert isinstance(events[-2], AnswerDone)
    assert isinstance(events[-1], ReceiptArrived)
    assert codec.receipt_from_json(events[-1].document["receipt"]).miner == MINER


async def test_chat__eight_at_once__have_eight_positions_and_one_growing_voucher(world: World) -> None:
    client = world.client()

    async def ask(number: int) -> str:
        while True:
            try:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": f"Count to {number}."}], max_tokens=8
                )
            except openai.InternalServerError as error:  # both slots are taken: 503 says to come again
                assert error.status_code in (502, 503)
                await asyncio.sleep(0.05)
            else:
                return answer.id

    ids = await asyncio.gather(*(ask(number) for number in range(8)))

    entries = await world.book.entries(SESSION)
    assert [entry.position for entry in entries] == list(range(8))
    assert {f"chatcmpl-{entry.receipt.request_id.hex()}" for entry in entries} == set(ids)
    assert entries[-1].voucher.voucher.cumulative == sum(entry.receipt.price for entry in entries)
    fresh = make_session(SESSION, 10**6, world.rich.hub).book
    replayed = await replay(fresh, world.book)
    assert (replayed.earned, replayed.tree, replayed.cumulative) == (
        world.rich.book.earned,
        world.rich.book.tree,
        world.rich.book.cumulative,
    )


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 9}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"seed": 2**70}, "seed"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ],
)
async def test_chat__malformed__is_400_and_names_the_field(
    world: World, change: dict[str, Any], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await world.client().chat.completions.create(**{"model": MODEL, "messages": QUESTION, **change})
    assert caught.value.param == parameter
    assert world.rich.book.in_flight == 0


async def test_chat__unknown_model_or_key__is_404_or_401(world: World) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await world.client().chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert missing.value.code == "model_not_found"
    for key in ("sk-wrong", "x"):
        with pytest.raises(openai.AuthenticationError) as refused:
            await world.client(key).chat.completions.create(model=MODEL, messages=QUESTION)
        assert refused.value.code == "invalid_api_key"


async def test_chat__no_budget_left__is_402_and_says_what_to_do(world: World) -> None:
    with pytest.raises(openai.APIStatusError, match="top up") as caught:
        await world.client(POOR_KEY).chat.completions.create(model=MODEL, messages=QUESTION)
    assert (caught.value.status_code, caught.value.code) == (402, "insufficient_quota")


async def test_chat__price_ceiling_below_every_miner__is_503_with_counts(world: World) -> None:
    session = world.rich
    session.book = replace(session.book, terms=replace(session.book.terms, max_output_price=1))

    with pytest.raises(openai.InternalServerError, match="no_capacity: price 1") as caught:
        await world.client().chat.completions.create(model=MODEL, messages=QUESTION)
    assert caught.value.status_code == 503


async def test_chat__prompt_longer_than_the_context__fails_and_costs_nothing(world: World) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await world.client().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a " * 9_000}])
    assert caught.value.code == "context_length_exceeded"
    assert (world.rich.book.exposure, await world.book.entries(SESSION)) == (0, [])


async def test_chat__client_leaves__the_miner_stops_and_bills_what_was_streamed(world: World) -> None:
    stream = await world.client().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me a very long story."}],
        max_tokens=1_000,
        stream=True,
    )
    count = 0
    async for _ in stream:
        count += 1
        if count == 5:
            break
    await stream.close()

    async def billed() -> bool:
        return bool(await world.book.entries(SESSION))

    await eventually(billed)
    [entry] = await world.book.entries(SESSION)
    assert 4 <= entry.receipt.output_tokens < 500
    assert world.rich.book.in_flight == 0


async def test_chat__miner_gone_mid_stream__is_an_error_event_and_nothing_is_owed(world: World) -> None:
    stream = await world.client().chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Tell me a very long story."}],
        max_tokens=1_000,
        stream=True,
    )
    await anext(aiter(stream))
    assert world.fabric.pid is not None
    os.kill(world.fabric.pid, signal.SIGSTOP)  # nothing from the miner arrives any more
    try:
        with pytest.raises(openai.APIError, match="nothing is owed"):
            async for _ in stream:
                pass
    finally:
        os.kill(world.fabric.pid, signal.SIGCONT)
    assert (world.rich.book.exposure, await world.book.entries(SESSION)) == (0, [])


async def test_stream_chat__router_refuses__our_client_says_why(world: World) -> None:
    async with RouterApi(world.url, POOR_KEY) as api:
        with pytest.raises(RouterRefused, match="top up") as caught:
            async for _ in api.stream_chat({"model": MODEL, "messages": QUESTION}):
                pass
    assert caught.value.status == 402
