"""What x402 v2 says over HTTP: offers in a 402's header, a payment in the next request's, then its settlement.

Scheme ``exact`` on EVM chains: the payment is an EIP-3009 authorization. All is base64 of JSON. Pure.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tristrata.protocol.authorization import Asset, Authorization
from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import InvalidSignature, InvalidValue
from tristrata.protocol.ids import Address, Caip2, checksum, parse_address, parse_bytes32, show
from tristrata.protocol.signing import SIGNATURE_BYTES, digest, require_signer
from tristrata.protocol.units import Amount, Timestamp

PAYMENT_HEADER, REQUIRED_HEADER, RESPONSE_HEADER = "payment-signature", "payment-required", "payment-response"
EXACT = "exact"
MAX_HEADER_CHARACTERS = 8_192
PAYMENT_SECONDS = 300
"""How long a payment may be valid; at least the seconds that an answer and its settlement take."""

_LEAST_SECONDS = 10
_VERSION = 2
_MOST_DIGITS = 30


class PaymentInvalid(Exception):
    """A payment that is not taken: ``reason`` is x402's word for it, the message says it to people.

    ``settlement`` is the `response_header` of one that its chain refused.
    """

    settlement = ""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Offer(msgspec.Struct, frozen=True):
    """One way to pay: ``amount`` base units of ``asset`` on ``chain``, to ``pay_to``."""

    chain: Caip2
    asset: Asset
    pay_to: Address
    amount: Amount

    @property
    def written(self) -> dict[str, Any]:
        """As x402 writes it."""
        return {
            "scheme": EXACT,
            "network": self.chain,
            "asset": checksum(self.asset.contract),
            "amount": str(self.amount),
            "payTo": checksum(self.pay_to),
            "maxTimeoutSeconds": PAYMENT_SECONDS,
            "extra": {"assetTransferMethod": "eip3009", "name": self.asset.name, "version": self.asset.version},
        }


class Payment(msgspec.Struct, frozen=True):
    """A checked payment: its signature is right, and what it authorizes fits ``offer``."""

    offer: Offer
    authorization: Authorization
    signature: bytes

    @property
    def payer(self) -> Address:
        """Who pays."""
        return self.authorization.owner


class _Authorization(msgspec.Struct, frozen=True, rename={"sender": "from"}):
    sender: str
    to: str
    value: str
    validAfter: str  # noqa: N815
    validBefore: str  # noqa: N815
    nonce: str


class _Exact(msgspec.Struct, frozen=True):
    signature: str
    authorization: _Authorization


class _Accepted(msgspec.Struct, frozen=True):
    scheme: str
    network: str


class _Payload(msgspec.Struct, frozen=True):
    x402Version: int  # noqa: N815
    accepted: _Accepted
    payload: msgspec.Raw


def required_header(offers: Sequence[Offer], url: str, reason: str) -> bytes:
    """The header of a 402. ``reason`` is why there is one."""
    document = {
        "x402Version": _VERSION,
        "error": reason,
        "resource": {"url": url, "description": "An answer of a model", "mimeType": "application/json"},
        "accepts": [offer.written for offer in offers],
    }
    return base64.b64encode(msgspec.json.encode(document))


def response_header(payment: Payment, tx_hash: bytes | None, reason: str = "") -> str:
    """The header of an answer: the settlement, or why there is none."""
    document: dict[str, Any] = {
        "success": tx_hash is not None,
        "transaction": show(tx_hash) if tx_hash is not None else "",
        "network": payment.offer.chain,
        "payer": checksum(payment.payer),
    }
    if tx_hash is None:
        document["errorReason"] = reason
    else:
        document["amount"] = str(payment.authorization.value)
    return base64.b64encode(msgspec.json.encode(document)).decode()


def read_payment(header: str | None, offers: Mapping[Caip2, Offer], now: int) -> Payment:
    """The payment in a request's header, for one of ``offers``. Raises `PaymentInvalid`, also where there is none."""
    if header is None:
        raise PaymentInvalid("payment_required", "this call needs an API key, or a payment (x402)")
    if len(header) > MAX_HEADER_CHARACTERS:
        raise PaymentInvalid("invalid_payload", f"the header has more than {MAX_HEADER_CHARACTERS} characters")
    try:
        payload = msgspec.json.decode(base64.b64decode(header, validate=True), type=_Payload)
        offer = _offer_of(payload, offers)
        exact = msgspec.json.decode(payload.payload, type=_Exact)
        authorization = _authorization(exact.authorization)
        signature = bytes.fromhex(exact.signature.removeprefix("0x"))
    except (*UNDECODABLE, binascii.Error, ValueError, InvalidValue) as error:
        raise PaymentInvalid("invalid_payload", f"the header holds no payment: {error}") from error
    _check(offer, authorization, signature, now)
    return Payment(offer, authorization, signature)


def _offer_of(payload: _Payload, offers: Mapping[Caip2, Offer]) -> Offer:
    accepted = payload.accepted
    if payload.x402Version != _VERSION:
        raise PaymentInvalid("invalid_x402_version", f"x402Version is {payload.x402Version}; it must be {_VERSION}")
    if accepted.scheme != EXACT:
        raise PaymentInvalid("unsupported_scheme", f"scheme {accepted.scheme[:40]!r} is not offered")
    offer = offers.get(Caip2(accepted.network))
    if offer is None:
        raise PaymentInvalid("network_mismatch", f"network {accepted.network[:40]!r} is not offered")
    return offer


def _authorization(given: _Authorization) -> Authorization:
    return Authorization(
        owner=parse_address(given.sender),
        to=parse_address(given.to),
        value=_number(given.value, "value"),
        valid_after=Timestamp(_number(given.validAfter, "validAfter")),
        valid_before=Timestamp(_number(given.validBefore, "validBefore")),
        nonce=parse_bytes32(given.nonce, "nonce"),
    )


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise InvalidValue(f"{name} {text[:40]!r} must be a decimal number of at most {_MOST_DIGITS} digits")
    return int(text)


def _check(offer: Offer, authorization: Authorization, signature: bytes, now: int) -> None:
    prefix = "invalid_exact_evm_payload"
    if authorization.to != offer.pay_to:
        raise PaymentInvalid(f"{prefix}_recipient_mismatch", f"the payment must go to {checksum(offer.pay_to)}")
    if authorization.value != offer.amount:
        raise PaymentInvalid(
            f"{prefix}_authorization_value_mismatch",
            f"the payment is of {authorization.value} base units; this call costs {offer.amount}",
        )
    if authorization.valid_after >= now:
        raise PaymentInvalid(f"{prefix}_authorization_valid_after", "the payment is not valid yet")
    if authorization.valid_before < now + _LEAST_SECONDS:
        raise PaymentInvalid(
            f"{prefix}_authorization_valid_before",
            f"the payment is valid for less than {_LEAST_SECONDS} seconds: too short to settle it",
        )
    if len(signature) != SIGNATURE_BYTES:
        raise PaymentInvalid(f"{prefix}_signature", f"the signature must have {SIGNATURE_BYTES} bytes")
    try:
        require_signer(
            digest(offer.asset.separator, authorization.transfer_hash), signature, authorization.owner, "the payment"
        )
    except (InvalidSignature, InvalidValue) as error:
        raise PaymentInvalid(f"{prefix}_signature", error.message) from error
