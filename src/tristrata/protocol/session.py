"""The session as its hub keeps it: opened, topped up, charged by vouchers, closed.

``(state, change) -> (state, events)``. This is the specification of the contracts ``Sessions`` and ``Settlement``:
they are tested against it.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol import forfeit
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, Voucher, check_splits, covers, splits_hash

SECONDS_PER_DAY = 86_400
MAX_DEPOSIT = Amount(2**95 - 1)
MAX_COUNT = 2**40 - 1


class SessionRefused(TristrataError):
    """A change that the session's rules do not allow; the state stays as it was."""


class Charge(msgspec.Struct, frozen=True):
    """What has been charged: the last voucher's total, count and splits.

    ``on_day`` is how much of it on ``day`` (UTC); only a session with a daily limit counts that.
    """

    cumulative: Amount = Amount(0)
    count: int = 0
    splits: tuple[Split, ...] = ()
    day: int = 0
    on_day: Amount = Amount(0)


class Session(msgspec.Struct, frozen=True):
    """One session on one hub. ``closing_at`` is 0 while nobody has asked to close it.

    ``key`` signs vouchers now; ``replaced_key`` is the one before it, whose vouchers can be charged until
    ``replaced_until`` (inclusive).
    """

    session_id: SessionId
    owner: Address
    terms: Terms
    deposit: Amount
    grace: Seconds
    key: Address
    replaced_key: Address = Address(bytes(20))
    replaced_until: Timestamp = Timestamp(0)
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
    """A voucher that ``signer`` signed, with its splits. Open to anyone."""

    voucher: Voucher
    splits: tuple[Split, ...]
    signer: Address


class ReplaceKey(msgspec.Struct, frozen=True):
    """The owner wants another session key. A managed session keeps the one that the router's bond answers for."""

    sender: Address
    new_key: Address


class Forfeit(msgspec.Struct, frozen=True):
    """A voucher that contradicts what is charged. Open to anyone. ``bond`` is what the router's bond could add."""

    voucher: Voucher
    splits: tuple[Split, ...]
    signer: Address
    bond: Amount = Amount(0)


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


class KeyReplaced(msgspec.Struct, frozen=True):
    """``new_key`` signs from now on; the old key's vouchers can be charged until ``old_key_until``."""

    old_key: Address
    new_key: Address
    old_key_until: Timestamp


class CloseRequested(msgspec.Struct, frozen=True):
    """The session closes at ``closing_at``."""

    closing_at: Timestamp


class Closed(msgspec.Struct, frozen=True):
    """The session is closed; ``refund`` went back to the owner."""

    refund: Amount


class Forfeited(msgspec.Struct, frozen=True):
    """The session is closed; ``splits`` are charged, ``from_bond`` of it the router's; ``refund`` is the owner's."""

    count: int
    splits: tuple[Split, ...]
    refund: Amount
    from_bond: Amount


SessionChange = TopUp | ChargeVoucher | ReplaceKey | RequestClose | Close | Forfeit
SessionEvent = ToppedUp | Charged | KeyReplaced | CloseRequested | Closed | Forfeited


def open_session(
    session_id: SessionId, owner: Address, terms: Terms, deposit: Amount, grace: Seconds, sender: Address
) -> Session:
    """A session as ``sender`` opens it for ``owner``.

    A managed one only its router may bring, for its bond answers for the key. Raises `SessionRefused` otherwise, and
    for a deposit of nothing, or of more than `MAX_DEPOSIT`.
    """
    if terms.managed and sender != terms.router:
        raise SessionRefused(
            f"0x{sender.hex()} is not the router 0x{terms.router.hex()}, which a managed session needs",
            remedy="have the router carry the order, or keep the session key yourself",
        )
    if not 0 < deposit <= MAX_DEPOSIT:
        raise SessionRefused(f"a deposit of {deposit} must lie between 1 and 2**95 - 1")
    return Session(session_id, owner, terms, deposit, grace, terms.session_key)


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
    if deposit > MAX_DEPOSIT:
        raise SessionRefused(f"the deposit would be {deposit}; it must be at most 2**95 - 1")
    return msgspec.structs.replace(state, deposit=deposit), [ToppedUp(change.amount)]


@_apply.register
def _(change: ChargeVoucher, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    voucher, before = change.voucher, state.charge
    _check_voucher(state, voucher, change.splits)
    _check_signer(state, change.signer, now)
    if voucher.cumulative <= before.cumulative or voucher.count < before.count:
        raise SessionRefused(
            f"the voucher stands at {voucher.cumulative} after {voucher.count} receipts; "
            f"{before.cumulative} after {before.count} is charged already, and charges only go up"
        )
    if voucher.cumulative > state.deposit:
        raise SessionRefused(f"the voucher stands at {voucher.cumulative}; the deposit is {state.deposit}")
    if not covers(change.splits, before.splits):
        raise SessionRefused("a payee would have less than was charged for it before")
    charge = Charge(voucher.cumulative, voucher.count, change.splits)
    if limit := state.terms.max_per_day:
        on_day = Amount(_charged_on(before, now) + voucher.cumulative - before.cumulative)
        if on_day > limit:
            raise SessionRefused(f"{on_day} would be charged today; the session allows {limit} a day")
        charge = msgspec.structs.replace(charge, day=now // SECONDS_PER_DAY, on_day=on_day)
    event = Charged(voucher.cumulative, voucher.count, voucher.head, change.splits)
    return msgspec.structs.replace(state, charge=charge), [event]


@_apply.register
def _(change: ReplaceKey, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if change.sender != state.owner:
        raise SessionRefused(f"0x{change.sender.hex()} is not the session's owner")
    if state.terms.managed:
        raise SessionRefused(
            "the router's bond answers for the key of a managed session", remedy="close it to revoke the key"
        )
    if not any(change.new_key) or change.new_key == state.key:
        raise SessionRefused("the new key must be another than the present one, and not zero")
    if now < state.replaced_until:
        raise SessionRefused(f"the last replaced key is good until {state.replaced_until}; replace the key after that")
    until = Timestamp(now + state.grace)
    replaced = msgspec.structs.replace(state, key=change.new_key, replaced_key=state.key, replaced_until=until)
    return replaced, [KeyReplaced(state.key, change.new_key, until)]


@_apply.register
def _(change: RequestClose, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if change.sender not in (state.owner, state.key, state.terms.router):
        raise SessionRefused(f"0x{change.sender.hex()} is neither the session's owner nor its key nor its router")
    if state.closing_at:
        raise SessionRefused(f"the session closes at {state.closing_at} already")
    closing_at = Timestamp(now + state.grace)
    return msgspec.structs.replace(state, closing_at=closing_at), [CloseRequested(closing_at)]


@_apply.register
def _(change: Close, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    if now < state.closable_at:
        raise SessionRefused(f"it is {now}; the session can be closed from {state.closable_at} on")
    return msgspec.structs.replace(state, closed=True, deposit=state.charge.cumulative), [Closed(state.remaining)]


@_apply.register
def _(change: Forfeit, state: Session, now: Timestamp) -> tuple[Session, list[SessionEvent]]:
    voucher, before = change.voucher, state.charge
    _check_voucher(state, voucher, change.splits)
    _check_signer(state, change.signer, now)
    if not forfeit.contradict(before.splits, change.splits):
        raise SessionRefused("the voucher and what is charged do not contradict each other: charge the higher one")
    spendable = _spendable(state, now)
    splits = forfeit.cut(forfeit.merge(before.splits, change.splits), spendable)
    kept = sum(split.amount for split in splits)
    bonus = Amount((state.deposit if state.terms.managed else spendable) - kept)
    if all(split.payee == state.terms.router or not split.amount for split in splits):
        bonus = Amount(0)
    from_bond = Amount(min(bonus, change.bond) if state.terms.managed else 0)
    splits = forfeit.add_bonus(splits, from_bond if state.terms.managed else bonus, state.terms.router)
    total = Amount(sum(split.amount for split in splits))
    refund = Amount(state.deposit + from_bond - total)
    count = max(before.count, voucher.count)
    charge = msgspec.structs.replace(before, cumulative=total, count=count, splits=splits)
    forfeited = msgspec.structs.replace(state, closed=True, deposit=total, charge=charge)
    return forfeited, [Forfeited(count, splits, refund, from_bond)]


def _check_voucher(state: Session, voucher: Voucher, splits: tuple[Split, ...]) -> None:
    if voucher.session != state.session_id:
        raise SessionRefused(f"the voucher is for session 0x{voucher.session.hex()}, not for this one")
    if voucher.count > MAX_COUNT:
        raise SessionRefused(f"the voucher counts {voucher.count} receipts; a charge counts at most 2**40 - 1")
    check_splits(splits, voucher.cumulative)
    if splits_hash(splits) != voucher.splits:
        raise SessionRefused("the splits are not those that the voucher commits to")


def _check_signer(state: Session, signer: Address, now: Timestamp) -> None:
    if signer != state.key and (signer != state.replaced_key or now > state.replaced_until):
        raise SessionRefused(f"0x{signer.hex()} is not the session's key, or not any more")


def _charged_on(charge: Charge, now: Timestamp) -> Amount:
    return charge.on_day if charge.day == now // SECONDS_PER_DAY else Amount(0)


def _spendable(state: Session, now: Timestamp) -> Amount:
    """Up to what a forfeit may charge: not more than the key could today, or a stolen one would be worth more."""
    if not state.terms.max_per_day:
        return state.deposit
    left = state.terms.max_per_day - _charged_on(state.charge, now)
    return min(state.deposit, Amount(state.charge.cumulative + left))
