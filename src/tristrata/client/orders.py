"""What an owner signs: registrations, session orders with their permits, API-key grants. Pure."""

import hashlib
import secrets

import msgspec
from coincurve import PrivateKey

from tristrata.protocol.hashing import address_word, keccak, word
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.terms import ApiKeyGrant, OpenSession, Registration
from tristrata.protocol.units import Timestamp

API_KEY_PREFIX = "sk-tri-"
_PERMIT_TYPE_HASH = keccak(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
_ASSET_DOMAIN_TYPE_HASH = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


class Asset(msgspec.Struct, frozen=True):
    """An ERC-20 with permit (EIP-2612), as its own EIP-712 domain names it."""

    chain_id: int
    contract: Address
    name: str
    version: str

    @property
    def separator(self) -> bytes:
        """The asset's domain separator, 32 bytes."""
        return keccak(
            _ASSET_DOMAIN_TYPE_HASH
            + keccak(self.name.encode())
            + keccak(self.version.encode())
            + word(self.chain_id)
            + address_word(self.contract)
        )


class Permit(msgspec.Struct, frozen=True):
    """A signed allowance (EIP-2612): ``signature`` is 65 bytes, r, s, v."""

    deadline: Timestamp
    signature: bytes


def sign_registration(key: PrivateKey, welcome: Domain, registration: Registration) -> bytes:
    """The account's signature under its registration."""
    return sign(key, digest(welcome.separator, registration.struct_hash))


def sign_order(key: PrivateKey, sessions: Domain, order: OpenSession) -> bytes:
    """The owner's signature under a session order."""
    return sign(key, digest(sessions.separator, order.struct_hash))


def sign_permit(
    key: PrivateKey, asset: Asset, owner: Address, spender: Address, value: int, nonce: int, deadline: Timestamp
) -> Permit:
    """An allowance of ``value`` base units of ``asset`` from ``owner`` to ``spender``; ``nonce`` is the asset's."""
    struct_hash = keccak(
        _PERMIT_TYPE_HASH + address_word(owner) + address_word(spender) + word(value) + word(nonce) + word(deadline)
    )
    return Permit(deadline, sign(key, digest(asset.separator, struct_hash)))


def sign_grant(key: PrivateKey, sessions: Domain, grant: ApiKeyGrant) -> bytes:
    """The owner's signature under an API-key grant."""
    return sign(key, digest(sessions.separator, grant.struct_hash))


def new_api_key() -> str:
    """A fresh API key; only its holder ever sees it."""
    return API_KEY_PREFIX + secrets.token_urlsafe(32)


def api_key_hash(api_key: str) -> bytes:
    """What the router knows of an API key: its SHA-256."""
    return hashlib.sha256(api_key.encode()).digest()


def grant_for(session: SessionId, api_key: str, deadline: Timestamp) -> ApiKeyGrant:
    """The grant that lets ``api_key`` use ``session``."""
    return ApiKeyGrant(session, api_key_hash(api_key), deadline)
