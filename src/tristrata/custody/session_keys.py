"""Managed session keys: derived from the router's master secret, so that none is ever stored."""

import hmac

from coincurve import PrivateKey

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.ids import SessionId
from tristrata.protocol.signing import parse_key

_PURPOSE = b"tristrata managed session key"


def derive_session_key(master: bytes, session: SessionId) -> PrivateKey:
    """The key of one session: HMAC-SHA256 of the session's id, which names its chain and owner.

    A result that is no valid scalar (1 in 2**128) is hashed again with the next counter.
    """
    for counter in range(256):
        try:
            return parse_key(hmac.digest(master, _PURPOSE + session + bytes([counter]), "sha256"))
        except InvalidValue:
            continue
    raise InvalidValue("no session key can be derived from this master secret")
