# pragma version 0.4.3
# pragma evm-version prague
"""
@title Sum trees as a contract, for tests
@license Apache-2.0
"""

from shared import sum_tree


initializes: sum_tree


@external
def update(root: uint256, place: uint256, member: uint256, weight: uint256) -> uint256:
    """
    @notice The root after `member` with `weight` is put at `place`.
    """
    return sum_tree._update(root, place, member, weight)


@external
@view
def draw(root: uint256, randomness: bytes32, count: uint256) -> DynArray[uint256, 8]:
    """
    @notice Up to `count` members of the tree, by weight.
    """
    return sum_tree._draw(root, randomness, count)


@external
@view
def total(root: uint256) -> uint256:
    """
    @notice The sum of the tree's weights.
    """
    return sum_tree._total(root)
