"""The full path without chains: a real NATS server with admission, a router process, a miner process, a real book.

What the hubs would say (sessions, the miner's signing key) is given; the model is a stub that answers at once.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from hashlib import sha256
from pathlib import Path

import msgspec
from coincurve import PrivateKey

from benchmarks.answer import AHEAD_SECONDS, AHEAD_SEED, MODEL, PAUSES, PIECES, PROMPT_TOKENS
from benchmarks.children import child, free_port
from benchmarks.load import LOOPBACK, Target
from benchmarks.stats import BenchmarkFailed
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import ReplyInbox, connect
from tristrata.fabric.frames import Offer
from tristrata.fabric.keys import new_seed, public_bytes
from tristrata.fabric.server import FabricServer
from tristrata.inference.runtime import Done, Piece, Request, TextPiece
from tristrata.miner.service import MinerService
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ModelId, SessionId, chain_ref, eip155
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import Domain, address_of, digest, require_signer
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, BasisPoints, PricePerMillion, Timestamp
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.app import create_app
from tristrata.router.callers import Callers
from tristrata.router.openai.api import OpenAiApi
from tristrata.router.openai.catalogue import Catalogue, ServedModel
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.presence import Presence
from tristrata.router.server import serve
from tristrata.router.serving import Desk
from tristrata.router.sessions import HubFacts, ServedSession
from tristrata.router.state import open_state
from tristrata.router.voucher_notices import VoucherNotices
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

HUB = eip155(31_339)
SEPARATOR = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20)).separator
MINER, ROUTER = Address(b"\x0d" * 20), Address(b"\xee" * 20)
MODEL_ID = ModelId(keccak(b"the stub model"))
SIGNING_KEY, SESSION_KEY = PrivateKey(keccak(b"signs receipts")), PrivateKey(keccak(b"signs vouchers"))
SLOTS = 512
PROMPT_PRICE, OUTPUT_PRICE = 50_000, 200_000
_DEPOSIT = Amount(2**60)
_ROUTER_NAME = "r1"


class FabricSeeds(msgspec.Struct, frozen=True):
    """The seeds of everybody on the fabric, 32 bytes each."""

    router: bytes
    admission: bytes
    issuer: bytes
    miner: bytes


class Network(msgspec.Struct, frozen=True):
    """The running path: where to ask it, its processes, its book."""

    target: Target
    pids: dict[str, int]
    book: Path


@asynccontextmanager
async def network(folder: Path, sessions: int) -> AsyncIterator[Network]:
    """Start NATS, a router and a miner; serve ``sessions`` sessions, each with a key. Everything ends at the end."""
    seeds = FabricSeeds(new_seed(), new_seed(), new_seed(), new_seed())
    fabric = FabricServer(
        folder / "nats", router_seed=seeds.router, admission_seed=seeds.admission, issuer_seed=seeds.issuer
    )

    async def admit(key: bytes) -> Address | None:
        return MINER if key == public_bytes(seeds.miner) else None

    async with AsyncExitStack() as stack:
        stack.push_async_callback(fabric.stop)
        url = await fabric.start()
        admission = await connect(url, seeds.admission, "admission")
        stack.push_async_callback(admission.close)
        await Admission(admission, seeds.issuer, admit).start()
        book, port = folder / "book.sqlite", free_port()
        miner = await stack.enter_async_context(child("miner", _run_miner, url, seeds.miner))
        keys = tuple(f"sk-tri-{number}" for number in range(sessions))
        router = await stack.enter_async_context(
            child("router", _run_router, url, seeds.router, book, keys, port, port=port)
        )
        assert fabric.pid is not None
        pids = {"router": router, "miner": miner, "nats": fabric.pid}
        yield Network(Target("router", port, keys, receipts=True), pids, book)


def make_session(number: int) -> ServedSession:
    """A session that can pay for everything that a benchmark asks."""
    terms = Terms(
        session_key=address_of(SESSION_KEY.public_key),
        router=ROUTER,
        managed=False,
        model_id=MODEL_ID,
        assurance=Assurance.NONE,
        replicas=1,
        router_bps=BasisPoints(500),
        max_prompt_price=PricePerMillion(10**6),
        max_output_price=PricePerMillion(10**6),
        max_per_day=Amount(0),
        exposure_cap=_DEPOSIT,
        expiry=Timestamp(2**40),
    )
    book = VoucherBook(session=SessionId(keccak(b"session %d" % number)), terms=terms, deposit=_DEPOSIT)
    hub = HubFacts(HUB, SEPARATOR, {MINER: address_of(SIGNING_KEY.public_key)})
    return ServedSession(hub, Address(b"\x77" * 20), book, SESSION_KEY)


async def check_book(path: Path, answers: int) -> None:
    """Raise `BenchmarkFailed` unless the book holds a receipt of every answer, and vouchers that pay for all."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        [count] = connection.execute("SELECT COUNT(*) FROM receipt_book").fetchone()
    if count != answers:
        raise BenchmarkFailed(f"the receipt book holds {count} receipts; {answers} answers were streamed")
    database = await Database.open_to_read(path)
    try:
        latest = await ReceiptBook(database).latest()
    finally:
        await database.close()
    vouchered = sum(entry.voucher.voucher.count for entry in latest)
    if vouchered != answers:
        raise BenchmarkFailed(f"the newest vouchers acknowledge {vouchered} receipts of {answers}")
    for entry in latest:
        for struct_hash, signature, key in (
            (entry.receipt.struct_hash, entry.signature, SIGNING_KEY),
            (entry.voucher.voucher.struct_hash, entry.voucher.signature, SESSION_KEY),
        ):
            signer = address_of(key.public_key)
            require_signer(digest(SEPARATOR, struct_hash), signature, signer, "a receipt or voucher of the book")


class StubRuntime:
    """A model that has its answer ready: 20 pieces at once, of one token each."""

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The messages, one a line."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in request["messages"])

    async def count_tokens(self, text: str) -> int:
        """As many as every prompt has here."""
        return PROMPT_TOKENS

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """The pieces, without a pause but the one that is asked for."""
        yield TextPiece(PIECES[0], 1)
        if request.get("seed") == AHEAD_SEED:
            await asyncio.sleep(AHEAD_SECONDS)
        for piece in PIECES[1:]:
            if request.get("seed") in PAUSES:
                await asyncio.sleep(PAUSES[request["seed"]])
            yield TextPiece(piece, 1)
        yield Done("stop", PROMPT_TOKENS, len(PIECES))


async def _run_miner(url: str, seed: bytes) -> None:
    connection = await connect(url, seed, "miner")
    try:
        await MinerService(
            connection,
            StubRuntime(),
            miner=MINER,
            key=SIGNING_KEY,
            separators={HUB: SEPARATOR},
            offers=[Offer(HUB, MODEL_ID, PROMPT_PRICE, OUTPUT_PRICE)],
            slots=SLOTS,
        ).run()
    finally:
        await connection.close()


async def _run_router(url: str, seed: bytes, path: Path, keys: tuple[str, ...], port: int) -> None:
    # As `tristrata.router.service.run` puts it together, without what follows the chains.
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(path, _ROUTER_NAME, ""))
        connection = await connect(url, seed, "router")
        stack.push_async_callback(connection.close)
        inbox, presence = ReplyInbox(connection, _ROUTER_NAME), Presence(connection)
        await inbox.start()
        await presence.start()
        for number, key in enumerate(keys):
            session = make_session(number)
            state.sessions.add(session)
            await state.keys.grant(sha256(key.encode()).digest(), session.owner, session.book.session, Timestamp(0))
        notices = VoucherNotices(connection)
        own_keys = OwnKeyDesk(state.book, state.awaiting, notices.tell, Amount(0))
        desk = Desk(connection, inbox, presence, state.book, own_keys, notices, state.fleet, _ROUTER_NAME)
        stack.push_async_callback(desk.drain)
        models = [ServedModel(MODEL, MODEL_ID, 2_048)]
        while not len(presence.market):  # noqa: ASYNC110 — it has no event to wait for
            await asyncio.sleep(0.01)
        api = OpenAiApi(desk, Callers(state.keys, state.sessions), Catalogue(models))
        await serve(create_app(api.routes, dict), LOOPBACK, port)
