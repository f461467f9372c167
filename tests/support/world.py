"""A router in this process over a real NATS server, with the real model as its one miner.

The hub's facts are given here; the chain side of a session is in tests/integration/deployment.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import uvicorn
from coincurve import PrivateKey
from msgspec.structs import replace
from nats.aio.client import Client
from starlette.routing import Route

from tests.unit.protocol.test_voucher_book import SESSION, make_terms
from tristrata.client.paths import Climb
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import ReplyInbox, connect
from tristrata.fabric.frames import Offer
from tristrata.fabric.keys import new_seed, public_bytes
from tristrata.fabric.server import FabricServer
from tristrata.inference.embedded import EmbeddedRuntime
from tristrata.inference.probe import probe
from tristrata.inference.runtime import Runtime
from tristrata.inference.weights import SMOLLM2
from tristrata.miner.service import MinerService
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, chain_ref, eip155
from tristrata.protocol.signing import Domain, address_of
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.app import create_app
from tristrata.router.callers import Callers
from tristrata.router.openai.api import OpenAiApi
from tristrata.router.openai.batching import open_batching
from tristrata.router.openai.catalogue import Catalogue, ServedModel
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.presence import Presence
from tristrata.router.receipts_api import ReceiptsApi
from tristrata.router.serving import Desk
from tristrata.router.sessions import HubFacts, ServedSession, ServedSessions
from tristrata.router.state import open_state
from tristrata.router.voucher_notices import VoucherNotices
from tristrata.storage.api_keys import ApiKeys
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

HUB = eip155(31_339)
SEPARATOR = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20)).separator
MINER, SECOND_MINER = Address(b"\x0d" * 20), Address(b"\x0e" * 20)
SIGNING_KEY, SESSION_KEY = PrivateKey(keccak(b"signs receipts")), PrivateKey(keccak(b"signs vouchers"))
KEY, POOR_KEY = "sk-tri-rich", "sk-tri-poor"
POOR = b"\x0f" * 32
OWNER = Address(b"\x77" * 20)
MODEL = SMOLLM2.model
QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


@dataclass
class World:
    """What runs. ``url`` is without ``/v1``; `KEY` has the session `SESSION`, `POOR_KEY` one without money."""

    url: str
    sessions: ServedSessions
    book: ReceiptBook
    presence: Presence
    miner: "asyncio.Task[None]"
    fabric: FabricServer
    desk: Desk
    callers: Callers
    keys: ApiKeys
    database: Database

    @property
    def rich(self) -> ServedSession:
        """The session with money."""
        return self.sessions.get(SESSION)

    def client(self, key: str = KEY) -> openai.AsyncOpenAI:
        """The official client."""
        return openai.AsyncOpenAI(base_url=self.url + "/v1", api_key=key, max_retries=0)


def make_session(session: bytes, deposit: int, hub: HubFacts) -> ServedSession:
    """A managed session for the model."""
    terms = replace(
        make_terms(exposure_cap=10**6), model_id=SMOLLM2.model_id, session_key=address_of(SESSION_KEY.public_key)
    )
    book = VoucherBook(session=session, terms=terms, deposit=Amount(deposit))
    return ServedSession(hub, OWNER, book, SESSION_KEY)


@asynccontextmanager
async def open_world(
    folder: Path,
    weights: Path,
    runtime: Runtime | None = None,
    more_routes: Callable[[World], list[Route]] = lambda _: [],
    *,
    second: Runtime | None = None,
    hedge_seconds: float = 0,
) -> AsyncIterator[World]:
    """A world in ``folder``. ``runtime`` is what the miner runs, else the real model; ``more_routes`` is served too.

    ``second`` is what another miner runs, which asks more.
    """
    seeds = {name: new_seed() for name in ("router", "admission", "issuer", "miner", "second")}
    miners = {public_bytes(seeds["miner"]): MINER, public_bytes(seeds["second"]): SECOND_MINER}
    fabric = FabricServer(
        folder, router_seed=seeds["router"], admission_seed=seeds["admission"], issuer_seed=seeds["issuer"]
    )
    address = await fabric.start()

    async def admit(key: bytes) -> Address | None:
        return miners.get(key)

    admission = await connect(address, seeds["admission"], "admission")
    await Admission(admission, seeds["issuer"], admit).start()

    runtime = runtime or EmbeddedRuntime(weights, slots=2)
    await runtime.start()
    mining = [await _start_miner(address, seeds["miner"], MINER, runtime, 50_000)]
    if second is not None:
        mining.append(await _start_miner(address, seeds["second"], SECOND_MINER, second, 90_000))
    _, miner = mining[0]

    router_connection = await connect(address, seeds["router"], "router")
    inbox, presence = ReplyInbox(router_connection, "r1"), Presence(router_connection)
    await inbox.start()
    await presence.start()
    opened = open_state(folder / "book.sqlite", "r1", "")
    state = await opened.__aenter__()
    book, keys, sessions = state.book, state.keys, state.sessions
    signer = address_of(SIGNING_KEY.public_key)
    hub = HubFacts(HUB, SEPARATOR, {MINER: signer, SECOND_MINER: signer})
    sessions.add(make_session(SESSION, 10**6, hub))
    sessions.add(make_session(POOR, 1, hub))
    for key, session in ((KEY, SESSION), (POOR_KEY, POOR)):
        await keys.grant(sha256(key.encode()).digest(), OWNER, session, 0)
    callers = Callers(keys, sessions)
    models = [ServedModel(MODEL, SMOLLM2.model_id, 2_048), ServedModel("other", b"\x01" * 32, 2_048)]
    notices = VoucherNotices(router_connection)
    own_keys = OwnKeyDesk(book, state.awaiting, notices.tell, Amount(2_000))
    desk = Desk(
        router_connection, inbox, presence, book, own_keys, notices, state.fleet, "r1", hedge_seconds=hedge_seconds
    )
    world = World("", sessions, book, presence, miner, fabric, desk, callers, keys, state.database)
    api = OpenAiApi(desk, callers, Catalogue(models))
    batching, batches = open_batching(state, router_connection, desk, api.calls, callers)
    running = asyncio.create_task(batches.run())
    routes = [*api.routes, *batching, *ReceiptsApi(callers, book, NoChains()).routes]
    app = create_app([*routes, *more_routes(world)], dict)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not (server.started and len(presence.market) == len(mining)):
            await asyncio.sleep(0.01)
    world.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield world

    server.should_exit = True
    await serving
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    for _, each in mining:
        each.cancel()
        with suppress(asyncio.CancelledError):
            await each
    for connection in (*(connection for connection, _ in mining), router_connection, admission):
        await connection.close()
    await runtime.close()
    await opened.__aexit__(None, None, None)
    await fabric.stop()


async def _start_miner(
    fabric: str, seed: bytes, miner: Address, runtime: Runtime, price: int
) -> "tuple[Client, asyncio.Task[None]]":
    connection = await connect(fabric, seed, miner.hex()[:4])
    offer = Offer(HUB, SMOLLM2.model_id, price, 4 * price, await probe(runtime))
    service = MinerService(
        connection, runtime, miner=miner, key=SIGNING_KEY, separators={HUB: SEPARATOR}, offers=[offer], slots=2
    )
    return connection, asyncio.create_task(service.run())


class NoChains:
    """Where no receipt has climbed."""

    async def climb(self, _: Any) -> Climb:
        """Nothing."""
        return Climb()


async def eventually(condition: Any) -> None:
    """Wait until an asynchronous condition holds."""
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.02)
