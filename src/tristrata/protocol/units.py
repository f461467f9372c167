"""Units as types, so that two of them cannot be mixed by accident."""

from typing import NewType

from tristrata.protocol.errors import InvalidValue

Amount = NewType("Amount", int)
"""Base units of one asset; below 2**96, so that it packs into one word with an address."""

PricePerMillion = NewType("PricePerMillion", int)
"""Base units of the session's asset per 1,000,000 tokens; below 2**96."""

BasisPoints = NewType("BasisPoints", int)
"""Hundredths of a percent: 10,000 is the whole."""

Timestamp = NewType("Timestamp", int)
"""Unix time in seconds, as contracts see it."""

Milliseconds = NewType("Milliseconds", int)
"""Unix time in milliseconds, as receipts state it."""

Seconds = NewType("Seconds", int)
"""A duration in seconds."""

Gas = NewType("Gas", int)
"""Gas of an EVM chain."""

MAX_AMOUNT = Amount(2**96 - 1)
TOKENS_PER_PRICE = 1_000_000
WHOLE_IN_BASIS_POINTS = 10_000


def amount(value: int, name: str = "amount") -> Amount:
    """``value`` as an `Amount`. Raises `InvalidValue` outside 0 … 2**96 − 1."""
    if not 0 <= value <= MAX_AMOUNT:
        raise InvalidValue(f"{name} is {value}; it must lie between 0 and 2**96 - 1 base units")
    return Amount(value)


def cost_of(prompt_tokens: int, output_tokens: int, prompt_price: int, output_price: int) -> Amount:
    """What an answer costs, in base units, rounded up once on the sum, so that no token is ever free.

    Prices are per 1,000,000 tokens. Raises `InvalidValue` when the result does not fit an `Amount`.
    """
    exact = prompt_tokens * prompt_price + output_tokens * output_price
    return amount(-(-exact // TOKENS_PER_PRICE), "cost of an answer")


def share_of(whole: Amount, share: BasisPoints) -> Amount:
    """The part of ``whole`` that ``share`` names, rounded down."""
    return Amount(whole * share // WHOLE_IN_BASIS_POINTS)
