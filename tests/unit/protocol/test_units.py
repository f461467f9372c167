from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.units import Amount, BasisPoints, amount, cost_of, share_of

tokens = st.integers(0, 10**9)
prices = st.integers(0, 10**15)


@given(tokens, tokens, prices, prices)
def test_cost_of__any_answer__is_rounded_up_by_less_than_one(prompt: int, output: int, p: int, o: int) -> None:
    exact = Fraction(prompt * p + output * o, 1_000_000)

    assert exact <= cost_of(prompt, output, p, o) < exact + 1


@given(strategies.amounts, st.integers(0, 10_000).map(BasisPoints))
def test_share_of__any_share__never_exceeds_the_whole(whole: Amount, share: BasisPoints) -> None:
    part = share_of(whole, share)

    assert 0 <= part <= whole
    assert part <= Fraction(whole * share, 10_000) < part + 1


@pytest.mark.parametrize("value", [-1, 2**96])
def test_amount__out_of_range__names_the_value(value: int) -> None:
    with pytest.raises(InvalidValue, match=str(value)):
        amount(value)


def test_cost_of__overflowing_price__is_refused() -> None:
    with pytest.raises(InvalidValue, match="cost of an answer"):
        cost_of(2**40, 0, 2**96 - 1, 0)
