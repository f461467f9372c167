"""The Welcome Center: who is registered, what each account has, what is credited to other chains, what sponsors pay.

``(state, change) -> (state, events)``. This is the specification of the contract ``Welcome``: it is tested against it.
Signatures are the contract's matter: an order that is here was signed by its account.
"""

from collections.abc import Mapping
from functools import singledispatch
from typing import TypeVar

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import ZERO_ADDRESS, Address, ChainRef, show
from tristrata.protocol.session import SECONDS_PER_DAY
from tristrata.protocol.terms import Credit, Registration, Role, Withdraw
from tristrata.protocol.units import MAX_AMOUNT, Amount, Timestamp

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class WelcomeRefused(TristrataError):
    """A change that the rules of the Welcome Center do not allow; the state stays as it was."""


class Destination(msgspec.Struct, frozen=True):
    """A chain's ``receiver`` (32 bytes), how much may be credited to it at once, and how much is."""

    receiver: bytes
    limit: Amount
    credited: Amount = Amount(0)


class Sponsor(msgspec.Struct, frozen=True):
    """What a sponsor pays for a registration, for how many per UTC day, and for an account's first how many.

    ``budget`` is what it has left; ``on_day`` for how many it paid on ``day``, the last on which it did.
    """

    budget: Amount = Amount(0)
    reward: Amount = Amount(0)
    per_day: int = 0
    per_account: int = 0
    day: int = 0
    on_day: int = 0


class Welcome(msgspec.Struct, frozen=True):
    """One Welcome Center at ``contract``. ``roles`` has a bit for each role; ``used`` holds the orders' nonces."""

    contract: Address
    roles: dict[Address, int] = {}
    balances: dict[Address, Amount] = {}
    destinations: dict[ChainRef, Destination] = {}
    sponsors: dict[Address, Sponsor] = {}
    used: frozenset[tuple[Address, int]] = frozenset()
    paused: bool = False

    @property
    def custody(self) -> Amount:
        """What the contract must hold, in base units."""
        return Amount(
            sum(self.balances.values())
            + sum(destination.credited for destination in self.destinations.values())
            + sum(sponsor.budget for sponsor in self.sponsors.values())
        )


class Sponsored(msgspec.Struct, frozen=True):
    """Who pays for carrying a registration, and to whose balance."""

    sponsor: Address
    payee: Address


class Register(msgspec.Struct, frozen=True):
    """A registration that its account signed; ``carrier`` pays for it itself unless it is sponsored. Open to anyone."""

    registration: Registration
    carrier: Address
    sponsored: Sponsored | None = None


class DepositTokens(msgspec.Struct, frozen=True):
    """``payer`` gives tokens for the balance of ``account``; a permit's or an authorization's owner gives its own."""

    account: Address
    payer: Address
    amount: Amount


class WithdrawBalance(msgspec.Struct, frozen=True):
    """An account takes tokens out, itself."""

    account: Address
    amount: Amount
    recipient: Address


class CreditChain(msgspec.Struct, frozen=True):
    """An account moves a part of its balance to another chain, itself."""

    account: Address
    destination: ChainRef
    amount: Amount


class Carry(msgspec.Struct, frozen=True):
    """Either of the last two as an order that the account signed. Open to anyone."""

    order: Withdraw | Credit


class ReturnCredit(msgspec.Struct, frozen=True):
    """The inbox delivers what ``sender`` (32 bytes) on chain ``source`` sent: ``amount`` is the account's again."""

    source: ChainRef
    sender: bytes
    account: Address
    amount: Amount


class SetDestination(msgspec.Struct, frozen=True):
    """The owner sets a chain's receiver and limit, as it announced."""

    chain: ChainRef
    receiver: bytes
    limit: Amount


class SetSponsorship(msgspec.Struct, frozen=True):
    """A sponsor sets what it pays for."""

    sponsor: Address
    reward: Amount
    per_day: int
    per_account: int


class RaiseBudget(msgspec.Struct, frozen=True):
    """A sponsor gives tokens for its budget."""

    sponsor: Address
    amount: Amount


class WithdrawBudget(msgspec.Struct, frozen=True):
    """A sponsor takes back what is left, or a part of it."""

    sponsor: Address
    amount: Amount
    recipient: Address


class Pause(msgspec.Struct, frozen=True):
    """The owner stops what begins something new, or lets it go on. What lets money out is never stopped."""

    paused: bool


class Registered(msgspec.Struct, frozen=True):
    """The account has the role; ``sponsor`` paid for it."""

    account: Address
    role: Role
    sponsor: Address


class CarrierPaid(msgspec.Struct, frozen=True):
    """The sponsor's reward is in the balance of ``payee``."""

    sponsor: Address
    payee: Address
    reward: Amount


class Deposited(msgspec.Struct, frozen=True):
    """The account's balance grew by what ``payer`` gave."""

    account: Address
    payer: Address
    amount: Amount


class Withdrawn(msgspec.Struct, frozen=True):
    """A part of the account's balance was paid out."""

    account: Address
    recipient: Address
    amount: Amount


class Credited(msgspec.Struct, frozen=True):
    """A part of the account's balance is credited to the chain, which was told."""

    account: Address
    destination: ChainRef
    amount: Amount


class CreditReturned(msgspec.Struct, frozen=True):
    """Credit came back from a chain, to the account's balance."""

    account: Address
    source: ChainRef
    amount: Amount


class DestinationSet(msgspec.Struct, frozen=True):
    """The chain has this receiver and limit."""

    chain: ChainRef
    receiver: bytes
    limit: Amount


class SponsorshipSet(msgspec.Struct, frozen=True):
    """The sponsor pays for these."""

    sponsor: Address
    reward: Amount
    per_day: int
    per_account: int


class BudgetRaised(msgspec.Struct, frozen=True):
    """The sponsor's budget grew."""

    sponsor: Address
    amount: Amount


class BudgetWithdrawn(msgspec.Struct, frozen=True):
    """A part of the sponsor's budget was paid out."""

    sponsor: Address
    recipient: Address
    amount: Amount


class Paused(msgspec.Struct, frozen=True):
    """What begins something new is stopped, or goes on."""

    paused: bool


WelcomeChange = (
    Register
    | DepositTokens
    | WithdrawBalance
    | CreditChain
    | Carry
    | ReturnCredit
    | SetDestination
    | SetSponsorship
    | RaiseBudget
    | WithdrawBudget
    | Pause
)
WelcomeEvent = (
    Registered
    | CarrierPaid
    | Deposited
    | Withdrawn
    | Credited
    | CreditReturned
    | DestinationSet
    | SponsorshipSet
    | BudgetRaised
    | BudgetWithdrawn
    | Paused
)
_Step = tuple[Welcome, list[WelcomeEvent]]


def apply(state: Welcome, change: WelcomeChange, now: Timestamp) -> _Step:
    """The Welcome Center after ``change`` at ``now``. Raises `WelcomeRefused`."""
    return _apply(change, state, now)


@singledispatch
def _apply(change: WelcomeChange, state: Welcome, now: Timestamp) -> _Step:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Register, state: Welcome, now: Timestamp) -> _Step:
    account, role, deadline = (change.registration.account, change.registration.role, change.registration.deadline)
    _check_running(state)
    _check_deadline(deadline, now)
    held = state.roles.get(account, 0)
    if held & role:
        raise WelcomeRefused(f"{show(account)} is registered as {role.name.lower()} already")
    registered = msgspec.structs.replace(state, roles=_with(state.roles, account, held | role))
    if change.sponsored is None:
        return registered, [Registered(account, role, change.carrier)]
    paid, event = _pay_carrier(registered, change.sponsored, account, held.bit_count(), now)
    return paid, [Registered(account, role, change.sponsored.sponsor), event]


@_apply.register
def _(change: DepositTokens, state: Welcome, now: Timestamp) -> _Step:
    _check_running(state)
    _check_amount(change.amount)
    _check_address(state, change.account)
    return _raise_balance(state, change.account, change.amount), [
        Deposited(change.account, change.payer, change.amount)
    ]


@_apply.register
def _(change: WithdrawBalance, state: Welcome, now: Timestamp) -> _Step:
    _check_amount(change.amount)
    _check_address(state, change.recipient)
    return _lower_balance(state, change.account, change.amount), [
        Withdrawn(change.account, change.recipient, change.amount)
    ]


@_apply.register
def _(change: CreditChain, state: Welcome, now: Timestamp) -> _Step:
    _check_running(state)
    _check_amount(change.amount)
    known = state.destinations.get(change.destination)
    if known is None or not any(known.receiver):
        raise WelcomeRefused(f"chain {show(change.destination)} is no destination of credits")
    credited = Amount(known.credited + change.amount)
    if credited > known.limit:
        raise WelcomeRefused(
            f"{credited} would be credited to chain {show(change.destination)}; its limit is {known.limit}",
            remedy="credit less, or wait until credit comes back from there",
        )
    lowered = _lower_balance(state, change.account, change.amount)
    return _set_credited(lowered, change.destination, credited), [
        Credited(change.account, change.destination, change.amount)
    ]


@_apply.register
def _(change: Carry, state: Welcome, now: Timestamp) -> _Step:
    order = change.order
    _check_deadline(order.deadline, now)
    key = (order.account, order.nonce)
    if key in state.used:
        raise WelcomeRefused(f"{show(order.account)} used nonce {order.nonce} in an order before")
    noted = msgspec.structs.replace(state, used=state.used | {key})
    if isinstance(order, Withdraw):
        return apply(noted, WithdrawBalance(order.account, order.amount, order.recipient), now)
    return apply(noted, CreditChain(order.account, order.destination, order.amount), now)


@_apply.register
def _(change: ReturnCredit, state: Welcome, now: Timestamp) -> _Step:
    known = state.destinations.get(change.source)
    if known is None or not any(known.receiver) or change.sender != known.receiver:
        raise WelcomeRefused(f"{show(change.sender)} on chain {show(change.source)} receives no credits")
    if change.amount > known.credited:
        raise WelcomeRefused(f"chain {show(change.source)} returns {change.amount}; {known.credited} is credited to it")
    returned = _set_credited(state, change.source, Amount(known.credited - change.amount))
    return _raise_balance(returned, change.account, change.amount), [
        CreditReturned(change.account, change.source, change.amount)
    ]


@_apply.register
def _(change: SetDestination, state: Welcome, now: Timestamp) -> _Step:
    before = state.destinations.get(change.chain, Destination(bytes(32), Amount(0)))
    if before.credited and change.receiver != before.receiver:
        raise WelcomeRefused(
            f"chain {show(change.chain)} has {before.credited} credited; its receiver must stay until that is back",
            remedy="set its limit to 0, and wait until all credit came back",
        )
    after = Destination(change.receiver, change.limit, before.credited)
    destinations = _with(state.destinations, change.chain, after)
    event = DestinationSet(change.chain, change.receiver, change.limit)
    return msgspec.structs.replace(state, destinations=destinations), [event]


@_apply.register
def _(change: SetSponsorship, state: Welcome, now: Timestamp) -> _Step:
    sponsor = msgspec.structs.replace(
        _sponsor(state, change.sponsor),
        reward=change.reward,
        per_day=change.per_day,
        per_account=change.per_account,
    )
    event = SponsorshipSet(change.sponsor, change.reward, change.per_day, change.per_account)
    return _set_sponsor(state, change.sponsor, sponsor), [event]


@_apply.register
def _(change: RaiseBudget, state: Welcome, now: Timestamp) -> _Step:
    _check_running(state)
    _check_amount(change.amount)
    sponsor = _sponsor(state, change.sponsor)
    budget = Amount(sponsor.budget + change.amount)
    if budget > MAX_AMOUNT:
        raise WelcomeRefused(f"the budget would be {budget}; it must be at most 2**96 - 1")
    raised = _set_sponsor(state, change.sponsor, msgspec.structs.replace(sponsor, budget=budget))
    return raised, [BudgetRaised(change.sponsor, change.amount)]


@_apply.register
def _(change: WithdrawBudget, state: Welcome, now: Timestamp) -> _Step:
    _check_amount(change.amount)
    _check_address(state, change.recipient)
    lowered = _lower_budget(_sponsor(state, change.sponsor), change.sponsor, change.amount)
    event = BudgetWithdrawn(change.sponsor, change.recipient, change.amount)
    return _set_sponsor(state, change.sponsor, lowered), [event]


@_apply.register
def _(change: Pause, state: Welcome, now: Timestamp) -> _Step:
    return msgspec.structs.replace(state, paused=change.paused), [Paused(change.paused)]


def _pay_carrier(
    state: Welcome, sponsored: Sponsored, account: Address, earlier: int, now: Timestamp
) -> tuple[Welcome, CarrierPaid]:
    """The reward, from budget to balance; ``earlier`` is how many registrations the account had before."""
    _check_address(state, sponsored.payee)
    sponsor = _sponsor(state, sponsored.sponsor)
    if earlier >= sponsor.per_account:
        raise WelcomeRefused(
            f"{show(account)} was registered {earlier} times; the sponsor pays for the first {sponsor.per_account}"
        )
    day = now // SECONDS_PER_DAY
    on_day = sponsor.on_day if day == sponsor.day else 0
    if on_day >= sponsor.per_day:
        raise WelcomeRefused(
            f"the sponsor paid for {on_day} registrations today; it pays for {sponsor.per_day} a day",
            remedy="wait for the next day (UTC), or carry it without a sponsor",
        )
    lowered = _lower_budget(sponsor, sponsored.sponsor, sponsor.reward)
    counted = msgspec.structs.replace(lowered, day=day, on_day=on_day + 1)
    paid = _raise_balance(_set_sponsor(state, sponsored.sponsor, counted), sponsored.payee, sponsor.reward)
    return paid, CarrierPaid(sponsored.sponsor, sponsored.payee, sponsor.reward)


def _check_running(state: Welcome) -> None:
    if state.paused:
        raise WelcomeRefused("the Welcome Center is paused", remedy="withdraw, or wait until it goes on")


def _check_deadline(deadline: Timestamp, now: Timestamp) -> None:
    if now > deadline:
        raise WelcomeRefused(f"it is {now}; the signature was good until {deadline}", remedy="sign again")


def _check_amount(amount: Amount) -> None:
    if amount <= 0:
        raise WelcomeRefused(f"amount {amount} must be more than zero")


def _check_address(state: Welcome, account: Address) -> None:
    if account in (ZERO_ADDRESS, state.contract):
        raise WelcomeRefused(f"{show(account)} could never take out what it gets")


def _raise_balance(state: Welcome, account: Address, amount: Amount) -> Welcome:
    balance = Amount(state.balances.get(account, 0) + amount)
    return msgspec.structs.replace(state, balances=_with(state.balances, account, balance))


def _lower_balance(state: Welcome, account: Address, amount: Amount) -> Welcome:
    balance = state.balances.get(account, Amount(0))
    if amount > balance:
        raise WelcomeRefused(f"{show(account)} has {balance}; it cannot give {amount}")
    return msgspec.structs.replace(state, balances=_with(state.balances, account, Amount(balance - amount)))


def _set_credited(state: Welcome, chain: ChainRef, credited: Amount) -> Welcome:
    destination = msgspec.structs.replace(state.destinations[chain], credited=credited)
    return msgspec.structs.replace(state, destinations=_with(state.destinations, chain, destination))


def _sponsor(state: Welcome, account: Address) -> Sponsor:
    return state.sponsors.get(account, Sponsor())


def _set_sponsor(state: Welcome, account: Address, sponsor: Sponsor) -> Welcome:
    return msgspec.structs.replace(state, sponsors=_with(state.sponsors, account, sponsor))


def _lower_budget(sponsor: Sponsor, account: Address, amount: Amount) -> Sponsor:
    if amount > sponsor.budget:
        raise WelcomeRefused(f"sponsor {show(account)} has {sponsor.budget} left; it cannot pay {amount}")
    return msgspec.structs.replace(sponsor, budget=Amount(sponsor.budget - amount))


def _with(mapping: Mapping[_Key, _Value], key: _Key, value: _Value) -> dict[_Key, _Value]:
    return {**mapping, key: value}
