from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol import strategies
from tristrata.protocol import codec
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import Address
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import SignedVoucher, Voucher, make_splits, splits_hash


def make_voucher(earned: dict[Address, Amount], signature: bytes = b"\x01" * 65) -> SignedVoucher:
    splits = make_splits(earned)
    voucher = Voucher(b"\x02" * 32, 3, Amount(sum(earned.values())), b"\x04" * 32, splits_hash(splits))
    return SignedVoucher(voucher, splits, signature)


@given(strategies.receipts)
def test_receipt__any__round_trips_through_json(receipt: Receipt) -> None:
    document = codec.encode(codec.receipt_to_json(receipt))

    assert codec.receipt_from_json(codec.decode(document)) == receipt


@given(strategies.earnings, st.binary(min_size=65, max_size=65))
def test_voucher__any__round_trips_through_json(earned: dict[Address, Amount], signature: bytes) -> None:
    signed = make_voucher(earned, signature)

    assert codec.voucher_from_json(codec.decode(codec.encode(codec.voucher_to_json(signed)))) == signed


@given(strategies.open_sessions)
def test_order__any__round_trips_through_json(order: OpenSession) -> None:
    assert codec.order_from_json(codec.decode(codec.encode(codec.order_to_json(order)))) == order


@given(strategies.open_sessions, st.none() | st.integers() | st.text() | st.lists(st.booleans()))
def test_order_from_json__managed_is_not_a_truth_value__is_refused(order: OpenSession, value: Any) -> None:
    document = codec.order_to_json(order)
    document["terms"]["managed"] = value

    with pytest.raises(InvalidValue, match=r"order\.terms\.managed must be true or false"):
        codec.order_from_json(document)


@given(strategies.receipts, st.data())
def test_receipt_from_json__a_field_of_any_json__is_the_same_or_named(receipt: Receipt, data: st.DataObject) -> None:
    document = codec.receipt_to_json(receipt)
    field = data.draw(st.sampled_from(sorted(document)))
    document[field] = data.draw(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
    )

    try:
        assert codec.receipt_to_json(codec.receipt_from_json(document))[field] == document[field]
    except InvalidValue as error:
        assert field in error.message


@pytest.mark.parametrize("value", [None, [], 1, "x", {}, {"session": "0x"}])
def test_from_json__not_the_object__is_refused(value: Any) -> None:
    for read in (codec.receipt_from_json, codec.voucher_from_json, codec.order_from_json):
        with pytest.raises(InvalidValue, match="fields"):
            read(value)


def test_voucher_from_json__other_splits_than_committed__is_refused() -> None:
    document = codec.voucher_to_json(make_voucher({Address(b"\1" * 20): Amount(5), Address(b"\2" * 20): Amount(7)}))
    document["splits_list"][0]["amount"], document["splits_list"][1]["amount"] = "7", "5"

    with pytest.raises(InvalidValue, match="commits to"):
        codec.voucher_from_json(document)


@pytest.mark.parametrize("text", ["-1", "01", "1e3", " 1", "٣", "9" * 40, str(2**96), ""])
def test_amount__not_canonical_or_too_large__is_refused(text: str) -> None:
    document = codec.voucher_to_json(make_voucher({Address(b"\1" * 20): Amount(5)}))
    document["cumulative"] = text

    with pytest.raises(InvalidValue, match="cumulative"):
        codec.voucher_from_json(document)


def test_decode__not_json__is_refused() -> None:
    with pytest.raises(InvalidValue, match="not JSON"):
        codec.decode(b"{")
