"""The official `openai` client against the router, over a real NATS server, with the real model as the miner.

The hub's facts are given here; the chain side of a session is in tests/integration/deployment.
"""

import asyncio
import base64
import functools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from coincurve import PrivateKey
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import SESSION, make_terms
from tristrata.client import AnswerDone, ReceiptArrived, RouterApi, RouterRefused, TextDelta
from tristrata.client.paths import Climb
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import ReplyInbox, connect
from tristrata.fabric.frames import Offer
from tristrata.fabric.keys import new_seed, public_bytes
from tristrata.fabric.server import FabricServer
from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.inference.weights import SMOLLM2
from tristrata.miner.service import MinerService
from tristrata.protocol import codec
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155
from tristrata.protocol.receipt import salted_hash
from tristrata.protocol.signing import Domain, address_of, digest, require_signer
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.app import create_app
from tristrata.router.callers import Callers
from tristrata.router.openai_api import RECEIPT_HEADER, OpenAiApi, ServedModel
from tristrata.router.own_keys import OwnKeyDesk, publish_voucher
from tristrata.router.presence import Presence
from tristrata.router.receipts_api import ReceiptsApi
from tristrata.router.serving import Desk
from tristrata.router.sessions import HubFacts, ServedSession, ServedSessions, replay
from tristrata.storage.api_keys import ApiKeys
from tristrata.storage.awaiting import AwaitingReceipts
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

HUB = eip155(31_339)
SEPARATOR = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20)).separator
MINER = Address(b"\x0d" * 20)
SIGNING_KEY, SESSION_KEY = PrivateKey(keccak(b"signs receipts")), PrivateKey(keccak(b"signs vouchers"))
KEY, POOR_KEY = "sk-tri-rich", "sk-tri-poor"
POOR = b"\x0f" * 32
OWNER = Address(b"\x77" * 20)
MODEL = SMOLLM2.model
QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


@dataclass
class World:
    url: str
    sessions: ServedSessions
    book: ReceiptBook
    presence: Presence
    miner: "asyncio.Task[None]"
    fabric: FabricServer

    @property
    def rich(self) -> ServedSession:
        return self.sessions.get(SESSION)

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0)


def make_session(session: bytes, deposit: int, hub: HubFacts) -> ServedSession:
    terms = replace(
        make_terms(exposure_cap=10**6), model_id=SMOLLM2.model_id, session_key=address_of(SESSION_KEY.public_key)
    )
    book = VoucherBook(session=session, terms=terms, deposit=Amount(deposit))
    return ServedSession(hub, OWNER, book, SESSION_KEY)


@pytest.fixture
async def world(tmp_path: Path, smollm2: Path) -> AsyncIterator[World]:
    seeds = {name: new_seed() for name in ("router", "admission", "issuer", "miner")}
    fabric = FabricServer(
        tmp_path, router_seed=seeds["router"], admission_seed=seeds["admission"], issuer_seed=seeds["issuer"]
    )
    address = await fabric.start()

    async def admit(key: bytes) -> Address | None:
        return MINER if key == public_bytes(seeds["miner"]) else None

    admission = await connect(address, seeds["admission"], "admission")
    await Admission(admission, seeds["issuer"], admit).start()

    runtime = EmbeddedRuntime(smollm2, slots=2)
    await runtime.start()
    miner_connection = await connect(address, seeds["miner"], "miner")
    offer = Offer(HUB, SMOLLM2.model_id, 50_000, 200_000)
    service = MinerService(
        miner_connection, runtime, miner=MINER, key=SIGNING_KEY, separators={HUB: SEPARATOR}, offers=[offer], slots=2
    )
    miner = asyncio.create_task(service.run())

    router_connection = await connect(address, seeds["router"], "router")
    inbox, presence = ReplyInbox(router_connection, "r1"), Presence(router_connection)
    await inbox.start()
    await presence.start()
    database = await Database.open(tmp_path / "book.sqlite")
    book = ReceiptBook(database)
    hub = HubFacts(HUB, SEPARATOR, {MINER: address_of(SIGNING_KEY.public_key)})
    sessions = ServedSessions()
    sessions.add(make_session(SESSION, 10**6, hub))
    sessions.add(make_session(POOR, 1, hub))
    keys = await ApiKeys.open(database)
    for key, session in ((KEY, SESSION), (POOR_KEY, POOR)):
        await keys.grant(sha256(key.encode()).digest(), OWNER, session, 0)
    callers = Callers(keys, sessions)
    models = [ServedModel(MODEL, SMOLLM2.model_id, 2_048), ServedModel("other", b"\x01" * 32, 2_048)]
    publish = functools.partial(publish_voucher, router_connection)
    own_keys = OwnKeyDesk(book, AwaitingReceipts(database), publish, Amount(2_000))
    desk = Desk(router_connection, inbox, presence, book, own_keys, "r1")
    routes = [*OpenAiApi(desk, callers, models).routes, *ReceiptsApi(callers, book, NoChains()).routes]
    app = create_app(routes, dict)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not (server.started and len(presence.market)):
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    yield World(f"http://127.0.0.1:{port}", sessions, book, presence, miner, fabric)

    server.should_exit = True
    await serving
    miner.cancel()
    with suppress(asyncio.CancelledError):
        await miner
    for connection in (miner_connection, router_connection, admission):
        await connection.close()
    await runtime.close()
    await database.close()
    await fabric.stop()


class NoChains:
    async def climb(self, _: Any) -> Climb:
        return Climb()


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)


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
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 2}, "n"),
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
