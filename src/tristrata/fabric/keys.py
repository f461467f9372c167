"""NATS keys: ed25519 seeds, and their public halves as 32 bytes and as NATS writes them (``U…``)."""

import base64
import os

import nkeys

from tristrata.protocol.errors import InvalidValue

PUBLIC_KEY_BYTES = 32
_USER_PREFIX = nkeys.PREFIX_BYTE_USER


def new_seed() -> bytes:
    """A fresh user seed, 32 random bytes."""
    return os.urandom(32)


def seed_text(seed: bytes) -> bytes:
    """The seed as NATS clients take it (``SU…``)."""
    return bytes(nkeys.encode_seed(seed, _USER_PREFIX))


def public_text(seed: bytes) -> str:
    """The public key of a seed as NATS writes it (``U…``)."""
    return str(nkeys.from_seed(seed_text(seed)).public_key.decode())


def public_bytes(seed: bytes) -> bytes:
    """The public key of a seed, 32 bytes, as the registry keeps it."""
    return parse_public(public_text(seed))


def parse_public(text: str) -> bytes:
    """The 32 bytes inside ``U…``. Raises `InvalidValue` for anything else or a wrong checksum."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError as error:
        raise InvalidValue("a NATS public key must be base32 text that starts with U") from error
    body, checksum = raw[:-2], raw[-2:]
    if len(raw) != PUBLIC_KEY_BYTES + 3 or raw[0] != _USER_PREFIX or _crc16(body).to_bytes(2, "little") != checksum:
        raise InvalidValue("a NATS public key must be 32 bytes with a user prefix and a right checksum")
    return body[1:]


def format_public(key: bytes) -> str:
    """32 bytes as ``U…``."""
    body = bytes([_USER_PREFIX]) + key
    return base64.b32encode(body + _crc16(body).to_bytes(2, "little")).decode().rstrip("=")


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM, the checksum of nkeys."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc
