"""Validators on L1: their stake, the seats it gives them, and what of it answers for which chain.

``(state, change, now) -> (state, events)``. This is the specification of ``contracts/shared/stakes.vy`` and of
``ValidatorSet.publish``, which are tested against it. How stake is lost is in `tristrata.protocol.slashing`.
"""

from collections.abc import Iterable, Mapping
from functools import singledispatch

import msgspec

from tristrata.protocol.attestation import MAX_VALIDATORS, Validator, ValidatorSet
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import ZERO_ADDRESS, Address, ChainRef, show
from tristrata.protocol.units import Amount, Seconds, Timestamp


class StakeRefused(TristrataError):
    """A change that the rules of staking do not allow; the state stays as it was.

    ``error`` is the named error with which the contract refuses the same.
    """

    def __init__(self, error: str, message: str, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.error = error


class StakeRules(msgspec.Struct, frozen=True):
    """What a network asks of its validators. Raises `StakeRefused` for values that secure nothing.

    ``activation`` is how long new stake weighs nothing, ``validity`` how long a set signs, ``unbonding`` how long
    leaving takes.
    """

    min_stake: Amount
    validity: Seconds
    activation: Seconds
    unbonding: Seconds

    def __post_init__(self) -> None:
        if self.min_stake == 0:
            raise StakeRefused("ZeroAmount", "the least stake must be more than zero: a member must weigh something")
        if self.unbonding <= self.validity:
            raise StakeRefused(
                "UnbondingTooShort",
                f"unbonding is {self.unbonding} s; it must be more than the sets' validity, {self.validity} s",
            )


class Partition(msgspec.Struct, frozen=True):
    """What of a stake answers for one chain, in base units; ``leaving`` of it can be released from ``free_at`` on.

    It answers for what is proven from ``since`` on.
    """

    amount: Amount = Amount(0)
    leaving: Amount = Amount(0)
    free_at: Timestamp = Timestamp(0)
    since: Timestamp = Timestamp(0)


class Staker(msgspec.Struct, frozen=True):
    """One validator's record.

    Of ``stake``, ``pending`` weighs nothing before ``active_from``; ``allocated`` answers for chains. ``exit_at`` is 0
    while it stays.
    """

    signer: Address
    stake: Amount = Amount(0)
    pending: Amount = Amount(0)
    active_from: Timestamp = Timestamp(0)
    exit_at: Timestamp = Timestamp(0)
    allocated: Amount = Amount(0)
    seated: bool = False

    def weight(self, now: Timestamp) -> Amount:
        """What the stake weighs in a set of ``now``, in base units."""
        return Amount(self.stake - self.pending) if now < self.active_from else self.stake


class Stakes(msgspec.Struct, frozen=True):
    """All validators by account. A signer, once taken, is its account's for ever; an account is a validator once."""

    rules: StakeRules
    stakers: dict[Address, Staker] = {}
    account_of: dict[Address, Address] = {}
    partitions: dict[tuple[Address, ChainRef], Partition] = {}
    slashable: frozenset[ChainRef] = frozenset()
    published: ValidatorSet | None = None

    @property
    def seated(self) -> list[Address]:
        """The accounts that have a seat, in ascending order."""
        return sorted(account for account, staker in self.stakers.items() if staker.seated)


class Register(msgspec.Struct, frozen=True):
    """An account becomes a validator, for which ``signer`` signs."""

    account: Address
    signer: Address
    amount: Amount


class AddStake(msgspec.Struct, frozen=True):
    """More stake; the activation delay starts anew for all that is still waiting for it."""

    account: Address
    amount: Amount


class SetSigner(msgspec.Struct, frozen=True):
    """Another key signs from the next set on; the old one stays accountable."""

    account: Address
    signer: Address


class Allocate(msgspec.Struct, frozen=True):
    """A part of the account's stake answers for a slashable chain."""

    account: Address
    chain: ChainRef
    amount: Amount


class Deallocate(msgspec.Struct, frozen=True):
    """A part of what answers for a chain is on its way back, as long as unbonding takes."""

    account: Address
    chain: ChainRef
    amount: Amount


class Release(msgspec.Struct, frozen=True):
    """What was on its way back is free."""

    account: Address
    chain: ChainRef


class RequestExit(msgspec.Struct, frozen=True):
    """The account is in no further set, and may withdraw after the unbonding."""

    account: Address


class Withdraw(msgspec.Struct, frozen=True):
    """What is left of the stake returns to the account."""

    account: Address


class Publish(msgspec.Struct, frozen=True):
    """The next set, of all that have a seat; those among ``signers`` that have none take one first. Open to anyone."""

    signers: tuple[Address, ...]


class SetSlashable(msgspec.Struct, frozen=True):
    """The owner changes whether proven lies about a chain cost what was allocated to it."""

    chain: ChainRef
    slashable: bool


class ValidatorRegistered(msgspec.Struct, frozen=True):
    """There is a new validator."""

    account: Address
    signer: Address


class SignerChanged(msgspec.Struct, frozen=True):
    """Another key signs for the account."""

    account: Address
    signer: Address


class StakeChanged(msgspec.Struct, frozen=True):
    """The stake is this; ``pending`` of it weighs nothing before ``active_from``."""

    account: Address
    stake: Amount
    pending: Amount
    active_from: Timestamp


class ExitRequested(msgspec.Struct, frozen=True):
    """The account leaves at ``exit_at``, on its own wish or not."""

    account: Address
    exit_at: Timestamp


class SeatTaken(msgspec.Struct, frozen=True):
    """The account has a seat, which was ``displaced``'s; the zero address if it was free."""

    account: Address
    displaced: Address


class SetPublished(msgspec.Struct, frozen=True):
    """There is a new set."""

    validators: ValidatorSet


class PartitionChanged(msgspec.Struct, frozen=True):
    """This much of the account's stake answers for the chain."""

    account: Address
    chain: ChainRef
    amount: Amount
    leaving: Amount
    free_at: Timestamp


StakeChange = (
    Register | AddStake | SetSigner | Allocate | Deallocate | Release | RequestExit | Withdraw | Publish | SetSlashable
)
StakeEvent = (
    ValidatorRegistered | SignerChanged | StakeChanged | ExitRequested | SeatTaken | SetPublished | PartitionChanged
)
_After = tuple[Stakes, list[StakeEvent]]


def apply(state: Stakes, change: StakeChange, now: Timestamp) -> tuple[Stakes, list[StakeEvent]]:
    """The stakes after ``change`` at ``now``. Raises `StakeRefused`."""
    return _apply(change, state, now)


def next_signers(stakers: Mapping[Address, Staker], now: Timestamp) -> tuple[Address, ...]:
    """The signers to `Publish` for the heaviest set that can be: everyone takes a seat that may, in order of signer."""
    members = {account: staker.stake for account, staker in stakers.items() if staker.seated}
    waiting = (
        (staker.weight(now), account)
        for account, staker in stakers.items()
        if not staker.seated and not staker.exit_at and staker.weight(now)
    )
    for weight, account in sorted(waiting, key=lambda found: (-found[0], found[1])):
        if len(members) == MAX_VALIDATORS:
            smallest = _smallest(members.items())
            if weight <= members[smallest]:
                break
            del members[smallest]
        members[account] = weight
    return tuple(sorted(stakers[account].signer for account in members))


def account_of(state: Stakes, signer: Address) -> Address:
    """For whom a key signs, or ever signed. Raises `StakeRefused` for a stranger's."""
    if signer not in state.account_of:
        raise StakeRefused("NotValidator", f"0x{signer.hex()} signs, and signed, for no validator")
    return state.account_of[signer]


def forfeit(state: Stakes, account: Address, amount: Amount, now: Timestamp) -> tuple[Stakes, list[StakeEvent]]:
    """Without ``amount`` of the account's stake, be it leaving or not; if it was not, it is now."""
    state, changed = _with_stake(state, account, Amount(state.stakers[account].stake - amount))
    left: list[StakeEvent] = []
    if not state.stakers[account].exit_at:
        state, left = _leave(state, account, now)
    return state, [*changed, *left]


def empty_partition(
    state: Stakes, account: Address, chain: ChainRef, proven_at: Timestamp
) -> tuple[Stakes, Amount, list[StakeEvent]]:
    """Without what of the account's stake answers for what was proven at ``proven_at``, and how much that is."""
    partition, staker = state.partitions.get((account, chain), Partition()), state.stakers[account]
    lost = min(partition.amount, staker.stake)  # an equivocation may have taken a part of what is allocated
    if not lost or partition.since > proven_at:
        return state, Amount(0), []
    state = _with(state, account, allocated=Amount(staker.allocated - partition.amount))
    state, emptied = _with_partition(state, account, chain, Partition())
    return state, lost, emptied


def require_slashable(state: Stakes, chain: ChainRef) -> None:
    """Raise `StakeRefused` unless proven lies about ``chain`` cost what is allocated to it."""
    if chain not in state.slashable:
        raise StakeRefused("NotSlashable", f"nothing can be lost for what is said of {show(chain)}")


@singledispatch
def _apply(change: StakeChange, state: Stakes, now: Timestamp) -> _After:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Register, state: Stakes, now: Timestamp) -> _After:
    if change.account in state.stakers:
        raise StakeRefused(
            "AlreadyValidator",
            f"account 0x{change.account.hex()} is, or was, a validator",
            remedy="come back with another account and another key",
        )
    if change.amount < state.rules.min_stake:
        raise StakeRefused("StakeTooLow", f"a stake of {change.amount} is less than {state.rules.min_stake}")
    state = _take_signer(state, change.account, change.signer)
    state, events = _add_pending(state, change.account, change.amount, now)
    return state, [ValidatorRegistered(change.account, change.signer), *events]


@_apply.register
def _(change: AddStake, state: Stakes, now: Timestamp) -> _After:
    _active(state, change.account)
    _require_something(change.amount)
    return _add_pending(state, change.account, change.amount, now)


@_apply.register
def _(change: SetSigner, state: Stakes, now: Timestamp) -> _After:
    _active(state, change.account)
    return _take_signer(state, change.account, change.signer), [SignerChanged(change.account, change.signer)]


@_apply.register
def _(change: Allocate, state: Stakes, now: Timestamp) -> _After:
    staker = _active(state, change.account)
    _require_something(change.amount)
    require_slashable(state, change.chain)
    free = staker.stake - staker.allocated
    if change.amount > free:
        raise StakeRefused("AboveFreeStake", f"{change.amount} is more than the {free} that answer for no chain yet")
    before = state.partitions.get((change.account, change.chain), Partition())
    partition = msgspec.structs.replace(
        before, amount=Amount(before.amount + change.amount), since=before.since if before.amount else now
    )
    state = _with(state, change.account, allocated=Amount(staker.allocated + change.amount))
    return _with_partition(state, change.account, change.chain, partition)


@_apply.register
def _(change: Deallocate, state: Stakes, now: Timestamp) -> _After:
    before = state.partitions.get((change.account, change.chain), Partition())
    _require_something(change.amount)
    staying = before.amount - before.leaving
    if change.amount > staying:
        raise StakeRefused("AbovePartition", f"{change.amount} is more than the {staying} that answer for the chain")
    partition = msgspec.structs.replace(
        before, leaving=Amount(before.leaving + change.amount), free_at=Timestamp(now + state.rules.unbonding)
    )
    return _with_partition(state, change.account, change.chain, partition)


@_apply.register
def _(change: Release, state: Stakes, now: Timestamp) -> _After:
    before = state.partitions.get((change.account, change.chain), Partition())
    if not before.leaving or now < before.free_at:
        raise StakeRefused("ReleaseTooEarly", f"{before.leaving} can be released from {before.free_at} on; it is {now}")
    staker = state.stakers[change.account]
    state = _with(state, change.account, allocated=Amount(staker.allocated - before.leaving))
    partition = Partition(Amount(before.amount - before.leaving), since=before.since)
    return _with_partition(state, change.account, change.chain, partition)


@_apply.register
def _(change: RequestExit, state: Stakes, now: Timestamp) -> _After:
    _active(state, change.account)
    return _leave(state, change.account, now)


@_apply.register
def _(change: Withdraw, state: Stakes, now: Timestamp) -> _After:
    staker = _staker(state, change.account)
    if not staker.exit_at or now < staker.exit_at:
        raise StakeRefused(
            "ExitTooEarly", f"the stake can be withdrawn from {staker.exit_at} on (0: never); it is {now}"
        )
    if not staker.stake:
        raise StakeRefused("NothingAtStake", f"nothing is left of the stake of 0x{change.account.hex()}")
    return _with_stake(state, change.account, Amount(0))


@_apply.register
def _(change: Publish, state: Stakes, now: Timestamp) -> _After:
    events: list[StakeEvent] = []
    for signer in change.signers:
        state, taken = _take_seat(state, _current(state, signer), now)
        events += taken
    if len(change.signers) != len(state.seated):
        raise StakeRefused("NotAllSeated", f"{len(change.signers)} signers, but {len(state.seated)} have a seat")
    # One that had a seat, or took one, may have lost it to another since.
    accounts = [_current(state, signer) for signer in change.signers]
    if not change.signers:
        raise StakeRefused("SetEmpty", "nobody has a seat; a set must have a member")
    if sorted(set(change.signers)) != list(change.signers):
        raise StakeRefused("MembersUnsorted", "signers must be sorted, each once")
    weights = [state.stakers[account].weight(now) for account in accounts]
    validators = ValidatorSet(
        state.published.number + 1 if state.published else 1,
        tuple(Validator(signer, weight) for signer, weight in zip(change.signers, weights, strict=True)),
        Timestamp(now + state.rules.validity),
    )
    return msgspec.structs.replace(state, published=validators), [*events, SetPublished(validators)]


@_apply.register
def _(change: SetSlashable, state: Stakes, now: Timestamp) -> _After:
    slashable = state.slashable | {change.chain} if change.slashable else state.slashable - {change.chain}
    return msgspec.structs.replace(state, slashable=slashable), []


def _take_seat(state: Stakes, account: Address, now: Timestamp) -> _After:
    """For an account without a seat: a free one, or that of the smallest.

    The smallest must weigh less even with all its stake that is not active yet.
    """
    if state.stakers[account].seated:
        return state, []
    weight = state.stakers[account].weight(now)
    if not weight:
        active_from = state.stakers[account].active_from
        raise StakeRefused(
            "NotActiveYet", f"the stake of 0x{account.hex()} is active from {active_from} on; it is {now}"
        )
    displaced, events = ZERO_ADDRESS, list[StakeEvent]()
    if len(state.seated) == MAX_VALIDATORS:
        displaced = _smallest((other, state.stakers[other].stake) for other in state.seated)
        stake = state.stakers[displaced].stake
        if weight <= stake:
            raise StakeRefused(
                "SetFull", f"0x{account.hex()} weighs {weight}; the smallest of 32 has a stake of {stake}"
            )
        state, events = _leave(state, displaced, now)
    return _with(state, account, seated=True), [*events, SeatTaken(account, displaced)]


def _smallest(stakes: Iterable[tuple[Address, Amount]]) -> Address:
    """The account with the least stake; of equals, the lowest."""
    return min(stakes, key=lambda found: (found[1], found[0]))[0]


def _leave(state: Stakes, account: Address, now: Timestamp) -> _After:
    exit_at = Timestamp(now + state.rules.unbonding)
    return _with(state, account, exit_at=exit_at, seated=False), [ExitRequested(account, exit_at)]


def _take_signer(state: Stakes, account: Address, signer: Address) -> Stakes:
    if signer == ZERO_ADDRESS or state.account_of.get(signer, account) != account:
        raise StakeRefused("SignerTaken", f"0x{signer.hex()} is no key, or signs, or signed, for another account")
    state = msgspec.structs.replace(state, account_of={**state.account_of, signer: account})
    return _with(state, account, signer=signer)


def _add_pending(state: Stakes, account: Address, amount: Amount, now: Timestamp) -> _After:
    staker = state.stakers[account]
    waiting = staker.pending if now < staker.active_from else 0
    active_from = Timestamp(now + state.rules.activation)
    state = _with(state, account, pending=Amount(waiting + amount), active_from=active_from)
    return _with_stake(state, account, Amount(staker.stake + amount))


def _with_stake(state: Stakes, account: Address, stake: Amount) -> _After:
    staker = state.stakers[account]
    pending = min(staker.pending, stake)
    event = StakeChanged(account, stake, pending, staker.active_from)
    return _with(state, account, stake=stake, pending=pending), [event]


def _with(state: Stakes, account: Address, **changes: object) -> Stakes:
    before = state.stakers.get(account) or Staker(ZERO_ADDRESS)
    stakers = {**state.stakers, account: msgspec.structs.replace(before, **changes)}
    return msgspec.structs.replace(state, stakers=stakers)


def _with_partition(state: Stakes, account: Address, chain: ChainRef, partition: Partition) -> _After:
    partitions = {**state.partitions, (account, chain): partition}
    event = PartitionChanged(account, chain, partition.amount, partition.leaving, partition.free_at)
    return msgspec.structs.replace(state, partitions=partitions), [event]


def _staker(state: Stakes, account: Address) -> Staker:
    if account not in state.stakers:
        raise StakeRefused("NotValidator", f"account 0x{account.hex()} is no validator")
    return state.stakers[account]


def _active(state: Stakes, account: Address) -> Staker:
    staker = _staker(state, account)
    if staker.exit_at:
        raise StakeRefused("AlreadyLeaving", f"account 0x{account.hex()} leaves at {staker.exit_at}")
    return staker


def _current(state: Stakes, signer: Address) -> Address:
    """The account for which ``signer`` signs now, and which stays."""
    account = account_of(state, signer)
    if state.stakers[account].signer != signer or state.stakers[account].exit_at:
        raise StakeRefused("NotValidator", f"0x{signer.hex()} signs for no validator that stays")
    return account


def _require_something(amount: Amount) -> None:
    if amount == 0:
        raise StakeRefused("ZeroAmount", "an amount must be more than zero")
