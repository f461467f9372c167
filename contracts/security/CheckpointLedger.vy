# pragma version 0.4.3
# pragma evm-version prague
"""
@title The ledger of all chains' epochs
@license Apache-2.0
@notice What a chain sealed in an epoch is written here once, for ever, when a quorum of validators signed it. Each
        attestation makes a numbered super root over the newest epoch of every chain, the validator set and a random word;
        old super roots stay, so a proof against one never grows old.
"""

from snekmate.auth import ownable_2step
from snekmate.auth import ownable
from shared import domain
from shared import indexed_tree


initializes: ownable
initializes: ownable_2step[ownable := ownable]
initializes: domain
initializes: indexed_tree
exports: (
    domain.chain_ref,
    ownable_2step.accept_ownership,
    ownable_2step.owner,
    ownable_2step.pending_owner,
    ownable_2step.transfer_ownership,
)


struct Set:
    number: uint64
    root: bytes32
    total: uint256
    valid_until: uint64


interface IValidatorSet:
    def require_quorum(digest: bytes32, signatures: DynArray[Bytes[65], _MAX_SIGNATURES]) -> Set: view


struct Chain:
    index: uint256
    latest: uint64


struct Checkpoint:
    root: bytes32
    lane: uint8
    timestamp: uint64


_CHECKPOINT_TYPE_HASH: constant(bytes32) = keccak256("Checkpoint(bytes32 chain,uint64 epoch,bytes32 root)")
_MAX_SIGNATURES: constant(uint256) = 32
_ATTESTED: constant(uint8) = 1
_SET_INDEX: constant(uint256) = 0
_RANDOMNESS_INDEX: constant(uint256) = 1


validators: public(immutable(address))


# One word a chain: its index in the super tree (from 2; 0 means unknown) above its latest epoch (64 bits).
_chains: HashMap[bytes32, uint256]
parent_of: public(HashMap[bytes32, bytes32])
_roots: HashMap[bytes32, HashMap[uint64, bytes32]]
# One word: lane above timestamp (64 bits).
_attestations: HashMap[bytes32, HashMap[uint64, uint256]]
super_number: public(uint64)
super_root: public(HashMap[uint64, bytes32])


event ChainAdded:
    chain: indexed(bytes32)
    parent: indexed(bytes32)
    index: uint256


event Attested:
    chain: indexed(bytes32)
    epoch: indexed(uint64)
    root: bytes32
    super_number: uint64


event SuperRoot:
    number: indexed(uint64)
    root: bytes32


@deploy
def __init__(chain_ref: bytes32, validators_: address):
    """
    @notice The deployer becomes the owner, who adds chains.
    @param chain_ref The 32-byte reference of this chain.
    @param validators_ The `ValidatorSet` whose current set attests.
    """
    domain.__init__(chain_ref)
    ownable.__init__()
    ownable_2step.__init__()
    validators = validators_
    assert indexed_tree._take() == _SET_INDEX
    assert indexed_tree._take() == _RANDOMNESS_INDEX


@external
def add_chain(ref: bytes32, parent: bytes32) -> uint256:
    """
    @notice Add a chain, for ever. The owner's alone.
    @param parent The reference of the chain that it settles on.
    @return Its index in the super tree.
    """
    ownable._check_owner()
    if self._chains[ref] != 0:
        raw_revert(abi_encode(ref, method_id=method_id("ChainExists(bytes32)")))
    index: uint256 = indexed_tree._take()
    self._chains[ref] = index << 64
    self.parent_of[ref] = parent
    log ChainAdded(chain=ref, parent=parent, index=index)
    return index


@external
def attest(ref: bytes32, epoch: uint64, root: bytes32, signatures: DynArray[Bytes[65], _MAX_SIGNATURES]):
    """
    @notice Write what a chain sealed in an epoch, signed (`Checkpoint`) by a quorum of the current validator set. Epochs
            may come in any order. Open to anyone.
    """
    record: Chain = self._chain(ref)
    if record.index == 0:
        raw_revert(abi_encode(ref, method_id=method_id("ChainUnknown(bytes32)")))
    if epoch == 0 or root == empty(bytes32):
        raw_revert(abi_encode(ref, epoch, root, method_id=method_id("NothingSealed(bytes32,uint64,bytes32)")))
    if self._roots[ref][epoch] != empty(bytes32):
        raw_revert(abi_encode(ref, epoch, method_id=method_id("AlreadyAttested(bytes32,uint64)")))
    current: Set = staticcall IValidatorSet(validators).require_quorum(
        domain._digest(keccak256(abi_encode(_CHECKPOINT_TYPE_HASH, ref, epoch, root))), signatures
    )
    self._roots[ref][epoch] = root
    self._attestations[ref][epoch] = convert(_ATTESTED, uint256) << 64 | block.timestamp
    # The leaf only goes forward: an older epoch that comes late is on record, but in no super root.
    if epoch > record.latest:
        self._chains[ref] = record.index << 64 | convert(epoch, uint256)
        indexed_tree._update(record.index, keccak256(abi_encode(ref, epoch, root, _ATTESTED)))
    indexed_tree._update(_SET_INDEX, keccak256(abi_encode(current)))
    indexed_tree._update(_RANDOMNESS_INDEX, block.prevrandao)
    number: uint64 = self.super_number + 1
    super_root: bytes32 = indexed_tree._root()
    self.super_number = number
    self.super_root[number] = super_root
    log Attested(chain=ref, epoch=epoch, root=root, super_number=number)
    log SuperRoot(number=number, root=super_root)


@external
@view
def checkpoint(ref: bytes32, epoch: uint64) -> Checkpoint:
    """
    @notice What a chain sealed in an epoch, by which lane it is known (0 not at all, 1 attested), and since when.
    """
    packed: uint256 = self._attestations[ref][epoch]
    return Checkpoint(
        root=self._roots[ref][epoch],
        lane=convert(packed >> 64, uint8),
        timestamp=convert(packed & (2**64 - 1), uint64),
    )


@external
@view
def chain(ref: bytes32) -> Chain:
    """
    @notice A chain's index in the super tree (0 for an unknown chain) and its latest epoch.
    """
    return self._chain(ref)


@internal
@view
def _chain(ref: bytes32) -> Chain:
    """
    @dev A chain's record, unpacked.
    """
    packed: uint256 = self._chains[ref]
    return Chain(index=packed >> 64, latest=convert(packed & (2**64 - 1), uint64))
