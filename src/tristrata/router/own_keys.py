"""Sessions whose key is their owner's: receipts that await vouchers, and the vouchers as they come.

The router computes each voucher as the owner does, so that only signatures travel.
"""

import time
from collections.abc import Callable, Sequence

import msgspec

from tristrata.protocol.errors import InvalidSignature, TristrataError
from tristrata.protocol.ids import RequestId, show
from tristrata.protocol.signing import digest, require_signer
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.protocol.voucher import SignedVoucher
from tristrata.protocol.voucher_book import Acknowledge, AwaitVoucher, ExposureReached, VoucherBook, apply
from tristrata.router.sessions import ServedSession
from tristrata.storage.awaiting import AwaitingReceipt, AwaitingReceipts
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

MAX_VOUCHERS = 256
"""How many vouchers one request may bring."""

Tell = Callable[[ServedSession, SignedVoucher], None]
"""Tells a session's payees of its newest voucher: `VoucherNotices.tell`."""


class VoucherConflict(TristrataError):
    """Vouchers that do not continue the session as the router has it; nothing of them was taken."""


class PostedVoucher(msgspec.Struct, frozen=True):
    """An owner's signature over the voucher that acknowledges this request next."""

    request_id: RequestId
    signature: bytes


class OwnKeyDesk:
    """Keeps what awaits vouchers, and takes them. ``limit`` (base units) is what a session may have without them."""

    def __init__(self, book: ReceiptBook, awaiting: AwaitingReceipts, tell: Tell, limit: Amount) -> None:
        self._book = book
        self._awaiting = awaiting
        self._tell = tell
        self._limit = limit

    def require_vouchers(self, session: ServedSession, most: Amount) -> None:
        """Raise `ExposureReached` where vouchers are to come before a request that may cost ``most``."""
        book = session.book
        over_session = book.exposure + most > book.terms.exposure_cap
        over_router = book.in_flight + most > self._limit
        if session.awaiting and (over_session or over_router):
            raise ExposureReached(
                f"the request may cost {most}; {len(session.awaiting)} receipts await your vouchers, which is "
                f"{book.in_flight} with what is being answered, and before them this router takes {self._limit}, the "
                f"session {book.terms.exposure_cap}",
                remedy=f"sign them: GET /v1/sessions/{show(book.session)}/awaiting, then POST …/vouchers",
            )
        if over_router:
            raise ExposureReached(
                f"the request may cost {most}; with what is being answered that is more than the {self._limit} that "
                "this router takes before a voucher",
                remedy="ask for fewer tokens (max_tokens), or for fewer answers at once",
            )

    async def add(self, session: ServedSession, awaiting: AwaitingReceipt) -> None:
        """Take in a checked receipt: its price stays reserved until its voucher. Raises `ReceiptRefused`."""
        session.book, _ = apply(session.book, AwaitVoucher(awaiting.receipt))
        session.awaiting[awaiting.receipt.request_id] = awaiting
        try:
            await self._awaiting.add(awaiting)
        except BaseException:
            session.is_stale = True
            raise

    async def take(self, session: ServedSession, posted: Sequence[PostedVoucher]) -> int:
        """Acknowledge receipts in the order given, all or none; gives how many were new.

        What is in the book already with the same signature is passed over, so that a list whose answer was lost can be
        sent again. Raises `VoucherConflict`.
        """
        async with session.vouchering:
            fresh = await self._without_known(session, posted)
            entries = _entries(session, fresh)
            if not entries:
                return 0
            await self._book.append_all(entries)  # on disk before in memory: whatever fails, both say the same
            for entry in entries:
                session.book, _ = apply(session.book, Acknowledge(entry.receipt))
                del session.awaiting[entry.receipt.request_id]
            await self._awaiting.drop([entry.receipt.request_id for entry in entries])
            self._tell(session, entries[-1].voucher)
            return len(entries)

    async def _without_known(self, session: ServedSession, posted: Sequence[PostedVoucher]) -> list[PostedVoucher]:
        fresh: list[PostedVoucher] = []
        for voucher in posted:
            awaits = voucher.request_id in session.awaiting
            known = None if awaits else await self._book.entry(voucher.request_id)
            if known is None:
                fresh.append(voucher)
            elif fresh or known.voucher.signature != voucher.signature:
                raise VoucherConflict(
                    f"request {show(voucher.request_id)} was acknowledged at {known.position} already"
                )
        return fresh


def _entries(session: ServedSession, posted: Sequence[PostedVoucher]) -> list[BookEntry]:
    """The book's next entries. Raises `VoucherConflict`."""
    book: VoucherBook = session.book
    now = Milliseconds(time.time_ns() // 1_000_000)
    open_receipts = dict(session.awaiting)
    entries = []
    for each in posted:
        awaiting = open_receipts.pop(each.request_id, None)
        if awaiting is None:
            raise VoucherConflict(f"request {show(each.request_id)} awaits no voucher")
        book, [due] = apply(book, Acknowledge(awaiting.receipt))
        message = digest(session.hub.separator, due.voucher.struct_hash)
        try:
            require_signer(message, each.signature, book.terms.session_key, f"voucher {due.voucher.count}")
        except InvalidSignature as error:
            raise VoucherConflict(
                f"{error.message}, or is signed for another state of the session",
                remedy="compare the state below with yours, and sign from there",
            ) from error
        entries.append(awaiting.entry(due.position, SignedVoucher(due.voucher, due.splits, each.signature), now))
    return entries
