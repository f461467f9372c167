"""Payments in x402's headers: what was signed is read back, whatever else is refused with a reason."""

import base64
import json
from typing import Any

import pytest
from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from x402.http import decode_payment_required_header

from tristrata.protocol.authorization import Asset, Authorization
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, checksum, eip155, show
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.units import Amount, Timestamp
from tristrata.router.pay_per_call.x402 import Offer, PaymentInvalid, read_payment, required_header

NOW = 1_800_000_000
CHAIN = eip155(31_339)
KEY = PrivateKey(keccak(b"pays"))
PAYER, ROUTER = address_of(KEY.public_key), Address(b"\x0a" * 20)
ASSET = Asset(31_339, Address(b"\x0b" * 20), "Test Dollar", "1")


def offer(amount: int = 1_500) -> Offer:
    return Offer(CHAIN, ASSET, ROUTER, Amount(amount))


def payload(authorization: Authorization, **changes: Any) -> dict[str, Any]:
    signature = sign(KEY, digest(ASSET.separator, authorization.transfer_hash))
    return {
        "x402Version": 2,
        "accepted": offer().written,
        "payload": {
            "signature": show(signature),
            "authorization": {
                "from": checksum(authorization.owner),
                "to": checksum(authorization.to),
                "value": str(authorization.value),
                "validAfter": str(authorization.valid_after),
                "validBefore": str(authorization.valid_before),
                "nonce": show(authorization.nonce),
            },
        },
        **changes,
    }


def authorization(**changes: Any) -> Authorization:
    fields: dict[str, Any] = {
        "owner": PAYER,
        "to": ROUTER,
        "value": 1_500,
        "valid_after": Timestamp(NOW - 60),
        "valid_before": Timestamp(NOW + 300),
        "nonce": b"\x07" * 32,
    }
    return Authorization(**{**fields, **changes})


def header(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


@given(
    amount=st.integers(1, 2**90),
    nonce=st.binary(min_size=32, max_size=32),
    early=st.integers(1, NOW),
    late=st.integers(10, 10**9),
)
def test_read_payment__what_was_signed_for_the_offer__is_read_back(
    amount: int, nonce: bytes, early: int, late: int
) -> None:
    signed = authorization(
        value=amount, nonce=nonce, valid_after=Timestamp(NOW - early), valid_before=Timestamp(NOW + late)
    )

    payment = read_payment(header(payload(signed)), {CHAIN: offer(amount)}, NOW)

    assert payment.authorization == signed and payment.payer == PAYER


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": 1_499}, "value_mismatch"),
        ({"value": 1_501}, "value_mismatch"),
        ({"to": PAYER}, "recipient_mismatch"),
        ({"valid_after": Timestamp(NOW)}, "valid_after"),
        ({"valid_before": Timestamp(NOW + 9)}, "valid_before"),
        ({"owner": ROUTER}, "signature"),
    ],
)
def test_read_payment__signed_for_something_else__is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(PaymentInvalid) as refused:
        read_payment(header(payload(authorization(**changes))), {CHAIN: offer()}, NOW)

    assert refused.value.reason.endswith(reason)


@given(place=st.integers(0, 64), bit=st.integers(0, 7))
def test_read_payment__signature_with_a_flipped_bit__is_refused(place: int, bit: int) -> None:
    document = payload(authorization())
    signature = bytearray.fromhex(document["payload"]["signature"][2:])
    signature[place] ^= 1 << bit
    document["payload"]["signature"] = "0x" + signature.hex()

    with pytest.raises(PaymentInvalid, match=r".") as refused:
        read_payment(header(document), {CHAIN: offer()}, NOW)
    assert refused.value.reason.endswith("signature")


@given(st.binary(max_size=400))
def test_read_payment__any_bytes__are_refused_and_nothing_else_happens(data: bytes) -> None:
    for text in (data.decode("latin-1"), base64.b64encode(data).decode()):
        with pytest.raises(PaymentInvalid):
            read_payment(text, {CHAIN: offer()}, NOW)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"x402Version": 2},
        {**payload(authorization()), "payload": {}},
        {**payload(authorization()), "payload": {"signature": "0x12", "authorization": {}}},
        {**payload(authorization()), "accepted": {"scheme": "exact"}},
    ],
)
def test_read_payment__parts_are_missing__is_refused(document: Any) -> None:
    with pytest.raises(PaymentInvalid) as refused:
        read_payment(header(document), {CHAIN: offer()}, NOW)
    assert refused.value.reason == "invalid_payload"


def test_read_payment__none_at_all__says_what_is_needed() -> None:
    with pytest.raises(PaymentInvalid, match="API key, or a payment") as refused:
        read_payment(None, {CHAIN: offer()}, NOW)
    assert refused.value.reason == "payment_required"


def test_required_header__stock_library__reads_every_offer() -> None:
    required = decode_payment_required_header(required_header([offer()], "http://r/v1/x", "why").decode())

    [accepts] = required.accepts
    assert (required.x402_version, required.error, required.resource.url) == (2, "why", "http://r/v1/x")
    assert (accepts.scheme, accepts.network, accepts.amount) == ("exact", CHAIN, "1500")
    assert (accepts.asset, accepts.pay_to) == (checksum(ASSET.contract), checksum(ROUTER))
    assert accepts.extra["name"] == "Test Dollar" and accepts.extra["version"] == "1"
