"""Who and what: chains (CAIP-2), accounts (CAIP-10), sessions, requests and models."""

import re
from functools import lru_cache
from typing import NewType

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.hashing import address_word, keccak, word

Caip2 = NewType("Caip2", str)
"""A chain's name, such as ``eip155:8453`` (https://chainagnostic.org/CAIPs/caip-2)."""

ChainRef = NewType("ChainRef", bytes)
"""32 bytes that stand for a chain wherever a fixed size is needed; also its EIP-712 salt."""

Address = NewType("Address", bytes)
"""The 20 raw bytes of an EVM account."""

SessionId = NewType("SessionId", bytes)
RequestId = NewType("RequestId", bytes)
ModelId = NewType("ModelId", bytes)

ADDRESS_BYTES = 20
ZERO_ADDRESS = Address(bytes(ADDRESS_BYTES))
_CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")


def eip155(chain_id: int) -> Caip2:
    """The CAIP-2 name of the EVM chain with this chain id."""
    return Caip2(f"eip155:{chain_id}")


def evm_chain_id(chain: Caip2) -> int:
    """The EVM chain id inside ``eip155:<id>``. Raises `InvalidValue` for another namespace."""
    namespace, _, reference = chain.partition(":")
    if namespace != "eip155" or not reference.isdigit():
        raise InvalidValue(f"chain {chain!r} is not an EVM chain: its name must read eip155:<chain id>")
    return int(reference)


def chain_ref(chain: Caip2, parent: ChainRef | None = None, rollup: Address | None = None) -> ChainRef:
    """The 32-byte reference of a chain.

    A public chain is ``keccak(CAIP-2)``. A custom chain (both ``parent`` and ``rollup`` given) is
    ``keccak(CAIP-2 ‖ parent reference ‖ rollup address)``, so that a chain id that was chosen twice still gives
    two references. Raises `InvalidValue` for a name that is not CAIP-2, or when only one of the two is given.
    """
    if not _CAIP2.fullmatch(chain):
        raise InvalidValue(f"chain {chain!r} is not a CAIP-2 name: write namespace:reference, such as eip155:8453")
    if (parent is None) != (rollup is None):
        raise InvalidValue(f"chain {chain}: a custom chain needs both its parent's reference and its rollup address")
    if parent is None or rollup is None:
        return ChainRef(keccak(chain.encode()))
    return ChainRef(keccak(chain.encode() + parent + rollup))


def session_id(hub: ChainRef, owner: Address, nonce: int) -> SessionId:
    """The id of the session that ``owner`` opens on ``hub`` with ``nonce``; known before the transaction lands."""
    return SessionId(keccak(hub + address_word(owner) + word(nonce)))


def model_id(name: str, weights: bytes, tokenizer: bytes, template: bytes) -> ModelId:
    """The id of a model: its name and the digests of its weights, tokenizer and chat template (32 bytes each)."""
    from eth_abi.abi import encode  # 0.2 s to import, which most commands need not wait for

    return ModelId(keccak(encode(["string", "bytes32", "bytes32", "bytes32"], [name, weights, tokenizer, template])))


def parse_address(text: str) -> Address:
    """An address from its hexadecimal text. Raises `InvalidValue` for a wrong length, alphabet or checksum (EIP-55)."""
    digits = text.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{40}", digits):
        raise InvalidValue(f"address {text!r} must be 0x followed by 40 hexadecimal digits")
    address = Address(bytes.fromhex(digits))
    if digits not in (digits.lower(), digits.upper()) and checksum(address)[2:] != digits:
        raise InvalidValue(f"address {text!r} has a wrong checksum (EIP-55): a digit may be mistyped")
    return address


@lru_cache(maxsize=65_536)
def checksum(address: Address) -> str:
    """The EIP-55 text of an address."""
    digits = address.hex()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(d, 16) >= 8 else c for c, d in zip(digits, digest, strict=False))


def account_id(chain: Caip2, address: Address) -> str:
    """The CAIP-10 name of an account, ``eip155:1:0x…``."""
    return f"{chain}:{checksum(address)}"


def parse_bytes32(text: str, name: str) -> bytes:
    """32 bytes from hexadecimal text with or without ``0x``. Raises `InvalidValue` that names ``name``."""
    digits = text.removeprefix("0x")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise InvalidValue(f"{name} {text!r} must be 64 hexadecimal digits")
    return bytes.fromhex(digits)


def show(value: bytes) -> str:
    """Bytes as people and JSON read them: ``0x`` and lower-case hexadecimal."""
    return "0x" + value.hex()
