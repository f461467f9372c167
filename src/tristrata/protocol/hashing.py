"""Keccak-256 and ABI words, the two things every id, leaf and signature is made of."""

from sha3 import keccak_256

WORD_BYTES = 32
ZERO_WORD = bytes(WORD_BYTES)


def keccak(data: bytes) -> bytes:
    """Keccak-256 of ``data``, 32 bytes."""
    return bytes(keccak_256(data).digest())


def word(value: int) -> bytes:
    """``value`` as one big-endian ABI word (``uint256`` and every narrower unsigned type)."""
    return value.to_bytes(WORD_BYTES, "big")


def address_word(address: bytes) -> bytes:
    """A 20-byte address, left-padded to one ABI word."""
    return address.rjust(WORD_BYTES, b"\0")
