"""The money side of a hub: what was charged for whom, and what of it was paid, by epoch or directly.

``(state, change) -> (state, events)``. This is the specification of the claims of the contract ``Settlement``, which is
tested against it. Every way of claiming pays up to a cumulative amount, so that the order of claims does not matter and
nothing is paid twice.
"""

from collections import Counter
from collections.abc import Mapping
from functools import singledispatch

import msgspec

from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.ids import Address, SessionId, show
from tristrata.protocol.units import Amount, Seconds, Timestamp
from tristrata.protocol.voucher import Split, covers


class ClaimRefused(TristrataError):
    """A change that the rules of claims do not allow; the state stays as it was."""


class StatedPayout(msgspec.Struct, frozen=True):
    """What an epoch says, rightly or not, that a payee gets in all.

    ``entries`` are those of its sum tree that can be opened. They never sum to more than ``cumulative``.
    """

    cumulative: Amount
    entries: tuple[tuple[SessionId, Amount], ...] = ()


class SealedPayouts(msgspec.Struct, frozen=True):
    """An epoch's payouts by payee. ``stopped`` ones, vetoed or refuted before they were mature, never pay."""

    payouts: Mapping[Address, StatedPayout]
    sealed_at: Timestamp
    stopped: bool = False


class Accounts(msgspec.Struct, frozen=True):
    """All sessions and payees of one hub, in base units.

    ``splits`` are each session's last charge; those of ``closed`` sessions change no more. ``opened`` is what of each
    session was claimed directly for each payee, ``claimed`` what each payee was paid, by whichever way. ``epochs`` are
    those that were sealed, from 1 on; one pays from ``payout_delay`` after its seal, while it is among the newest
    ``kept_epochs``.
    """

    payout_delay: Seconds
    kept_epochs: int
    splits: dict[SessionId, tuple[Split, ...]] = {}
    closed: frozenset[SessionId] = frozenset()
    opened: dict[Address, dict[SessionId, Amount]] = {}
    claimed: dict[Address, Amount] = {}
    epochs: tuple[SealedPayouts, ...] = ()

    @property
    def total_charged(self) -> Amount:
        """What was charged in all, over all sessions."""
        return Amount(sum(split.amount for splits in self.splits.values() for split in splits))

    @property
    def total_paid(self) -> Amount:
        """What was paid in all, to all payees."""
        return Amount(sum(self.claimed.values()))

    def charged_for(self, payee: Address, session: SessionId) -> Amount:
        """What was charged to a session for a payee."""
        splits = self.splits.get(session, ())
        return next((split.amount for split in splits if split.payee == payee), Amount(0))

    def opened_for(self, payee: Address) -> Amount:
        """What was claimed directly for a payee, out of all sessions."""
        return Amount(sum(self.opened.get(payee, {}).values()))


class Charge(msgspec.Struct, frozen=True):
    """A session was charged (``Charged``, ``Forfeited`` of `tristrata.protocol.session`) and stands at these splits."""

    session: SessionId
    splits: tuple[Split, ...]


class Close(msgspec.Struct, frozen=True):
    """A session was closed, or forfeited; what was charged stays to be claimed."""

    session: SessionId


class Seal(msgspec.Struct, frozen=True):
    """A quorum signed these payouts. They may be false."""

    epoch: int
    payouts: Mapping[Address, StatedPayout]


class Veto(msgspec.Struct, frozen=True):
    """A validator stops an epoch's payouts."""

    epoch: int


class Refute(msgspec.Struct, frozen=True):
    """Different entries of one session, opened in what an epoch pays to a payee. Open to anyone, for free."""

    epoch: int
    payee: Address
    session: SessionId
    amounts: tuple[Amount, ...]


class Claim(msgspec.Struct, frozen=True):
    """What an epoch pays to a payee, proven by its payouts root. Open to anyone."""

    payee: Address
    cumulative: Amount
    epoch: int


class ClaimDirect(msgspec.Struct, frozen=True):
    """What was charged to one session for a payee. Open to anyone, at any time."""

    session: SessionId
    payee: Address


class Claimed(msgspec.Struct, frozen=True):
    """A payee was paid ``amount``."""

    payee: Address
    amount: Amount


class Vetoed(msgspec.Struct, frozen=True):
    """The epoch pays nothing, ever."""

    epoch: int


class Refuted(msgspec.Struct, frozen=True):
    """The epoch counts ``amount`` from the session for the payee; only ``charged`` is. Its signers lied."""

    epoch: int
    payee: Address
    session: SessionId
    amount: Amount
    charged: Amount


ClaimChange = Charge | Close | Seal | Veto | Refute | Claim | ClaimDirect
ClaimEvent = Claimed | Vetoed | Refuted


def apply(state: Accounts, change: ClaimChange, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    """The accounts after ``change`` at ``now``.

    Raises `ClaimRefused`, or `InvalidValue` for payouts that no tree can have.
    """
    return _apply(change, state, now)


@singledispatch
def _apply(change: ClaimChange, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Charge, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    before = state.splits.get(change.session, ())
    if change.session in state.closed:
        raise ClaimRefused(f"session {show(change.session)} is closed: it is charged no more")
    if not covers(change.splits, before) or change.splits == before:
        raise ClaimRefused(f"the charge of session {show(change.session)} must go up, and for no payee down")
    return msgspec.structs.replace(state, splits={**state.splits, change.session: change.splits}), []


@_apply.register
def _(change: Close, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    if change.session in state.closed:
        raise ClaimRefused(f"session {show(change.session)} is closed already")
    return msgspec.structs.replace(state, closed=state.closed | {change.session}), []


@_apply.register
def _(change: Seal, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    if change.epoch != len(state.epochs) + 1:
        raise ClaimRefused(f"epoch {change.epoch} cannot be sealed; {len(state.epochs) + 1} is the next")
    for payee, stated in change.payouts.items():
        if (opened := sum(amount for _, amount in stated.entries)) > stated.cumulative:
            raise InvalidValue(f"0x{payee.hex()} has entries of {opened}; they sum to {stated.cumulative} at most")
    return msgspec.structs.replace(state, epochs=(*state.epochs, SealedPayouts(change.payouts, now))), []


@_apply.register
def _(change: Veto, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    sealed = _live(state, change.epoch)
    if _is_mature(state, sealed, now):
        raise ClaimRefused(f"epoch {change.epoch} was sealed at {sealed.sealed_at}: at {now} it is too late to veto it")
    return _stop(state, change.epoch), [Vetoed(change.epoch)]


@_apply.register
def _(change: Refute, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    sealed = _kept(state, change.epoch)
    stated = sealed.payouts.get(change.payee)
    entries = (
        Counter(amount for session, amount in stated.entries if session == change.session) if stated else Counter()
    )
    if not change.amounts or not Counter(change.amounts) <= entries:
        raise ClaimRefused(f"epoch {change.epoch} has no such entries for 0x{change.payee.hex()}")
    amount, charged = Amount(sum(change.amounts)), state.charged_for(change.payee, change.session)
    if amount <= charged:
        raise ClaimRefused(f"the epoch counts {amount} from session {show(change.session)}; {charged} is charged")
    event = Refuted(change.epoch, change.payee, change.session, amount, charged)
    # Who signed it is known for false at any time; what it pays can only be stopped before the first payment.
    return state if _is_mature(state, sealed, now) else _stop(state, change.epoch), [event]


@_apply.register
def _(change: Claim, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    sealed = _live(state, change.epoch)
    if not _is_mature(state, sealed, now):
        raise ClaimRefused(
            f"epoch {change.epoch} was sealed at {sealed.sealed_at}; it pays {state.payout_delay} s later, not at {now}"
        )
    stated = sealed.payouts.get(change.payee)
    if stated is None or stated.cumulative != change.cumulative:
        raise ClaimRefused(f"epoch {change.epoch} does not pay {change.cumulative} to 0x{change.payee.hex()}")
    due, left = _due(state, change.payee, change.cumulative), state.total_charged - state.total_paid
    if due > left:
        raise ClaimRefused(f"{due} would be paid; of all that was charged, {left} is left", remedy="claim directly")
    return _pay(state, change.payee, due)


@_apply.register
def _(change: ClaimDirect, state: Accounts, now: Timestamp) -> tuple[Accounts, list[ClaimEvent]]:
    if all(split.payee != change.payee for split in state.splits.get(change.session, ())):
        raise ClaimRefused(f"session {show(change.session)} was charged nothing for 0x{change.payee.hex()}")
    entries = {**state.opened.get(change.payee, {}), change.session: state.charged_for(change.payee, change.session)}
    state = msgspec.structs.replace(state, opened={**state.opened, change.payee: entries})
    due = _due(state, change.payee, state.opened_for(change.payee))
    return _pay(state, change.payee, min(due, state.total_charged - state.total_paid))


def _kept(state: Accounts, epoch: int) -> SealedPayouts:
    """A sealed epoch that is kept."""
    if not 1 <= epoch <= len(state.epochs):
        raise ClaimRefused(f"epoch {epoch} is not sealed; {len(state.epochs)} are")
    if epoch <= len(state.epochs) - state.kept_epochs:
        raise ClaimRefused(
            f"epoch {epoch} is not kept any more, only the {state.kept_epochs} newest are",
            remedy="claim from the newest epoch, which pays as much or more, or directly",
        )
    return state.epochs[epoch - 1]


def _live(state: Accounts, epoch: int) -> SealedPayouts:
    """A sealed epoch that is kept, and whose payouts nobody stopped."""
    sealed = _kept(state, epoch)
    if sealed.stopped:
        raise ClaimRefused(
            f"epoch {epoch} pays nothing: it was vetoed or refuted", remedy="claim from another, or directly"
        )
    return sealed


def _is_mature(state: Accounts, sealed: SealedPayouts, now: Timestamp) -> bool:
    return now >= sealed.sealed_at + state.payout_delay


def _stop(state: Accounts, epoch: int) -> Accounts:
    epochs = list(state.epochs)
    epochs[epoch - 1] = msgspec.structs.replace(epochs[epoch - 1], stopped=True)
    return msgspec.structs.replace(state, epochs=tuple(epochs))


def _due(state: Accounts, payee: Address, cumulative: int) -> int:
    return max(0, cumulative - state.claimed.get(payee, 0))


def _pay(state: Accounts, payee: Address, due: int) -> tuple[Accounts, list[ClaimEvent]]:
    if not due:
        return state, []
    claimed = Amount(state.claimed.get(payee, 0) + due)
    return msgspec.structs.replace(state, claimed={**state.claimed, payee: claimed}), [Claimed(payee, Amount(due))]
