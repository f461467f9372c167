# pragma version 0.4.3
# pragma evm-version prague
"""
@title Where Merkle proofs lead
@license Apache-2.0
@notice Trees made off chain: OpenZeppelin's StandardMerkleTree, in which each pair is sorted, one leaf or many at once; and
        sum trees, whose nodes bind the sum of what is below them.
@dev By hand, because snekmate's take proofs of up to 255 elements and flags of a word each, and the memory and calldata
     for so many are paid for with each claim. The Python side is `tristrata.protocol.standard_tree` and
     `tristrata.protocol.payouts`.
"""

struct SumNode:
    hash: bytes32
    sum: uint256


_MAX_PROOF: constant(uint256) = 32
_MAX_LEAVES: constant(uint256) = 32
_MAX_MULTIPROOF: constant(uint256) = 96
_MAX_NODES: constant(uint256) = 2 * _MAX_LEAVES + _MAX_MULTIPROOF


@internal
@pure
def _root(leaf: bytes32, proof: DynArray[bytes32, _MAX_PROOF]) -> bytes32:
    """
    @dev Where the proof of one leaf leads.
    """
    node: bytes32 = leaf
    for sibling: bytes32 in proof:
        node = self._pair(node, sibling)
    return node


@internal
@pure
def _root_of_many(
    leaves: DynArray[bytes32, _MAX_LEAVES], proof: DynArray[bytes32, _MAX_MULTIPROOF], flags: uint256
) -> bytes32:
    """
    @dev Where the common proof of many leaves leads (OpenZeppelin's multiproof). Leaves, and then the nodes made of them, are
         taken in turn; bit `i` of `flags` says whether the `i`th pair is of two such, or of one and the next of `proof`.
    """
    if len(leaves) == 0:
        raw_revert(abi_encode(len(leaves), len(proof), method_id=method_id("WrongProofLength(uint256,uint256)")))
    pairs: uint256 = len(leaves) + len(proof) - 1
    nodes: DynArray[bytes32, _MAX_NODES] = []
    for leaf: bytes32 in leaves:
        nodes.append(leaf)
    taken: uint256 = 0
    used: uint256 = 0
    left_flags: uint256 = flags
    for _: uint256 in range(pairs, bound=_MAX_NODES):
        # With as many joins as leaves the nodes run dry, with fewer than one less the proof does: so what comes to the end
        # has used all of the proof, and has one node left.
        joins: bool = left_flags & 1 == 1
        if taken + convert(joins, uint256) >= len(nodes) or (not joins and used == len(proof)):
            raw_revert(abi_encode(len(leaves), len(proof), method_id=method_id("WrongProofLength(uint256,uint256)")))
        left: bytes32 = nodes[taken]
        taken += 1
        if joins:
            nodes.append(self._pair(left, nodes[taken]))
            taken += 1
        else:
            nodes.append(self._pair(left, proof[used]))
            used += 1
        left_flags >>= 1
    return nodes[taken]


@internal
@pure
def _sum_root(
    key: bytes32, amount: uint256, index: uint256, siblings: DynArray[SumNode, _MAX_PROOF]
) -> (bytes32, uint256):
    """
    @dev Where the proof of one entry of a sum tree leads, and the sum there. Bit `i` of `index` says whether the `i`th sibling
         stands on the left; there are no others, so that no entry has two indices.
    """
    node: bytes32 = keccak256(abi_encode(key, amount))
    total: uint256 = amount
    sides: uint256 = index
    for sibling: SumNode in siblings:
        if sides & 1 == 1:
            node = keccak256(abi_encode(sibling.hash, sibling.sum, node, total))
        else:
            node = keccak256(abi_encode(node, total, sibling.hash, sibling.sum))
        # A sum that wraps around would make room for a larger entry.
        if sibling.sum > max_value(uint256) - total:
            raw_revert(abi_encode(sibling.sum, total, method_id=method_id("SumOverflow(uint256,uint256)")))
        total += sibling.sum
        sides >>= 1
    if sides != 0:
        raw_revert(abi_encode(index, len(siblings), method_id=method_id("IndexTooHigh(uint256,uint256)")))
    return node, total


@internal
@pure
def _pair(left: bytes32, right: bytes32) -> bytes32:
    """
    @dev The node above two others, the smaller first.
    """
    if convert(left, uint256) < convert(right, uint256):
        return keccak256(concat(left, right))
    return keccak256(concat(right, left))
