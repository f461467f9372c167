"""Messages by which an account signs in: Sign-In with Ethereum (EIP-4361) and Sign In With Solana.

Both are one text that a wallet shows and signs: by EIP-191 on secp256k1, or by ed25519 as it is. The text is parsed
strictly: what does not read back to the very same text is refused.

Sources: EIP-4361 (ABNF, checks), EIP-191 (``personal_sign``), github.com/phantom/sign-in-with-solana (the Solana text,
which has one blank line where Ethereum's has two, if there is no statement).
"""

import re
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from urllib.parse import urlsplit

import base58
import msgspec
from coincurve import PrivateKey
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from tristrata.protocol.errors import InvalidSignature, InvalidValue, TristrataError
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, checksum, parse_address
from tristrata.protocol.signing import recover, sign

MAX_MESSAGE = 4_096
MAX_RESOURCES = 20
VERSION = "1"
CLOCK_SECONDS = 60
"""How far a signer's clock may run ahead."""
SOLANA_ACCOUNT_BYTES = 32
_UNRESERVED = r"A-Za-z0-9\-._~"
_RESERVED = r":/?#\[\]@!$&'()*+,;="
_DATE_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})"
_URI = rf"[A-Za-z][A-Za-z0-9+\-.]*:(?:[{_UNRESERVED}{_RESERVED}]|%[0-9A-Fa-f]{{2}})+"
_TEXT = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+\-.]*)://)?"
    rf"(?P<domain>[{_UNRESERVED}:@\[\]%!$&'()*+,;=]+)"
    r" wants you to sign in with your (?P<ecosystem>Ethereum|Solana) account:\n"
    r"(?P<account>[0-9A-Za-z]+)\n"
    rf"(?:\n(?P<statement>[{_UNRESERVED}{_RESERVED} ]+)\n)?"
    r"\n{1,2}"
    rf"URI: (?P<uri>{_URI})\n"
    r"Version: (?P<version>1)\n"
    r"Chain ID: (?P<chain_id>[-_:A-Za-z0-9]{1,41})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,128})\n"
    rf"Issued At: (?P<issued_at>{_DATE_TIME})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_DATE_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_DATE_TIME}))?"
    rf"(?:\nRequest ID: (?P<request_id>(?:[{_UNRESERVED}!$&'()*+,;=:@]|%[0-9A-Fa-f]{{2}})*))?"
    rf"(?P<has_resources>\nResources:(?P<resources>(?:\n- {_URI})*))?"
)


class SignInRefused(TristrataError):
    """A message or signature that signs nobody in here; the message says why."""


class Ecosystem(StrEnum):
    """Whose accounts and signatures."""

    ETHEREUM = "Ethereum"
    SOLANA = "Solana"


class SignIn(msgspec.Struct, frozen=True):
    """A sign-in message. Times are RFC 3339 text, kept as they were written; `None` where there is none.

    ``account`` is the raw account: 20 bytes, or 32 on Solana. ``domain`` is the site's authority (host and port).
    """

    ecosystem: Ecosystem
    domain: str
    account: bytes
    uri: str
    chain_id: str
    nonce: str
    issued_at: str
    statement: str | None = None
    scheme: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """What the wallet shows and signs."""
        scheme = f"{self.scheme}://" if self.scheme is not None else ""
        empty = "\n\n" if self.ecosystem is Ecosystem.ETHEREUM else "\n"
        lines = [
            f"{scheme}{self.domain} wants you to sign in with your {self.ecosystem} account:",
            show_account(self.account) + (empty if self.statement is None else f"\n\n{self.statement}\n"),
            f"URI: {self.uri}",
            f"Version: {VERSION}",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        optional = {
            "Expiration Time": self.expiration_time,
            "Not Before": self.not_before,
            "Request ID": self.request_id,
        }
        lines += [f"{name}: {value}" for name, value in optional.items() if value is not None]
        if self.resources is not None:
            lines += ["Resources:", *(f"- {resource}" for resource in self.resources)]
        return "\n".join(lines)


def show_account(account: bytes) -> str:
    """An account as its ecosystem writes it: EIP-55, or base58 for Solana."""
    return checksum(Address(account)) if len(account) != SOLANA_ACCOUNT_BYTES else base58.b58encode(account).decode()


def parse_sign_in(text: str) -> SignIn:
    """The message in a text. Raises `InvalidValue` for whatever is not exactly one."""
    if len(text) > MAX_MESSAGE:
        raise InvalidValue(f"the message has {len(text)} characters; at most {MAX_MESSAGE} are read")
    found = _TEXT.fullmatch(text)
    if found is None:
        raise InvalidValue("the message is not a sign-in message of EIP-4361, or of Sign In With Solana")
    fields = found.groupdict()
    listed = [line.removeprefix("- ") for line in (fields["resources"] or "").split("\n")[1:]]
    if len(listed) > MAX_RESOURCES:
        raise InvalidValue(f"the message lists {len(listed)} resources; at most {MAX_RESOURCES} are read")
    ecosystem = Ecosystem(fields["ecosystem"])
    plain = ("domain", "uri", "chain_id", "nonce", "issued_at", "statement", "scheme")
    optional = ("expiration_time", "not_before", "request_id")
    message = SignIn(
        ecosystem=ecosystem,
        account=_parse_account(ecosystem, fields["account"]),
        resources=tuple(listed) if fields["has_resources"] is not None else None,
        **{name: fields[name] for name in (*plain, *optional)},
    )
    for time in (message.issued_at, message.expiration_time, message.not_before):
        _seconds(time)
    if message.text != text:
        raise InvalidValue("the message is not written as EIP-4361, or Sign In With Solana, writes it")
    return message


def check_sign_in(message: SignIn, *, domain: str, chain_ids: Collection[str], now: float, max_age: float) -> None:
    """Raise `SignInRefused` unless the message is meant for ``domain``, on one of its chains, and for now.

    ``chain_ids`` are those of the message's ecosystem; ``max_age`` seconds after it was issued, a message is too old.
    Its nonce and its signature are checked elsewhere.
    """
    if message.domain != domain:
        raise SignInRefused(
            f"the message is for {message.domain!r}; this is {domain!r}", remedy="sign one for this site"
        )
    if urlsplit(message.uri).netloc != domain:
        raise SignInRefused(f"the message's URI {message.uri!r} is not one of {domain!r}")
    if message.chain_id not in chain_ids:
        known = ", ".join(sorted(chain_ids)) or "none"
        raise SignInRefused(f"chain {message.chain_id!r} is none of this network's {message.ecosystem} chains: {known}")
    issued, expires, starts = (
        _seconds(time) for time in (message.issued_at, message.expiration_time, message.not_before)
    )
    assert issued is not None
    if issued > now + CLOCK_SECONDS:
        raise SignInRefused(f"the message was issued at {message.issued_at}, which is to come: check your clock")
    if issued < now - max_age:
        raise SignInRefused(f"the message was issued at {message.issued_at}, too long ago", remedy="sign a new one")
    if expires is not None and expires <= now:
        raise SignInRefused(f"the message expired at {message.expiration_time}", remedy="sign a new one")
    if starts is not None and starts > now:
        raise SignInRefused(f"the message is not valid before {message.not_before}")


def require_signed(message: SignIn, signature: bytes) -> None:
    """Raise `SignInRefused` unless the message's account signed it.

    Ethereum: 65 bytes, r, s, v; v may be 0 or 1 as some wallets write it. Solana: 64 bytes.
    """
    text = message.text.encode()
    try:
        if message.ecosystem is Ecosystem.SOLANA:
            VerifyKey(message.account).verify(text, signature)
            return
        if len(signature) == 65 and signature[64] in (0, 1):
            signature = signature[:64] + bytes([signature[64] + 27])
        if recover(personal_digest(text), signature) == message.account:
            return
    except (InvalidSignature, BadSignatureError, ValueError, TypeError):
        pass
    raise SignInRefused(f"the message is not signed by {show_account(message.account)}")


def personal_digest(text: bytes) -> bytes:
    """What ``personal_sign`` signs (EIP-191, version 0x45)."""
    return keccak(b"\x19Ethereum Signed Message:\n" + str(len(text)).encode() + text)


def sign_message(key: PrivateKey, message: SignIn) -> bytes:
    """An EVM account's signature under a message."""
    return sign(key, personal_digest(message.text.encode()))


def _parse_account(ecosystem: Ecosystem, text: str) -> bytes:
    if ecosystem is Ecosystem.ETHEREUM:
        account = parse_address(text)
        if checksum(account) != text:
            raise InvalidValue(f"address {text!r} must be written with its checksum (EIP-55)")
        return account
    try:
        account_bytes: bytes = base58.b58decode(text)
    except ValueError as error:
        raise InvalidValue(f"account {text!r} is not base58") from error
    if len(account_bytes) != SOLANA_ACCOUNT_BYTES:
        raise InvalidValue(f"account {text!r} must be {SOLANA_ACCOUNT_BYTES} bytes in base58")
    return account_bytes


def _seconds(time: str | None) -> float | None:
    if time is None:
        return None
    try:
        # More digits of a second than microseconds say nothing here.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", time)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidValue(f"time {time!r} is no time") from error
