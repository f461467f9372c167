"""OpenZeppelin's StandardMerkleTree, version 1: the format of receipts and payouts, which third-party tools can check.

A leaf is hashed twice, leaves are put in the order of their hashes, and the two children of a node are put in order
before they are hashed, so that a proof needs no index (https://github.com/OpenZeppelin/merkle-tree, format
``standard-v1``). Values come here ABI-encoded already.
"""

from bisect import bisect_left
from collections.abc import Sequence

from sha3 import keccak_256

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import ZERO_WORD, address_word, keccak, word
from tristrata.protocol.ids import Address, SessionId


class StandardTree:
    """The tree over ABI-encoded leaf values, in any order. Its ``root`` is 32 bytes: zeros when it has no leaves."""

    def __init__(self, encoded: Sequence[bytes]) -> None:
        # Local names: this runs three times a leaf, for a million leaves.
        hash_of = keccak_256
        self._leaves = [hash_of(hash_of(values).digest()).digest() for values in encoded]
        # OpenZeppelin's array of nodes, from its end: leaves, then parents, the root last. Node k's sibling is k ^ 1,
        # and its parent is k // 2 after the leaves.
        nodes = sorted(self._leaves)
        add, children = nodes.append, iter(nodes)
        for left, right in zip(children, children, strict=False):  # also walks the nodes that it adds
            add(hash_of(left + right if left < right else right + left).digest())
        self._nodes = nodes
        self.root: bytes = nodes[-1] if nodes else ZERO_WORD

    def __len__(self) -> int:
        return len(self._leaves)

    def prove(self, index: int) -> tuple[bytes, ...]:
        """The siblings of the leaf that was given at ``index``, from the leaf up.

        Raises `InvalidValue` when there is no such leaf.
        """
        leaves, nodes = len(self._leaves), self._nodes
        if not 0 <= index < leaves:
            raise InvalidValue(f"leaf {index} does not exist: the tree holds {leaves} leaves, counted from 0")
        node = bisect_left(nodes, self._leaves[index], hi=leaves)
        siblings = []
        while node < len(nodes) - 1:
            siblings.append(nodes[node ^ 1])
            node = leaves + node // 2
        return tuple(siblings)


def leaf_hash(encoded: bytes) -> bytes:
    """The hash of a leaf with these ABI-encoded values: twice, so that no leaf can pass for a node."""
    return keccak(keccak(encoded))


def root_from_proof(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that ``proof`` leads to from the leaf hash ``leaf``; siblings of other than 32 bytes: `InvalidValue`."""
    node = leaf
    for sibling in proof:
        if len(sibling) != len(ZERO_WORD):
            raise InvalidValue(f"a proof's element has {len(sibling)} bytes; it must have {len(ZERO_WORD)}")
        node = keccak(node + sibling if node < sibling else sibling + node)
    return node


def receipt_leaf(session: SessionId, position: int, receipt_hash: bytes) -> bytes:
    """``abi.encode(bytes32 session, uint64 position, bytes32 receipt_hash)``, a leaf of the receipts tree."""
    return session + word(position) + receipt_hash


def payout_leaf(payee: Address, cumulative: int) -> bytes:
    """``abi.encode(address payee, uint256 cumulative)``, a leaf of the payouts tree; base units."""
    return address_word(payee) + word(cumulative)
