# pragma version 0.4.3
# pragma evm-version prague
"""
@title Persistent sum trees, for draws in proportion to weight
@license Apache-2.0
@notice A tree holds members at places 0, 1, 2 …, each with a weight. It is known by its root, one word, which says all
        that the tree was at that time: nodes are numbered from 1 and never changed, and an update writes new ones along
        one path. Who keeps a root has a snapshot.
@dev A node is one word: left id (40 bits), right id (40), left sum (88), right sum (88). On the lowest level the ids are
     the members themselves, so that a tree of one member needs no node, and one of n members ceil(log2 n) levels.
     A root is: total (88 bits), height (8), id of the top (40).
     An update at height h reads and writes h nodes: about 24,700 gas a level, and 5,000 besides. Each member drawn reads
     at most h nodes: about 3,300 gas a level.
     The Python side is `tristrata.protocol.sum_tree`.
"""

# Four billion places; taking them all would cost more gas than there is.
_MAX_HEIGHT: constant(uint256) = 32
_MAX_DRAWN: constant(uint256) = 8
_MAX_SUM: constant(uint256) = 2**88 - 1
_MAX_ID: constant(uint256) = 2**40 - 1
_LEFT: constant(uint256) = _MAX_ID << 216 | _MAX_SUM << 88
_RIGHT: constant(uint256) = _MAX_ID << 176 | _MAX_SUM


_node_count: uint256
# Node 0 is never written: it reads as a node with nothing below it.
_nodes: HashMap[uint256, uint256]


@internal
def _update(root: uint256, place: uint256, member: uint256, weight: uint256) -> uint256:
    """
    @dev Puts `member` with `weight` at `place`. Places are taken in order: reverts for one beyond the next level.
    @param root The tree before; 0 for the empty one.
    @param member Not 0, below 2**40.
    @return The root of the tree after.
    """
    old_height: uint256 = self._height(root)
    height: uint256 = old_height
    if place >> old_height != 0:
        height += 1
        if place >> height != 0 or height > _MAX_HEIGHT:
            raw_revert(abi_encode(place, old_height, method_id=method_id("PlaceOutOfReach(uint256,uint256)")))
    path: uint256[_MAX_HEIGHT] = empty(uint256[_MAX_HEIGHT])
    at: uint256 = root & _MAX_ID
    for step: uint256 in range(height, bound=_MAX_HEIGHT):
        level: uint256 = height - 1 - step
        if level == old_height:
            # The tree grows by a level: what it was stands on the left.
            path[level] = at << 216 | self._total(root) << 88
        else:
            path[level] = self._nodes[at]
        at = path[level] >> 176 & _MAX_ID if place >> level & 1 == 1 else path[level] >> 216
    below: uint256 = member
    sum: uint256 = weight
    count: uint256 = self._node_count
    for level: uint256 in range(height, bound=_MAX_HEIGHT):
        self._check_sum(sum)
        node: uint256 = 0
        if place >> level & 1 == 1:
            node = path[level] & _LEFT | below << 176 | sum
        else:
            node = path[level] & _RIGHT | below << 216 | sum << 88
        count += 1
        self._nodes[count] = node
        below = count
        sum = (node >> 88 & _MAX_SUM) + (node & _MAX_SUM)
    self._check_sum(sum)
    self._node_count = count
    return sum << 48 | height << 40 | below


@internal
@view
def _draw(root: uint256, randomness: bytes32, count: uint256) -> DynArray[uint256, _MAX_DRAWN]:
    """
    @dev Draws up to `count` different members, each in proportion to its weight among those not yet drawn. The first
         draws are the same for every `count`. Instead of writing nodes without the drawn, it subtracts their weights on
         the way down wherever they lie below. The remainder of a 256-bit number by a total of at most 88 bits favours
         nobody by more than 2**-168.
    @return The members in the order in which they were drawn; fewer when fewer have weight.
    """
    if count > _MAX_DRAWN:
        raw_revert(abi_encode(count, _MAX_DRAWN, method_id=method_id("TooManyDrawn(uint256,uint256)")))
    members: DynArray[uint256, _MAX_DRAWN] = []
    places: DynArray[uint256, _MAX_DRAWN] = []
    weights: DynArray[uint256, _MAX_DRAWN] = []
    height: uint256 = self._height(root)
    remaining: uint256 = self._total(root)
    for index: uint256 in range(count, bound=_MAX_DRAWN):
        if remaining == 0:
            break
        point: uint256 = convert(keccak256(abi_encode(randomness, index)), uint256) % remaining
        at: uint256 = root & _MAX_ID
        weight: uint256 = self._total(root)
        place: uint256 = 0
        for step: uint256 in range(height, bound=_MAX_HEIGHT):
            node: uint256 = self._nodes[at]
            place <<= 1
            left: uint256 = node >> 88 & _MAX_SUM
            left_remaining: uint256 = left - self._drawn_below(place, height - 1 - step, places, weights)
            if point < left_remaining:
                at = node >> 216
                weight = left
            else:
                point -= left_remaining
                at = node >> 176 & _MAX_ID
                weight = node & _MAX_SUM
                place |= 1
        members.append(at)
        places.append(place)
        weights.append(weight)
        remaining -= weight
    return members


@internal
@pure
def _total(root: uint256) -> uint256:
    """
    @dev The sum of all weights.
    """
    return root >> 48


@internal
@pure
def _height(root: uint256) -> uint256:
    """
    @dev How many levels of nodes the tree has.
    """
    return root >> 40 & 255


@internal
@pure
def _drawn_below(
    prefix: uint256, level: uint256, places: DynArray[uint256, _MAX_DRAWN], weights: DynArray[uint256, _MAX_DRAWN]
) -> uint256:
    """
    @dev What the drawn members weigh whose places, without their lowest `level` bits, are `prefix`.
    """
    sum: uint256 = 0
    for index: uint256 in range(len(places), bound=_MAX_DRAWN):
        if places[index] >> level == prefix:
            sum += weights[index]
    return sum


@internal
@pure
def _check_sum(sum: uint256):
    """
    @dev Reverts for a sum that a node has no room for.
    """
    if sum > _MAX_SUM:
        raw_revert(abi_encode(sum, _MAX_SUM, method_id=method_id("WeightTooBig(uint256,uint256)")))
