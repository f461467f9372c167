"""A miner's bond as its hub keeps it: what is reserved for tasks, withdrawn, burnt and returned, and what it weighs.

``(state, change, now) -> (state, events)``. This is the specification of the contract ``MinerRegistry``, which is
tested against it. The miner's keys, slots and prices have no part in it.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import ZERO_WORD, address_word, keccak, word
from tristrata.protocol.ids import Address, ModelId
from tristrata.protocol.units import Amount, BasisPoints, Seconds, Timestamp, share_of

JAIL_TYPE = "Jail(address miner,uint64 until,uint96 penalty,bytes32 evidence)"
CAPABILITY_TYPE = "Capability(address miner,bytes32 model_id,bytes32 reference,uint64 measured_at)"
MAX_OFFERS = 8
MAX_JAIL = Seconds(30 * 86_400)
_JAIL_TYPE_HASH = keccak(JAIL_TYPE.encode())
_CAPABILITY_TYPE_HASH = keccak(CAPABILITY_TYPE.encode())
_NO_MODEL = ModelId(ZERO_WORD)


class BondRefused(TristrataError):
    """A change that the rules of bonds do not allow; the state stays as it was."""


class Rules(msgspec.Struct, frozen=True):
    """A registry's rules: the least bond, the wait before bond is paid back, the most that one jailing burns."""

    min_bond: Amount
    exit_delay: Seconds
    max_penalty_bps: BasisPoints


class Bond(msgspec.Struct, frozen=True):
    """One account at a registry. ``exit_at`` and ``withdraw_at`` are 0 while it asked for nothing.

    ``bond`` does not contain what is ``withdrawing``; penalties reach both. ``reserved`` may exceed ``bond`` after a
    penalty. ``weight`` is what the miner weighs in the draws for each of its offers, 0 for one that may not work. It is
    brought up to date by every change of the miner's but neither by time nor by other rules, so the weight of a miner
    whose jail is over returns with its next change, or `Unjail`.
    """

    rules: Rules
    active: bool = False
    bond: Amount = Amount(0)
    reserved: Amount = Amount(0)
    withdrawing: Amount = Amount(0)
    withdraw_at: Timestamp = Timestamp(0)
    exit_at: Timestamp = Timestamp(0)
    jailed_until: Timestamp = Timestamp(0)
    weight: Amount = Amount(0)
    offers: frozenset[ModelId] = frozenset()
    used_evidence: frozenset[bytes] = frozenset()

    @property
    def free(self) -> Amount:
        """The bond that no task has reserved."""
        return Amount(max(0, self.bond - self.reserved))

    def is_jailed(self, now: Timestamp) -> bool:
        """Whether its jail is not over at ``now``."""
        return now < self.jailed_until

    def may_work(self, now: Timestamp) -> bool:
        """Whether new tasks may be given to it at ``now``: not below the least bond, where penalties can put it."""
        return self.active and not self.exit_at and not self.is_jailed(now) and self.bond >= self.rules.min_bond


class Register(msgspec.Struct, frozen=True):
    """The account becomes a miner with this bond."""

    bond: Amount


class MakeOffer(msgspec.Struct, frozen=True):
    """The miner offers a model, or changes its prices."""

    model: ModelId


class WithdrawOffer(msgspec.Struct, frozen=True):
    """The miner offers a model no longer."""

    model: ModelId


class AddBond(msgspec.Struct, frozen=True):
    """More bond."""

    amount: Amount


class RemoveBond(msgspec.Struct, frozen=True):
    """The miner wants a part of its bond back."""

    amount: Amount


class WithdrawBond(msgspec.Struct, frozen=True):
    """The payment of what the miner asked back."""


class RequestExit(msgspec.Struct, frozen=True):
    """The miner wants to leave."""


class Exit(msgspec.Struct, frozen=True):
    """The payment of all the bond to a miner that asked to leave."""


class Reserve(msgspec.Struct, frozen=True):
    """The task queue wants so much bond to answer for a task."""

    amount: Amount


class Release(msgspec.Struct, frozen=True):
    """The task queue needs so much of the reserved bond no more."""

    amount: Amount


class Penalize(msgspec.Struct, frozen=True):
    """The task queue burns bond and jails; 0 seconds do not jail."""

    amount: Amount
    jail_seconds: Seconds


class Jail(msgspec.Struct, frozen=True):
    """The quorum's word that a miner is jailed until a timestamp, and a part of its bond burnt.

    Signed for the hub's ``MinerRegistry``. ``evidence`` is the hash of what it is jailed for, and serves once.
    """

    miner: Address
    until: Timestamp
    penalty: Amount
    evidence: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the jailing."""
        return keccak(
            _JAIL_TYPE_HASH + address_word(self.miner) + word(self.until) + word(self.penalty) + self.evidence
        )


class Unjail(msgspec.Struct, frozen=True):
    """The miner's jail is over, and its weight returns. Open to anyone."""


class Capability(msgspec.Struct, frozen=True):
    """The quorum's word on what it measured of a miner with a model. Signed for the hub's ``MinerRegistry``.

    ``reference`` is the content id of the probe, ``measured_at`` a timestamp; the newest counts.
    """

    miner: Address
    model_id: ModelId
    reference: bytes
    measured_at: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the measurement."""
        return keccak(
            _CAPABILITY_TYPE_HASH + address_word(self.miner) + self.model_id + self.reference + word(self.measured_at)
        )


class BondChanged(msgspec.Struct, frozen=True):
    """The bond is ``bond`` now."""

    bond: Amount


class ReservationChanged(msgspec.Struct, frozen=True):
    """Tasks have reserved ``reserved`` now."""

    reserved: Amount


class WithdrawalRequested(msgspec.Struct, frozen=True):
    """``amount`` left the bond, and is paid from ``withdraw_at`` on."""

    amount: Amount
    withdraw_at: Timestamp


class Withdrawn(msgspec.Struct, frozen=True):
    """``amount`` was paid to the miner."""

    amount: Amount


class ExitRequested(msgspec.Struct, frozen=True):
    """The miner can leave from ``exit_at`` on."""

    exit_at: Timestamp


class Offered(msgspec.Struct, frozen=True):
    """The miner offers ``model_id``."""

    model_id: ModelId


class OfferWithdrawn(msgspec.Struct, frozen=True):
    """The miner offers ``model_id`` no longer."""

    model_id: ModelId


class Penalized(msgspec.Struct, frozen=True):
    """``amount`` was burnt."""

    amount: Amount


class Jailed(msgspec.Struct, frozen=True):
    """The miner is jailed until ``until``; ``evidence`` is zero where the task queue jailed it."""

    until: Timestamp
    evidence: bytes


class Unjailed(msgspec.Struct, frozen=True):
    """The miner's jail is over."""


BondChange = (
    Register
    | MakeOffer
    | WithdrawOffer
    | AddBond
    | RemoveBond
    | WithdrawBond
    | RequestExit
    | Exit
    | Reserve
    | Release
    | Penalize
    | Jail
    | Unjail
)
BondEvent = (
    BondChanged
    | ReservationChanged
    | WithdrawalRequested
    | Withdrawn
    | ExitRequested
    | Offered
    | OfferWithdrawn
    | Penalized
    | Jailed
    | Unjailed
)
_Result = tuple[Bond, list[BondEvent]]


def apply(state: Bond, change: BondChange, now: Timestamp) -> _Result:
    """The bond after ``change`` at ``now``. Raises `BondRefused`.

    Without events nothing has changed: a `Reserve` that cannot be met, a `Penalize` of an account that is no miner.
    """
    after, events = _apply(change, state, now)
    if not events:
        return state, []
    weight = after.free if after.may_work(now) else Amount(0)
    return msgspec.structs.replace(after, weight=weight), events


@singledispatch
def _apply(change: BondChange, state: Bond, now: Timestamp) -> _Result:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: Register, state: Bond, now: Timestamp) -> _Result:
    if state.active:
        raise BondRefused("the account is a miner already", remedy="add to its bond instead")
    _require_least(change.bond, state.rules)
    return msgspec.structs.replace(state, active=True, bond=change.bond), [BondChanged(change.bond)]


@_apply.register
def _(change: MakeOffer, state: Bond, now: Timestamp) -> _Result:
    _require_staying(state)
    _require_not_jailed(state, now)
    _require_least(state.bond, state.rules)
    if change.model == _NO_MODEL:
        raise BondRefused("a model's id is not zero")
    offers = state.offers | {change.model}
    if len(offers) > MAX_OFFERS:
        raise BondRefused(f"the miner offers {MAX_OFFERS} models, the most", remedy="withdraw another offer")
    return msgspec.structs.replace(state, offers=offers), [Offered(change.model)]


@_apply.register
def _(change: WithdrawOffer, state: Bond, now: Timestamp) -> _Result:
    if change.model not in state.offers:
        raise BondRefused(f"the miner does not offer model 0x{change.model.hex()}")
    return msgspec.structs.replace(state, offers=state.offers - {change.model}), [OfferWithdrawn(change.model)]


@_apply.register
def _(change: AddBond, state: Bond, now: Timestamp) -> _Result:
    _require_miner(state)
    _require_positive(change.amount)
    bond = Amount(state.bond + change.amount)
    return msgspec.structs.replace(state, bond=bond), [BondChanged(bond)]


@_apply.register
def _(change: RemoveBond, state: Bond, now: Timestamp) -> _Result:
    _require_staying(state)
    _require_positive(change.amount)
    if state.withdrawing:
        raise BondRefused(f"{state.withdrawing} is being withdrawn already, and is paid from {state.withdraw_at} on")
    if state.free - change.amount < state.rules.min_bond:
        raise BondRefused(
            f"{change.amount} would leave {state.free - change.amount} of the bond free; "
            f"{state.rules.min_bond} must stay",
            remedy="wait until tasks have ended, or leave with all the bond",
        )
    bond, withdraw_at = Amount(state.bond - change.amount), Timestamp(now + state.rules.exit_delay)
    after = msgspec.structs.replace(state, bond=bond, withdrawing=change.amount, withdraw_at=withdraw_at)
    return after, [WithdrawalRequested(change.amount, withdraw_at), BondChanged(bond)]


@_apply.register
def _(change: WithdrawBond, state: Bond, now: Timestamp) -> _Result:
    _require_miner(state)
    _require_not_jailed(state, now)
    _require_due(state.withdraw_at, now, "a withdrawal")
    after = msgspec.structs.replace(state, withdrawing=Amount(0), withdraw_at=Timestamp(0))
    return after, [Withdrawn(state.withdrawing)]


@_apply.register
def _(change: RequestExit, state: Bond, now: Timestamp) -> _Result:
    _require_staying(state)
    exit_at = Timestamp(now + state.rules.exit_delay)
    return msgspec.structs.replace(state, exit_at=exit_at), [ExitRequested(exit_at)]


@_apply.register
def _(change: Exit, state: Bond, now: Timestamp) -> _Result:
    _require_miner(state)
    _require_not_jailed(state, now)
    _require_due(state.exit_at, now, "an exit")
    if state.reserved:
        raise BondRefused(f"tasks have reserved {state.reserved} of the bond", remedy="wait until they have ended")
    ended = [OfferWithdrawn(model) for model in sorted(state.offers)]
    paid = Amount(state.bond + state.withdrawing)
    after = Bond(rules=state.rules, used_evidence=state.used_evidence)
    return after, [*ended, BondChanged(Amount(0)), Withdrawn(paid)]


@_apply.register
def _(change: Reserve, state: Bond, now: Timestamp) -> _Result:
    if not state.may_work(now) or state.free < change.amount:
        return state, []
    return _with_reserved(state, Amount(state.reserved + change.amount))


@_apply.register
def _(change: Release, state: Bond, now: Timestamp) -> _Result:
    if change.amount > state.reserved:
        raise BondRefused(f"{change.amount} is to be released; only {state.reserved} is reserved")
    return _with_reserved(state, Amount(state.reserved - change.amount))


@_apply.register
def _(change: Penalize, state: Bond, now: Timestamp) -> _Result:
    if not state.active:
        return state, []
    if not change.jail_seconds:
        return _penalized(state, change.amount)
    until = Timestamp(now + min(change.jail_seconds, MAX_JAIL))
    return _jailed(state, until, ZERO_WORD, change.amount)


@_apply.register
def _(change: Jail, state: Bond, now: Timestamp) -> _Result:
    _require_miner(state)
    if not now < change.until <= now + MAX_JAIL:
        raise BondRefused(f"jail until {change.until} must end after {now}, and by {now + MAX_JAIL}")
    if change.evidence in state.used_evidence:
        raise BondRefused(f"evidence 0x{change.evidence.hex()} has served against this miner already")
    most = share_of(Amount(state.bond + state.withdrawing), state.rules.max_penalty_bps)
    used = msgspec.structs.replace(state, used_evidence=state.used_evidence | {change.evidence})
    return _jailed(used, change.until, change.evidence, min(change.penalty, most))


@_apply.register
def _(change: Unjail, state: Bond, now: Timestamp) -> _Result:
    _require_miner(state)
    if not state.jailed_until:
        raise BondRefused("the miner is not in jail")
    _require_not_jailed(state, now)
    return msgspec.structs.replace(state, jailed_until=Timestamp(0)), [Unjailed()]


def _with_reserved(state: Bond, reserved: Amount) -> _Result:
    return msgspec.structs.replace(state, reserved=reserved), [ReservationChanged(reserved)]


def _jailed(state: Bond, until: Timestamp, evidence: bytes, penalty: Amount) -> _Result:
    longest = max(until, state.jailed_until)
    after, events = _penalized(msgspec.structs.replace(state, jailed_until=longest), penalty)
    return after, [Jailed(longest, evidence), *events]


def _penalized(state: Bond, amount: Amount) -> _Result:
    from_bond = min(amount, state.bond)
    from_withdrawing = min(amount - from_bond, state.withdrawing)
    bond, withdrawing = Amount(state.bond - from_bond), Amount(state.withdrawing - from_withdrawing)
    after = msgspec.structs.replace(state, bond=bond, withdrawing=withdrawing)
    return after, [Penalized(Amount(from_bond + from_withdrawing)), BondChanged(bond)]


def _require_miner(state: Bond) -> None:
    if not state.active:
        raise BondRefused("the account is not a miner", remedy="register first")


def _require_staying(state: Bond) -> None:
    _require_miner(state)
    if state.exit_at:
        raise BondRefused(f"the miner is leaving, and can from {state.exit_at} on")


def _require_not_jailed(state: Bond, now: Timestamp) -> None:
    if state.is_jailed(now):
        raise BondRefused(f"it is {now}; the miner is in jail until {state.jailed_until}", remedy="wait until then")


def _require_least(bond: Amount, rules: Rules) -> None:
    if bond < rules.min_bond:
        raise BondRefused(f"the bond is {bond}; it must be {rules.min_bond} at least", remedy="put in more bond")


def _require_due(due: Timestamp, now: Timestamp, what: str) -> None:
    if not due or now < due:
        raise BondRefused(f"it is {now}; {what} is due at {due or 'no time, for nobody asked for it'}")


def _require_positive(amount: Amount) -> None:
    if amount <= 0:
        raise BondRefused(f"the amount is {amount}; it must be more than zero")
