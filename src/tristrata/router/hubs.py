"""The router's view of one hub: it follows the hub's events in the background, so that no request waits for a chain."""

import asyncio
import heapq
import time

import msgspec
import structlog
from coincurve import PrivateKey

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub
from tristrata.chains.evm import Level
from tristrata.custody.session_keys import derive_session_key
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.signing import address_of
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import parse_splits
from tristrata.protocol.voucher_book import ChargeSeen, DepositSeen, EndingSeen, VoucherBook, apply
from tristrata.router.sessions import HubFacts, ServedSession, ServedSessions, replay, with_awaiting
from tristrata.storage.awaiting import AwaitingReceipts
from tristrata.storage.receipt_book import ReceiptBook

_POLL_SECONDS = 0.25
_BLOCKS_AT_ONCE = 5_000
_log = structlog.get_logger()


class HubFollower:
    """Keeps `ServedSessions` and one hub's `HubFacts` as the chain's soft blocks say.

    ``behind`` is how many blocks it has not taken in, ``followed_at`` when it last had none, by the monotonic clock.
    A session is served if it names this router, and is either managed with the session key that ``master`` derives for
    it, or not managed at all: then its owner signs its vouchers.
    """

    def __init__(
        self,
        hub: Hub,
        router: Address,
        master: bytes,
        sessions: ServedSessions,
        receipts: ReceiptBook,
        awaiting: AwaitingReceipts,
    ) -> None:
        self.hub = hub
        self.facts = HubFacts(hub.caip2, hub.settlement_domain.separator, {})
        self.managed_deposits = Amount(0)
        self._router = router
        self._master = master
        self._sessions = sessions
        self._receipts = receipts
        self._awaiting = awaiting
        self._grace: Seconds | None = None
        self._next_block = hub.first_block
        self.behind = 0
        self.followed_at = float("-inf")
        self._expiries: list[tuple[Timestamp, SessionId]] = []
        self._lock = asyncio.Lock()

    def session_key(self, session: SessionId) -> PrivateKey:
        """The key that signs this session's vouchers."""
        return derive_session_key(self._master, session)

    @property
    def grace(self) -> Seconds:
        """Seconds from a close request, or the expiry, to the close, as the hub has it."""
        assert self._grace is not None, "asked before the first catch_up"
        return self._grace

    async def run(self) -> None:
        """Follow until cancelled; a chain that does not answer is asked again."""
        while True:
            try:
                await self.catch_up()
            except TristrataError as error:
                _log.warning("hub not followed", hub=self.hub.name, reason=error.message)
            await asyncio.sleep(_POLL_SECONDS)

    async def catch_up(self) -> None:
        """Take in everything up to the newest soft block."""
        async with self._lock:
            head = await self.hub.chain.block(Level.SOFT)
            self.behind = max(0, head.number + 1 - self._next_block)
            if self._grace is None:
                self._grace = Seconds(await self.hub.sessions.read("grace", at=head.number))
            while self._next_block <= head.number:
                last = min(head.number, self._next_block + _BLOCKS_AT_ONCE - 1)
                events = await self.hub.events(self._next_block, last)
                # Everything that can fail comes first, so that no event is taken in twice.
                opened = {
                    event.values["session_id"]: served
                    for event in events
                    if event.name == "Opened" and (served := await self._open(event, head.number)) is not None
                }
                for event in events:
                    self._take(event, opened)
                self._next_block = last + 1
            self._end_expired(head.timestamp)
            self.behind, self.followed_at = 0, time.monotonic()

    async def _open(self, event: Event, block: int) -> ServedSession | None:
        session = SessionId(event.values["session_id"])
        record = await self.hub.session(session, at=block)
        key = self.session_key(session)
        if record is None or record.terms.router != self._router:
            return None
        if record.terms.managed != (record.terms.session_key == address_of(key.public_key)):
            return None  # a managed key that nobody here has, or a key of the router's that no bond answers for
        book = VoucherBook(session=session, terms=record.terms, deposit=Amount(event.values["deposit"]))
        book = await replay(book, self._receipts)
        if record.terms.managed:
            return ServedSession(self.facts, record.owner, book, key)
        awaiting = await self._awaiting.of(session)
        by_request = {each.receipt.request_id: each for each in awaiting}
        return ServedSession(self.facts, record.owner, with_awaiting(book, awaiting), None, awaiting=by_request)

    def _take(self, event: Event, opened: dict[bytes, ServedSession]) -> None:
        if event.name == "MinerRegistered":
            self.facts.signing_keys[event.values["miner"]] = event.values["signing_key"]
        elif event.name == "Opened" and (served := opened.get(event.values["session_id"])) is not None:
            self._sessions.add(served)
            heapq.heappush(self._expiries, (served.book.terms.expiry, served.book.session))
            self._count_managed(served, served.book.deposit)
        elif event.name in ("ToppedUp", "KeyReplaced", "CloseRequested", "Closed", "Forfeited", "Charged"):
            self._update(event, SessionId(event.values["session_id"]))

    def _end_expired(self, now: Timestamp) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            _, session = heapq.heappop(self._expiries)
            served = self._sessions.get(session)
            served.book, _ = apply(served.book, EndingSeen())

    def _update(self, event: Event, session: SessionId) -> None:
        served = self._sessions.find(session)
        if served is None:
            return
        match event.name:
            case "ToppedUp":
                amount = event.values["amount"]
                self._count_managed(served, amount)
                served.book, _ = apply(served.book, DepositSeen(Amount(served.book.deposit + amount)))
            case "Charged":
                charged = sum(split.amount for split in parse_splits(event.values["splits"]))
                served.book, _ = apply(served.book, ChargeSeen(Amount(charged)))
            case "CloseRequested":
                served.book, _ = apply(served.book, EndingSeen())
                served.life.closing_at = Timestamp(event.values["closing_at"])
            case "KeyReplaced":
                ended, _ = apply(served.book, EndingSeen())
                terms = msgspec.structs.replace(ended.terms, session_key=event.values["new_key"])
                served.book = msgspec.structs.replace(ended, terms=terms)
            case "Closed" | "Forfeited":
                served.book, _ = apply(served.book, EndingSeen())
                served.life.refund = Amount(event.values["refund"])
                served.life.forfeited = event.name == "Forfeited"
                self._count_managed(served, -served.book.deposit)

    def _count_managed(self, served: ServedSession, amount: int) -> None:
        if served.key is not None:
            self.managed_deposits = Amount(self.managed_deposits + amount)
