"""The persistent sum tree against a plain list of weights."""

from typing import Any

import boa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.contracts.conftest import contract, reverts
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.sum_tree import MAX_DRAWN, draw

MAX_SUM = 2**88 - 1
FIRST_MEMBER = 1_000
RANDOMNESS = b"\x11" * 32


@pytest.fixture
def tree() -> Any:
    return contract("testing/SumTreeHarness.vy")


def build(tree: Any, weights: list[int]) -> int:
    root = 0
    for place, weight in enumerate(weights):
        root = tree.update(root, place, FIRST_MEMBER + place, weight)
    return root


def expected(weights: list[int], randomness: bytes, count: int) -> list[int]:
    return [FIRST_MEMBER + place for place in draw(weights, randomness, count)]


def test_draw__empty_tree_or_no_weight__draws_nobody(tree: Any) -> None:
    assert tree.draw(0, RANDOMNESS, 8) == []
    root = build(tree, [0, 0, 0])
    assert (tree.total(root), tree.draw(root, RANDOMNESS, 8)) == (0, [])


def test_draw__one_member__needs_no_node(tree: Any) -> None:
    root = tree.update(0, 0, 7, 5)

    assert root == 5 << 48 | 7
    assert tree.draw(root, RANDOMNESS, 8) == [7]


def test_draw__largest_weights__are_drawn_too(tree: Any) -> None:
    weights = [MAX_SUM - 3, 1, 1, 1]
    root = build(tree, weights)

    assert tree.total(root) == MAX_SUM
    assert tree.draw(root, RANDOMNESS, 8) == expected(weights, RANDOMNESS, 8)


def test_draw__more_than_eight__is_refused(tree: Any) -> None:
    with reverts("MinerRegistry", "TooManyDrawn", 9, 8):
        tree.draw(0, RANDOMNESS, 9)


def test_update__sum_beyond_88_bits__is_refused_at_any_level(tree: Any) -> None:
    with reverts("MinerRegistry", "WeightTooBig", MAX_SUM + 1, MAX_SUM):
        tree.update(0, 0, 7, MAX_SUM + 1)
    with reverts("MinerRegistry", "WeightTooBig", MAX_SUM + 1, MAX_SUM):
        tree.update(build(tree, [1]), 1, 7, MAX_SUM)
    with reverts("MinerRegistry", "WeightTooBig", MAX_SUM + 1, MAX_SUM):
        tree.update(build(tree, [1, 0, 0, 0, 0]), 5, 7, MAX_SUM)
    with reverts("MinerRegistry", "WeightTooBig"):
        tree.update(build(tree, [0, 0, 0]), 2, 7, 2**256 - 1)


def test_update__place_beyond_the_next_level__is_refused(tree: Any) -> None:
    with reverts("MinerRegistry", "PlaceOutOfReach", 2, 0):
        tree.update(0, 2, 7, 1)
    with reverts("MinerRegistry", "PlaceOutOfReach", 8, 2):
        tree.update(build(tree, [1, 1, 1]), 8, 7, 1)
    with reverts("MinerRegistry", "PlaceOutOfReach", 2**32, 32):
        tree.update(1 << 48 | 32 << 40 | 1, 2**32, 7, 1)


@given(st.lists(st.integers(0, 2**80), min_size=1, max_size=20), st.binary(min_size=32, max_size=32))
@settings(max_examples=15)
def test_draw__any_tree__is_that_of_the_list(weights: list[int], randomness: bytes) -> None:
    with boa.env.anchor():
        tree = contract("testing/SumTreeHarness.vy")
        root = build(tree, weights)

        assert tree.total(root) == sum(weights)
        for count in (0, 1, MAX_DRAWN):
            assert tree.draw(root, randomness, count) == expected(weights, randomness, count)


def test_update__gas__grows_by_the_level(tree: Any) -> None:
    root = build(tree, [1] * 9)  # four levels

    tree.update(root, 3, FIRST_MEMBER + 3, 2)
    assert tree.call_trace().gas_used < 4 * 24_700


class Snapshots(RuleBasedStateMachine):
    """Updates at random; every root that there ever was still draws as on its day."""

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.tree = contract("testing/SumTreeHarness.vy")
        self.history: list[tuple[int, list[int]]] = [(0, [])]

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    @property
    def weights(self) -> list[int]:
        return self.history[-1][1]

    @rule(weight=st.integers(0, 1_000))
    def append(self, weight: int) -> None:
        self.update(len(self.weights), weight)

    @precondition(lambda self: len(self.history) > 1)
    @rule(place=st.integers(0, 2**32), weight=st.integers(0, 1_000))
    def change(self, place: int, weight: int) -> None:
        self.update(place % len(self.weights), weight)

    @rule(when=st.integers(0, 2**32), seed=st.integers(0, 2**32))
    def draw_from_any_snapshot(self, when: int, seed: int) -> None:
        root, weights = self.history[when % len(self.history)]
        randomness = keccak(word(seed))
        assert self.tree.total(root) == sum(weights)
        assert self.tree.draw(root, randomness, MAX_DRAWN) == expected(weights, randomness, MAX_DRAWN)

    def update(self, place: int, weight: int) -> None:
        weights = list(self.weights)
        weights[place : place + 1] = [weight]
        root = self.tree.update(self.history[-1][0], place, FIRST_MEMBER + place, weight)
        self.history.append((root, weights))


TestSnapshots = Snapshots.TestCase
TestSnapshots.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
