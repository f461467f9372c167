"""A router's bond as its hub keeps it: what stands for managed deposits, what is leaving, what a forfeit takes.

``(state, change, now) -> (state, events)``. This is the specification of the contract ``RouterRegistry``, which is
tested against it.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.units import MAX_AMOUNT, Amount, Seconds, Timestamp


class BondRefused(TristrataError):
    """A change that the rules of routers' bonds do not allow; the state stays as it was."""


class RouterBond(msgspec.Struct, frozen=True):
    """One router on one hub. Amounts are base units.

    ``leaving`` is the part of ``bond`` that the router asked back, payable from ``leaves_at`` on; both are 0 while it
    asked for nothing. ``managed`` is what owners put into sessions whose key the router holds. ``unsecured_limit`` is
    the hub's: what any router may manage beyond its bond.
    """

    exit_delay: Seconds
    unsecured_limit: Amount
    bond: Amount = Amount(0)
    leaving: Amount = Amount(0)
    leaves_at: Timestamp = Timestamp(0)
    managed: Amount = Amount(0)

    @property
    def allowed(self) -> Amount:
        """The most that the router may manage: what stays of its bond, and the unsecured limit."""
        return Amount(self.bond - self.leaving + self.unsecured_limit)


class AddBond(msgspec.Struct, frozen=True):
    """More bond, from anyone."""

    amount: Amount


class RequestWithdrawal(msgspec.Struct, frozen=True):
    """The router wants a part of its bond back; it replaces what was asked before."""

    amount: Amount


class Withdraw(msgspec.Struct, frozen=True):
    """The payment of what the router asked back."""


class Reserve(msgspec.Struct, frozen=True):
    """A managed deposit came in."""

    amount: Amount


class Release(msgspec.Struct, frozen=True):
    """The session of a managed deposit ended."""

    amount: Amount


class Slash(msgspec.Struct, frozen=True):
    """The router's key signed vouchers that contradict each other: the payees get up to so much."""

    amount: Amount


class SetUnsecuredLimit(msgspec.Struct, frozen=True):
    """The hub changes what routers may manage beyond their bonds."""

    limit: Amount


class BondChanged(msgspec.Struct, frozen=True):
    """The bond is now so much."""

    bond: Amount


class WithdrawalRequested(msgspec.Struct, frozen=True):
    """So much of the bond is payable from ``leaves_at`` on."""

    amount: Amount
    leaves_at: Timestamp


class ManagedChanged(msgspec.Struct, frozen=True):
    """The router now manages so much."""

    managed: Amount


class UnsecuredLimitChanged(msgspec.Struct, frozen=True):
    """Routers may now manage so much beyond their bonds."""

    limit: Amount


RouterChange = AddBond | RequestWithdrawal | Withdraw | Reserve | Release | Slash | SetUnsecuredLimit
RouterEvent = BondChanged | WithdrawalRequested | ManagedChanged | UnsecuredLimitChanged


def apply(state: RouterBond, change: RouterChange, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    """The bond after ``change`` at ``now``. Raises `BondRefused`.

    A limit that is lowered, or a slash, may leave a router managing more than is `allowed`; it then takes nothing more.
    """
    return _apply(change, state, now)


@singledispatch
def _apply(change: RouterChange, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: AddBond, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    bond = Amount(state.bond + change.amount)
    if change.amount <= 0 or bond > MAX_AMOUNT:
        raise BondRefused(f"{change.amount} cannot be added to a bond of {state.bond}: it must stay below 2**96")
    return msgspec.structs.replace(state, bond=bond), [BondChanged(bond)]


@_apply.register
def _(change: RequestWithdrawal, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    if not 0 < change.amount <= state.bond:
        raise BondRefused(f"{change.amount} cannot leave a bond of {state.bond}")
    leaves_at = Timestamp(now + state.exit_delay)
    asked = msgspec.structs.replace(state, leaving=change.amount, leaves_at=leaves_at)
    _require_secured(asked)
    return asked, [WithdrawalRequested(change.amount, leaves_at)]


@_apply.register
def _(change: Withdraw, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    if not state.leaving or now < state.leaves_at:
        raise BondRefused(f"{state.leaving} of the bond leaves at {state.leaves_at}; it is {now}")
    bond = Amount(state.bond - state.leaving)
    return msgspec.structs.replace(state, bond=bond, leaving=Amount(0), leaves_at=Timestamp(0)), [BondChanged(bond)]


@_apply.register
def _(change: Reserve, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    managed = Amount(state.managed + change.amount)
    reserved = msgspec.structs.replace(state, managed=managed)
    _require_secured(reserved)
    return reserved, [ManagedChanged(managed)]


@_apply.register
def _(change: Release, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    if change.amount > state.managed:
        raise BondRefused(f"{change.amount} cannot be released; the router manages {state.managed}")
    managed = Amount(state.managed - change.amount)
    return msgspec.structs.replace(state, managed=managed), [ManagedChanged(managed)]


@_apply.register
def _(change: Slash, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    taken = min(change.amount, state.bond)
    bond = Amount(state.bond - taken)
    # What is leaving is taken first: what stays secures other sessions.
    leaving = Amount(max(0, state.leaving - taken))
    return msgspec.structs.replace(state, bond=bond, leaving=leaving), [BondChanged(bond)]


@_apply.register
def _(change: SetUnsecuredLimit, state: RouterBond, now: Timestamp) -> tuple[RouterBond, list[RouterEvent]]:
    return msgspec.structs.replace(state, unsecured_limit=change.limit), [UnsecuredLimitChanged(change.limit)]


def _require_secured(state: RouterBond) -> None:
    if state.managed > state.allowed:
        raise BondRefused(
            f"the router would manage {state.managed}; its bond and the unsecured limit allow {state.allowed}",
            remedy="add bond, or wait until sessions end",
        )
