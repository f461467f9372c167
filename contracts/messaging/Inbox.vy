# pragma version 0.4.3
# pragma evm-version prague
"""
@title What L1 says to a chain
@license Apache-2.0
@notice Keeps the ledger's super roots by their numbers, for ever, so that a proof against one never grows old. They come
        in any order. Anyone may prove the random word that a super root carries, and then anyone may read it.
        The tree is that of docs/epochs.md, "super root"; the rules: docs/protocol.md, "Checkpoints and messages".
"""

from shared import ownership


initializes: ownership
exports: ownership.__interface__


_DEPTH: constant(uint256) = 8
_RANDOMNESS_INDEX: constant(uint256) = 1


chain_ref: public(immutable(bytes32))


# Who delivers super roots: a bridge's portal, or the relayer's account until there is one.
portal: public(address)
# The highest number that came.
newest: public(uint64)
super_root: public(HashMap[uint64, bytes32])
# The random word of a super root; zero until somebody proves it.
randomness: public(HashMap[uint64, bytes32])


event PortalChanged:
    portal: indexed(address)


event SuperRootReceived:
    number: indexed(uint64)
    super_root: bytes32


event RandomnessProven:
    number: indexed(uint64)
    randomness: bytes32


@deploy
def __init__(chain_ref_: bytes32, portal_: address, change_delay_: uint64):
    """
    @notice The deployer becomes the owner, who can change the portal.
    @param chain_ref_ The 32-byte reference of this chain.
    @param portal_ Who delivers super roots.
    @param change_delay_ Seconds between announcing another portal and going over to it.
    """
    ownership.__init__(change_delay_)
    chain_ref = chain_ref_
    self.portal = portal_
    log PortalChanged(portal=portal_)


@external
def set_portal(portal: address):
    """
    @notice Go over to another portal. The owner's alone, announced ahead.
    """
    ownership._make(keccak256(abi_encode(portal, method_id=method_id("set_portal(address)"))))
    self.portal = portal
    log PortalChanged(portal=portal)


@external
def push(number: uint64, super_root: bytes32):
    """
    @notice Take over a super root. The portal's alone, and not while paused. The same one again changes nothing; another
            one under a number that is taken is refused.
    @param number Its number in the ledger, from 1.
    """
    ownership._require_running()
    if msg.sender != self.portal:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotPortal(address)")))
    if number == 0 or super_root == empty(bytes32):
        raw_revert(abi_encode(number, super_root, method_id=method_id("NoSuperRoot(uint64,bytes32)")))
    known: bytes32 = self.super_root[number]
    if known == super_root:
        return
    if known != empty(bytes32):
        raw_revert(
            abi_encode(number, known, super_root, method_id=method_id("SuperRootTaken(uint64,bytes32,bytes32)"))
        )
    self.super_root[number] = super_root
    self.newest = max(self.newest, number)
    log SuperRootReceived(number=number, super_root=super_root)


@external
def prove_randomness(number: uint64, randomness: bytes32, siblings: bytes32[_DEPTH]):
    """
    @notice Prove the random word of a super root. Open to anyone; proving it again changes nothing.
    @param randomness What stands at place 1 of the super root's tree.
    @param siblings Its proof, from the leaf up.
    """
    if randomness == empty(bytes32):
        raw_revert(abi_encode(number, method_id=method_id("NoRandomness(uint64)")))
    root: bytes32 = self.super_root[number]
    if root == empty(bytes32):
        raw_revert(abi_encode(number, method_id=method_id("SuperRootUnknown(uint64)")))
    found: bytes32 = self._root(randomness, _RANDOMNESS_INDEX, siblings)
    if found != root:
        raw_revert(abi_encode(number, root, found, method_id=method_id("WrongProof(uint64,bytes32,bytes32)")))
    if self.randomness[number] == empty(bytes32):
        self.randomness[number] = randomness
        log RandomnessProven(number=number, randomness=randomness)


@internal
@pure
def _root(leaf: bytes32, index: uint256, siblings: bytes32[_DEPTH]) -> bytes32:
    """
    @dev Where a proof leads in an indexed tree (`tristrata.protocol.indexed_tree`).
    """
    node: bytes32 = leaf
    for height: uint256 in range(_DEPTH):
        if index >> height & 1 == 1:
            node = keccak256(concat(siblings[height], node))
        else:
            node = keccak256(concat(node, siblings[height]))
    return node
