# pragma version 0.4.3
# pragma evm-version prague
"""
@title The ledger of all chains' epochs
@license Apache-2.0
@notice What a chain sealed in an epoch is written here once, for ever: by a quorum of validators that signed it (attested),
        and by the chain's own bridges (final). A final root never changes; an attested one gives way only to a final one that
        contradicts it, which convicts its signers and freezes the chain: from then on it goes by its final lane alone. Each
        record makes a numbered super root over the newest epoch of every chain, the validator set and a random word; old
        super roots stay, so a proof against one never grows old.
        States and changes: docs/protocol.md, "Checkpoints and messages"; the specification is
        `tristrata.protocol.checkpoint`.
"""

from shared import domain
from shared import indexed_tree
from shared import ownership
from shared import quorum


initializes: domain
initializes: indexed_tree
initializes: ownership
exports: (domain.chain_ref, ownership.__interface__)


interface IValidatorSet:
    def current() -> quorum.Set: view
    def require_quorum(digest: bytes32, signatures: DynArray[quorum.Signature, _MAX_SIGNATURES]) -> quorum.Set: view


struct Chain:
    index: uint256
    latest: uint64
    latest_final: uint64


struct Checkpoint:
    root: bytes32
    lane: uint8
    timestamp: uint64


_CHECKPOINT_TYPE_HASH: constant(bytes32) = keccak256("Checkpoint(bytes32 chain,uint64 epoch,bytes32 root)")
_MAX_SIGNATURES: constant(uint256) = 32
_ATTESTED: constant(uint8) = 1
_FINAL: constant(uint8) = 2
_SET_INDEX: constant(uint256) = 0
_RANDOMNESS_INDEX: constant(uint256) = 1
_UINT64_MASK: constant(uint256) = 2**64 - 1


validators: public(immutable(address))


# One word a chain: its index in the super tree (from 2; 0 means unknown), its newest final epoch (64 bits), and the epoch
# that its leaf shows (64 bits).
_chains: HashMap[bytes32, uint256]
parent_of: public(HashMap[bytes32, bytes32])
# The EIP-712 domain separator of the chain's `Outbox`, and its `Settlement` as messages name it; zero for a chain with none.
outbox_separator_of: public(HashMap[bytes32, bytes32])
settlement_of: public(HashMap[bytes32, bytes32])
# A frozen chain is attested no more.
frozen: public(HashMap[bytes32, bool])
# The attested root of an epoch that a final root contradicted; zero where none was.
convicted: public(HashMap[bytes32, HashMap[uint64, bytes32]])
_roots: HashMap[bytes32, HashMap[uint64, bytes32]]
# One word: lane above timestamp (64 bits).
_records: HashMap[bytes32, HashMap[uint64, uint256]]
super_number: public(uint64)
super_root: public(HashMap[uint64, bytes32])
# Who brings final roots: the `MessageHub`. Zero for nobody.
hub: public(address)


event ChainAdded:
    chain: indexed(bytes32)
    parent: indexed(bytes32)
    index: uint256
    outbox_separator: bytes32
    settlement: bytes32


event HubChanged:
    hub: indexed(address)


event Attested:
    chain: indexed(bytes32)
    epoch: indexed(uint64)
    root: bytes32
    super_number: uint64


event Finalized:
    chain: indexed(bytes32)
    epoch: indexed(uint64)
    root: bytes32
    super_number: uint64


event Convicted:
    chain: indexed(bytes32)
    epoch: indexed(uint64)
    attested_root: bytes32
    final_root: bytes32


event Frozen:
    chain: indexed(bytes32)
    frozen: bool


event SuperRoot:
    number: indexed(uint64)
    root: bytes32


@deploy
def __init__(chain_ref: bytes32, validators_: address, change_delay: uint64):
    """
    @notice The deployer becomes the owner, who adds chains. Until `set_hub` nothing is final.
    @param chain_ref The 32-byte reference of this chain.
    @param validators_ The `ValidatorSet` whose current set attests.
    @param change_delay Seconds between announcing a change and making it.
    """
    domain.__init__(chain_ref)
    ownership.__init__(change_delay)
    validators = validators_
    # The first two places of the new tree: the set's and the randomness's.
    indexed_tree._take()
    indexed_tree._take()


@external
def add_chain(ref: bytes32, parent: bytes32, outbox_separator: bytes32, settlement: bytes32) -> uint256:
    """
    @notice Add a chain, for ever. The owner's alone.
    @param parent The reference of the chain that it settles on.
    @param outbox_separator The EIP-712 domain separator of its `Outbox`, for which validators sign `Epoch`s; zero for none.
    @param settlement Its `Settlement`, left-padded, which convicts false epochs by message; zero for none.
    @return Its index in the super tree.
    """
    ownership._require_owner()
    if self._chains[ref] != 0:
        raw_revert(abi_encode(ref, method_id=method_id("ChainExists(bytes32)")))
    index: uint256 = indexed_tree._take()
    self._store_chain(ref, Chain(index=index, latest=0, latest_final=0))
    self.parent_of[ref] = parent
    self.outbox_separator_of[ref] = outbox_separator
    self.settlement_of[ref] = settlement
    log ChainAdded(
        chain=ref, parent=parent, index=index, outbox_separator=outbox_separator, settlement=settlement
    )
    return index


@external
def set_hub(hub: address):
    """
    @notice Change who brings final roots; an announced change.
    """
    ownership._make(keccak256(abi_encode(hub, method_id=method_id("set_hub(address)"))))
    self.hub = hub
    log HubChanged(hub=hub)


@external
def unfreeze(ref: bytes32):
    """
    @notice Let a frozen chain be attested again; an announced change.
    """
    ownership._make(keccak256(abi_encode(ref, method_id=method_id("unfreeze(bytes32)"))))
    if not self.frozen[ref]:
        raw_revert(abi_encode(ref, method_id=method_id("ChainNotFrozen(bytes32)")))
    self.frozen[ref] = False
    log Frozen(chain=ref, frozen=False)


@external
def attest(ref: bytes32, epoch: uint64, root: bytes32, signatures: DynArray[quorum.Signature, _MAX_SIGNATURES]):
    """
    @notice Write what a chain sealed in an epoch, signed (`Checkpoint`) by a quorum of the current validator set. Epochs
            may come in any order. Open to anyone.
    """
    ownership._require_running()
    record: Chain = self._known(ref, epoch, root)
    if self.frozen[ref]:
        raw_revert(abi_encode(ref, method_id=method_id("ChainFrozen(bytes32)")))
    if self._roots[ref][epoch] != empty(bytes32):
        raw_revert(abi_encode(ref, epoch, method_id=method_id("AlreadyAttested(bytes32,uint64)")))
    current: quorum.Set = staticcall IValidatorSet(validators).require_quorum(
        self._attestation_digest(ref, epoch, root), signatures
    )
    self._record(ref, epoch, root, _ATTESTED)
    # The leaf only goes forward: an older epoch that comes late is on record, but in no super root.
    if epoch > record.latest:
        self._store_chain(ref, Chain(index=record.index, latest=epoch, latest_final=record.latest_final))
        indexed_tree._update(record.index, keccak256(abi_encode(ref, epoch, root, _ATTESTED)))
    log Attested(chain=ref, epoch=epoch, root=root, super_number=self.super_number + 1)
    self._add_super_root(current)


@external
def finalize(ref: bytes32, epoch: uint64, root: bytes32):
    """
    @notice Write what a chain sealed in an epoch, as its own bridges brought it. The hub's alone. A root that contradicts
            the attested one takes its place, convicts it, and freezes the chain.
    """
    if msg.sender != self.hub:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotHub(address)")))
    record: Chain = self._known(ref, epoch, root)
    if self._lane(ref, epoch) == _FINAL:
        raw_revert(abi_encode(ref, epoch, method_id=method_id("AlreadyFinal(bytes32,uint64)")))
    attested: bytes32 = self._roots[ref][epoch]
    contradicted: bool = attested != empty(bytes32) and attested != root
    self._record(ref, epoch, root, _FINAL)
    latest: uint64 = max(record.latest, epoch)
    latest_final: uint64 = max(record.latest_final, epoch)
    if contradicted:
        # Whatever else was attested is in doubt, so the leaf falls back to the newest epoch that is beyond it.
        latest = latest_final
    self._store_chain(ref, Chain(index=record.index, latest=latest, latest_final=latest_final))
    if latest == latest_final:
        indexed_tree._update(record.index, keccak256(abi_encode(ref, latest, self._roots[ref][latest], _FINAL)))
    if contradicted:
        self.convicted[ref][epoch] = attested
        log Convicted(chain=ref, epoch=epoch, attested_root=attested, final_root=root)
        if not self.frozen[ref]:
            self.frozen[ref] = True
            log Frozen(chain=ref, frozen=True)
    log Finalized(chain=ref, epoch=epoch, root=root, super_number=self.super_number + 1)
    self._add_super_root(staticcall IValidatorSet(validators).current())


@external
@view
def checkpoint(ref: bytes32, epoch: uint64) -> Checkpoint:
    """
    @notice What a chain sealed in an epoch, by which lane it is known (0 not at all, 1 attested, 2 final), and since when
            by this lane.
    """
    return Checkpoint(
        root=self._roots[ref][epoch],
        lane=self._lane(ref, epoch),
        timestamp=convert(self._records[ref][epoch] & _UINT64_MASK, uint64),
    )


@external
@view
def chain(ref: bytes32) -> Chain:
    """
    @notice A chain's index in the super tree (0 for an unknown chain), the epoch that its leaf shows, and its newest final
            epoch.
    """
    return self._chain(ref)


@external
@view
def checkpoint_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    """
    @notice What a validator signs (EIP-712) where a chain's epochs go: for this ledger when the chain settles on this one,
            otherwise for its parent's `Outbox`.
    """
    if self._chains[ref] == 0:
        raw_revert(abi_encode(ref, method_id=method_id("ChainUnknown(bytes32)")))
    parent: bytes32 = self.parent_of[ref]
    if parent == domain.chain_ref:
        return self._attestation_digest(ref, epoch, root)
    separator: bytes32 = self.outbox_separator_of[parent]
    if separator == empty(bytes32):
        raw_revert(abi_encode(parent, method_id=method_id("NoOutbox(bytes32)")))
    return keccak256(concat(x"1901", separator, self._checkpoint_hash(ref, epoch, root)))


@external
@view
def attestation_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    """
    @notice What a validator signs for `attest` (EIP-712), whatever the chain settles on.
    """
    return self._attestation_digest(ref, epoch, root)


@internal
@view
def _known(ref: bytes32, epoch: uint64, root: bytes32) -> Chain:
    """
    @dev The record of a chain that may have sealed `root` in `epoch`.
    """
    record: Chain = self._chain(ref)
    if record.index == 0:
        raw_revert(abi_encode(ref, method_id=method_id("ChainUnknown(bytes32)")))
    if epoch == 0 or root == empty(bytes32):
        raw_revert(abi_encode(ref, epoch, root, method_id=method_id("NothingSealed(bytes32,uint64,bytes32)")))
    return record


@internal
def _record(ref: bytes32, epoch: uint64, root: bytes32, lane: uint8):
    """
    @dev Writes an epoch's root and how it came, now.
    """
    self._roots[ref][epoch] = root
    self._records[ref][epoch] = convert(lane, uint256) << 64 | block.timestamp


@internal
def _add_super_root(current: quorum.Set):
    """
    @dev Makes the next super root, over the chains' leaves as they are now.
    @param current The validator set that it tells; none before the first.
    """
    if current.number != 0:
        indexed_tree._update(_SET_INDEX, keccak256(abi_encode(current)))
    indexed_tree._update(_RANDOMNESS_INDEX, block.prevrandao)
    number: uint64 = self.super_number + 1
    root: bytes32 = indexed_tree._root()
    self.super_number = number
    self.super_root[number] = root
    log SuperRoot(number=number, root=root)


@internal
@view
def _attestation_digest(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    """
    @dev The EIP-712 digest of a `Checkpoint` for this ledger.
    """
    return domain._digest(self._checkpoint_hash(ref, epoch, root))


@internal
@pure
def _checkpoint_hash(ref: bytes32, epoch: uint64, root: bytes32) -> bytes32:
    """
    @dev The EIP-712 `hashStruct` of a `Checkpoint`.
    """
    return keccak256(abi_encode(_CHECKPOINT_TYPE_HASH, ref, epoch, root))


@internal
@view
def _lane(ref: bytes32, epoch: uint64) -> uint8:
    """
    @dev By which lane an epoch is known; 0 when it is not.
    """
    return convert(self._records[ref][epoch] >> 64, uint8)


@internal
@view
def _chain(ref: bytes32) -> Chain:
    """
    @dev A chain's record, unpacked.
    """
    packed: uint256 = self._chains[ref]
    return Chain(
        index=packed >> 128,
        latest=convert(packed & _UINT64_MASK, uint64),
        latest_final=convert(packed >> 64 & _UINT64_MASK, uint64),
    )


@internal
def _store_chain(ref: bytes32, record: Chain):
    """
    @dev Packs and stores a chain's record.
    """
    self._chains[ref] = (
        record.index << 128 | convert(record.latest_final, uint256) << 64 | convert(record.latest, uint256)
    )
