"""Merkle proofs in contracts: the same roots as `protocol.standard_tree` and `protocol.payouts` make, and no others."""

from collections.abc import Sequence
from typing import Any

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contracts.conftest import contract, reverts
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.ids import SessionId
from tristrata.protocol.payouts import EntryProof, SumTree
from tristrata.protocol.standard_tree import StandardTree, leaf_hash, root_from_proof, verify_many
from tristrata.protocol.units import MAX_AMOUNT, Amount

MAX_SUM = 2**256 - 1
WORDS = st.binary(min_size=32, max_size=32)


@pytest.fixture(scope="module")
def harness() -> Any:
    return contract("testing/ProofsHarness.vy")


def values(count: int) -> list[bytes]:
    return [word(number) for number in range(count)]


def bits(flags: Sequence[bool]) -> int:
    return sum(1 << place for place, flag in enumerate(flags) if flag)


# one leaf


@given(leaf=WORDS, proof=st.lists(WORDS, max_size=32))
@settings(max_examples=40)
def test_root__any_proof__leads_where_the_protocol_says(harness: Any, leaf: bytes, proof: list[bytes]) -> None:
    assert harness.root(leaf, proof) == root_from_proof(leaf, proof)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_root__every_leaf_of_a_tree__leads_to_its_root(harness: Any, count: int) -> None:
    tree = StandardTree(values(count))

    for index, value in enumerate(values(count)):
        assert harness.root(leaf_hash(value), tree.prove(index)) == tree.root


# many leaves


@st.composite
def trees_and_choices(draw: st.DrawFn) -> tuple[int, list[int]]:
    count = draw(st.integers(1, 70))
    return count, draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=32, unique=True))


@given(trees_and_choices())
@settings(max_examples=40)
def test_root_of_many__any_leaves_of_any_tree__lead_to_its_root(harness: Any, chosen: tuple[int, list[int]]) -> None:
    count, indices = chosen
    tree = StandardTree(values(count))
    proof = tree.prove_many(indices)
    leaves = [leaf_hash(word(index)) for index in proof.order]

    assert harness.root_of_many(leaves, proof.siblings, bits(proof.flags)) == tree.root


def openzeppelin(leaves: list[bytes], proof: list[bytes], flags: list[bool]) -> bytes | None:
    """``MerkleProof.processMultiProof`` of OpenZeppelin's contracts 5.x; `None` where that reverts."""
    if not leaves or len(leaves) + len(proof) != len(flags) + 1:
        return None
    nodes, others = list(leaves), list(proof)
    for index, flag in enumerate(flags):
        left, rest = nodes[0], nodes[1:] if flag else others
        if not rest:
            return None
        nodes = [*nodes[2 if flag else 1 :], keccak(b"".join(sorted((left, rest[0]))))]
        others = others if flag else others[1:]
        if not nodes and index < len(flags) - 1:
            return None
    return None if others else nodes[0]


@given(
    leaves=st.lists(WORDS, max_size=8),
    proof=st.lists(WORDS, max_size=8),
    flags=st.lists(st.booleans(), min_size=16, max_size=16),
    fits=st.booleans(),
)
@settings(max_examples=80)
def test_root_of_many__anything__leads_where_openzeppelin_says_or_is_refused(
    harness: Any, leaves: list[bytes], proof: list[bytes], flags: list[bool], fits: bool
) -> None:
    pairs = max(0, len(leaves) + len(proof) - 1)
    if fits:  # as many joins as can be right, in the order that the random flags give
        order = sorted(range(pairs), key=lambda place: flags[place])
        flags = [place in order[len(proof) :] for place in range(pairs)]
    flags = flags[:pairs]
    expected = openzeppelin(leaves, proof, flags)

    if expected is None:
        with reverts("Settlement", "WrongProofLength", len(leaves), len(proof)):
            harness.root_of_many(leaves, proof, bits(flags))
    else:
        root = harness.root_of_many(leaves, proof, bits(flags))
        assert root == expected
        assert verify_many(root, leaves, proof, flags)


def test_root_of_many__32_leaves_with_96_siblings__fit(harness: Any) -> None:
    tree = StandardTree(values(256))
    order = sorted(range(256), key=lambda index: leaf_hash(word(index)))
    proof = tree.prove_many(order[::8])
    leaves = [leaf_hash(word(index)) for index in proof.order]

    assert (len(leaves), len(proof.siblings)) == (32, 96)
    assert harness.root_of_many(leaves, proof.siblings, bits(proof.flags)) == tree.root


def test_root_of_many__changed_leaves_siblings_or_flags__never_lead_to_the_root(harness: Any) -> None:
    tree = StandardTree(values(9))
    proof = tree.prove_many([1, 4, 7])
    leaves, siblings, flags = [leaf_hash(word(index)) for index in proof.order], list(proof.siblings), bits(proof.flags)
    stranger = keccak(b"stranger")

    changes = [
        (leaves[::-1], siblings, flags),
        ([leaves[1], leaves[0], leaves[2]], siblings, flags),
        ([*leaves[:2], stranger], siblings, flags),
        ([leaves[0], leaves[0], leaves[2]], siblings, flags),
        ([*leaves, leaves[2]], siblings, flags),
        (leaves[:2], siblings, flags),
        ([], siblings, flags),
        ([], [tree.root], 0),
        (leaves, siblings[::-1], flags),
        (leaves, siblings[:-1], flags),
        (leaves, [*siblings, tree.root], flags),
        (leaves, [*siblings, stranger], flags),
        *((leaves, siblings, flags ^ 1 << place) for place in range(len(proof.flags))),
        (leaves, siblings, MAX_SUM),
        (leaves, siblings, 0),
    ]
    for change in changes:
        assert root_or_none(harness, *change) != tree.root
    # Flags beyond the last pair say nothing.
    assert harness.root_of_many(leaves, siblings, flags | 1 << len(proof.flags)) == tree.root


def root_or_none(harness: Any, leaves: list[bytes], siblings: list[bytes], flags: int) -> bytes | None:
    try:
        return bytes(harness.root_of_many(leaves, siblings, flags))
    except boa.BoaError:
        with reverts("Settlement", "WrongProofLength", len(leaves), len(siblings)):
            harness.root_of_many(leaves, siblings, flags)
        return None


# sums


def entries(amounts: list[int]) -> list[tuple[SessionId, Amount]]:
    return [(SessionId(word(number)), Amount(amount)) for number, amount in enumerate(amounts)]


def as_words(proof: EntryProof) -> tuple[int, list[tuple[bytes, int]]]:
    return proof.sides, [(sibling.digest, sibling.total) for sibling in proof.siblings]


@given(st.lists(st.integers(1, MAX_AMOUNT), min_size=1, max_size=20))
@settings(max_examples=20)
def test_sum_root__every_entry_of_a_tree__leads_to_its_root_and_sum(harness: Any, amounts: list[int]) -> None:
    tree = SumTree(entries(amounts))

    for session, amount in entries(amounts):
        proven, proof = tree.prove(session)
        node, total = harness.sum_root(session, proven, *as_words(proof))
        assert (proven, total, keccak(node + word(total))) == (amount, sum(amounts), tree.root)


def test_sum_root__anything_changed__leads_elsewhere(harness: Any) -> None:
    tree = SumTree(entries([5, 7, 11, 13, 17]))
    session = SessionId(word(2))
    amount, proof = tree.prove(session)
    index, siblings = as_words(proof)
    (first, sum_of_first), *others = siblings

    changes: list[Any] = [
        (SessionId(word(3)), amount, index, siblings),
        (session, amount + 1, index, siblings),
        (session, amount, index ^ 1, siblings),
        (session, amount, index ^ 2, siblings),
        (session, amount, index, siblings[:-1]),
        (session, amount, index, siblings[::-1]),
        (session, amount, index, [(first, sum_of_first - 1), *others]),
        (session, amount + 1, index, [(first, sum_of_first - 1), *others]),
        (session, amount, index, [(keccak(first), sum_of_first), *others]),
    ]
    for change in changes:
        node, total = harness.sum_root(*change)
        assert keccak(node + word(total)) != tree.root


def test_sum_root__an_index_beyond_the_siblings__is_refused(harness: Any) -> None:
    siblings = [(keccak(b"one"), 1)] * 3

    harness.sum_root(word(1), 1, 7, siblings)
    for index in (8, 2**32, MAX_SUM):
        with reverts("Settlement", "IndexTooHigh", index, 3):
            harness.sum_root(word(1), 1, index, siblings)
    with reverts("Settlement", "IndexTooHigh", 1, 0):
        harness.sum_root(word(1), 1, 1, [])


def test_sum_root__a_sum_that_wraps_around__is_refused(harness: Any) -> None:
    assert harness.sum_root(word(1), 1, 0, [(word(2), MAX_SUM - 1)])[1] == MAX_SUM
    with reverts("Settlement", "SumOverflow", MAX_SUM, 1):
        harness.sum_root(word(1), 1, 0, [(word(2), MAX_SUM)])
    with reverts("Settlement", "SumOverflow", 1, MAX_SUM):
        harness.sum_root(word(1), 1, 0, [(word(2), MAX_SUM - 1), (word(3), 1)])
