"""The session as its router serves it: what is reserved, acknowledged and charged, and what may still be served.

``(book, change) -> (book, events)``, frozen and without a clock. The router keeps one book a session in memory,
replays it from the receipt book after a restart, and asks it before every answer.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, RequestId, SessionId
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, share_of
from tristrata.protocol.voucher import MAX_SPLITS, Split, Voucher, make_splits, splits_hash


class ServiceRefused(TristrataError):
    """The session may not be served further; nothing was reserved."""


class BudgetExhausted(ServiceRefused):
    """The deposit does not cover the request."""


class ExposureReached(ServiceRefused):
    """Serving the request would put more at risk than the session's exposure cap allows, until it is charged."""


class SessionEnding(ServiceRefused):
    """The session is closing, closed or expired."""


class ReceiptRefused(TristrataError):
    """A receipt that the session must not pay for."""


class VoucherBook(msgspec.Struct, frozen=True, gc=False):
    """One session, off chain.

    ``reserved`` holds what requests in flight may cost at most; ``earned`` what each payee has earned in all;
    ``charged`` what the hub has charged of ``cumulative``. All amounts are base units.
    """

    session: SessionId
    terms: Terms
    deposit: Amount
    ending: bool = False
    charged: Amount = Amount(0)
    cumulative: Amount = Amount(0)
    earned: dict[Address, Amount] = {}
    reserved: dict[RequestId, Amount] = {}
    tree: IncrementalTree = IncrementalTree()

    @property
    def in_flight(self) -> Amount:
        """The most that requests being answered now may cost together."""
        return Amount(sum(self.reserved.values()))

    @property
    def exposure(self) -> Amount:
        """In flight and acknowledged but not yet charged: what is lost if the session never pays again."""
        return Amount(self.in_flight + self.cumulative - self.charged)

    @property
    def has_room(self) -> bool:
        """Whether a voucher can name one more miner: it has 32 payees at most, the router among them."""
        return len(self.earned) + (self.terms.router not in self.earned) < MAX_SPLITS

    @property
    def available(self) -> Amount:
        """What a next request may cost at most."""
        budget = self.deposit - self.cumulative - self.in_flight
        return Amount(max(0, min(budget, self.terms.exposure_cap - self.exposure)))


class Reserve(msgspec.Struct, frozen=True, gc=False):
    """A request arrives that may cost ``amount`` at most."""

    request_id: RequestId
    amount: Amount


class Release(msgspec.Struct, frozen=True, gc=False):
    """A request ended without a receipt: nothing is owed."""

    request_id: RequestId


class Acknowledge(msgspec.Struct, frozen=True, gc=False):
    """A miner's receipt for a reserved request. Its signature has been checked."""

    receipt: Receipt


class AwaitVoucher(msgspec.Struct, frozen=True):
    """A miner's receipt, checked, in a session whose key is its owner's: until a voucher, its price stays reserved."""

    receipt: Receipt


class ChargeSeen(msgspec.Struct, frozen=True):
    """The hub has charged ``cumulative``."""

    cumulative: Amount


class DepositSeen(msgspec.Struct, frozen=True):
    """The hub holds ``deposit`` for the session."""

    deposit: Amount


class EndingSeen(msgspec.Struct, frozen=True):
    """The hub shows a close request, or the session has expired: serve no more."""


class VoucherDue(msgspec.Struct, frozen=True, gc=False):
    """A voucher for the session key to sign. ``position`` is the acknowledged receipt's, from 0."""

    position: int
    voucher: Voucher
    splits: tuple[Split, ...]


BookChange = Reserve | Release | Acknowledge | AwaitVoucher | ChargeSeen | DepositSeen | EndingSeen


def apply(book: VoucherBook, change: BookChange) -> tuple[VoucherBook, list[VoucherDue]]:
    """The book after ``change``, and the voucher to sign, if any.

    Raises `ServiceRefused` (one of its kinds) for `Reserve`, `ReceiptRefused` for `Acknowledge` and `AwaitVoucher`; the
    book is then unchanged.
    """
    return _apply(change, book)


@singledispatch
def _apply(change: BookChange, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Reserve, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    if book.ending:
        raise SessionEnding("the session is closing or has expired", remedy="open a new session")
    budget = book.deposit - book.cumulative - book.in_flight
    if change.amount > budget:
        raise BudgetExhausted(
            f"the request may cost {change.amount}; of the deposit of {book.deposit}, {max(budget, 0)} is left",
            remedy="top up the session, or ask for fewer tokens (max_tokens)",
        )
    if book.exposure + change.amount > book.terms.exposure_cap:
        raise ExposureReached(
            f"the request may cost {change.amount}; {book.exposure} is open already and the session allows "
            f"{book.terms.exposure_cap} before it is charged",
            remedy="wait until the session is charged, or ask for fewer tokens (max_tokens)",
        )
    reserved = {**book.reserved, change.request_id: change.amount}
    return msgspec.structs.replace(book, reserved=reserved), []


@_apply.register
def _(change: Release, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    return msgspec.structs.replace(book, reserved=_without(book, change.request_id)), []


@_apply.register
def _(change: Acknowledge, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    receipt = change.receipt
    _require_reserved(book, receipt)
    earned = _pay(book, receipt)
    cumulative = Amount(book.cumulative + receipt.price)
    splits = make_splits(earned)
    tree = book.tree.append(receipt.struct_hash)
    voucher = Voucher(book.session, tree.count, cumulative, tree.root, splits_hash(splits))
    book = msgspec.structs.replace(
        book, cumulative=cumulative, earned=earned, reserved=_without(book, receipt.request_id), tree=tree
    )
    return book, [VoucherDue(tree.count - 1, voucher, splits)]


@_apply.register
def _(change: AwaitVoucher, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    _require_reserved(book, change.receipt)
    _pay(book, change.receipt)  # for what it refuses
    reserved = {**book.reserved, change.receipt.request_id: change.receipt.price}
    return msgspec.structs.replace(book, reserved=reserved), []


@_apply.register
def _(change: ChargeSeen, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    return msgspec.structs.replace(book, charged=max(book.charged, change.cumulative)), []


@_apply.register
def _(change: DepositSeen, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    return msgspec.structs.replace(book, deposit=change.deposit), []


@_apply.register
def _(change: EndingSeen, book: VoucherBook) -> tuple[VoucherBook, list[VoucherDue]]:
    return msgspec.structs.replace(book, ending=True), []


def _require_reserved(book: VoucherBook, receipt: Receipt) -> None:
    allowed = book.reserved.get(receipt.request_id)
    if receipt.session != book.session or allowed is None:
        raise ReceiptRefused(f"no request 0x{receipt.request_id.hex()} of this session awaits a receipt")
    if receipt.price > allowed:
        raise ReceiptRefused(f"the receipt asks for {receipt.price}; at most {allowed} was reserved for its request")


def _pay(book: VoucherBook, receipt: Receipt) -> dict[Address, Amount]:
    # The router's share is of the whole, not of each answer: else it would round to nothing where answers are cheap.
    bps = book.terms.router_bps
    router_share = share_of(Amount(book.cumulative + receipt.price), bps) - share_of(book.cumulative, bps)
    earned = dict(book.earned)
    for payee, part in ((book.terms.router, router_share), (receipt.miner, receipt.price - router_share)):
        earned[payee] = Amount(earned.get(payee, 0) + part)
    if len(earned) > MAX_SPLITS:
        raise ReceiptRefused(f"the session already pays {MAX_SPLITS} payees, the most that a voucher can name")
    return earned


def _without(book: VoucherBook, request_id: RequestId) -> dict[RequestId, Amount]:
    return {known: amount for known, amount in book.reserved.items() if known != request_id}
