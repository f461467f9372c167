"""The session as its hub keeps it: opened, topped up, charged by vouchers, closed.

``(state, change) -> (state, events)``. This is the specification of the contracts ``Sessions`` and ``Settlement``:
they are tested against it.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, Voucher, check_splits, covers, splits_hash

SECONDS_PER_DAY = 86_400


class SessionRefused(TristrataError):
    """A change that the session's rules do not allow; the state stays as it was."""


class Charge(msgspec.Struct, frozen=True):
    """What has been charged: the last voucher's total, count and splits, and how much of it on ``day`` (UTC)."""

    cumulative: Amount = Amount(0)
    count: int = 0
    splits: tuple[Split, ...] = ()
    day: int = 0
    on_day: Amount = Amount(0)


class Session(msgspec.Struct, frozen=True):
    """One session on one hub. ``closing_at`` is 0 while nobody has asked to close it."""

    session_id: SessionId
    owner: Address
    terms: Terms
    deposit: Amount
    grace: Seconds
    closing_at: Timestamp = Timestamp(0)
    closed: bool = False
    charge: Charge = Charge()

    @property
    def remaining(self) -> Amount:
        """What the deposit still covers, in base units."""
        return Amount(self.deposit - self.charge.cumulative)

    @property
    def closable_at(self) -> Timestamp:
        """From when on anyone may close it."""
        after_expiry = Timestamp(self.terms.expiry + self.grace)
        return min(self.closing_at, after_expiry) if self.closing_at else after_expiry


class TopUp(msgspec.Struct, frozen=True):
    """More deposit."""

    amount: Amount


class ChargeVoucher(msgspec.Struct, frozen=True):
    """A voucher that its session key signed, with its splits. Open to anyone."""

    voucher: Voucher
    splits: tuple[Split, ...]


class RequestClose(msgspec.Struct, frozen=True):
    """The owner, the session key or the router wants the session closed after the grace period."""

    sender: Address


class Close(msgspec.Struct, frozen=True):
    """The refund of what was not charged. Open to anyone, once it is time."""


class ToppedUp(msgspec.Struct, frozen=True):
    """The deposit grew."""

    amount: Amount


class Charged(msgspec.Struct, frozen=True):
    """A voucher was charged; ``cumulative`` is the new total."""

    cumulative: Amount
    count: int
    head: bytes
    splits: tuple[Split, ...]


class CloseRequested(msgspec.Struct, frozen=True):
    """The session closes at ``closing_at``."""

    closing_at: Timestamp


class Closed(msgspec.Struct, frozen=True):
    """The session is closed; ``refund`` went back to the owner."""

    refund: Amount


SessionChange = TopUp | ChargeVoucher | RequestClose | Close
SessionEvent = ToppedUp | Charged | CloseRequested | Closed


def apply(state: Session, change: SessionChange, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    """The session after ``change`` at ``now``. Raises `SessionRefused`, or `InvalidValue` for malformed splits."""
    if state.closed:
        raise SessionRefused("the session is closed", remedy="open a new session")
    return _apply(change, state, now)


@singledispatch
def _apply(change: SessionChange, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: TopUp, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if change.amount <= 0:
        raise SessionRefused(f"a top-up of {change.amount} must be more than zero")
    deposit = Amount(state.deposit + change.amount)
    return msgspec.structs.replace(state, deposit=deposit), [ToppedUp(change.amount)]


@_apply.register
def _(change: ChargeVoucher, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    voucher, before = change.voucher, state.charge
    if voucher.session != state.session_id:
        raise SessionRefused(f"the voucher is for session 0x{voucher.session.hex()}, not for this one")
    if voucher.cumulative <= before.cumulative or voucher.count < before.count:
        raise SessionRefused(
            f"the voucher stands at {voucher.cumulative} after {voucher.count} receipts; "
            f"{before.cumulative} after {before.count} is charged already, and charges only go up"
        )
    if voucher.cumulative > state.deposit:
        raise SessionRefused(f"the voucher stands at {voucher.cumulative}; the deposit is {state.deposit}")
    check_splits(change.splits, voucher.cumulative)
    if splits_hash(change.splits) != voucher.splits:
        raise SessionRefused("the splits are not those that the voucher commits to")
    if not covers(change.splits, before.splits):
        raise SessionRefused("a payee would have less than was charged for it before")
    day = now // SECONDS_PER_DAY
    on_day = Amount((before.on_day if day == before.day else 0) + voucher.cumulative - before.cumulative)
    if state.terms.max_per_day and on_day > state.terms.max_per_day:
        raise SessionRefused(f"{on_day} would be charged today; the session allows {state.terms.max_per_day} a day")
    charge = Charge(voucher.cumulative, voucher.count, change.splits, day, on_day)
    event = Charged(voucher.cumulative, voucher.count, voucher.head, change.splits)
    return msgspec.structs.replace(state, charge=charge), [event]


@_apply.register
def _(change: RequestClose, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if change.sender not in (state.owner, state.terms.session_key, state.terms.router):
        raise SessionRefused(f"0x{change.sender.hex()} is neither the session's owner nor its key nor its router")
    if state.closing_at:
        raise SessionRefused(f"the session closes at {state.closing_at} already")
    closing_at = Timestamp(now + state.grace)
    return msgspec.structs.replace(state, closing_at=closing_at), [CloseRequested(closing_at)]


@_apply.register
def _(change: Close, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if now < state.closable_at:
        raise SessionRefused(f"it is {now}; the session can be closed from {state.closable_at} on")
    return msgspec.structs.replace(state, closed=True), [Closed(state.remaining)]
