"""Nonces and sign-in tokens: ours until they expire, and nobody else's."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from tristrata.router.accounts.tokens import NONCE_SECONDS, TOKEN_SECONDS, SignInTokens
from tristrata.router.callers import SIGN_IN_PREFIX

TOKENS, OTHERS = SignInTokens(b"\x01" * 32), SignInTokens(b"\x02" * 32)
NOW = 1_800_000_000.5


@given(st.binary(min_size=20, max_size=20) | st.binary(min_size=32, max_size=32))
def test_token__until_it_expires__signs_its_account_in(account: bytes) -> None:
    token, expires_at = TOKENS.new_token(account, NOW)

    assert expires_at == int(NOW) + TOKEN_SECONDS
    assert TOKENS.read_token(token, expires_at - 0.1) == account
    assert TOKENS.read_token(token, expires_at) is None
    assert OTHERS.read_token(token, NOW) is None


@given(st.data())
def test_token__any_bit_changed__signs_nobody_in(data: st.DataObject) -> None:
    token, _ = TOKENS.new_token(b"\x07" * 20, NOW)
    raw = bytearray(base64.urlsafe_b64decode(token.removeprefix(SIGN_IN_PREFIX) + "=" * 4))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert TOKENS.read_token(SIGN_IN_PREFIX + base64.urlsafe_b64encode(raw).decode().rstrip("="), NOW) is None


@given(st.text())
def test_read__anything__is_nobody(text: str) -> None:
    assert TOKENS.read_token(SIGN_IN_PREFIX + text, NOW) is None
    assert TOKENS.read_nonce(text, NOW) is None


def test_nonce__of_ours__is_read_until_it_expires_and_is_no_token() -> None:
    nonce, expires_at = TOKENS.new_nonce(NOW)

    assert nonce.isalnum()
    assert TOKENS.read_nonce(nonce, expires_at - 0.1) == expires_at == int(NOW) + NONCE_SECONDS
    assert TOKENS.read_nonce(nonce, expires_at) is None
    assert OTHERS.read_nonce(nonce, NOW) is None
    assert TOKENS.read_nonce(nonce.upper(), NOW) is None  # or one nonce would sign in twice
    as_token = SIGN_IN_PREFIX + base64.urlsafe_b64encode(bytes.fromhex(nonce)).decode().rstrip("=")
    assert TOKENS.read_token(as_token, NOW) is None
