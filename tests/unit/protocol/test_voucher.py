import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import (
    Split,
    charge_tail,
    check_splits,
    covers,
    make_splits,
    parse_splits,
    splits_hash,
)


@given(strategies.earnings)
def test_splits_hash__any_splits__equals_the_abi_encoding(earned: dict[Address, Amount]) -> None:
    splits = make_splits(earned)

    assert splits_hash(splits) == keccak(encode(["uint256[]"], [[split.packed for split in splits]]))


@given(strategies.earnings)
def test_parse_splits__packed__round_trips(earned: dict[Address, Amount]) -> None:
    splits = make_splits(earned)

    assert parse_splits([split.packed for split in splits]) == splits
    assert {split.payee: split.amount for split in splits} == {payee: part for payee, part in earned.items() if part}


def test_splits_hash__none__is_that_of_the_empty_list() -> None:
    assert splits_hash(()) == keccak(encode(["uint256[]"], [[]]))


@given(st.integers(0, 2**40), strategies.earnings)
def test_charge_tail__any__is_the_end_of_the_abi_encodings_hash(count: int, earned: dict[Address, Amount]) -> None:
    splits = make_splits(earned)
    encoded = encode(["uint256", "uint256[]"], [count, [split.packed for split in splits]])

    assert charge_tail(count, splits) == int.from_bytes(keccak(encoded)[-20:], "big")


def test_check_splits__as_many_as_may_be__are_good() -> None:
    check_splits(tuple(Split(Address(bytes([i]) * 20), Amount(1)) for i in range(1, 33)), Amount(32))


A, B = Address(b"\1" * 20), Address(b"\2" * 20)


@pytest.mark.parametrize(
    ("splits", "total", "rule"),
    [
        ((), 1, "sum to 0"),
        (tuple(Split(Address(bytes([i]) * 20), Amount(1)) for i in range(1, 34)), 33, "at most 32"),
        ((Split(A, Amount(0)),), 0, "between 1 and"),
        ((Split(B, Amount(1)), Split(A, Amount(1))), 2, "sorted"),
        ((Split(A, Amount(1)), Split(A, Amount(1))), 2, "sorted"),
        ((Split(Address(bytes(20)), Amount(1)),), 1, "other than zero"),
        ((Split(Address(b"\1" * 19), Amount(1)),), 1, "must be an address"),
        ((Split(Address(b"\1" * 21), Amount(1)),), 1, "must be an address"),
        ((Split(A, Amount(-1)),), -1, "between 1 and"),
        ((Split(A, Amount(1)),), 2, "sum to 1"),
        ((Split(A, Amount(3)),), 2, "sum to 3"),
        ((Split(A, Amount(2**96)),), 2**96, "2\\*\\*96"),
        ((Split(A, Amount(1)),), 2, "sum to 1"),
    ],
)
def test_check_splits__breaks_a_rule__names_it(splits: tuple[Split, ...], total: int, rule: str) -> None:
    with pytest.raises(InvalidValue, match=rule):
        check_splits(splits, Amount(total))


@given(strategies.earnings, strategies.addresses)
def test_make_splits__any_earnings__are_sorted_without_zeros(earned: dict[Address, Amount], zero: Address) -> None:
    splits = make_splits({**earned, zero: Amount(0)})

    assert list(splits) == sorted(splits)
    assert all(split.amount for split in splits)
    assert zero not in {split.payee for split in splits}


@given(strategies.earnings, st.data())
def test_covers__someone_has_less__is_false(earned: dict[Address, Amount], data: st.DataObject) -> None:
    payee = data.draw(st.sampled_from(sorted(earned)))
    older = make_splits({**earned, payee: Amount(earned[payee] + 1)})
    newer = make_splits(earned)

    assert covers(older, newer)
    assert not covers(newer, older)
    assert not covers(tuple(split for split in older if split.payee != payee), older)
