"""What an owner signs: registrations, session orders with their permits, top-ups, closes, API-key grants. Pure."""

import hashlib
import secrets

import msgspec
from coincurve import PrivateKey

from tristrata.protocol.authorization import Asset, Authorization, Permit
from tristrata.protocol.ids import Address, SessionId
from tristrata.protocol.orders import RequestClose, TopUp
from tristrata.protocol.signing import Domain, digest, sign
from tristrata.protocol.terms import ApiKeyGrant, OpenSession, Registration
from tristrata.protocol.units import Timestamp

API_KEY_PREFIX = "sk-tri-"


class SignedPermit(msgspec.Struct, frozen=True):
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
) -> SignedPermit:
    """An allowance of ``value`` base units of ``asset`` from ``owner`` to ``spender``; ``nonce`` is the asset's."""
    permit = Permit(owner, spender, value, nonce, deadline)
    return SignedPermit(deadline, sign(key, digest(asset.separator, permit.struct_hash)))


def sign_top_up(key: PrivateKey, asset: Asset, sessions: Domain, order: TopUp) -> bytes:
    """The payer's EIP-3009 authorization of a top-up; its nonce is the order's digest, which binds it to the order."""
    nonce = digest(sessions.separator, order.struct_hash)
    transfer = Authorization(order.payer, sessions.contract, order.amount, Timestamp(0), order.deadline, nonce)
    return sign(key, digest(asset.separator, transfer.receive_hash))


def sign_close(key: PrivateKey, sessions: Domain, order: RequestClose) -> bytes:
    """A party's signature under its request to close a session."""
    return sign(key, digest(sessions.separator, order.struct_hash))


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
