"""Our StandardMerkleTree against OpenZeppelin's own.

The vectors in ``openzeppelin.json`` are what npm's `@openzeppelin/merkle-tree` 1.0.8 gives for the leaves that the two
functions below describe; ``openzeppelin.mjs`` makes them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address, SessionId, checksum
from tristrata.protocol.standard_tree import (
    StandardTree,
    leaf_hash,
    payout_leaf,
    receipt_leaf,
    root_from_proof,
    verify_many,
)
from tristrata.protocol.units import Amount

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "openzeppelin.json").read_text())
encoded_leaves = st.lists(st.binary(min_size=64, max_size=96), max_size=40)
distinct_leaves = st.lists(strategies.words, min_size=1, max_size=40, unique=True)


def receipts(count: int) -> list[bytes]:
    return [
        receipt_leaf(SessionId(bytes([0x11 + number % 3]) * 32), number, bytes([0x11 + number + 100]) * 32)
        for number in range(count)
    ]


def payouts(count: int) -> list[bytes]:
    return [
        payout_leaf(Address(bytes([0x21 + number]) * 20), Amount(1_000_000 * (number + 1)), bytes([0x31 + number]) * 32)
        for number in range(count)
    ]


def hashes(encoded: list[bytes], order: tuple[int, ...] | list[int]) -> list[bytes]:
    return [leaf_hash(encoded[index]) for index in order]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['kind']}-{vector['count']}")
def test_tree__openzeppelins_vectors__are_met(vector: dict[str, Any]) -> None:
    encoded = {"receipts": receipts, "payouts": payouts}[vector["kind"]](vector["count"])
    tree = StandardTree(encoded)

    assert tree.root.hex() == vector["root"]
    assert [[node.hex() for node in tree.prove(index)] for index in range(len(encoded))] == vector["proofs"]
    for many in vector["many"]:
        proof = tree.prove_many(many["indices"])
        assert list(proof.order) == many["order"]
        assert [node.hex() for node in proof.siblings] == many["proof"]
        assert list(proof.flags) == many["flags"]


@given(strategies.addresses, strategies.amounts, strategies.words)
def test_payout_leaf__any__is_its_abi_encoding(payee: Address, cumulative: Amount, sums: bytes) -> None:
    encoding = encode(["address", "uint256", "bytes32"], [checksum(payee), cumulative, sums])

    assert payout_leaf(payee, cumulative, sums) == encoding


def test_root__no_leaves__is_32_zero_bytes() -> None:
    assert StandardTree([]).root == bytes(32)


@given(encoded_leaves.filter(bool), st.data())
def test_prove__any_leaf__leads_to_the_root(encoded: list[bytes], data: st.DataObject) -> None:
    tree = StandardTree(encoded)
    index = data.draw(st.integers(0, len(encoded) - 1))

    assert root_from_proof(leaf_hash(encoded[index]), tree.prove(index)) == tree.root


@given(encoded_leaves, st.randoms())
def test_root__leaves_in_another_order__is_the_same(encoded: list[bytes], chance: object) -> None:
    shuffled = list(encoded)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]

    assert StandardTree(shuffled).root == StandardTree(encoded).root


@given(st.lists(strategies.words, min_size=2, max_size=20, unique=True))
def test_proof__of_another_leaf__leads_elsewhere(encoded: list[bytes]) -> None:
    tree = StandardTree(encoded)

    assert root_from_proof(leaf_hash(encoded[1]), tree.prove(0)) != tree.root


@pytest.mark.parametrize("index", [-1, 3])
def test_prove__no_such_leaf__names_the_index(index: int) -> None:
    tree = StandardTree(receipts(3))

    for call in (lambda: tree.prove(index), lambda: tree.prove_many([0, index])):
        with pytest.raises(InvalidValue, match=f"leaf {index}"):
            call()


def test_root_from_proof__sibling_of_another_length__is_refused() -> None:
    with pytest.raises(InvalidValue, match="31 bytes"):
        root_from_proof(bytes(32), [bytes(31)])


@given(distinct_leaves, st.data())
def test_prove_many__any_leaves__are_proven_and_no_others(encoded: list[bytes], data: st.DataObject) -> None:
    tree = StandardTree(encoded)
    indices = data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1, unique=True))

    proof = tree.prove_many(indices)
    leaves = hashes(encoded, proof.order)

    assert sorted(proof.order) == sorted(indices)
    assert verify_many(tree.root, leaves, proof.siblings, proof.flags)
    place = data.draw(st.integers(0, len(leaves) - 1))
    other = [*leaves[:place], leaf_hash(b"another"), *leaves[place + 1 :]]
    assert not verify_many(tree.root, other, proof.siblings, proof.flags)
    assert not verify_many(leaf_hash(b"root"), leaves, proof.siblings, proof.flags)


@given(distinct_leaves.filter(lambda found: len(found) > 1), st.data())
def test_verify_many__anything_of_the_proof_changed__is_false(encoded: list[bytes], data: st.DataObject) -> None:
    tree = StandardTree(encoded)
    proof = tree.prove_many(data.draw(st.lists(st.integers(0, len(encoded) - 1), min_size=1, unique=True)))
    leaves, siblings, flags = hashes(encoded, proof.order), list(proof.siblings), list(proof.flags)

    kinds = ["leaf", "more leaves", "flag", "more flags", "fewer flags", "more siblings"]
    kind = data.draw(st.sampled_from([*kinds, "sibling", "fewer siblings"] if siblings else kinds))
    place = data.draw(st.integers(0, 99))
    if kind == "leaf":
        leaves[place % len(leaves)] = leaf_hash(b"another")
    elif kind == "more leaves":
        leaves.append(leaves[0])
    elif kind == "flag":
        flags[place % len(flags)] ^= True
    elif kind == "more flags":
        flags.append(bool(place % 2))
    elif kind == "fewer flags":
        flags.pop()
    elif kind == "more siblings":
        siblings.append(bytes(32))
    elif kind == "sibling":
        siblings[place % len(siblings)] = bytes(32)
    else:
        siblings.pop()

    assert not verify_many(tree.root, leaves, siblings, flags)


def test_verify_many__more_siblings_and_flags_that_match__is_false() -> None:
    tree = StandardTree(receipts(5))
    proof = tree.prove_many([0, 1])

    longer = (*proof.siblings, bytes(32)), (*proof.flags, False)
    assert not verify_many(tree.root, hashes(receipts(5), proof.order), *longer)


@pytest.mark.parametrize(
    ("leaves", "siblings", "flags"),
    [([], [bytes(32)], []), ([], [], []), ([bytes(31)], [], []), ([bytes(32)], [bytes(33)], [False])],
)
def test_verify_many__no_leaves_or_other_lengths__is_false(
    leaves: list[bytes], siblings: list[bytes], flags: list[bool]
) -> None:
    assert not verify_many((leaves or siblings or [bytes(32)])[0], leaves, siblings, flags)


def test_prove_many__none_or_the_same_twice__is_refused() -> None:
    tree = StandardTree([*receipts(3), receipts(3)[1]])

    with pytest.raises(InvalidValue, match="one leaf or more"):
        tree.prove_many([])
    for indices in ([0, 0], [1, 3]):
        with pytest.raises(InvalidValue, match=f"leaves {indices[0]} and {indices[1]} are the same"):
            tree.prove_many(indices)
