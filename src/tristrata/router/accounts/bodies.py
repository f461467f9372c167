"""Bodies and queries of the account APIs: decoded and checked once, here."""

from typing import TypeVar

import msgspec
from starlette.requests import Request

from tristrata.protocol.decoding import UNDECODABLE
from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import parse_bytes32
from tristrata.protocol.signing import SIGNATURE_BYTES
from tristrata.protocol.units import MAX_AMOUNT, Amount, Timestamp
from tristrata.router.http import read_body

Body = TypeVar("Body", bound=msgspec.Struct)
MAX_PAGE = 1_000
_DEFAULT_PAGE = 100


class PermitBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed allowance (EIP-2612) as JSON."""

    deadline: int
    r: str
    s: str
    v: int


class Permit(msgspec.Struct, frozen=True):
    """A signed allowance (EIP-2612)."""

    deadline: Timestamp
    signature: bytes


async def body_of(request: Request, kind: type[Body]) -> Body:
    """The request's body. Raises `InvalidValue`, or `Refusal` (413)."""
    return decode(await read_body(request), kind)


def decode(body: bytes, kind: type[Body]) -> Body:
    """A body as ``kind``. Raises `InvalidValue`."""
    try:
        return msgspec.json.decode(body, type=kind)
    except UNDECODABLE as error:
        raise InvalidValue(f"the body is not what is expected here: {error}") from error


def parse_signature(text: str) -> bytes:
    """A 65-byte signature from hexadecimal text. Raises `InvalidValue`."""
    try:
        signature = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise InvalidValue("a signature must be hexadecimal") from error
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidValue(f"a signature of {len(signature)} bytes was given; it must have {SIGNATURE_BYTES}")
    return signature


def parse_permit(body: PermitBody) -> Permit:
    """A permit. Raises `InvalidValue`."""
    r, s = parse_bytes32(body.r, "permit.r"), parse_bytes32(body.s, "permit.s")
    if body.v not in (27, 28):
        raise InvalidValue(f"permit.v is {body.v}; it must be 27 or 28")
    return Permit(parse_time(body.deadline, "permit.deadline"), r + s + bytes([body.v]))


def parse_amount(text: str, name: str) -> Amount:
    """An amount from decimal text. Raises `InvalidValue`."""
    if not text.isascii() or not text.isdigit() or len(text) > 30 or int(text) > MAX_AMOUNT:
        raise InvalidValue(f"{name} {text[:40]!r} must be a decimal number of base units below 2**96, as text")
    return Amount(int(text))


def parse_time(value: int, name: str) -> Timestamp:
    """A time in Unix seconds. Raises `InvalidValue`."""
    if not 0 <= value < 2**64:
        raise InvalidValue(f"{name} is {value}; it must be a time in Unix seconds")
    return Timestamp(value)


def parse_limit(request: Request) -> int:
    """How many rows the query asks for at most, ``limit``. Raises `InvalidValue`."""
    text = request.query_params.get("limit")
    if text is None:
        return _DEFAULT_PAGE
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:10]) <= MAX_PAGE:
        raise InvalidValue(f"limit {text[:20]!r} must be a number from 1 to {MAX_PAGE}")
    return int(text)
