# pragma version 0.4.3
# pragma evm-version prague
"""
@title What two vouchers that contradict each other give together
@license Apache-2.0
@notice Splits are words `payee << 96 | amount`, ascending by payee.
@dev The Python side is `tristrata.protocol.forfeit`; the rules are those of docs/protocol.md, "Forfeit".
"""

_MAX_SPLITS: constant(uint256) = 32
MAX_FINAL_SPLITS: constant(uint256) = 2 * _MAX_SPLITS
_AMOUNT_MASK: constant(uint256) = 2**96 - 1
# Above every address: where a list that is at its end stands.
_NO_PAYEE: constant(uint256) = 2**160


struct Merged:
    # The higher of each payee's two amounts, and in the same order what was charged for it.
    splits: DynArray[uint256, MAX_FINAL_SPLITS]
    charged: DynArray[uint256, MAX_FINAL_SPLITS]
    total: uint256
    total_charged: uint256
    # Whether somebody has less in the one, and somebody less in the other.
    contradict: bool


@internal
@pure
def _merge(charged: DynArray[uint256, _MAX_SPLITS], other: DynArray[uint256, _MAX_SPLITS]) -> Merged:
    """
    @dev One walk over both lists: in each step the payee that comes next in either.
    """
    merged: Merged = empty(Merged)
    lower: bool = False
    higher: bool = False
    left: uint256 = 0
    right: uint256 = 0
    for _: uint256 in range(len(charged) + len(other), bound=MAX_FINAL_SPLITS):
        left_payee: uint256 = _NO_PAYEE
        right_payee: uint256 = _NO_PAYEE
        if left < len(charged):
            left_payee = charged[left] >> 96
        if right < len(other):
            right_payee = other[right] >> 96
        payee: uint256 = min(left_payee, right_payee)
        if payee == _NO_PAYEE:
            break
        had: uint256 = 0
        has: uint256 = 0
        if left_payee == payee:
            had = charged[left] & _AMOUNT_MASK
            left += 1
        if right_payee == payee:
            has = other[right] & _AMOUNT_MASK
            right += 1
        lower = lower or has < had
        higher = higher or has > had
        merged.splits.append(payee << 96 | max(had, has))
        merged.charged.append(had)
        merged.total += max(had, has)
        merged.total_charged += had
    merged.contradict = lower and higher
    return merged


@internal
@pure
def _cut(merged: Merged, spendable: uint256) -> DynArray[uint256, MAX_FINAL_SPLITS]:
    """
    @dev The splits that `spendable` pays for, at least what was charged: what grew beyond that is cut in proportion.
    """
    if merged.total <= spendable:
        return merged.splits
    final: DynArray[uint256, MAX_FINAL_SPLITS] = []
    index: uint256 = 0
    for split: uint256 in merged.splits:
        had: uint256 = merged.charged[index]
        index += 1
        # A product of two amounts: below 2**192.
        grown: uint256 = (
            ((split & _AMOUNT_MASK) - had)
            * (spendable - merged.total_charged)
            // (merged.total - merged.total_charged)
        )
        final.append(split & ~_AMOUNT_MASK | had + grown)
    return final


@internal
@pure
def _sum_but(splits: DynArray[uint256, MAX_FINAL_SPLITS], payee: address) -> (uint256, uint256):
    """
    @dev What all get, and what all but one payee get.
    """
    total: uint256 = 0
    others: uint256 = 0
    for split: uint256 in splits:
        total += split & _AMOUNT_MASK
        if convert(split >> 96, address) != payee:
            others += split & _AMOUNT_MASK
    return total, others


@internal
@pure
def _add_bonus(
    splits: DynArray[uint256, MAX_FINAL_SPLITS], bonus: uint256, router: address, weight: uint256
) -> DynArray[uint256, MAX_FINAL_SPLITS]:
    """
    @dev Shares `bonus` out to all payees but the router, in proportion; the last of them gets what rounding leaves.
    @param weight What they have together; more than zero if the bonus is.
    """
    if bonus == 0:
        return splits
    final: DynArray[uint256, MAX_FINAL_SPLITS] = []
    left: uint256 = bonus
    last: uint256 = 0
    for split: uint256 in splits:
        part: uint256 = 0
        if convert(split >> 96, address) != router:
            part = bonus * (split & _AMOUNT_MASK) // weight
            last = len(final)
        final.append(split + part)
        left -= part
    final[last] += left
    return final
