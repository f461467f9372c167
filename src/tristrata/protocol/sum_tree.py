"""Draws in proportion to weight, without replacement, as the sum trees of ``contracts/shared/sum_tree.vy`` make them.

A tree is there to make a draw cheap on a chain. Whom it draws follows from the weights alone, in the order of their
places, so that is what stands here; the contract is tested against it.
"""

from collections.abc import Sequence

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import WORD_BYTES, keccak, word

MAX_DRAWN = 8


def draw(weights: Sequence[int], randomness: bytes, count: int) -> tuple[int, ...]:
    """The places drawn, in order: up to ``count`` different ones, fewer when fewer have weight.

    Draw ``i`` falls on the point ``keccak(randomness ‖ i)`` modulo the weight that is not drawn yet, counted from place
    0 on; so the first draws are the same for every ``count``. Raises `InvalidValue` for a count above 8, a negative
    weight, or randomness that is not 32 bytes.
    """
    if not 0 <= count <= MAX_DRAWN:
        raise InvalidValue(f"{count} members are to be drawn; at most {MAX_DRAWN} can be")
    if len(randomness) != WORD_BYTES:
        raise InvalidValue(f"the randomness has {len(randomness)} bytes; it must have {WORD_BYTES}")
    if any(weight < 0 for weight in weights):
        raise InvalidValue(f"a weight is {min(weights)}; none may be negative")
    left, drawn = list(weights), list[int]()
    for index in range(count):
        remaining = sum(left)
        if remaining == 0:
            break
        place = _place_at(left, int.from_bytes(keccak(randomness + word(index)), "big") % remaining)
        left[place] = 0
        drawn.append(place)
    return tuple(drawn)


def _place_at(weights: Sequence[int], point: int) -> int:
    for place, weight in enumerate(weights):
        if point < weight:
            return place
        point -= weight
    raise AssertionError("the point lies below the sum of the weights")
