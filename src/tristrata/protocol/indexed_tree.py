"""A Merkle tree with 256 fixed places, updated in place: the children of a chain, and the ledger's super root.

Empty places are 32 zero bytes, a node is ``keccak(left ‖ right)``, and a leaf is put in as it is.
"""

from collections.abc import Sequence

import msgspec

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import WORD_BYTES, ZERO_WORD, keccak

DEPTH = 8
CAPACITY = 1 << DEPTH


def _empty_nodes() -> tuple[bytes, ...]:
    # A heap: node 1 is the root, the children of node n are 2n and 2n + 1, and leaf i is node CAPACITY + i.
    nodes, empty = [ZERO_WORD] * (2 * CAPACITY), ZERO_WORD
    for height in range(1, DEPTH + 1):
        empty = keccak(empty + empty)
        first = CAPACITY >> height
        nodes[first : 2 * first] = [empty] * first
    return tuple(nodes)


class IndexedTree(msgspec.Struct, frozen=True):
    """The tree after any number of updates. ``nodes`` is a heap with the root at 1 and leaf ``i`` at 256 + ``i``."""

    nodes: tuple[bytes, ...] = _empty_nodes()

    @property
    def root(self) -> bytes:
        """The root over all places, 32 bytes."""
        return self.nodes[1]

    def leaf(self, index: int) -> bytes:
        """What is at place ``index``; 32 zero bytes when nothing is. Raises `InvalidValue` for no such place."""
        return self.nodes[_node(index)]

    def update(self, index: int, leaf: bytes) -> "IndexedTree":
        """The tree with ``leaf`` (32 bytes) at place ``index``. Raises `InvalidValue` for no such place or length."""
        if len(leaf) != WORD_BYTES:
            raise InvalidValue(f"a leaf has {len(leaf)} bytes; it must have {WORD_BYTES}")
        nodes, node = list(self.nodes), _node(index)
        nodes[node] = leaf
        while node > 1:
            node //= 2
            nodes[node] = keccak(nodes[2 * node] + nodes[2 * node + 1])
        return IndexedTree(tuple(nodes))

    def prove(self, index: int) -> tuple[bytes, ...]:
        """The 8 siblings of place ``index``, from the leaf up. Raises `InvalidValue` for no such place."""
        node = _node(index)
        return tuple(self.nodes[node >> height ^ 1] for height in range(DEPTH))


def root_from_proof(leaf: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    """The root that ``siblings`` lead to from ``leaf`` at ``index``.

    Raises `InvalidValue` for no such place, and for another number of siblings, or another length, than the tree has.
    """
    node = _node(index)
    if len(siblings) != DEPTH or any(len(sibling) != WORD_BYTES for sibling in siblings):
        raise InvalidValue(f"a proof in a tree of depth {DEPTH} must have {DEPTH} elements of {WORD_BYTES} bytes")
    found = leaf
    for height, sibling in enumerate(siblings):
        found = keccak(sibling + found) if node >> height & 1 else keccak(found + sibling)
    return found


def _node(index: int) -> int:
    if not 0 <= index < CAPACITY:
        raise InvalidValue(f"place {index} does not exist: the tree has places 0 to {CAPACITY - 1}")
    return CAPACITY + index
