"""What a router keeps: its database with book and keys, the sessions in memory, and its place in a fleet."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tristrata.router.fleet import Alone, Fleet, Member
from tristrata.router.forwarding import Forwarder
from tristrata.router.sessions import ServedSessions, restore
from tristrata.storage.api_keys import ApiKeys
from tristrata.storage.awaiting import AwaitingReceipts
from tristrata.storage.batches import Batches
from tristrata.storage.database import Database
from tristrata.storage.files import Files
from tristrata.storage.ownership import Ownerships
from tristrata.storage.receipt_book import ReceiptBook


@dataclass(frozen=True)
class RouterState:
    """One router's state. ``forwarder`` is there in a fleet, whose `Member` is to `run` then."""

    database: Database
    book: ReceiptBook
    awaiting: AwaitingReceipts
    files: Files
    batches: Batches
    keys: ApiKeys
    sessions: ServedSessions
    fleet: Fleet
    forwarder: Forwarder | None


@asynccontextmanager
async def open_state(location: Path | str, name: str, address: str) -> AsyncIterator[RouterState]:
    """The state of router ``name``, in a file or in a database that a fleet shares; others reach it at ``address``."""
    async with AsyncExitStack() as stack:
        database = await Database.open(location)
        stack.push_async_callback(database.close)
        ownerships = Ownerships(database, name, address) if database.is_shared else None
        book, awaiting = ReceiptBook(database, ownerships), AwaitingReceipts(database, ownerships)
        files, batches = Files(database), Batches(database, ownerships)
        keys = await ApiKeys.open(database)
        read_anew = partial(restore, receipts=book, awaiting=awaiting)
        fleet: Fleet = Alone(read_anew)
        forwarder = None
        if ownerships is not None:
            fleet = member = Member(ownerships, read_anew)
            forwarder = await stack.enter_async_context(Forwarder(name, member.is_alive))
            await member.start()
            stack.push_async_callback(member.leave)
        yield RouterState(database, book, awaiting, files, batches, keys, ServedSessions(), fleet, forwarder)
