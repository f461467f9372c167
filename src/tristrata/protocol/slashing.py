"""What validators lose for a lie: by evidence that anyone brings, most of it their own signatures.

``(state, change, now) -> (state, events)``. This is the specification of what ``ValidatorSet`` does about evidence,
which is tested against it. Signatures are checked here, for separators that the state holds; who is owner, ledger or
inbox is the caller's concern.
"""

from functools import singledispatch

import msgspec

from tristrata.protocol.attestation import Checkpoint, Epoch
from tristrata.protocol.errors import InvalidSignature
from tristrata.protocol.ids import Address, ChainRef, show
from tristrata.protocol.signing import digest, recover
from tristrata.protocol.stake import (
    StakeEvent,
    StakeRefused,
    Stakes,
    account_of,
    empty_partition,
    forfeit,
    require_slashable,
)
from tristrata.protocol.units import WHOLE_IN_BASIS_POINTS, Amount, BasisPoints, Timestamp, share_of

MAX_REWARD = BasisPoints(5_000)


class Penalties(msgspec.Struct, frozen=True):
    """What an equivocation costs of the stake, and the reporter's part of any slash.

    A reporter gets half at most, so that a validator that reports itself loses more than it gets. Raises `StakeRefused`
    out of range.
    """

    equivocation: BasisPoints
    reward: BasisPoints

    def __post_init__(self) -> None:
        if not 0 < self.equivocation <= WHOLE_IN_BASIS_POINTS or self.reward > MAX_REWARD:
            raise StakeRefused(
                "PenaltiesOutOfRange",
                f"an equivocation costs {self.equivocation} bps, it must be 1 to {WHOLE_IN_BASIS_POINTS}; reporters "
                f"get {self.reward} bps of it, it must be {MAX_REWARD} or less",
            )


class Proven(msgspec.Struct, frozen=True):
    """An attested root that a final one contradicted, and when."""

    root: bytes
    at: Timestamp


class Slashing(msgspec.Struct, frozen=True):
    """The stakes, and what is proven about those who have them.

    ``ledger_chain`` is the chain that the ledger is on, ``ledger_separator`` its EIP-712 domain separator; ``parents``
    are the chains that those in the ledger settle on, ``outbox_separators`` the separators of their outboxes.
    ``equivocated`` says who has paid for which epoch of which chain; ``false_since`` when a hub proved the ``Epoch``
    with this EIP-712 struct hash false.
    """

    stakes: Stakes
    penalties: Penalties
    ledger_chain: ChainRef
    ledger_separator: bytes
    parents: dict[ChainRef, ChainRef] = {}
    outbox_separators: dict[ChainRef, bytes] = {}
    equivocated: frozenset[tuple[Address, ChainRef, int]] = frozenset()
    convicted: dict[tuple[ChainRef, int], Proven] = {}
    false_since: dict[tuple[ChainRef, bytes], Timestamp] = {}


class Convict(msgspec.Struct, frozen=True):
    """The ledger has a final root for the epoch, which contradicts this attested one."""

    checkpoint: Checkpoint


class ProveFalse(msgspec.Struct, frozen=True):
    """The hub ``chain`` proved false the `Epoch` with this EIP-712 struct hash."""

    chain: ChainRef
    epoch_hash: bytes


class SetPenalties(msgspec.Struct, frozen=True):
    """The owner changes the penalties."""

    penalties: Penalties


class SlashEquivocation(msgspec.Struct, frozen=True):
    """One account signed two roots of ``chain`` and one epoch, for whoever takes the chain's checkpoints over.

    Two `Epoch`s of one number are no fault: each may be right, and only one of them is sealed.
    """

    reporter: Address
    chain: ChainRef
    epoch: int
    roots: tuple[bytes, bytes]
    signatures: tuple[bytes, bytes]


class SlashConviction(msgspec.Struct, frozen=True):
    """Signatures of the convicted checkpoint of ``chain`` and ``epoch``."""

    reporter: Address
    chain: ChainRef
    epoch: int
    signatures: tuple[bytes, ...]


class SlashFalseEpoch(msgspec.Struct, frozen=True):
    """Signatures of an epoch that its hub proved false."""

    reporter: Address
    chain: ChainRef
    epoch: Epoch
    signatures: tuple[bytes, ...]


class Slashed(msgspec.Struct, frozen=True):
    """The account lost ``amount``: ``reward`` went to the reporter, the rest was burnt."""

    account: Address
    chain: ChainRef
    epoch: int
    amount: Amount
    reporter: Address
    reward: Amount


SlashChange = Convict | ProveFalse | SetPenalties | SlashEquivocation | SlashConviction | SlashFalseEpoch
SlashEvent = Slashed | StakeEvent
_After = tuple[Slashing, list[SlashEvent]]


def apply(state: Slashing, change: SlashChange, now: Timestamp) -> tuple[Slashing, list[SlashEvent]]:
    """The stakes after ``change`` at ``now``. Raises `StakeRefused`."""
    return _apply(change, state, now)


@singledispatch
def _apply(change: SlashChange, state: Slashing, now: Timestamp) -> _After:
    raise TypeError(f"no such change: {change!r}")


@_apply.register
def _(change: SetPenalties, state: Slashing, now: Timestamp) -> _After:
    return msgspec.structs.replace(state, penalties=change.penalties), []


@_apply.register
def _(change: Convict, state: Slashing, now: Timestamp) -> _After:
    checkpoint = change.checkpoint
    convicted = {**state.convicted, (checkpoint.chain, checkpoint.epoch): Proven(checkpoint.root, now)}
    return msgspec.structs.replace(state, convicted=convicted), []


@_apply.register
def _(change: ProveFalse, state: Slashing, now: Timestamp) -> _After:
    return msgspec.structs.replace(state, false_since={(change.chain, change.epoch_hash): now, **state.false_since}), []


@_apply.register
def _(change: SlashEquivocation, state: Slashing, now: Timestamp) -> _After:
    separator = _separator_above(state, change.chain)
    statements = [Checkpoint(change.chain, change.epoch, root) for root in change.roots]
    digests = [digest(separator, statement.struct_hash) for statement in statements]
    if digests[0] == digests[1]:
        raise StakeRefused("SameStatement", "the two statements are one and the same")
    signers = [_signer(*each) for each in zip(digests, change.signatures, range(2), strict=True)]
    accounts = [account_of(state.stakes, signer) for signer in signers]
    if accounts[0] != accounts[1]:
        raise StakeRefused("SignersDiffer", f"0x{signers[0].hex()} and 0x{signers[1].hex()} sign for two accounts")
    account, fault = accounts[0], (accounts[0], change.chain, change.epoch)
    if fault in state.equivocated:
        raise StakeRefused("AlreadySlashed", f"0x{account.hex()} has paid for epoch {change.epoch} already")
    stake = state.stakes.stakers[account].stake
    if not stake:
        raise StakeRefused("NothingAtStake", f"nothing is left of the stake of 0x{account.hex()}")
    state = msgspec.structs.replace(state, equivocated=state.equivocated | {fault})
    amount = Amount(-(-stake * state.penalties.equivocation // WHOLE_IN_BASIS_POINTS))  # rounded up: never nothing
    return _slash(state, account, change.chain, change.epoch, amount, change.reporter, now)


@_apply.register
def _(change: SlashConviction, state: Slashing, now: Timestamp) -> _After:
    proven = state.convicted.get((change.chain, change.epoch))
    if proven is None:
        raise StakeRefused("NotConvicted", f"no final root contradicts epoch {change.epoch} of {show(change.chain)}")
    # what was attested on the ledger was signed for the ledger, whatever the chain settles on
    message = digest(state.ledger_separator, Checkpoint(change.chain, change.epoch, proven.root).struct_hash)
    return _slash_partitions(state, change, change.epoch, message, proven.at, now)


@_apply.register
def _(change: SlashFalseEpoch, state: Slashing, now: Timestamp) -> _After:
    proven_at = state.false_since.get((change.chain, change.epoch.struct_hash))
    if proven_at is None:
        raise StakeRefused("NotProvenFalse", f"{show(change.chain)} did not prove epoch {change.epoch.epoch} false")
    message = digest(_outbox_separator(state, change.chain), change.epoch.struct_hash)
    return _slash_partitions(state, change, change.epoch.epoch, message, proven_at, now)


def _slash_partitions(
    state: Slashing,
    change: SlashConviction | SlashFalseEpoch,
    epoch: int,
    message: bytes,
    proven_at: Timestamp,
    now: Timestamp,
) -> _After:
    """Takes what the signers of ``message`` had allocated to the chain when it was proven false."""
    require_slashable(state.stakes, change.chain)
    events: list[SlashEvent] = []
    for index, signature in enumerate(change.signatures):
        account = account_of(state.stakes, _signer(message, signature, index))
        stakes, lost, emptied = empty_partition(state.stakes, account, change.chain, proven_at)
        if lost:
            state = msgspec.structs.replace(state, stakes=stakes)
            state, slashed = _slash(state, account, change.chain, epoch, lost, change.reporter, now)
            events += [*emptied, *slashed]
    if not events:
        raise StakeRefused("NothingToSlash", f"no signer has anything at stake for {show(change.chain)}")
    return state, events


def _slash(
    state: Slashing, account: Address, chain: ChainRef, epoch: int, amount: Amount, reporter: Address, now: Timestamp
) -> _After:
    slashed = Slashed(account, chain, epoch, amount, reporter, share_of(amount, state.penalties.reward))
    stakes, events = forfeit(state.stakes, account, amount, now)
    return msgspec.structs.replace(state, stakes=stakes), [slashed, *events]


def _separator_above(state: Slashing, chain: ChainRef) -> bytes:
    """For whom the chain's checkpoints are signed: the ledger, or the outbox of the chain between."""
    if chain not in state.parents:
        raise StakeRefused("ChainUnknown", f"the ledger does not know chain {show(chain)}")
    parent = state.parents[chain]
    return state.ledger_separator if parent == state.ledger_chain else _outbox_separator(state, parent)


def _outbox_separator(state: Slashing, chain: ChainRef) -> bytes:
    if chain not in state.outbox_separators:
        raise StakeRefused("NoOutbox", f"the ledger knows no outbox of {show(chain)}")
    return state.outbox_separators[chain]


def _signer(message: bytes, signature: bytes, index: int) -> Address:
    try:
        return recover(message, signature)
    except InvalidSignature as error:
        raise StakeRefused("SignatureInvalid", f"signature {index}: {error.message}") from error
