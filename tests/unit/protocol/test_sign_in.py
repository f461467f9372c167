"""Sign-in messages: ours read back, wallets' libraries agree, and nothing that differs by a letter is taken."""

import base58
import pytest
from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from nacl.signing import SigningKey

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.sign_in import (
    MAX_MESSAGE,
    Ecosystem,
    SignIn,
    SignInRefused,
    check_sign_in,
    parse_sign_in,
    require_signed,
    show_account,
    sign_message,
)
from tristrata.protocol.signing import address_of

# The example of EIP-4361, word for word.
EXAMPLE = """\
example.com wants you to sign in with your Ethereum account:
0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2

I accept the ExampleOrg Terms of Service: https://example.com/tos

URI: https://example.com/login
Version: 1
Chain ID: 1
Nonce: 32891756
Issued At: 2021-09-30T16:25:24Z
Resources:
- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/
- https://example.com/my-web2-claim.json"""
NOW = 1_633_019_124.0  # 2021-09-30T16:25:24Z

_unreserved = "abcXYZ019-._~"
_times = st.datetimes().map(lambda time: time.replace(year=max(1971, time.year)).isoformat(timespec="seconds") + "Z")
_uris = st.text(_unreserved + "/?#&=%20:@", max_size=30).map(
    lambda rest: "https://a.example/" + rest.replace("%", "%20")
)
_messages = st.builds(
    SignIn,
    ecosystem=st.just(Ecosystem.ETHEREUM),
    domain=st.sampled_from(["example.com", "127.0.0.1:8402", "[::1]:80"]),
    account=st.binary(min_size=20, max_size=20),
    uri=_uris,
    chain_id=st.integers(1, 2**63).map(str),
    nonce=st.text("abcXYZ0189", min_size=8, max_size=64),
    issued_at=_times,
    statement=st.none() | st.text(_unreserved + " ?'", min_size=1, max_size=60),
    scheme=st.none() | st.sampled_from(["https", "http"]),
    expiration_time=st.none() | _times,
    not_before=st.none() | _times,
    request_id=st.none() | st.text(_unreserved, max_size=20),
    resources=st.none() | st.lists(_uris, max_size=3).map(tuple),
)


@st.composite
def any_message(draw: st.DrawFn) -> SignIn:
    message = draw(_messages)
    if draw(st.booleans()):
        account = draw(st.binary(min_size=32, max_size=32))
        return replace(message, ecosystem=Ecosystem.SOLANA, account=account, chain_id="solana:mainnet")
    return message


@given(any_message())
def test_parse__of_what_we_write__is_the_same_message(message: SignIn) -> None:
    assert parse_sign_in(message.text) == message


@given(any_message(), st.data())
def test_parse__one_character_changed__is_another_message_or_none(message: SignIn, data: st.DataObject) -> None:
    text = message.text
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.characters(codec="utf-8")) + text[at + 1 :]
    try:
        parsed = parse_sign_in(changed)
    except InvalidValue:
        return
    assert parsed.text == changed


@given(st.text())
def test_parse__anything__never_fails_otherwise(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_sign_in(text)


def test_parse__the_standards_example__is_read_field_by_field() -> None:
    message = parse_sign_in(EXAMPLE)

    assert message.text == EXAMPLE
    assert (message.domain, message.chain_id, message.nonce) == ("example.com", "1", "32891756")
    assert message.statement == "I accept the ExampleOrg Terms of Service: https://example.com/tos"
    assert len(message.resources or ()) == 2


def test_text__solana_without_statement__has_one_blank_line_where_ethereum_has_two() -> None:
    message = replace(parse_sign_in(EXAMPLE), statement=None)
    solana = replace(message, ecosystem=Ecosystem.SOLANA, account=bytes(32))

    assert "\n\n\nURI: " in message.text
    assert "\n\nURI: " in solana.text
    assert "\n\n\n" not in solana.text
    for text in (message.text.replace("\n\n\n", "\n\n"), solana.text.replace("\n\n", "\n\n\n")):
        with pytest.raises(InvalidValue):
            parse_sign_in(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Version: 1", "Version: 2"),
        ("Nonce: 32891756", "Nonce: 3289175"),
        ("Nonce: 32891756", "Nonce: 3289175é"),
        ("0xC02a", "0xc02a"),  # checksum
        ("2021-09-30T16:25:24Z", "2021-09-31T16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30 16:25:24Z"),
        ("2021-09-30T16:25:24Z", "2021-09-30T16:25:60Z"),
        ("Chain ID: 1\n", ""),
        ("Issued At:", "Issued at:"),
        ("URI: https", "URI: 1https"),
        ("\nResources", "\n\nResources"),
        ("example.com wants", "example.com/ wants"),
        ("Ethereum account", "Bitcoin account"),
        ("I accept", "I\naccept"),
        ("\n", "\r\n"),
    ],
)
def test_parse__the_example_with_a_flaw__is_refused(old: str, new: str) -> None:
    with pytest.raises(InvalidValue):
        parse_sign_in(EXAMPLE.replace(old, new, 1))


def test_parse__beyond_the_bounds__says_so() -> None:
    with pytest.raises(InvalidValue, match="at most 4096"):
        parse_sign_in("x" * (MAX_MESSAGE + 1))
    with pytest.raises(InvalidValue, match="at most 20"):
        parse_sign_in(EXAMPLE + "\n- https://a.example/x" * 19)


def test_signed__by_eth_account_and_by_us__is_accepted_and_the_same() -> None:
    key = PrivateKey(b"\x07" * 32)
    message = replace(parse_sign_in(EXAMPLE), account=address_of(key.public_key))

    wallets = bytes(Account.sign_message(encode_defunct(text=message.text), key.secret).signature)
    assert wallets == sign_message(key, message)
    require_signed(message, wallets)
    require_signed(message, wallets[:64] + bytes([wallets[64] - 27]))  # as hardware wallets write v
    high_s = wallets[:32] + bytes([255] * 32) + wallets[64:]
    for bad in (wallets[:64], wallets + b"\x00", high_s, bytes(65), b""):
        with pytest.raises(SignInRefused, match="not signed by 0x"):
            require_signed(message, bad)
    with pytest.raises(SignInRefused):
        require_signed(replace(message, nonce="32891757"), wallets)
    with pytest.raises(SignInRefused):
        require_signed(replace(message, account=bytes(20)), wallets)


def test_signed__by_nacl_for_solana__is_accepted_and_no_other_is() -> None:
    key = SigningKey(b"\x07" * 32)
    account = bytes(key.verify_key)
    message = replace(parse_sign_in(EXAMPLE), ecosystem=Ecosystem.SOLANA, account=account, chain_id="mainnet")
    signature = key.sign(message.text.encode()).signature

    assert base58.b58decode(message.text.split("\n")[1]) == account
    assert show_account(account) == message.text.split("\n")[1]
    require_signed(parse_sign_in(message.text), signature)
    others = SigningKey(b"\x08" * 32).sign(message.text.encode()).signature
    for bad in (others, signature[:63], signature + b"\x00", bytes(64), b""):
        with pytest.raises(SignInRefused):
            require_signed(message, bad)


@pytest.mark.parametrize(
    ("changes", "at", "match"),
    [
        ({"domain": "evil.example"}, 0, "for 'evil.example'; this is"),
        ({"uri": "https://evil.example/login"}, 0, "is not one of"),
        ({"chain_id": "5"}, 0, "none of this network's Ethereum chains: 1"),
        ({}, 601, "too long ago"),
        ({}, -61, "check your clock"),
        ({"expiration_time": "2021-09-30T16:25:34Z"}, 10, "expired"),
        ({"not_before": "2021-09-30T16:25:34Z"}, 9, "not valid before"),
    ],
)
def test_check__of_another_site_chain_or_time__is_refused(changes: dict[str, str], at: int, match: str) -> None:
    message = parse_sign_in(EXAMPLE)
    check_sign_in(message, domain="example.com", chain_ids={"1"}, now=NOW, max_age=600)

    with pytest.raises(SignInRefused, match=match):
        check_sign_in(replace(message, **changes), domain="example.com", chain_ids={"1"}, now=NOW + at, max_age=600)
