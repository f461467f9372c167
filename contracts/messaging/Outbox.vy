# pragma version 0.4.3
# pragma evm-version prague
"""
@title What a chain says to all others
@license Apache-2.0
@notice Messages, and the epoch roots of the chain's own children, gather here; each epoch `Settlement` seals them,
        together with the receipts and payouts that a quorum of validators signed, under one root.
        States and changes: docs/protocol.md, "Epoch" and "Checkpoints and messages"; the hashes: docs/epochs.md.
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


# What a quorum signs of an epoch; `content` is the SHA-256 of its content.
struct Epoch:
    epoch: uint64
    block_number: uint64
    receipts_root: bytes32
    payouts_root: bytes32
    content: bytes32


struct Seal:
    digest: uint256
    vetoed: bool
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
_SEAL_MASK: constant(uint256) = 2**192 - 1
_VETOED: constant(uint256) = 2**192
_ANY: constant(uint256) = 2
_NEWS: constant(uint256) = 1
# The roots of trees in which nothing is: of depth 32, and of depth 8.
_NO_MESSAGES: constant(bytes32) = 0x27ae5ba08d7291c96c8cbddcc148bf48a6d68c7974b94356f53754ef6171d757
_NO_CHILDREN: constant(bytes32) = 0x9867cc5f7f196b93bae1e27e6320742445d290f2263827498b54fec539f756af
# How far ahead of the current set one may be that the current one signs: without a bound, a captured set could sign the
# highest number, and no set would ever be newer.
_MAX_ADVANCE: constant(uint64) = 256


inbox: public(immutable(address))
settlement: public(immutable(address))
max_validity: public(immutable(uint64))
kept_epochs: public(immutable(uint64))


# One word: the last sealed epoch (64 bits), its reference block (64), whether there ever was a message or a child's epoch (1),
# whether there is one since (1).
_last: uint256
# The last sealed epoch's roots over messages and children, so that an epoch without news computes nothing.
_last_messages_root: bytes32
_last_children_root: bytes32
# One word an epoch: when it was sealed (63 bits), whether its payouts are vetoed (1), the hash of what it is (192). Records
# take turns: the newest `kept_epochs` are here, all are in the events and on L1.
_sealed: HashMap[uint64, uint256]
# The newest set that L1 gave: its number (64 bits), which adoption it was (24), until when it is valid (64).
_from_l1: uint256
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
def __init__(chain_ref: bytes32, inbox_: address, settlement_: address, max_validity_: uint64, kept_epochs_: uint64):
    """
    @param chain_ref The 32-byte reference of this chain.
    @param inbox_ Who delivers what L1 says (the relayer's account until bridges exist).
    @param settlement_ The only contract that may stop payouts.
    @param max_validity_ The longest that a set may be valid from its adoption, in seconds.
    @param kept_epochs_ How many sealed epochs can be claimed from.
    """
    domain.__init__(chain_ref)
    inbox = inbox_
    settlement = settlement_
    max_validity = max_validity_
    if kept_epochs_ == 0:
        raw_revert(abi_encode(kept_epochs_, method_id=method_id("NoEpochsKept(uint64)")))
    kept_epochs = kept_epochs_


@external
def set_from_l1(number: uint64, valid_until: uint64, members: DynArray[uint256, _MAX_MEMBERS]):
    """
    @notice Go over to a set that L1 published, newer than the last that it gave. The inbox's alone. L1's word is above that
            of any set that signed its own succession: it also ends a succession that L1 knows nothing of.
    @param members `signer << 96 | weight`, strictly ascending by signer.
    """
    self._require_inbox()
    newest: uint64 = self._number_from_l1()
    if number <= newest:
        raw_revert(abi_encode(number, newest, method_id=method_id("SetNotNewer(uint64,uint64)")))
    self._adopt(number, valid_until, members)
    self._from_l1 = (
        convert(number, uint256) << 88 | quorum._adoption() << 64 | convert(valid_until, uint256)
    )


@external
def advance(
    number: uint64,
    valid_until: uint64,
    members: DynArray[uint256, _MAX_MEMBERS],
    signatures: DynArray[quorum.Signature, _MAX_MEMBERS],
):
    """
    @notice Go over to a newer set that a quorum of the current one signed (`NextSet`). Open to anyone.
    """
    current_number: uint64 = quorum._current().number
    if number <= current_number or number > current_number + _MAX_ADVANCE:
        raw_revert(abi_encode(number, current_number, method_id=method_id("SetNotNewer(uint64,uint64)")))
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
def attest_child(ref: bytes32, epoch: uint64, root: bytes32, signatures: DynArray[quorum.Signature, _MAX_MEMBERS]):
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
    self._last |= _ANY | _NEWS
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
    self._last |= _ANY | _NEWS
    log Sent(index=index, destination=destination, sender=msg.sender, receiver=receiver, payload=payload)
    return index


@external
def seal(epoch: Epoch, signatures: DynArray[quorum.Signature, _MAX_MEMBERS]) -> bytes32:
    """
    @notice Seal the next epoch: what a quorum of the current set signed, and the messages and children so far. Open to anyone.
    @return The epoch's root.
    """
    last: uint256 = self._last
    last_epoch: uint64 = convert(last >> 128, uint64)
    if epoch.epoch != last_epoch + 1:
        raw_revert(abi_encode(epoch.epoch, last_epoch + 1, method_id=method_id("EpochOutOfOrder(uint64,uint64)")))
    last_block: uint64 = convert(last >> 64 & _UINT64_MASK, uint64)
    # That it is a past block is for validators to see: `block.number` means something else on every stack.
    if epoch.block_number <= last_block:
        raw_revert(abi_encode(epoch.block_number, last_block, method_id=method_id("BlockOutOfOrder(uint64,uint64)")))
    signed: bytes32 = keccak256(abi_encode(_EPOCH_TYPE_HASH, epoch))
    quorum._require_quorum(domain._digest(signed), signatures)
    messages_root: bytes32 = _NO_MESSAGES
    children_root: bytes32 = _NO_CHILDREN
    if last & _NEWS != 0:
        messages_root = message_tree._root()
        children_root = indexed_tree._root()
        self._last_messages_root = messages_root
        self._last_children_root = children_root
    elif last & _ANY != 0:
        messages_root = self._last_messages_root
        children_root = self._last_children_root
    root: bytes32 = keccak256(
        abi_encode(
            domain.chain_ref, epoch.epoch, messages_root, epoch.receipts_root, epoch.payouts_root, children_root
        )
    )
    self._last = convert(epoch.epoch, uint256) << 128 | convert(epoch.block_number, uint256) << 64 | last & _ANY
    self._sealed[epoch.epoch % kept_epochs] = (
        block.timestamp << 193 | self._seal_digest(epoch.epoch, root, epoch.payouts_root, signed)
    )
    log Sealed(
        epoch=epoch.epoch,
        root=root,
        messages_root=messages_root,
        receipts_root=epoch.receipts_root,
        payouts_root=epoch.payouts_root,
        children_root=children_root,
        block_number=epoch.block_number,
        content=epoch.content,
    )
    return root


@external
def stop_payouts(epoch: uint64):
    """
    @notice Let nobody be paid from an epoch's payouts root. `Settlement`'s alone.
    """
    if msg.sender != settlement:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotSettlement(address)")))
    self._sealed[epoch % kept_epochs] |= _VETOED


@external
@view
def payable_from(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint64:
    """
    @notice Since when an epoch with these roots is sealed. Reverts if it is not, or if its payouts are vetoed.
    @param signed The struct hash of the `Epoch` that the quorum signed.
    """
    record: uint256 = self._record(epoch, root, payouts_root, signed)
    if record & _VETOED != 0:
        raw_revert(abi_encode(epoch, method_id=method_id("PayoutVetoed(uint64)")))
    return convert(record >> 193, uint64)


@external
@view
def sealed_at(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint64:
    """
    @notice As `payable_from`, also for an epoch whose payouts are vetoed.
    """
    return convert(self._record(epoch, root, payouts_root, signed) >> 193, uint64)


@external
@view
def number_from_l1() -> uint64:
    """
    @notice The number of the newest set that L1 gave; 0 before the first.
    """
    return self._number_from_l1()


@external
@view
def require_quorum(digest: bytes32, signatures: DynArray[quorum.Signature, _MAX_MEMBERS]):
    """
    @notice Reverts unless a quorum of the current set signed `digest`, in strictly ascending order of signers.
    @param digest What was signed, with the domain of the contract that asks.
    """
    quorum._require_quorum(digest, signatures)


@external
@view
def sealed(epoch: uint64) -> Seal:
    """
    @notice An epoch's record: the first 192 bits of `keccak256(abi.encode(epoch, root, payouts_root, struct hash of Epoch))`,
            whether its payouts are vetoed, and when it was sealed. Reverts for an epoch that is not sealed, or not kept any more.
    """
    self._require_kept(epoch)
    record: uint256 = self._sealed[epoch % kept_epochs]
    return Seal(digest=record & _SEAL_MASK, vetoed=record & _VETOED != 0, timestamp=convert(record >> 193, uint64))


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
    @notice Whether `signer` is a member of the current set, or of the newest that L1 gave, and that is still valid. So a set
            that hands over to one without honest members does not take their veto away.
    """
    if quorum._is_valid_member(signer):
        return True
    from_l1: uint256 = self._from_l1
    return from_l1 & _UINT64_MASK >= block.timestamp and quorum._weights[from_l1 >> 64 & (2**24 - 1)][signer] != 0


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
    if convert(valid_until, uint256) > block.timestamp + convert(max_validity, uint256):
        raw_revert(
            abi_encode(
                valid_until, block.timestamp, max_validity, method_id=method_id("ValidTooLong(uint64,uint256,uint64)")
            )
        )
    adopted: quorum.Set = quorum._adopt(number, valid_until, members)
    log SetAdopted(
        number=number, root=adopted.root, total=adopted.total, valid_until=valid_until, members=members
    )


@internal
@view
def _number_from_l1() -> uint64:
    """
    @dev The number of the newest set that L1 gave.
    """
    return convert(self._from_l1 >> 88, uint64)


@internal
@view
def _record(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint256:
    """
    @dev An epoch's record. Reverts unless it is sealed with these roots.
    """
    record: uint256 = self._sealed[epoch % kept_epochs]
    if record & _SEAL_MASK != self._seal_digest(epoch, root, payouts_root, signed):
        self._require_kept(epoch)
        raw_revert(abi_encode(epoch, root, payouts_root, method_id=method_id("WrongRoots(uint64,bytes32,bytes32)")))
    return record


@internal
@view
def _require_kept(epoch: uint64):
    """
    @dev Reverts unless an epoch is sealed, and its record not yet another's.
    """
    last: uint64 = self._last_epoch()
    if epoch == 0 or epoch > last or last - epoch >= kept_epochs:
        raw_revert(abi_encode(epoch, last, kept_epochs, method_id=method_id("EpochNotKept(uint64,uint64,uint64)")))


@internal
@pure
def _seal_digest(epoch: uint64, root: bytes32, payouts_root: bytes32, signed: bytes32) -> uint256:
    """
    @dev What an epoch's record says it is: 192 bits, which nobody can find two epochs for. The number is in it, for
         epochs that take turns in one record would otherwise pass for each other.
    """
    return convert(keccak256(abi_encode(epoch, root, payouts_root, signed)), uint256) >> 64


@internal
@view
def _last_epoch() -> uint64:
    """
    @dev The last sealed epoch; 0 before the first.
    """
    return convert(self._last >> 128, uint64)


@internal
@view
def _last_block() -> uint64:
    """
    @dev The reference block of the last sealed epoch; 0 before the first.
    """
    return convert(self._last >> 64 & _UINT64_MASK, uint64)


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
