"""Routers, miners and NATS servers as processes of their own, over one PostgreSQL: a fleet without chains.

What hubs would say (sessions, miners' signing keys) is given; the model is a stub whose answer its prompt determines.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from coincurve import PrivateKey
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import make_terms
from tristrata.fabric.connection import ReplyInbox, connect
from tristrata.fabric.frames import Offer
from tristrata.inference.runtime import Done, Piece, Request, Runtime, TextPiece
from tristrata.miner.service import MinerService
from tristrata.process import LOOPBACK, log_to_stderr, run_service
from tristrata.protocol.answers import TaskKind
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, ModelId, SessionId, chain_ref, eip155
from tristrata.protocol.signing import Domain, address_of
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher_book import VoucherBook
from tristrata.router.app import create_app
from tristrata.router.callers import Callers
from tristrata.router.openai.api import OpenAiApi
from tristrata.router.openai.batching import open_batching
from tristrata.router.openai.catalogue import Catalogue, ServedModel
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.presence import Presence
from tristrata.router.server import serve
from tristrata.router.serving import Desk
from tristrata.router.sessions import HubFacts, ServedSession
from tristrata.router.state import open_state
from tristrata.router.voucher_notices import VoucherNotices
from tristrata.storage.api_keys import ApiKeys
from tristrata.storage.database import Database

HUB = eip155(31_339)
SEPARATOR = Domain(HUB, chain_ref(HUB), Address(b"\x0c" * 20)).separator
MODEL, MODEL_ID = "stub", ModelId(keccak(b"the stub model"))
SESSION_KEY = PrivateKey(keccak(b"signs vouchers"))
PIECES = 6
_PAUSE_SECONDS = 0.01


def miner_address(number: int) -> Address:
    """The account of a miner."""
    return Address(bytes([0x0D, number]) * 10)


def signing_key(number: int) -> PrivateKey:
    """What a miner signs its receipts with."""
    return PrivateKey(keccak(b"signs receipts of %d" % number))


def session_id(number: int) -> SessionId:
    """One of the sessions."""
    return SessionId(keccak(b"session %d" % number))


def api_key(number: int) -> str:
    """The API key of a session."""
    return f"sk-tri-fleet-{number}"


def answer_to(prompt: str) -> list[str]:
    """The only right answer to a prompt, piece by piece."""
    digits = sha256(prompt.encode()).hexdigest()
    return [f"{digits[number * 4 : number * 4 + 4]} " for number in range(PIECES)]


@dataclass(frozen=True)
class Part:
    """What one process of the fleet is started with. ``number`` is a miner's; seeds are hexadecimal."""

    role: str
    name: str
    fabric: str
    seed: str
    number: int = 0
    database: str = ""
    port: int = 0
    miners: int = 0
    sessions: int = 0

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """Start the process."""
        with log.open("ab") as output:
            command = [sys.executable, "-m", "tests.support.fleet", json.dumps(asdict(self))]
            return subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)


class StubRuntime(Runtime):
    """A model whose answer its prompt determines, in small steps, so that whatever dies, dies in the middle."""

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to let go of."""

    async def render(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> str:
        """The last message."""
        return str(request["messages"][-1]["content"])

    async def count_tokens(self, text: str) -> int:
        """As many as every prompt has here."""
        return 5

    async def stream(self, request: Request, kind: TaskKind = TaskKind.CHAT) -> AsyncGenerator[Piece, None]:
        """The pieces, a hundredth of a second apart."""
        for piece in answer_to(await self.render(request)):
            yield TextPiece(piece, 1)
            await asyncio.sleep(_PAUSE_SECONDS)
        yield Done("stop", 5, PIECES)


async def run_miner(part: Part) -> None:
    connection = await connect(part.fabric, bytes.fromhex(part.seed), part.name)
    await MinerService(
        connection,
        StubRuntime(),
        miner=miner_address(part.number),
        key=signing_key(part.number),
        separators={HUB: SEPARATOR},
        offers=[Offer(HUB, MODEL_ID, 50_000, 200_000)],
        slots=64,
    ).run()


async def run_router(part: Part) -> None:
    # As `tristrata.router.service.run` puts it together, without what follows the chains.
    address = f"http://{LOOPBACK}:{part.port}"
    async with AsyncExitStack() as stack:
        state = await stack.enter_async_context(open_state(part.database, part.name, address))
        connection = await connect(part.fabric, bytes.fromhex(part.seed), part.name)
        inbox, presence = ReplyInbox(connection, part.name), Presence(connection)
        await inbox.start()
        await presence.start()
        keys = {miner_address(number): address_of(signing_key(number).public_key) for number in range(part.miners)}
        hub = HubFacts(HUB, SEPARATOR, keys)
        for number in range(part.sessions):
            state.sessions.add(make_session(number, hub))
        notices = VoucherNotices(connection)
        own_keys = OwnKeyDesk(state.book, state.awaiting, notices.tell, Amount(0))
        desk = Desk(connection, inbox, presence, state.book, own_keys, notices, state.fleet, part.name)
        callers = Callers(state.keys, state.sessions)
        api = OpenAiApi(desk, callers, Catalogue([ServedModel(MODEL, MODEL_ID, 2_048)]))
        batching, batches = open_batching(state, connection, desk, api.calls, callers)
        app = create_app([*api.routes, *batching], lambda: {}, state.forwarder)
        async with asyncio.TaskGroup() as group:
            group.create_task(state.fleet.run())
            group.create_task(state.keys.follow())
            group.create_task(batches.run())
            group.create_task(serve(app, LOOPBACK, part.port))


async def grant_keys(database: str, sessions: int) -> None:
    """Give each session's owner an API key."""
    opened = await Database.open(database)
    keys = await ApiKeys.open(opened)
    for number in range(sessions):
        session = make_session(number, HubFacts(HUB, SEPARATOR, {}))
        digest = sha256(api_key(number).encode()).digest()
        await keys.grant(digest, session.owner, session.book.session, Timestamp(0))
    await opened.close()


def make_session(number: int, hub: HubFacts) -> ServedSession:
    """A managed session that can pay for everything that is asked."""
    terms = replace(make_terms(exposure_cap=10**12), model_id=MODEL_ID, session_key=address_of(SESSION_KEY.public_key))
    book = VoucherBook(session=session_id(number), terms=terms, deposit=Amount(10**12))
    return ServedSession(hub, Address(bytes([0x77, number]) * 10), book, SESSION_KEY)


if __name__ == "__main__":
    log_to_stderr()
    given = Part(**json.loads(sys.argv[1]))
    run_service((run_router if given.role == "router" else run_miner)(given))
