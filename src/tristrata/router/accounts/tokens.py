"""Nonces to sign in with, and the tokens that come of it: both carry their own proof, so that no router keeps a list.

Every router with the same secret believes them. A flood of requests for nonces costs no memory.
"""

import base64
import binascii
import hmac
import secrets

from tristrata.protocol.units import Timestamp
from tristrata.router.callers import SIGN_IN_PREFIX

NONCE_SECONDS = 600
TOKEN_SECONDS = 3_600
_MAC_BYTES = 16
_TIME_BYTES = 5
_RANDOM_BYTES = 12
_SECRET = b"tristrata sign-in"


class SignInTokens:
    """Makes and reads them. ``master`` is a secret of the router's; another one is derived from it."""

    def __init__(self, master: bytes) -> None:
        self._secret = hmac.digest(master, _SECRET, "sha256")

    def new_nonce(self, now: float) -> tuple[str, Timestamp]:
        """A fresh nonce, and when it expires."""
        expires_at = Timestamp(int(now) + NONCE_SECONDS)
        content = expires_at.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return (content + self._mac(b"nonce", content)).hex(), expires_at

    def read_nonce(self, nonce: str, now: float) -> Timestamp | None:
        """When a nonce of ours expires; `None` for any other, and an expired one."""
        try:
            raw = bytes.fromhex(nonce)
        except ValueError:
            return None
        content = self._content(b"nonce", raw)
        if content is None or len(content) != _TIME_BYTES + _RANDOM_BYTES or raw.hex() != nonce:
            return None
        return _unless_past(content, now)

    def new_token(self, account: bytes, now: float) -> tuple[str, Timestamp]:
        """A token that signs ``account`` in, and when it expires."""
        expires_at = Timestamp(int(now) + TOKEN_SECONDS)
        content = expires_at.to_bytes(_TIME_BYTES, "big") + account
        raw = content + self._mac(b"token", content)
        return SIGN_IN_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="), expires_at

    def read_token(self, token: str, now: float) -> bytes | None:
        """The account that a token signs in; `None` for one that is not ours, and an expired one."""
        text = token.removeprefix(SIGN_IN_PREFIX)
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        content = self._content(b"token", raw)
        if content is None or _unless_past(content, now) is None:
            return None
        return content[_TIME_BYTES:]

    def _content(self, kind: bytes, raw: bytes) -> bytes | None:
        content, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        return content if hmac.compare_digest(self._mac(kind, content), mac) else None

    def _mac(self, kind: bytes, content: bytes) -> bytes:
        return hmac.digest(self._secret, kind + content, "sha256")[:_MAC_BYTES]


def _unless_past(content: bytes, now: float) -> Timestamp | None:
    expires_at = Timestamp(int.from_bytes(content[:_TIME_BYTES], "big"))
    return expires_at if now < expires_at else None
