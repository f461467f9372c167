# pragma version 0.4.3
# pragma evm-version prague
"""
@title What a chain says to all others
@license Apache-2.0
@notice Messages, and the epoch roots of the chain's own children, gather here; each epoch `Settlement` seals them,
        together with the receipts and payouts that a quorum of validators signed, under one root.
        The hashes are those of docs/epochs.md.
"""

from shared import domain
from shared import indexed_tree
from shared import message_tree
from shared import quorum


initializes: domain
initializes: indexed_tree
initializes: message_tree
initializes: quorum
exports: (domain.chain_ref, quorum.current, quorum.member_weight)


struct Seal:
    root: bytes32
    payouts_root: bytes32
    timestamp: uint64


struct Child:
    added: bool
    index: uint256
    epoch: uint64
    seals_before: uint64


_EPOCH_TYPE_HASH: constant(bytes32) = keccak256(
    "Epoch(uint64 epoch,uint64 block_number,bytes32 receipts_root,bytes32 payouts_root,bytes32 content)"
)
_CHECKPOINT_TYPE_HASH: constant(bytes32) = keccak256("Checkpoint(bytes32 chain,uint64 epoch,bytes32 root)")
_NEXT_SET_TYPE_HASH: constant(bytes32) = keccak256(
    "NextSet(uint64 number,bytes32 root,uint256 total,uint64 valid_until)"
)
_MAX_MEMBERS: constant(uint256) = 32
_ATTESTED: constant(uint8) = 1
_UINT64_MASK: constant(uint256) = 2**64 - 1


inbox: public(immutable(address))
settlement: public(immutable(address))


# One word: the last sealed epoch above its reference block (64 bits).
_last: uint256
_sealed: HashMap[uint64, Seal]
# One word a child: added (above 136 bits), index (8 bits), its latest epoch (64), our last sealed epoch when that came (64).
_children: HashMap[bytes32, uint256]


event Sent:
    index: indexed(uint64)
    destination: indexed(bytes32)
    sender: indexed(address)
    receiver: bytes32
    payload: Bytes[1024]


event Sealed:
    epoch: indexed(uint64)
    root: bytes32
    messages_root: bytes32
    receipts_root: bytes32
    payouts_root: bytes32
    children_root: bytes32
    block_number: uint64
    content: bytes32


event ChildAdded:
    chain: indexed(bytes32)
    index: uint256


event ChildAttested:
    chain: indexed(bytes32)
    epoch: indexed(uint64)
    root: bytes32


event SetAdopted:
    number: indexed(uint64)
    root: bytes32
    total: uint256
    valid_until: uint64
    members: DynArray[uint256, _MAX_MEMBERS]


@deploy
def __init__(chain_ref: bytes32, inbox_: address, settlement_: address):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param inbox_ Who delivers what L1 says (the relayer's account until bridges exist).
    @param settlement_ The only contract that may seal.
    """
    domain.__init__(chain_ref)
    inbox = inbox_
    settlement = settlement_


@external
def set_from_l1(number: uint64, valid_until: uint64, members: DynArray[uint256, _MAX_MEMBERS]):
    """
    @notice Go over to a set that L1 published, newer than ours. The inbox's alone.
    @param members `signer << 96 | weight`, strictly ascending by signer.
    """
    self._require_inbox()
    self._adopt(number, valid_until, members)


@external
def advance(
    number: uint64,
    valid_until: uint64,
    members: DynArray[uint256, _MAX_MEMBERS],
    signatures: DynArray[Bytes[65], _MAX_MEMBERS],
):
    """
    @notice Go over to a newer set that a quorum of the current one signed (`NextSet`). Open to anyone.
    """
    following: quorum.Set = quorum._describe(number, valid_until, members)
    quorum._require_quorum(
        domain._digest(
            keccak256(abi_encode(_NEXT_SET_TYPE_HASH, number, following.root, following.total, valid_until))
        ),
        signatures,
    )
    self._adopt(number, valid_until, members)


@external
def add_child(ref: bytes32) -> uint256:
    """
    @notice Add a chain that settles on this one, for ever. The inbox's alone.
    @return Its index in the tree of children.
    """
    self._require_inbox()
    if self._child(ref).added:
        raw_revert(abi_encode(ref, method_id=method_id("ChainExists(bytes32)")))
    index: uint256 = indexed_tree._take()
    self._store_child(ref, Child(added=True, index=index, epoch=0, seals_before=0))
    log ChildAdded(chain=ref, index=index)
    return index


@external
def attest_child(ref: bytes32, epoch: uint64, root: bytes32, signatures: DynArray[Bytes[65], _MAX_MEMBERS]):
    """
    @notice Take over what a child sealed, signed (`Checkpoint`) by a quorum of the current set. Open to anyone.
    @dev The tree holds only the latest epoch of a child. So that each can be proved, they come one by one, and none is
         replaced before one of our own epochs has sealed it.
    """
    child: Child = self._child(ref)
    if not child.added:
        raw_revert(abi_encode(ref, method_id=method_id("ChainUnknown(bytes32)")))
    if epoch != child.epoch + 1:
        raw_revert(abi_encode(epoch, child.epoch + 1, method_id=method_id("EpochOutOfOrder(uint64,uint64)")))
    if root == empty(bytes32):
        raw_revert(abi_encode(ref, epoch, root, method_id=method_id("NothingSealed(bytes32,uint64,bytes32)")))
    last_epoch: uint64 = self._last_epoch()
    if child.epoch != 0 and child.seals_before == last_epoch:
        raw_revert(abi_encode(ref, child.epoch, method_id=method_id("ChildNotSealed(bytes32,uint64)")))
    quorum._require_quorum(
        domain._digest(keccak256(abi_encode(_CHECKPOINT_TYPE_HASH, ref, epoch, root))), signatures
    )
    self._store_child(ref, Child(added=True, index=child.index, epoch=epoch, seals_before=last_epoch))
    indexed_tree._update(child.index, keccak256(abi_encode(ref, epoch, root, _ATTESTED)))
    log ChildAttested(chain=ref, epoch=epoch, root=root)


@external
def send(destination: bytes32, receiver: bytes32, payload: Bytes[1024]) -> uint64:
    """
    @notice Say something to a contract on another chain, in the caller's name.
    @param destination The reference of that chain.
    @param receiver That contract, left-padded to 32 bytes.
    @return The message's index, counted from 0.
    """
    index: uint64 = convert(message_tree._count, uint64)
    message_tree._append(
        keccak256(
            abi_encode(domain.chain_ref, index, destination, convert(msg.sender, bytes32), receiver, payload)
        )
    )
    log Sent(index=index, destination=destination, sender=msg.sender, receiver=receiver, payload=payload)
    return index


@external
def seal(
    epoch: uint64,
    block_number: uint64,
    receipts_root: bytes32,
    payouts_root: bytes32,
    content: bytes32,
    signatures: DynArray[Bytes[65], _MAX_MEMBERS],
) -> bytes32:
    """
    @notice Seal the next epoch: what a quorum of the current set signed (`Epoch`), and the messages and children so far.
            `Settlement`'s alone.
    @return The epoch's root.
    """
    if msg.sender != settlement:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSettlement(address)")))
    last_epoch: uint64 = self._last_epoch()
    if epoch != last_epoch + 1:
        raw_revert(abi_encode(epoch, last_epoch + 1, method_id=method_id("EpochOutOfOrder(uint64,uint64)")))
    last_block: uint64 = self._last_block()
    if block_number <= last_block or convert(block_number, uint256) >= block.number:
        raw_revert(
            abi_encode(
                block_number, last_block, block.number, method_id=method_id("BlockOutOfRange(uint64,uint64,uint256)")
            )
        )
    quorum._require_quorum(
        domain._digest(
            keccak256(abi_encode(_EPOCH_TYPE_HASH, epoch, block_number, receipts_root, payouts_root, content))
        ),
        signatures,
    )
    messages_root: bytes32 = message_tree._root()
    children_root: bytes32 = indexed_tree._root()
    root: bytes32 = keccak256(
        abi_encode(domain.chain_ref, epoch, messages_root, receipts_root, payouts_root, children_root)
    )
    self._last = convert(epoch, uint256) << 64 | convert(block_number, uint256)
    self._sealed[epoch] = Seal(root=root, payouts_root=payouts_root, timestamp=convert(block.timestamp, uint64))
    log Sealed(
        epoch=epoch,
        root=root,
        messages_root=messages_root,
        receipts_root=receipts_root,
        payouts_root=payouts_root,
        children_root=children_root,
        block_number=block_number,
        content=content,
    )
    return root


@external
@view
def sealed(epoch: uint64) -> Seal:
    """
    @notice An epoch's root, its payouts root, and when it was sealed; all empty for an epoch that is not sealed.
    """
    return self._sealed[epoch]


@external
@view
def last_epoch() -> uint64:
    """
    @notice The last sealed epoch; 0 before the first.
    """
    return self._last_epoch()


@external
@view
def last_block() -> uint64:
    """
    @notice The reference block of the last sealed epoch; 0 before the first.
    """
    return self._last_block()


@external
@view
def child(ref: bytes32) -> Child:
    """
    @notice A child's index, its latest epoch, and our last sealed epoch when that came.
    """
    return self._child(ref)


@external
@view
def message_count() -> uint64:
    """
    @notice How many messages were sent; the next one's index.
    """
    return convert(message_tree._count, uint64)


@external
@view
def messages_root() -> bytes32:
    """
    @notice The root over all messages so far.
    """
    return message_tree._root()


@external
@view
def children_root() -> bytes32:
    """
    @notice The root over the children's latest epochs.
    """
    return indexed_tree._root()


@external
@view
def is_validator(signer: address) -> bool:
    """
    @notice Whether `signer` is a member of the current set, and the set is still valid.
    """
    return quorum._is_valid_member(signer)


@internal
@view
def _require_inbox():
    """
    @dev Reverts unless the inbox calls.
    """
    if msg.sender != inbox:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotInbox(address)")))


@internal
def _adopt(number: uint64, valid_until: uint64, members: DynArray[uint256, _MAX_MEMBERS]):
    """
    @dev Makes `members` the current set and says so.
    """
    adopted: quorum.Set = quorum._adopt(number, valid_until, members)
    log SetAdopted(
        number=number, root=adopted.root, total=adopted.total, valid_until=valid_until, members=members
    )


@internal
@view
def _last_epoch() -> uint64:
    """
    @dev The last sealed epoch; 0 before the first.
    """
    return convert(self._last >> 64, uint64)


@internal
@view
def _last_block() -> uint64:
    """
    @dev The reference block of the last sealed epoch; 0 before the first.
    """
    return convert(self._last & _UINT64_MASK, uint64)


@internal
@view
def _child(ref: bytes32) -> Child:
    """
    @dev A child's record, unpacked.
    """
    packed: uint256 = self._children[ref]
    return Child(
        added=packed >> 136 != 0,
        index=packed >> 128 & 255,
        epoch=convert(packed >> 64 & _UINT64_MASK, uint64),
        seals_before=convert(packed & _UINT64_MASK, uint64),
    )


@internal
def _store_child(ref: bytes32, child: Child):
    """
    @dev Packs a child's record; its index is below 256, for the tree has no more places.
    """
    self._children[ref] = (
        convert(child.added, uint256) << 136
        | child.index << 128
        | convert(child.epoch, uint256) << 64
        | convert(child.seals_before, uint256)
    )
