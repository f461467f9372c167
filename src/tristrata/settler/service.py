"""The settler as a process: from the receipt book to charges and sealed epochs on the hubs, again and again."""

import asyncio
import time
from contextlib import AsyncExitStack

import structlog
from sqlalchemy.exc import OperationalError

from tristrata.bindings.history import HubHistory
from tristrata.bindings.hub import Hub, open_hubs
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.settler.due import due, one_batch
from tristrata.settler.proposals import Proposer
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.content_store import ContentStore
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

SETTLER = "settler"
"""Keystore: the account that pays for charges and epochs."""

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0
_log = structlog.get_logger()


async def run(settings: ActorSettings, router: str = "router") -> None:
    """Settle until cancelled. ``router`` names the router of this home whose receipt book is settled.

    With a database's URL the book is there, with all that a fleet of routers has written.
    """
    network, home = settings.network, settings.home
    key = load_key(home.keystore(SETTLER), read_password(home.password_file))
    charge_after = Milliseconds(int(network.parameters.charge_after_seconds * 1_000))
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        books = await Database.open_to_read(settings.database_url or home.actor(router) / f"{router}.sqlite")
        stack.push_async_callback(books.close)
        intents, book = Intents(database), ReceiptBook(books)
        store, attestations = ContentStore(home.content), Attestations(Bulletin(home.bulletin))
        hubs = [
            HubSettler(hub, TransactionWriter(hub.chain, key, intents), book, store, attestations, charge_after)
            for hub in open_hubs(network, settings.manifest, chains).values()
        ]
        while True:
            now = Milliseconds(time.time_ns() // 1_000_000)
            await asyncio.gather(*(_try(hub, now) for hub in hubs))
            await asyncio.sleep(_POLL_SECONDS)


async def _try(hub: "HubSettler", now: Milliseconds) -> None:
    try:
        await hub.step(now)
    except OperationalError as error:
        _log.warning("the receipt book cannot be read yet", reason=str(error.orig))
    except TristrataError as error:
        _log.warning("not settled, tried again soon", hub=hub.name, reason=error.message)


class HubSettler:
    """One hub. Charges are sent alone while no epoch is under way, and in the ``settle`` transaction of one that is."""

    def __init__(
        self,
        hub: Hub,
        writer: TransactionWriter,
        book: ReceiptBook,
        store: ContentStore,
        attestations: Attestations,
        charge_after: Milliseconds,
    ) -> None:
        self.name = hub.name
        self._hub = hub
        self._writer = writer
        self._book = book
        self._charge_after = charge_after
        self._history = HubHistory(hub)
        self._proposer = Proposer(self._history, book, store, attestations, writer.address)
        self._proposed: tuple[Epoch, float] | None = None
        self._resumed = False

    async def step(self, now: Milliseconds) -> None:
        """Do the next thing that is due."""
        head = await self._history.catch_up(Level.SOFT)
        epoch = self._current()
        waiting = await self._due(now, head)
        if epoch is not None:
            signatures = await self._quorum(epoch, head)
            if signatures:
                await self._settle(epoch, signatures, waiting)
            elif waiting and self._is_overdue():
                await self._charge(waiting)  # validators keep their word to nobody's loss
            return
        if waiting:
            await self._charge(waiting)
        await self._propose_if_needed()

    def _current(self) -> Epoch | None:
        """The proposal that is under way: this process's, or the one of its last life."""
        last = self._history.last_sealed
        number = last.epoch + 1 if last else 1
        if not self._resumed:
            self._resumed = True
            if (resumed := self._proposer.resume(number)) is not None:
                self._proposed = (resumed, time.monotonic())
        if self._proposed is not None and self._proposed[0].epoch < number:
            self._proposed = None  # sealed, by this settler or another
        return self._proposed[0] if self._proposed else None

    def _is_overdue(self) -> bool:
        return self._proposed is not None and time.monotonic() - self._proposed[1] > _PATIENCE_SECONDS

    async def _due(self, now: Milliseconds, head: int) -> list[BookEntry]:
        latest = [entry for entry in await self._book.latest() if entry.chain == self._hub.caip2]
        charged = {session: Amount(found.cumulative) for session, found in self._history.charged_at(head).items()}
        return one_batch(due(latest, charged, now, self._charge_after))

    async def _propose_if_needed(self) -> None:
        finalized = (await self._hub.chain.block(Level.FINALIZED)).number
        last = self._history.last_sealed
        block, sealed_in = (last.block, last.sealed_in) if last else (0, 0)
        children = any(child.block > sealed_in for child in self._history.children)
        if finalized <= block:
            return
        number = last.epoch + 1 if last else 1
        epoch = await self._proposer.propose(number, finalized, has_new_children=children)
        if epoch is not None:
            self._proposed = (epoch, time.monotonic())
            _log.info("epoch proposed", hub=self.name, epoch=epoch.epoch, block=epoch.block_number)

    async def _quorum(self, epoch: Epoch, head: int) -> tuple[bytes, ...]:
        """Signatures enough to seal the epoch, in order of signer; none while there are not."""
        found = self._proposer.signatures(epoch)
        return await self._hub.quorum_of(found, at=head)

    async def _settle(self, epoch: Epoch, signatures: tuple[bytes, ...], waiting: list[BookEntry]) -> None:
        charges = [(entry.voucher, self._history.last_charge(entry.receipt.session)) for entry in waiting]
        done = await self._hub.settle(self._writer, charges, epoch, signatures)
        _log.info("epoch sealed", hub=self.name, epoch=epoch.epoch, charges=len(charges), gas=done.gas_used)

    async def _charge(self, waiting: list[BookEntry]) -> None:
        await asyncio.gather(*(self._charge_one(entry) for entry in waiting))

    async def _charge_one(self, entry: BookEntry) -> None:
        session = entry.receipt.session
        try:
            done = await self._hub.charge(self._writer, entry.voucher, self._history.last_charge(session))
        except TristrataError as error:  # one session's refusal does not keep another waiting
            _log.warning("session not charged", session=session.hex(), reason=error.message)
            return
        _log.info("session charged", session=session.hex(), hub=self.name, gas=done.gas_used)
