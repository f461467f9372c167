"""What becomes of a session whose key signed vouchers that contradict each other. Pure.

The contract's side is ``Settlement.forfeit``; the rules stand in ``docs/protocol.md``.
"""

from collections.abc import Sequence

import msgspec

from tristrata.protocol.ids import Address
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import Split


class Merged(msgspec.Struct, frozen=True):
    """One payee of two vouchers: the higher of its amounts, and what was charged for it before."""

    payee: Address
    amount: Amount
    charged: Amount


def contradict(one: Sequence[Split], other: Sequence[Split]) -> bool:
    """Whether neither voucher's splits give every payee at least what the other's do."""
    merged = _amounts(one, other)
    return any(mine < theirs for mine, theirs in merged.values()) and any(
        mine > theirs for mine, theirs in merged.values()
    )


def merge(charged: Sequence[Split], other: Sequence[Split]) -> tuple[Merged, ...]:
    """Every payee of both, in order: the higher of its two amounts."""
    return tuple(
        Merged(payee, Amount(max(mine, theirs)), Amount(mine))
        for payee, (mine, theirs) in sorted(_amounts(charged, other).items())
    )


def cut(merged: Sequence[Merged], spendable: Amount) -> tuple[Split, ...]:
    """The splits that ``spendable`` (base units) pays for: what grew beyond the charge is cut in proportion."""
    wanted = sum(each.amount for each in merged)
    if wanted <= spendable:
        return tuple(Split(each.payee, each.amount) for each in merged)
    charged = sum(each.charged for each in merged)
    return tuple(
        Split(
            each.payee,
            Amount(each.charged + (each.amount - each.charged) * (spendable - charged) // (wanted - charged)),
        )
        for each in merged
    )


def add_bonus(splits: Sequence[Split], bonus: Amount, router: Address) -> tuple[Split, ...]:
    """``bonus`` (base units) for all payees but the router, in proportion; the last gets what rounding leaves."""
    weights = {split.payee: split.amount for split in splits if split.payee != router}
    total = sum(weights.values())
    if not total or not bonus:
        return tuple(splits)
    parts = {payee: bonus * weight // total for payee, weight in weights.items()}
    parts[max(weights)] += bonus - sum(parts.values())
    return tuple(Split(split.payee, Amount(split.amount + parts.get(split.payee, 0))) for split in splits)


def _amounts(one: Sequence[Split], other: Sequence[Split]) -> dict[Address, tuple[int, int]]:
    left = {split.payee: split.amount for split in one}
    right = {split.payee: split.amount for split in other}
    return {payee: (left.get(payee, 0), right.get(payee, 0)) for payee in {**left, **right}}
