"""OpenZeppelin's StandardMerkleTree, version 1: the format of receipts and payouts, which third-party tools can check.

A leaf is hashed twice, leaves are put in the order of their hashes, and the two children of a node are put in order
before they are hashed, so that a proof needs no index (https://github.com/OpenZeppelin/merkle-tree, format
``standard-v1``). Values come here ABI-encoded already.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec
from sha3 import keccak_256

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import ZERO_WORD, address_word, keccak, word
from tristrata.protocol.ids import Address, SessionId


class MultiProof(msgspec.Struct, frozen=True):
    """One proof of many leaves, for ``MerkleProof.multiProofVerify`` of OpenZeppelin's contracts.

    ``order`` says in which order the leaves must be given: by their indices in the tree. Each of ``flags`` makes one
    node: true of two that are known already, false of one that is known and the next of ``siblings``.
    """

    order: tuple[int, ...]
    siblings: tuple[bytes, ...]
    flags: tuple[bool, ...]


class StandardTree:
    """The tree over ABI-encoded leaf values, in any order. Its ``root`` is 32 bytes: zeros when it has no leaves."""

    def __init__(self, encoded: Iterable[bytes]) -> None:
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
        node = self._node_of(index)
        siblings = []
        while node < len(nodes) - 1:
            siblings.append(nodes[node ^ 1])
            node = leaves + node // 2
        return tuple(siblings)

    def prove_many(self, indices: Iterable[int]) -> MultiProof:
        """The proof of all the leaves that were given at ``indices``, in any order.

        Raises `InvalidValue` when there are none, when one does not exist, or when two are the same.
        """
        found = sorted((self._node_of(index), index) for index in indices)
        if not found:
            raise InvalidValue("a proof of many leaves must be of one leaf or more")
        for (left, index), (right, other) in pairwise(found):
            if left == right:
                raise InvalidValue(f"leaves {index} and {other} are the same; a proof names each leaf once")
        leaves, nodes = len(self._leaves), self._nodes
        siblings, flags = [], []
        # Parents are appended, and lie after all leaves: the queue stays in order, and two siblings beside each other.
        queue, place = [node for node, _ in found], 0
        while (node := queue[place]) < len(nodes) - 1:
            is_known = queue[place + 1 : place + 2] == [node ^ 1]
            flags.append(is_known)
            if not is_known:
                siblings.append(nodes[node ^ 1])
            queue.append(leaves + node // 2)
            place += 2 if is_known else 1
        return MultiProof(tuple(index for _, index in found), tuple(siblings), tuple(flags))

    def _node_of(self, index: int) -> int:
        leaves = len(self._leaves)
        if not 0 <= index < leaves:
            raise InvalidValue(f"leaf {index} does not exist: the tree holds {leaves} leaves, counted from 0")
        return bisect_left(self._nodes, self._leaves[index], hi=leaves)


def leaf_hash(encoded: bytes) -> bytes:
    """The hash of a leaf with these ABI-encoded values: twice, so that no leaf can pass for a node."""
    return keccak(keccak(encoded))


def root_from_proof(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that ``proof`` leads to from the leaf hash ``leaf``; siblings of other than 32 bytes: `InvalidValue`."""
    node = leaf
    for sibling in proof:
        if len(sibling) != len(ZERO_WORD):
            raise InvalidValue(f"a proof's element has {len(sibling)} bytes; it must have {len(ZERO_WORD)}")
        node = _parent(node, sibling)
    return node


def verify_many(root: bytes, leaves: Sequence[bytes], siblings: Sequence[bytes], flags: Sequence[bool]) -> bool:
    """Whether the tree with ``root`` has all of these leaf hashes, given in the order that `MultiProof` names.

    The algorithm of OpenZeppelin's ``MerkleProof.multiProofVerify``, but for no leaves at all, which prove nothing.
    """
    if not leaves or len(leaves) + len(siblings) != len(flags) + 1:
        return False
    if any(len(node) != len(ZERO_WORD) for node in (*leaves, *siblings)):
        return False
    if flags.count(False) != len(siblings):
        return False
    known, others = list(leaves), iter(siblings)
    nodes = iter(known)
    for is_known in flags:  # every flag takes one known node more than it makes, or a sibling: one is left at the end
        node = next(nodes)
        known.append(_parent(node, next(nodes) if is_known else next(others)))
    return known[-1] == root


def receipt_leaf(session: SessionId, position: int, receipt_hash: bytes) -> bytes:
    """``abi.encode(bytes32 session, uint64 position, bytes32 receipt_hash)``, a leaf of the receipts tree."""
    return session + word(position) + receipt_hash


def payout_leaf(payee: Address, cumulative: int, sums: bytes) -> bytes:
    """``abi.encode(address payee, uint256 cumulative, bytes32 sums)``, a leaf of the payouts tree; base units.

    ``sums`` is the root of the payee's `tristrata.protocol.payouts.SumTree`.
    """
    return address_word(payee) + word(cumulative) + sums


def _parent(node: bytes, other: bytes) -> bytes:
    return keccak(node + other if node < other else other + node)
