"""Checkpoints on their way up: a hub's outbox, which seals epochs, and the ledger on L1, which keeps them for ever.

``(state, change) -> (state, events)`` for each. This is the specification of the contracts ``Outbox`` and
``CheckpointLedger``: they are tested against it. Signatures are checked here, for a separator that the state holds.
"""

from collections.abc import Sequence
from functools import singledispatch

import msgspec

from tristrata.protocol.attestation import (
    Checkpoint,
    Epoch,
    SetExpired,
    ValidatorSet,
    check_quorum,
)
from tristrata.protocol.epoch import Lane, child_leaf, epoch_root
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.hashing import WORD_BYTES, ZERO_WORD, keccak, word
from tristrata.protocol.ids import ChainRef, show
from tristrata.protocol.incremental_tree import IncrementalTree
from tristrata.protocol.indexed_tree import CAPACITY, IndexedTree
from tristrata.protocol.signing import digest
from tristrata.protocol.units import Timestamp

SET_INDEX = 0
RANDOMNESS_INDEX = 1
FIRST_CHAIN_INDEX = 2
_PAYLOAD_OFFSET = word(6 * WORD_BYTES)


class CheckpointRefused(TristrataError):
    """A change that the rules of the ledger, or of the outbox, do not allow; the state stays as it was."""


class ChainFrozen(CheckpointRefused):
    """A final root contradicted an attested one of this chain; until its owner unfreezes it, only final roots count."""


class AlreadyFinal(CheckpointRefused):
    """The epoch has a final root, which never changes."""


class Attestation(msgspec.Struct, frozen=True):
    """What the ledger holds of one chain's epoch: its root, how it came, and since when that way."""

    root: bytes
    lane: Lane
    timestamp: Timestamp


class LedgerChain(msgspec.Struct, frozen=True):
    """A chain in the ledger: its place in the super root, and the chain it settles on.

    ``latest`` is the epoch that its leaf shows, ``latest_final`` its newest final one (0 before any). A frozen chain is
    attested no more.
    """

    index: int
    parent: ChainRef
    latest: int = 0
    latest_final: int = 0
    frozen: bool = False


class Ledger(msgspec.Struct, frozen=True):
    """The ledger on L1. ``super_roots`` are numbered from 1; ``separator`` is its EIP-712 domain separator.

    ``recorded`` has the root of each epoch that is known, ``convicted`` each attested one that a final one
    contradicted.
    """

    separator: bytes
    validators: ValidatorSet | None = None
    chains: dict[ChainRef, LedgerChain] = {}
    recorded: dict[tuple[ChainRef, int], Attestation] = {}
    convicted: dict[tuple[ChainRef, int], bytes] = {}
    tree: IndexedTree = IndexedTree()
    super_roots: tuple[bytes, ...] = ()


class AddChain(msgspec.Struct, frozen=True):
    """The owner adds a chain that settles on ``parent``, for ever."""

    chain: ChainRef
    parent: ChainRef


class PublishSet(msgspec.Struct, frozen=True):
    """L1's validators form their next set."""

    validators: ValidatorSet


class Attest(msgspec.Struct, frozen=True):
    """A quorum says what a chain sealed in an epoch; open to anyone. ``randomness`` is the block's ``prevrandao``."""

    checkpoint: Checkpoint
    signatures: tuple[bytes, ...]
    randomness: bytes


class Finalize(msgspec.Struct, frozen=True):
    """The hub brings what a chain sealed in an epoch, over the chain's own bridges."""

    checkpoint: Checkpoint
    randomness: bytes


class Unfreeze(msgspec.Struct, frozen=True):
    """The owner lets a frozen chain be attested again."""

    chain: ChainRef


class ChainAdded(msgspec.Struct, frozen=True):
    """The chain has this place in the super root, or among the outbox's children."""

    chain: ChainRef
    index: int


class Attested(msgspec.Struct, frozen=True):
    """The epoch is on the ledger for ever; super root ``super_number`` includes the newest of each chain."""

    checkpoint: Checkpoint
    super_number: int
    super_root: bytes


class Finalized(msgspec.Struct, frozen=True):
    """The epoch's root is final; super root ``super_number`` includes the newest of each chain."""

    checkpoint: Checkpoint
    super_number: int
    super_root: bytes


class Convicted(msgspec.Struct, frozen=True):
    """The attested root of the epoch gave way to this final one, which contradicts it."""

    checkpoint: Checkpoint
    attested_root: bytes


class Frozen(msgspec.Struct, frozen=True):
    """The chain is attested no more, or again."""

    chain: ChainRef
    frozen: bool


class OutboxChild(msgspec.Struct, frozen=True):
    """A child of a hub: its place, its latest epoch here, and the hub's last sealed epoch when that one came."""

    index: int
    epoch: int = 0
    seals_before: int = 0


class Outbox(msgspec.Struct, frozen=True):
    """A hub's outbox. ``roots`` are those of its sealed epochs, from 1; ``block`` the last one's reference block."""

    ref: ChainRef
    separator: bytes
    validators: ValidatorSet | None = None
    block: int = 0
    roots: tuple[bytes, ...] = ()
    messages: IncrementalTree = IncrementalTree()
    children: dict[ChainRef, OutboxChild] = {}
    tree: IndexedTree = IndexedTree()

    @property
    def epoch(self) -> int:
        """The last sealed epoch; 0 before the first."""
        return len(self.roots)


class AddChild(msgspec.Struct, frozen=True):
    """The inbox adds a chain that settles on this one, for ever."""

    chain: ChainRef


class AttestChild(msgspec.Struct, frozen=True):
    """A quorum says what a child sealed in an epoch; open to anyone."""

    checkpoint: Checkpoint
    signatures: tuple[bytes, ...]


class Send(msgspec.Struct, frozen=True):
    """Someone says something to another chain. ``leaf`` is the `message_leaf` with the index of the next message."""

    leaf: bytes


class AdoptSet(msgspec.Struct, frozen=True):
    """The inbox brings a set that L1 published."""

    validators: ValidatorSet


class AdvanceSet(msgspec.Struct, frozen=True):
    """A quorum of the current set hands over to another (``NextSet``); open to anyone."""

    validators: ValidatorSet
    signatures: tuple[bytes, ...]


class Seal(msgspec.Struct, frozen=True):
    """Anyone seals the next epoch with what a quorum signed about it."""

    statement: Epoch
    signatures: tuple[bytes, ...]


class ChildAttested(msgspec.Struct, frozen=True):
    """The child's epoch is in the tree of children."""

    checkpoint: Checkpoint


class SetAdopted(msgspec.Struct, frozen=True):
    """The outbox goes by this set."""

    validators: ValidatorSet


class Sealed(msgspec.Struct, frozen=True):
    """The epoch has this root, over these messages and children and what the statement says."""

    statement: Epoch
    messages_root: bytes
    children_root: bytes
    root: bytes


LedgerChange = AddChain | PublishSet | Attest | Finalize | Unfreeze
LedgerEvent = ChainAdded | Attested | Finalized | Convicted | Frozen
OutboxChange = AddChild | AttestChild | Send | AdoptSet | AdvanceSet | Seal
OutboxEvent = ChainAdded | ChildAttested | SetAdopted | Sealed


def apply_to_ledger(state: Ledger, change: LedgerChange, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    """The ledger after ``change`` at ``now``. Raises `CheckpointRefused`, or as `check_quorum` does."""
    return _to_ledger(change, state, now)


def apply_to_outbox(state: Outbox, change: OutboxChange, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    """The outbox after ``change`` at ``now``. Raises `CheckpointRefused`, or as `check_quorum` does."""
    return _to_outbox(change, state, now)


def message_leaf(
    source: ChainRef, index: int, destination: ChainRef, sender: bytes, receiver: bytes, payload: bytes
) -> bytes:
    """``keccak(abi.encode(…))`` of a message; sender and receiver are 32 bytes, addresses left-padded."""
    padded = payload.ljust(-(-len(payload) // WORD_BYTES) * WORD_BYTES, b"\0")
    head = source + word(index) + destination + sender + receiver + _PAYLOAD_OFFSET
    return keccak(head + word(len(payload)) + padded)


@singledispatch
def _to_ledger(change: LedgerChange, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    raise TypeError(f"no such change: {change!r}")


@_to_ledger.register
def _(change: AddChain, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    index = _next_index(change.chain, state.chains, FIRST_CHAIN_INDEX)
    chains = {**state.chains, change.chain: LedgerChain(index, change.parent)}
    return msgspec.structs.replace(state, chains=chains), [ChainAdded(change.chain, index)]


@_to_ledger.register
def _(change: PublishSet, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    _require_newer(change.validators, state.validators, now)
    return msgspec.structs.replace(state, validators=change.validators), []


@_to_ledger.register
def _(change: Unfreeze, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    known = state.chains.get(change.chain)
    if known is None or not known.frozen:
        raise CheckpointRefused(f"chain {show(change.chain)} is not frozen")
    return _with_chain(state, change.chain, msgspec.structs.replace(known, frozen=False)), [Frozen(change.chain, False)]


@_to_ledger.register
def _(change: Attest, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    checkpoint = change.checkpoint
    chain, epoch = checkpoint.chain, checkpoint.epoch
    known = _known(state, checkpoint)
    if known.frozen:
        raise ChainFrozen(f"chain {show(chain)} is frozen: only its own bridges are believed")
    if (chain, epoch) in state.recorded:
        raise CheckpointRefused(f"epoch {epoch} of chain {show(chain)} is on the ledger already, for ever")
    _check(state.validators, state.separator, checkpoint.struct_hash, change.signatures, now)
    state = _record(state, checkpoint, Lane.ATTESTED, now)
    if epoch > known.latest:  # one that arrives late is kept, but never takes the place of a newer one
        state = _show(state, chain, msgspec.structs.replace(known, latest=epoch))
    state = _with_super_root(state, change.randomness)
    return state, [Attested(checkpoint, len(state.super_roots), state.tree.root)]


@_to_ledger.register
def _(change: Finalize, state: Ledger, now: Timestamp) -> tuple[Ledger, list[LedgerEvent]]:
    checkpoint = change.checkpoint
    chain, epoch = checkpoint.chain, checkpoint.epoch
    known = _known(state, checkpoint)
    before = state.recorded.get((chain, epoch))
    if before is not None and before.lane is Lane.FINAL:
        raise AlreadyFinal(f"epoch {epoch} of chain {show(chain)} is final, for ever")
    state = _record(state, checkpoint, Lane.FINAL, now)
    events: list[LedgerEvent] = []
    latest_final = max(known.latest_final, epoch)
    latest, frozen = max(known.latest, epoch), known.frozen
    if before is not None and before.root != checkpoint.root:
        # whatever else was attested is in doubt, so the leaf falls back to the newest epoch that is beyond it
        latest, frozen = latest_final, True
        state = msgspec.structs.replace(state, convicted={**state.convicted, (chain, epoch): before.root})
        events.append(Convicted(checkpoint, before.root))
        if not known.frozen:
            events.append(Frozen(chain, True))
    known = msgspec.structs.replace(known, latest=latest, latest_final=latest_final, frozen=frozen)
    state = _show(state, chain, known)
    state = _with_super_root(state, change.randomness)
    return state, [*events, Finalized(checkpoint, len(state.super_roots), state.tree.root)]


@singledispatch
def _to_outbox(change: OutboxChange, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    raise TypeError(f"no such change: {change!r}")


@_to_outbox.register
def _(change: AddChild, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    index = _next_index(change.chain, state.children, 0)
    children = {**state.children, change.chain: OutboxChild(index)}
    return msgspec.structs.replace(state, children=children), [ChainAdded(change.chain, index)]


@_to_outbox.register
def _(change: AttestChild, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    checkpoint = change.checkpoint
    chain, epoch, root = checkpoint.chain, checkpoint.epoch, checkpoint.root
    child = state.children.get(chain)
    if child is None:
        raise CheckpointRefused(f"chain {show(chain)} is no child of this one")
    if epoch != child.epoch + 1:
        raise CheckpointRefused(f"epoch {epoch} of chain {show(chain)} is out of order: {child.epoch + 1} comes next")
    _require_something(checkpoint)
    if child.epoch and child.seals_before == state.epoch:
        raise CheckpointRefused(
            f"epoch {child.epoch} of chain {show(chain)} is in no sealed epoch yet and would be lost",
            remedy="try again after the next epoch is sealed",
        )
    _check(state.validators, state.separator, checkpoint.struct_hash, change.signatures, now)
    state = msgspec.structs.replace(
        state,
        children={**state.children, chain: OutboxChild(child.index, epoch, state.epoch)},
        tree=state.tree.update(child.index, child_leaf(chain, epoch, root, Lane.ATTESTED)),
    )
    return state, [ChildAttested(checkpoint)]


@_to_outbox.register
def _(change: Send, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    return msgspec.structs.replace(state, messages=state.messages.append(change.leaf)), []


@_to_outbox.register
def _(change: AdoptSet, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    _require_newer(change.validators, state.validators, now)
    return msgspec.structs.replace(state, validators=change.validators), [SetAdopted(change.validators)]


@_to_outbox.register
def _(change: AdvanceSet, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    _require_newer(change.validators, state.validators, now)
    _check(state.validators, state.separator, change.validators.succession.struct_hash, change.signatures, now)
    return msgspec.structs.replace(state, validators=change.validators), [SetAdopted(change.validators)]


@_to_outbox.register
def _(change: Seal, state: Outbox, now: Timestamp) -> tuple[Outbox, list[OutboxEvent]]:
    statement = change.statement
    if statement.epoch != state.epoch + 1:
        raise CheckpointRefused(f"epoch {statement.epoch} is out of order: {state.epoch + 1} comes next")
    if statement.block_number <= state.block:
        raise CheckpointRefused(
            f"reference block {statement.block_number} must lie after the last epoch's, {state.block}"
        )
    _check(state.validators, state.separator, statement.struct_hash, change.signatures, now)
    messages_root, children_root = state.messages.root, state.tree.root
    root = epoch_root(
        state.ref, statement.epoch, messages_root, statement.receipts_root, statement.payouts_root, children_root
    )
    state = msgspec.structs.replace(state, block=statement.block_number, roots=(*state.roots, root))
    return state, [Sealed(statement, messages_root, children_root, root)]


def _next_index(chain: ChainRef, known: dict[ChainRef, LedgerChain] | dict[ChainRef, OutboxChild], first: int) -> int:
    if chain in known:
        raise CheckpointRefused(f"chain {show(chain)} is there already, for ever")
    index = first + len(known)
    if index >= CAPACITY:
        raise CheckpointRefused(f"the tree is full: it has {CAPACITY} places")
    return index


def _known(state: Ledger, checkpoint: Checkpoint) -> LedgerChain:
    """The record of the checkpoint's chain, which may have sealed it."""
    known = state.chains.get(checkpoint.chain)
    if known is None:
        raise CheckpointRefused(f"the ledger does not know chain {show(checkpoint.chain)}")
    _require_something(checkpoint)
    return known


def _record(state: Ledger, checkpoint: Checkpoint, lane: Lane, now: Timestamp) -> Ledger:
    entry = {(checkpoint.chain, checkpoint.epoch): Attestation(checkpoint.root, lane, now)}
    return msgspec.structs.replace(state, recorded={**state.recorded, **entry})


def _with_chain(state: Ledger, chain: ChainRef, known: LedgerChain) -> Ledger:
    return msgspec.structs.replace(state, chains={**state.chains, chain: known})


def _show(state: Ledger, chain: ChainRef, known: LedgerChain) -> Ledger:
    """With ``known`` as the chain's record, and its latest epoch as the chain's leaf."""
    shown = state.recorded[chain, known.latest]
    tree = state.tree.update(known.index, child_leaf(chain, known.latest, shown.root, shown.lane))
    return msgspec.structs.replace(_with_chain(state, chain, known), tree=tree)


def _with_super_root(state: Ledger, randomness: bytes) -> Ledger:
    tree = state.tree.update(RANDOMNESS_INDEX, randomness)
    if state.validators is not None:
        tree = tree.update(SET_INDEX, state.validators.succession.leaf)
    return msgspec.structs.replace(state, tree=tree, super_roots=(*state.super_roots, tree.root))


def _require_something(checkpoint: Checkpoint) -> None:
    if checkpoint.epoch == 0 or checkpoint.root == ZERO_WORD:
        raise CheckpointRefused("epochs start at 1, and no epoch's root is zero: nothing was sealed")


def _require_newer(validators: ValidatorSet, current: ValidatorSet | None, now: Timestamp) -> None:
    number = current.number if current else 0
    if validators.number <= number:
        raise CheckpointRefused(f"validator set {validators.number} must be newer than the current one, {number}")
    if validators.valid_until < now:
        raise SetExpired(f"validator set {validators.number} was valid until {validators.valid_until}; it is {now}")


def _check(
    validators: ValidatorSet | None, separator: bytes, struct_hash: bytes, signatures: Sequence[bytes], now: Timestamp
) -> None:
    if validators is None:
        raise SetExpired("there is no validator set yet", remedy="publish the first one")
    check_quorum(validators, digest(separator, struct_hash), signatures, now)
