"""Draws by weight: which places, how often, and what is refused."""

from collections import Counter
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.strategies import words
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak, word
from tristrata.protocol.sum_tree import MAX_DRAWN, draw

weights_lists = st.lists(st.integers(0, 2**88 - 1), max_size=40)
RANDOMNESS = b"\x11" * 32


@given(weights_lists, words, st.integers(0, MAX_DRAWN))
def test_draw__any_weights__draws_different_places_that_weigh_something(
    weights: list[int], randomness: bytes, count: int
) -> None:
    drawn = draw(weights, randomness, count)

    assert len(set(drawn)) == len(drawn) == min(count, sum(weight > 0 for weight in weights))
    assert all(weights[place] > 0 for place in drawn)


@given(weights_lists, words)
def test_draw__fewer__are_the_first_of_more(weights: list[int], randomness: bytes) -> None:
    most = draw(weights, randomness, MAX_DRAWN)

    assert all(draw(weights, randomness, count) == most[:count] for count in range(MAX_DRAWN))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), words)
def test_draw__small_weights__falls_where_a_ticket_list_says(weights: list[int], randomness: bytes) -> None:
    tickets = [place for place, weight in enumerate(weights) for _ in range(weight)]
    expected = []
    for index in range(MAX_DRAWN):
        if not tickets:
            break
        expected.append(tickets[int.from_bytes(keccak(randomness + word(index)), "big") % len(tickets)])
        tickets = [place for place in tickets if place != expected[-1]]

    assert draw(weights, randomness, MAX_DRAWN) == tuple(expected)


def test_draw__many_times__is_in_proportion_to_weight() -> None:
    weights, times = [1, 2, 0, 3, 10], 4_000
    pairs = Counter(draw(weights, keccak(word(number)), 2) for number in range(times))

    total = sum(weights)
    chi_square = 0.0
    for first in range(5):
        for second in range(5):
            if first == second or not weights[first] * weights[second]:
                assert (first, second) not in pairs
                continue
            chance = prod((weights[first] / total, weights[second] / (total - weights[first])))
            chi_square += (pairs[first, second] - times * chance) ** 2 / (times * chance)
    assert chi_square < 40  # 11 degrees of freedom: chance exceeds it once in 25,000, and the draws are fixed


@pytest.mark.parametrize(
    ("weights", "randomness", "count"),
    [([1], RANDOMNESS, 9), ([1], RANDOMNESS, -1), ([1], b"", 1), ([1, -1], RANDOMNESS, 1)],
)
def test_draw__out_of_range__is_refused(weights: list[int], randomness: bytes, count: int) -> None:
    with pytest.raises(InvalidValue):
        draw(weights, randomness, count)
