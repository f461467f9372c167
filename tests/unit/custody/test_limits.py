import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.protocol.test_voucher_book import make_receipt
from tristrata.custody.limits import SECONDS_PER_DAY, LimitReached, SigningLimits, Spent, spend
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Amount, Milliseconds, PricePerMillion


def at(day: int, price: int) -> Receipt:
    finished = Milliseconds(day * SECONDS_PER_DAY * 1_000 + 5)
    return replace(make_receipt(b"\x01" * 32, price), prompt_tokens=10**6, output_tokens=10**6, finished_at=finished)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=30), st.integers(1, 300), st.integers(0, 150)
)
def test_spend__any_answers__never_signs_beyond_budget_or_day(
    answers: list[tuple[int, int]], budget: int, per_day: int
) -> None:
    limits, spent, signed = SigningLimits(Amount(budget), Amount(per_day)), Spent(), list[tuple[int, int]]()
    for day, price in sorted(answers):
        before = sum(paid for _, paid in signed)
        today = sum(paid for on, paid in signed if on == day)
        try:
            spent = spend(limits, spent, at(day, price))
        except LimitReached:
            assert before + price > budget or (per_day and today + price > per_day)
        else:
            signed.append((day, price))
            assert before + price <= budget
            assert not per_day or today + price <= per_day
        assert spent.total == sum(paid for _, paid in signed)


def test_spend__dearer_than_the_ceilings__is_refused() -> None:
    limits = SigningLimits(Amount(10**9), max_prompt_price=PricePerMillion(10), max_output_price=PricePerMillion(20))

    assert spend(limits, Spent(), at(1, 30)).total == 30
    with pytest.raises(LimitReached, match="at the highest prices"):
        spend(limits, Spent(), at(1, 31))
