# pragma version 0.4.3
# pragma evm-version prague
"""
@title A Merkle tree of 256 places, updated in place
@license Apache-2.0
@notice Depth 8; a node is `keccak256(left || right)`, an empty leaf a zero word. Places are taken in order, and each can
        be written again at any time.
@dev Only the nodes of the smallest subtree that holds all taken places are stored: two or three levels for a handful of
     chains, where all eight would cost an update three times the gas. What lies beyond is empty.
     The Python side is `tristrata.protocol.indexed_tree`.
"""

_DEPTH: constant(uint256) = 8
_CAPACITY: constant(uint256) = 2**_DEPTH


_size: uint256
# As in a heap: node 1 is the root, node `n` has the children `2n` and `2n + 1`, leaf `i` is node `256 + i`.
_nodes: bytes32[2 * _CAPACITY]


@internal
def _take() -> uint256:
    """
    @dev Takes the next place; its leaf is empty, which leaves the root as it is.
    @return Its index, counted from 0.
    """
    index: uint256 = self._size
    if index >= _CAPACITY:
        raw_revert(abi_encode(index, method_id=method_id("TreeFull(uint256)")))
    self._size = index + 1
    # Stores the path up to the new top. The old top is on it or beside it, and was stored when it was the top.
    self._update(index, empty(bytes32))
    return index


@internal
def _update(index: uint256, leaf: bytes32):
    """
    @dev Writes the leaf of a place that was taken.
    """
    size: uint256 = self._size
    assert index < size  # dev: no such place
    node: bytes32 = leaf
    zero: bytes32 = empty(bytes32)
    at: uint256 = _CAPACITY + index
    self._nodes[at] = node
    for _: uint256 in range(self._height(size), bound=_DEPTH):
        sibling: bytes32 = self._nodes[at ^ 1]
        if sibling == empty(bytes32):
            sibling = zero
        if at & 1 == 1:
            node = keccak256(concat(sibling, node))
        else:
            node = keccak256(concat(node, sibling))
        zero = keccak256(concat(zero, zero))
        at >>= 1
        self._nodes[at] = node


@internal
@view
def _root() -> bytes32:
    """
    @dev The root over all 256 places.
    """
    size: uint256 = self._size
    node: bytes32 = self._nodes[_CAPACITY >> self._height(size)]
    zero: bytes32 = empty(bytes32)
    for height: uint256 in range(_DEPTH):
        if size <= 1 << height:
            node = keccak256(concat(node, zero))
        zero = keccak256(concat(zero, zero))
    return node


@internal
@pure
def _height(size: uint256) -> uint256:
    """
    @dev The height of the smallest subtree from the left that holds `size` places.
    """
    for height: uint256 in range(_DEPTH):
        if size <= 1 << height:
            return height
    return _DEPTH
