# pragma version 0.4.3
# pragma evm-version prague
"""
@title Merkle proofs as a contract, for tests
@license Apache-2.0
"""

from shared import proofs


@external
@pure
def root(leaf: bytes32, proof: DynArray[bytes32, 32]) -> bytes32:
    """
    @notice Where the proof of one leaf leads.
    """
    return proofs._root(leaf, proof)


@external
@pure
def root_of_many(leaves: DynArray[bytes32, 32], proof: DynArray[bytes32, 96], flags: uint256) -> bytes32:
    """
    @notice Where the common proof of many leaves leads.
    """
    return proofs._root_of_many(leaves, proof, flags)


@external
@pure
def sum_root(
    key: bytes32, amount: uint256, index: uint256, siblings: DynArray[proofs.SumNode, 32]
) -> (bytes32, uint256):
    """
    @notice Where the proof of one entry of a sum tree leads, and the sum there.
    """
    return proofs._sum_root(key, amount, index, siblings)
