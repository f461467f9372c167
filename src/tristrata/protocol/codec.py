"""Receipts, vouchers and session orders as JSON: what the API speaks, what ``receipt.json`` and the receipt book hold.

Bytes are ``0x`` hexadecimal and amounts decimal text, so that no reader rounds them; every field must be there and no
other. Decoding checks lengths and ranges once, here, and raises `InvalidValue` that names the field.
"""

from functools import lru_cache
from typing import Any

import msgspec

from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import ADDRESS_BYTES, Address, ModelId, RequestId, SessionId, checksum, show
from tristrata.protocol.receipt import Assurance, Receipt
from tristrata.protocol.signing import SIGNATURE_BYTES
from tristrata.protocol.terms import OpenSession, Terms
from tristrata.protocol.units import MAX_AMOUNT, Amount, BasisPoints, Milliseconds, PricePerMillion, Timestamp, amount
from tristrata.protocol.voucher import MAX_SPLITS, SignedVoucher, Split, Voucher, check_splits, splits_hash

_UINT64 = 2**64
_RECEIPT_FIELDS = frozenset(Receipt.__struct_fields__)
_VOUCHER_FIELDS = frozenset((*Voucher.__struct_fields__, "splits_list", "signature"))
_ORDER_FIELDS = frozenset(OpenSession.__struct_fields__)
_TERMS_FIELDS = frozenset(Terms.__struct_fields__)


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """The JSON object of a receipt."""
    return {
        "session": show(receipt.session),
        "request_id": show(receipt.request_id),
        "miner": checksum(receipt.miner),
        "model_id": show(receipt.model_id),
        "prompt_hash": show(receipt.prompt_hash),
        "output_hash": show(receipt.output_hash),
        "prompt_tokens": receipt.prompt_tokens,
        "output_tokens": receipt.output_tokens,
        "price": str(receipt.price),
        "started_at": receipt.started_at,
        "finished_at": receipt.finished_at,
        "assurance": receipt.assurance.name.lower(),
        "evidence": show(receipt.evidence),
    }


def receipt_from_json(value: Any) -> Receipt:
    """The receipt in a JSON object. Raises `InvalidValue`."""
    fields = Fields("receipt", value, _RECEIPT_FIELDS)
    return Receipt(
        session=SessionId(fields.raw("session", 32)),
        request_id=RequestId(fields.raw("request_id", 32)),
        miner=Address(fields.raw("miner", ADDRESS_BYTES)),
        model_id=ModelId(fields.raw("model_id", 32)),
        prompt_hash=fields.raw("prompt_hash", 32),
        output_hash=fields.raw("output_hash", 32),
        prompt_tokens=fields.number("prompt_tokens"),
        output_tokens=fields.number("output_tokens"),
        price=fields.amount("price"),
        started_at=Milliseconds(fields.number("started_at")),
        finished_at=Milliseconds(fields.number("finished_at")),
        assurance=fields.assurance("assurance"),
        evidence=fields.raw("evidence", 32),
    )


def voucher_to_json(signed: SignedVoucher) -> dict[str, Any]:
    """The JSON object of a signed voucher with its splits."""
    voucher = signed.voucher
    return {
        "session": show(voucher.session),
        "count": voucher.count,
        "cumulative": str(voucher.cumulative),
        "head": show(voucher.head),
        "splits": show(voucher.splits),
        "splits_list": [{"payee": checksum(split.payee), "amount": str(split.amount)} for split in signed.splits],
        "signature": show(signed.signature),
    }


def voucher_from_json(value: Any) -> SignedVoucher:
    """The signed voucher in a JSON object; its splits are checked against it. Raises `InvalidValue`."""
    fields = Fields("voucher", value, _VOUCHER_FIELDS)
    listed = fields.get("splits_list")
    if not isinstance(listed, list) or len(listed) > MAX_SPLITS:
        raise InvalidValue(f"voucher.splits_list must be a list of at most {MAX_SPLITS} splits")
    entries = [Fields("split", entry, frozenset(("payee", "amount"))) for entry in listed]
    splits = tuple(Split(Address(entry.raw("payee", ADDRESS_BYTES)), entry.amount("amount")) for entry in entries)
    voucher = Voucher(
        session=SessionId(fields.raw("session", 32)),
        count=fields.number("count"),
        cumulative=fields.amount("cumulative"),
        head=fields.raw("head", 32),
        splits=fields.raw("splits", 32),
    )
    check_splits(splits, voucher.cumulative)
    if splits_hash(splits) != voucher.splits:
        raise InvalidValue("voucher.splits_list is not what voucher.splits commits to")
    return SignedVoucher(voucher, splits, fields.raw("signature", SIGNATURE_BYTES))


def order_to_json(order: OpenSession) -> dict[str, Any]:
    """The JSON object of a session order."""
    terms = order.terms
    return {
        "owner": checksum(order.owner),
        "nonce": str(order.nonce),
        "deposit": str(order.deposit),
        "deadline": order.deadline,
        "terms": {
            "session_key": checksum(terms.session_key),
            "router": checksum(terms.router),
            "managed": terms.managed,
            "model_id": show(terms.model_id),
            "assurance": terms.assurance.name.lower(),
            "replicas": terms.replicas,
            "router_bps": terms.router_bps,
            "max_prompt_price": str(terms.max_prompt_price),
            "max_output_price": str(terms.max_output_price),
            "max_per_day": str(terms.max_per_day),
            "exposure_cap": str(terms.exposure_cap),
            "expiry": terms.expiry,
        },
    }


def order_from_json(value: Any) -> OpenSession:
    """The session order in a JSON object. Raises `InvalidValue`."""
    fields = Fields("order", value, _ORDER_FIELDS)
    terms = Fields("order.terms", fields.get("terms"), _TERMS_FIELDS)
    return OpenSession(
        owner=Address(fields.raw("owner", ADDRESS_BYTES)),
        nonce=fields.decimal("nonce", 2**256 - 1),
        deposit=fields.amount("deposit"),
        deadline=Timestamp(fields.number("deadline")),
        terms=Terms(
            session_key=Address(terms.raw("session_key", ADDRESS_BYTES)),
            router=Address(terms.raw("router", ADDRESS_BYTES)),
            managed=terms.flag("managed"),
            model_id=ModelId(terms.raw("model_id", 32)),
            assurance=terms.assurance("assurance"),
            replicas=terms.number("replicas", 2**8 - 1),
            router_bps=BasisPoints(terms.number("router_bps", 2**16 - 1)),
            max_prompt_price=PricePerMillion(terms.amount("max_prompt_price")),
            max_output_price=PricePerMillion(terms.amount("max_output_price")),
            max_per_day=terms.amount("max_per_day"),
            exposure_cap=terms.amount("exposure_cap"),
            expiry=Timestamp(terms.number("expiry")),
        ),
    )


def encode(document: dict[str, Any]) -> bytes:
    """A JSON document in its one canonical form: keys sorted, no spaces."""
    return msgspec.json.encode(document, order="sorted")


@lru_cache(maxsize=4_096)
def receipt_document(receipt: Receipt) -> bytes:
    """A receipt's JSON document; remembered, for an answer's is written down and sent."""
    return encode(receipt_to_json(receipt))


@lru_cache(maxsize=4_096)
def voucher_document(signed: SignedVoucher) -> bytes:
    """A voucher's JSON document; remembered, for an answer's is written down and sent."""
    return encode(voucher_to_json(signed))


def decode(data: bytes) -> Any:
    """The value in a JSON document. Raises `InvalidValue` when it is not JSON."""
    try:
        return msgspec.json.decode(data)
    except UNDECODABLE as error:
        raise InvalidValue(f"a document of {len(data)} bytes is not JSON: {error}") from error


class Fields:
    """The fields of one JSON object, each taken with its rule."""

    def __init__(self, name: str, value: Any, expected: frozenset[str]) -> None:
        if not isinstance(value, dict) or set(value) != expected:
            found = sorted(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise InvalidValue(f"{name} must be an object with exactly the fields {sorted(expected)}; it has {found}")
        self._name = name
        self._value: dict[str, Any] = value

    def get(self, field: str) -> Any:
        return self._value[field]

    def text(self, field: str) -> str:
        value = self._value[field]
        if not isinstance(value, str):
            raise InvalidValue(f"{self._name}.{field} must be text, not {type(value).__name__}")
        return value

    def raw(self, field: str, length: int) -> bytes:
        text = self.text(field)
        try:
            value = bytes.fromhex(text[2:])
        except ValueError:
            value = b""
        # bytes.fromhex skips spaces: then the text is longer than what comes out of it.
        if len(value) != length or len(text) != 2 + 2 * length or not text.startswith("0x"):
            raise InvalidValue(f"{self._name}.{field} must be 0x and {2 * length} hexadecimal digits")
        return value

    def number(self, field: str, most: int = _UINT64 - 1) -> int:
        value = self._value[field]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise InvalidValue(f"{self._name}.{field} must be a whole number from 0 to {most}, not {value!r}")
        return value

    def flag(self, field: str) -> bool:
        value = self._value[field]
        if not isinstance(value, bool):
            raise InvalidValue(f"{self._name}.{field} must be true or false, not {value!r}")
        return value

    def decimal(self, field: str, most: int) -> int:
        text = self.text(field)
        if len(text) > _LONGEST_DECIMAL or not text.isascii() or not text.isdigit() or str(int(text)) != text:
            raise InvalidValue(f"{self._name}.{field} must be a decimal number as text, not {text[:40]!r}")
        if int(text) > most:
            raise InvalidValue(f"{self._name}.{field} is {text}; it must be at most {most}")
        return int(text)

    def amount(self, field: str) -> Amount:
        return amount(self.decimal(field, MAX_AMOUNT), f"{self._name}.{field}")

    def assurance(self, field: str) -> Assurance:
        name = self.text(field)
        if name.upper() not in Assurance.__members__ or name != name.lower():
            raise InvalidValue(f"{self._name}.{field} {name!r} must be one of none, sampled, quorum, tee")
        return Assurance[name.upper()]


_LONGEST_DECIMAL = 78
