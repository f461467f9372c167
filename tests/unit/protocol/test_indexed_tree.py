import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.indexed_tree import CAPACITY, DEPTH, IndexedTree, root_from_proof

places = st.integers(0, CAPACITY - 1)
updates = st.lists(st.tuples(places, strategies.words), max_size=20)


def plain_root(leaves: dict[int, bytes]) -> bytes:
    """The definition: all 256 leaves, hashed in pairs, layer by layer."""
    layer = [leaves.get(index, bytes(32)) for index in range(CAPACITY)]
    while len(layer) > 1:
        layer = [keccak(left + right) for left, right in zip(layer[::2], layer[1::2], strict=True)]
    return layer[0]


def tree_of(changes: list[tuple[int, bytes]]) -> IndexedTree:
    tree = IndexedTree()
    for index, leaf in changes:
        tree = tree.update(index, leaf)
    return tree


@given(updates)
def test_root__any_updates__equals_the_definition(changes: list[tuple[int, bytes]]) -> None:
    assert tree_of(changes).root == plain_root(dict(changes))


@given(updates, places)
def test_prove__any_place__leads_to_the_root(changes: list[tuple[int, bytes]], index: int) -> None:
    tree = tree_of(changes)

    assert tree.leaf(index) == dict(changes).get(index, bytes(32))
    assert root_from_proof(tree.leaf(index), index, tree.prove(index)) == tree.root


@given(updates, places, places, strategies.words)
def test_proof__of_another_place_or_leaf__leads_elsewhere(
    changes: list[tuple[int, bytes]], index: int, other: int, leaf: bytes
) -> None:
    tree = tree_of([*changes, (index, keccak(leaf))])
    proof = tree.prove(index)

    assert root_from_proof(leaf, index, proof) != tree.root
    if other != index:
        assert root_from_proof(keccak(leaf), other, proof) != tree.root


def test_update__in_place__leaves_the_old_tree_as_it_was() -> None:
    before = IndexedTree().update(3, b"\1" * 32)
    after = before.update(3, bytes(32))

    assert before.leaf(3) == b"\1" * 32
    assert after == IndexedTree()


@pytest.mark.parametrize("index", [-1, CAPACITY, CAPACITY + 3])
def test_any__no_such_place__is_refused(index: int) -> None:
    tree = IndexedTree()

    for call in (
        lambda: tree.update(index, bytes(32)),
        lambda: tree.prove(index),
        lambda: tree.leaf(index),
        lambda: root_from_proof(bytes(32), index, (bytes(32),) * DEPTH),
    ):
        with pytest.raises(InvalidValue, match=f"place {index} "):
            call()


@pytest.mark.parametrize("siblings", [(bytes(32),) * 7, (bytes(32),) * 9, (bytes(31),) * 8])
def test_root_from_proof__of_another_shape__is_refused(siblings: tuple[bytes, ...]) -> None:
    with pytest.raises(InvalidValue, match="8 elements"):
        root_from_proof(bytes(32), 0, siblings)


def test_update__leaf_of_another_length__is_refused() -> None:
    with pytest.raises(InvalidValue, match="31 bytes"):
        IndexedTree().update(0, bytes(31))
