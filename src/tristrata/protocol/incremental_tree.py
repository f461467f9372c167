"""An append-only Merkle tree of fixed depth, kept as one branch: 32 hashes an append, whatever its size.

The algorithm of the Ethereum deposit contract, with Keccak-256 and without mixing in the length: leaves are put in
order, missing ones are zero words. Sessions use it for their receipts, outboxes for their messages.
"""

from collections.abc import Sequence

import msgspec
from sha3 import keccak_256

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import ZERO_WORD, keccak

DEPTH = 32
CAPACITY = 2**DEPTH


def _zero_subtrees() -> tuple[bytes, ...]:
    roots = [ZERO_WORD]
    for _ in range(DEPTH):
        roots.append(keccak(roots[-1] + roots[-1]))
    return tuple(roots)


ZEROS = _zero_subtrees()
"""``ZEROS[h]`` is the root of an empty subtree of height ``h``."""


class IncrementalTree(msgspec.Struct, frozen=True, gc=False):
    """The tree after ``count`` leaves. ``branch[h]`` is the last complete left subtree of height ``h``."""

    count: int = 0
    branch: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "IncrementalTree":
        """The tree with one more leaf. Raises `InvalidValue` when it is full."""
        return self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> "IncrementalTree":
        """The tree with more leaves, layer by layer: about one hash a leaf. Raises `InvalidValue` when it is full."""
        if self.count + len(leaves) >= CAPACITY:
            raise InvalidValue(
                f"the tree is full: it holds {self.count} leaves of at most {CAPACITY - 1}; {len(leaves)} do not fit"
            )
        branch, layer, first, height = list(self.branch), leaves, self.count, 0
        while layer:
            if first % 2:  # the first of these nodes is a right one: its left neighbour is from before
                layer = (branch[height], *layer)
            last_left = (len(layer) - 1) // 2 * 2
            branch[height : height + 1] = [layer[last_left]]
            nodes = iter(layer)
            layer = [keccak_256(left + right).digest() for left, right in zip(nodes, nodes, strict=False)]
            first, height = first // 2, height + 1
        return IncrementalTree(self.count + len(leaves), tuple(branch))

    @property
    def root(self) -> bytes:
        """The root over all leaves so far, 32 bytes."""
        node, size = ZERO_WORD, self.count
        for height in range(DEPTH):
            node = keccak(self.branch[height] + node) if size % 2 else keccak(node + ZEROS[height])
            size //= 2
        return node


def prove(leaves: list[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings of leaf ``index``, from the leaf up, in the tree over ``leaves``.

    Raises `InvalidValue` when there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise InvalidValue(f"leaf {index} does not exist: the tree holds {len(leaves)} leaves, counted from 0")
    siblings: list[bytes] = []
    layer = leaves
    for height in range(DEPTH):
        neighbour = index ^ 1
        siblings.append(layer[neighbour] if neighbour < len(layer) else ZEROS[height])
        padded = layer if len(layer) % 2 == 0 else [*layer, ZEROS[height]]
        layer = [keccak(left + right) for left, right in zip(padded[::2], padded[1::2], strict=True)]
        index //= 2
    return tuple(siblings)


def root_from_proof(leaf: bytes, index: int, siblings: tuple[bytes, ...]) -> bytes:
    """The root that ``siblings`` lead to from ``leaf`` at ``index``. Raises `InvalidValue` for a wrong length."""
    if len(siblings) != DEPTH:
        raise InvalidValue(f"a proof has {len(siblings)} elements; a tree of depth {DEPTH} needs {DEPTH}")
    node = leaf
    for sibling in siblings:
        node = keccak(sibling + node) if index % 2 else keccak(node + sibling)
        index //= 2
    return node
