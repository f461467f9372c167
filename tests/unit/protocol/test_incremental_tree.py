import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.incremental_tree import CAPACITY, DEPTH, ZEROS, IncrementalTree, prove, root_from_proof


def plain_root(leaves: list[bytes]) -> bytes:
    """The definition: hash pairs, layer by layer, with empty subtrees on the right."""
    layer = leaves
    for height in range(DEPTH):
        padded = [*layer, ZEROS[height]] if len(layer) % 2 else layer
        layer = [keccak(padded[i] + padded[i + 1]) for i in range(0, len(padded), 2)] or [ZEROS[height + 1]]
    return layer[0]


def tree_of(leaves: list[bytes]) -> IncrementalTree:
    tree = IncrementalTree()
    for leaf in leaves:
        tree = tree.append(leaf)
    return tree


@given(st.lists(strategies.words, max_size=40))
def test_root__any_leaves__equals_the_definition(leaves: list[bytes]) -> None:
    assert tree_of(leaves).root == plain_root(leaves)


@given(st.lists(strategies.words, min_size=1, max_size=40), st.data())
def test_prove__any_leaf__leads_to_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))

    assert root_from_proof(leaves[index], index, prove(leaves, index)) == tree_of(leaves).root


@given(st.lists(strategies.words, min_size=2, max_size=20, unique=True), st.data())
def test_proof__of_another_leaf_or_place__leads_elsewhere(leaves: list[bytes], data: st.DataObject) -> None:
    index, other = data.draw(st.lists(st.integers(0, len(leaves) - 1), min_size=2, max_size=2, unique=True))
    root, siblings = tree_of(leaves).root, prove(leaves, index)

    assert root_from_proof(leaves[other], index, siblings) != root
    assert root_from_proof(leaves[index], other, siblings) != root


def test_empty_root__is_that_of_the_ethereum_deposit_contracts_algorithm_with_keccak() -> None:
    assert IncrementalTree().root == ZEROS[DEPTH]


def test_prove__no_such_leaf__names_the_index() -> None:
    with pytest.raises(InvalidValue, match="leaf 3"):
        prove([bytes(32)], 3)


def test_root_from_proof__short__is_refused() -> None:
    with pytest.raises(InvalidValue, match="31 elements"):
        root_from_proof(bytes(32), 0, (bytes(32),) * 31)


@given(st.lists(st.lists(strategies.words, max_size=20), max_size=6))
def test_extend__any_leaves_in_any_parts__is_as_if_appended_one_by_one(parts: list[list[bytes]]) -> None:
    extended, one_by_one = IncrementalTree(), IncrementalTree()
    for part in parts:
        extended = extended.extend(part)
        for leaf in part:
            one_by_one = one_by_one.append(leaf)

    assert extended == one_by_one


@pytest.mark.parametrize("room", [0, 1, 3])
def test_extend__more_leaves_than_fit__is_refused(room: int) -> None:
    tree = IncrementalTree(CAPACITY - 1 - room, (bytes(32),) * DEPTH)

    assert tree.extend([bytes(32)] * room).count == CAPACITY - 1
    with pytest.raises(InvalidValue, match=f"{room + 1} do not fit"):
        tree.extend([bytes(32)] * (room + 1))
