"""The settler as a process: from the receipt book to charges on the hubs, again and again."""

import asyncio
import time
from contextlib import AsyncExitStack

import structlog
from sqlalchemy.exc import OperationalError

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Caip2, SessionId
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.protocol.voucher import Split, parse_splits
from tristrata.settler.due import due
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

SETTLER = "settler"
"""Keystore: the account that pays for charges."""

_POLL_SECONDS = 0.25
_log = structlog.get_logger()


async def run(settings: ActorSettings, router: str = "router") -> None:
    """Charge until cancelled. ``router`` names the router of this home whose receipt book is settled."""
    network, home = settings.network, settings.home
    key = load_key(home.keystore(SETTLER), read_password(home.password_file))
    charge_after = Milliseconds(int(network.parameters.charge_after_seconds * 1_000))
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        books = await Database.open_to_read(home.actor(router) / f"{router}.sqlite")
        stack.push_async_callback(books.close)
        intents = Intents(database)
        hubs = open_hubs(network, settings.manifest, chains)
        followed = {caip2: _ChargedHub(hub, TransactionWriter(hub.chain, key, intents)) for caip2, hub in hubs.items()}
        settler = Settler(ReceiptBook(books), followed, charge_after)
        while True:
            try:
                await settler.charge_due(Milliseconds(time.time_ns() // 1_000_000))
            except OperationalError as error:
                _log.warning("the receipt book cannot be read yet", reason=str(error.orig))
            except TristrataError as error:
                _log.warning("not charged, tried again soon", reason=error.message)
            await asyncio.sleep(_POLL_SECONDS)


class Settler:
    """Charges what is due on every hub."""

    def __init__(self, book: ReceiptBook, hubs: "dict[Caip2, _ChargedHub]", charge_after: Milliseconds) -> None:
        self._book = book
        self._hubs = hubs
        self._charge_after = charge_after

    async def charge_due(self, now: Milliseconds) -> None:
        """Charge every session whose time has come. One session's refusal does not keep another waiting."""
        await asyncio.gather(*(hub.catch_up() for hub in self._hubs.values()))
        latest = [entry for entry in await self._book.latest() if entry.chain in self._hubs]
        charged = {session: amount for hub in self._hubs.values() for session, amount in hub.charged.items()}
        ready = due(latest, charged, now, self._charge_after)
        await asyncio.gather(*(self._hubs[entry.chain].charge(entry) for entry in ready))


class _ChargedHub:
    """One hub: what was charged of its sessions, as its events say."""

    def __init__(self, hub: Hub, writer: TransactionWriter) -> None:
        self.charged: dict[SessionId, Amount] = {}
        self._splits: dict[SessionId, tuple[Split, ...]] = {}
        self._hub = hub
        self._writer = writer
        self._next_block = hub.first_block

    async def catch_up(self) -> None:
        head = (await self._hub.chain.block(Level.SOFT)).number
        if head < self._next_block:
            return
        for event in await self._hub.events(self._next_block, head):
            if event.name == "Charged":
                session = SessionId(event.values["session_id"])
                self.charged[session] = Amount(event.values["cumulative"])
                self._splits[session] = parse_splits(event.values["splits"])
        self._next_block = head + 1

    async def charge(self, entry: BookEntry) -> None:
        session = entry.receipt.session
        try:
            done = await self._hub.charge(self._writer, entry.voucher, self._splits.get(session, ()))
        except TristrataError as error:
            _log.warning("session not charged", session=session.hex(), reason=error.message)
            return
        _log.info("session charged", session=session.hex(), hub=self._hub.name, gas=done.gas_used)
