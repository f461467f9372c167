"""Sessions in memory: what the hub says of each, its voucher book, and who signs its vouchers."""

import asyncio
from collections.abc import Iterable

import msgspec
from coincurve import PrivateKey

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2, RequestId, SessionId, show
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher_book import Acknowledge, Reserve, VoucherBook, apply
from tristrata.storage.awaiting import AwaitingReceipt, AwaitingReceipts
from tristrata.storage.receipt_book import ReceiptBook

_RECENT = 1_000


class SessionUnknown(TristrataError):
    """The router does not serve this session."""


class HubFacts(msgspec.Struct):
    """What a router knows of one hub: the receipt domain, and each miner's signing key there."""

    chain: Caip2
    separator: bytes
    signing_keys: dict[Address, Address]


class SessionLife(msgspec.Struct):
    """What the hub shows of a session's end. ``closing_at`` is 0 while nobody has asked to close it.

    ``refund`` (base units) is what went back to the owner; `None` until then. ``forfeited`` says that its key signed
    vouchers that contradict each other.
    """

    closing_at: Timestamp = Timestamp(0)
    refund: Amount | None = None
    forfeited: bool = False


class ServedSession(msgspec.Struct):
    """One session while it is served. ``bound`` is the miner that answered last.

    ``is_stale`` says that the database may know better: it is read anew before the session is served again.

    ``key`` is the session's key in managed custody; `None` where its owner keeps it. Then ``awaiting`` holds the
    receipts that await the owner's vouchers, in the order they ended, and ``vouchering`` lets in one list of them at a
    time.
    """

    hub: HubFacts
    owner: Address
    book: VoucherBook
    key: PrivateKey | None
    bound: Address | None = None
    is_stale: bool = False
    life: SessionLife = msgspec.field(default_factory=SessionLife)
    awaiting: dict[RequestId, AwaitingReceipt] = {}
    vouchering: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)

    @property
    def custody(self) -> str:
        """Who keeps the session's key: ``managed`` by the router, or ``own``."""
        return "own" if self.key is None else "managed"


class ServedSessions:
    """All sessions of this router; it is the only one that serves them."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, ServedSession] = {}
        self._owned: dict[bytes, tuple[SessionId, ...]] = {}

    def add(self, session: ServedSession) -> None:
        """Serve a session."""
        session_id = session.book.session
        if session_id not in self._sessions:
            self._owned[session.owner] = (*self.of(session.owner), session_id)
        self._sessions[session_id] = session

    def get(self, session: SessionId) -> ServedSession:
        """A session that is served. Raises `SessionUnknown`."""
        served = self._sessions.get(session)
        if served is None:
            raise SessionUnknown(f"session {show(session)} is not served here", remedy="open a session")
        return served

    def find(self, session: SessionId) -> ServedSession | None:
        """A session that is served, or `None`."""
        return self._sessions.get(session)

    def awaiting(self) -> list[AwaitingReceipt]:
        """Every receipt that awaits a voucher."""
        return [awaiting for session in self._sessions.values() for awaiting in session.awaiting.values()]

    def all(self) -> list[ServedSession]:
        """Every session that is served."""
        return list(self._sessions.values())

    def of(self, owner: bytes) -> tuple[SessionId, ...]:
        """An owner's sessions, the newest last."""
        return self._owned.get(owner, ())


async def replay(book: VoucherBook, receipts: ReceiptBook) -> VoucherBook:
    """The voucher book as it was when its last entry was written down: its receipts, acknowledged again in order."""
    for entry in await receipts.entries(book.session):
        reserve = Reserve(entry.receipt.request_id, entry.receipt.price)
        # What was acknowledged once is owed, whatever the caps are now.
        open_book = msgspec.structs.replace(
            book,
            ending=False,
            charged=book.cumulative,
            deposit=max(book.deposit, book.cumulative + entry.receipt.price),
        )
        reserved, _ = apply(open_book, reserve)
        acknowledged, _ = apply(reserved, Acknowledge(entry.receipt))
        book = msgspec.structs.replace(acknowledged, ending=book.ending, charged=book.charged, deposit=book.deposit)
    return book


async def restore(served: ServedSession, receipts: ReceiptBook, awaiting: AwaitingReceipts) -> None:
    """Read a session anew from the database; what is being answered here stays reserved."""
    was = served.book
    blank = msgspec.structs.replace(was, cumulative=Amount(0), earned={}, reserved={}, tree=IncrementalTree())
    read = await replay(blank, receipts)
    waiting = await awaiting.of(was.session) if served.key is None else []
    now = served.book  # the hub's events went on meanwhile
    known = {entry.receipt.request_id for entry in await receipts.newest(was.session, _RECENT)}
    open_requests = {request: amount for request, amount in now.reserved.items() if request not in known}
    book = msgspec.structs.replace(
        read, terms=now.terms, deposit=now.deposit, ending=now.ending, charged=now.charged, reserved=open_requests
    )
    served.awaiting = {each.receipt.request_id: each for each in waiting}
    served.book = with_awaiting(book, waiting)
    served.is_stale = False
    receipts.mend(was.session, served.book.tree.count)


def with_awaiting(book: VoucherBook, awaiting: Iterable[AwaitingReceipt]) -> VoucherBook:
    """The book with these receipts awaiting vouchers again, whatever the caps are now."""
    prices = {each.receipt.request_id: each.receipt.price for each in awaiting}
    return msgspec.structs.replace(book, reserved={**book.reserved, **prices})
