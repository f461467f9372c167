# pragma version 0.4.3
# pragma evm-version prague
"""
@title An append-only Merkle tree of depth 32
@license Apache-2.0
@notice The algorithm of the Ethereum deposit contract, with Keccak-256 and without mixing in the length: leaves are put
        in order, missing ones are zero words.
@dev The Python side is `tristrata.protocol.incremental_tree`.
"""

_DEPTH: constant(uint256) = 32
_MAX_LEAVES: constant(uint256) = 2**_DEPTH - 1


_count: uint256
# `_branch[h]` is the last complete left subtree of height `h`.
_branch: bytes32[_DEPTH]


@internal
def _append(leaf: bytes32):
    """
    @dev Puts one more leaf; its index is what `_count` was.
    """
    index: uint256 = self._count
    if index >= _MAX_LEAVES:
        raw_revert(abi_encode(index, method_id=method_id("TreeFull(uint256)")))
    self._count = index + 1
    node: bytes32 = leaf
    size: uint256 = index
    # `size` is below 2**32 - 1, so one of its 32 bits is 0 and the loop always stores.
    for height: uint256 in range(_DEPTH):
        if size & 1 == 0:
            self._branch[height] = node
            break
        node = keccak256(concat(self._branch[height], node))
        size >>= 1

@internal
@view
def _root() -> bytes32:
    """
    @dev The root over all leaves so far.
    """
    node: bytes32 = empty(bytes32)
    zero: bytes32 = empty(bytes32)
    size: uint256 = self._count
    for height: uint256 in range(_DEPTH):
        if size & 1 == 1:
            node = keccak256(concat(self._branch[height], node))
        else:
            node = keccak256(concat(node, zero))
        zero = keccak256(concat(zero, zero))
        size >>= 1
    return node
