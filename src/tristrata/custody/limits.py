"""What a session key signs without asking: up to a budget, so much a day, at no price above the ceilings. Pure."""

import msgspec

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import TOKENS_PER_PRICE, Amount, PricePerMillion

SECONDS_PER_DAY = 86_400


class LimitReached(TristrataError):
    """Signing this would go beyond what the user has set; nothing was signed."""


class SigningLimits(msgspec.Struct, frozen=True):
    """What the user has set. Amounts are base units; prices base units per 1,000,000 tokens; 0 a day is no limit."""

    budget: Amount
    per_day: Amount = Amount(0)
    max_prompt_price: PricePerMillion = PricePerMillion(2**96 - 1)
    max_output_price: PricePerMillion = PricePerMillion(2**96 - 1)


class Spent(msgspec.Struct, frozen=True):
    """What was signed for: in all, and on ``day`` (days since 1970)."""

    total: Amount = Amount(0)
    today: Amount = Amount(0)
    day: int = 0


def spend(limits: SigningLimits, spent: Spent, receipt: Receipt) -> Spent:
    """What is spent once the receipt is paid. Raises `LimitReached`. The receipt's own time says which day it is."""
    day = receipt.finished_at // 1_000 // SECONDS_PER_DAY
    today = receipt.price + (spent.today if day == spent.day else 0)
    total = spent.total + receipt.price
    exact = receipt.prompt_tokens * limits.max_prompt_price + receipt.output_tokens * limits.max_output_price
    highest = -(-exact // TOKENS_PER_PRICE)
    if receipt.price > highest:
        raise LimitReached(
            f"the answer costs {receipt.price}; at the highest prices that were allowed it would cost {highest}",
            remedy="raise the price ceilings, or ask a router whose miners are cheaper",
        )
    if total > limits.budget:
        raise LimitReached(
            f"the answer costs {receipt.price}; of the budget of {limits.budget}, {spent.total} is spent",
            remedy="set a higher budget: --budget",
        )
    if limits.per_day and today > limits.per_day:
        raise LimitReached(
            f"the answer costs {receipt.price}; of the {limits.per_day} a day, {today - receipt.price} is spent",
            remedy="wait until tomorrow, or set more a day: --per-day",
        )
    return Spent(Amount(total), Amount(today), day)
