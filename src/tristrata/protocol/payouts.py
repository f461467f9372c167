"""What an epoch pays: to each payee one cumulative amount, and under it a sum tree that says from which sessions.

A payee's leaf names the root of its sum tree. Whoever opens an entry of that tree shows how much of this amount is one
session's; more than was charged there is evidence that the epoch is false. The hashes are those of ``docs/epochs.md``.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import pairwise

import msgspec

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import WORD_BYTES, keccak, word
from tristrata.protocol.ids import Address, SessionId, show
from tristrata.protocol.standard_tree import MultiProof, StandardTree, payout_leaf
from tristrata.protocol.units import MAX_AMOUNT, Amount
from tristrata.protocol.voucher import Split

_MAX_SUM = 2**256 - 1


class SumNode(msgspec.Struct, frozen=True):
    """A node of a sum tree: its hash, and what all entries below it sum to (base units)."""

    digest: bytes
    total: int


class EntryProof(msgspec.Struct, frozen=True):
    """The way of an entry to its sum tree's root: the siblings from the entry up.

    Bit i of ``sides`` is 1 where sibling i stands left. A level on which the node is carried up has no sibling, and no
    bit.
    """

    siblings: tuple[SumNode, ...]
    sides: int


class PayoutLeaf(msgspec.Struct, frozen=True):
    """What an epoch pays to one payee: ``cumulative`` base units in all, which ``sums`` opens session by session."""

    payee: Address
    cumulative: Amount
    sums: bytes

    @property
    def encoded(self) -> bytes:
        """The leaf's values, as `StandardTree` takes them."""
        return payout_leaf(self.payee, self.cumulative, self.sums)

    @property
    def packed(self) -> int:
        """Payee and amount in one word, ``payee << 96 | cumulative``, as ``Settlement`` takes them."""
        return Split(self.payee, self.cumulative).packed


class SumTree:
    """The Merkle sum tree over one payee's entries: session id and amount, in order of id, none of them zero.

    ``total`` is the sum of all amounts, ``root`` the 32-byte word that commits to them and to ``total``.
    """

    def __init__(self, entries: Sequence[tuple[SessionId, Amount]]) -> None:
        """Raises `InvalidValue` for no entries, an amount of 0 or above 2**96 − 1, or sessions out of order."""
        _check_entries(entries)
        self._places = {session: place for place, (session, _) in enumerate(entries)}
        self._amounts = [amount for _, amount in entries]
        self._layers = [[_leaf(session, amount) for session, amount in entries]]
        while len(layer := self._layers[-1]) > 1:
            nodes = iter(layer)
            parents = [_parent(left, right) for left, right in zip(nodes, nodes, strict=False)]
            self._layers.append([*parents, *layer[len(parents) * 2 :]])
        top = self._layers[-1][0]
        self.total: int = top.total
        self.root: bytes = _root(top)

    def prove(self, session: SessionId) -> tuple[Amount, EntryProof]:
        """A session's amount, and the way from it to ``root``. Raises `InvalidValue` when it has no entry."""
        place = self._places.get(session)
        if place is None:
            raise InvalidValue(f"the payee has no entry for session {show(session)}")
        siblings: list[SumNode] = []
        amount, sides = self._amounts[place], 0
        for layer in self._layers[:-1]:
            if place ^ 1 < len(layer):
                sides |= place % 2 << len(siblings)
                siblings.append(layer[place ^ 1])
            place //= 2
        return amount, EntryProof(tuple(siblings), sides)


class Payouts:
    """What each payee gets out of the sessions with these splits, in all.

    ``cumulative`` is each payee's amount (base units), in order of payee, without zeros: so are the tree's leaves.
    """

    def __init__(self, sessions: Mapping[SessionId, Sequence[Split]]) -> None:
        entries: dict[Address, list[tuple[SessionId, Amount]]] = {}
        for session in sorted(sessions):
            for split in sessions[session]:
                if split.amount:
                    entries.setdefault(split.payee, []).append((session, split.amount))
        self._entries = {payee: entries[payee] for payee in sorted(entries)}
        self.cumulative = {payee: Amount(sum(amount for _, amount in found)) for payee, found in self._entries.items()}

    @property
    def root(self) -> bytes:
        """The payouts root, 32 bytes: zeros when nobody is paid."""
        return self._tree.root

    def leaf(self, payee: Address) -> PayoutLeaf:
        """The payee's leaf. Raises `InvalidValue` when it is paid nothing."""
        return self._leaves[self._index(payee)]

    def prove(self, payee: Address) -> tuple[bytes, ...]:
        """The path of the payee's leaf to ``root``. Raises `InvalidValue` when it is paid nothing."""
        return self._tree.prove(self._index(payee))

    def prove_many(self, payees: Iterable[Address]) -> tuple[tuple[PayoutLeaf, ...], MultiProof]:
        """These payees' leaves in the order that the one proof of them wants. Raises `InvalidValue` as `prove` does."""
        proof = self._tree.prove_many(self._index(payee) for payee in payees)
        return tuple(self._leaves[index] for index in proof.order), proof

    def prove_entry(self, payee: Address, session: SessionId) -> tuple[Amount, EntryProof]:
        """What of the payee's amount is a session's. Raises `InvalidValue` when that is nothing."""
        return SumTree(self._entries[self.leaf(payee).payee]).prove(session)

    @cached_property
    def _leaves(self) -> list[PayoutLeaf]:
        return [
            PayoutLeaf(payee, self.cumulative[payee], SumTree(found).root) for payee, found in self._entries.items()
        ]

    @cached_property
    def _tree(self) -> StandardTree:
        return StandardTree(leaf.encoded for leaf in self._leaves)

    @cached_property
    def _indices(self) -> dict[Address, int]:
        return {payee: index for index, payee in enumerate(self._entries)}

    def _index(self, payee: Address) -> int:
        if payee not in self._indices:
            raise InvalidValue(f"nothing is paid to 0x{payee.hex()}")
        return self._indices[payee]


def verify_entry(leaf: PayoutLeaf, session: SessionId, amount: int, proof: EntryProof) -> bool:
    """Whether exactly ``amount`` of the leaf's cumulative amount is the session's; false for whatever is malformed."""
    if len(session) != WORD_BYTES or not 0 < amount <= MAX_AMOUNT or not 0 <= proof.sides < 2 ** len(proof.siblings):
        return False
    node = _leaf(session, amount)
    for level, sibling in enumerate(proof.siblings):
        # A sum that wraps around would make room for a larger entry.
        if len(sibling.digest) != WORD_BYTES or not 0 <= sibling.total <= _MAX_SUM - node.total:
            return False
        node = _parent(sibling, node) if proof.sides >> level & 1 else _parent(node, sibling)
    return node.total == leaf.cumulative and _root(node) == leaf.sums


def exceeds(leaf: PayoutLeaf, session: SessionId, charged: int, opened: Sequence[tuple[int, EntryProof]]) -> bool:
    """Whether these opened entries show that the leaf pays its payee more from the session than was ``charged`` for it.

    A false tree can have many entries of one session, each small enough. Those with different proofs are different
    entries, and add up; a right tree has only one, and one proof of it.
    """
    proofs = {proof for _, proof in opened}
    return (
        len(proofs) == len(opened)
        and all(verify_entry(leaf, session, amount, proof) for amount, proof in opened)
        and sum(amount for amount, _ in opened) > charged
    )


def _check_entries(entries: Sequence[tuple[SessionId, Amount]]) -> None:
    if not entries:
        raise InvalidValue("a sum tree must have one entry or more: payees without any are left out")
    for session, amount in entries:
        if len(session) != WORD_BYTES or not 0 < amount <= MAX_AMOUNT:
            raise InvalidValue(f"session {show(session)} has {amount}; an entry's amount must be from 1 to 2**96 - 1")
    for (left, _), (right, _) in pairwise(entries):
        if left >= right:
            raise InvalidValue(f"entries must be in order of session id, each once: {show(right)} is not")


def _leaf(session: SessionId, amount: int) -> SumNode:
    return SumNode(keccak(session + word(amount)), amount)


def _parent(left: SumNode, right: SumNode) -> SumNode:
    encoded = left.digest + word(left.total) + right.digest + word(right.total)
    return SumNode(keccak(encoded), left.total + right.total)


def _root(top: SumNode) -> bytes:
    return keccak(top.digest + word(top.total))
