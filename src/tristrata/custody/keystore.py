"""Keystore files, version 3, as Foundry writes them: 32 secret bytes under a password.

Scrypt runs with n = 8,192, Foundry's choice: a password here is long and random, and eight actors open their keystores
at start. secp256k1 keys and NATS seeds are kept alike.
"""

import json
import os
import secrets
import stat
from pathlib import Path

from coincurve import PrivateKey
from eth_account import Account

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.signing import parse_key

_SCRYPT_ROUNDS = 8_192
_SECRET_BYTES = 32


class KeystoreRefused(TristrataError):
    """A keystore that is missing, readable by others, or not opened by the password."""


def create_password(path: Path) -> str:
    """A fresh password in a file that only its owner reads; the one that is there already, if there is one."""
    if path.exists():
        return read_password(path)
    password = secrets.token_urlsafe(32)
    _write_private(path, password)
    return password


def read_password(path: Path) -> str:
    """The password in a file. Raises `KeystoreRefused`."""
    return _read_private(path).strip()


def create_secret(path: Path, password: str) -> bytes:
    """A fresh secret in a new keystore. Raises `KeystoreRefused` if the file exists: a key is never overwritten."""
    if path.exists():
        raise KeystoreRefused(f"keystore {path} exists already", remedy="choose another name, or move it away")
    secret = secrets.token_bytes(_SECRET_BYTES)
    document = Account.encrypt(secret, password, kdf="scrypt", iterations=_SCRYPT_ROUNDS)
    _write_private(path, json.dumps(document))
    return secret


def load_secret(path: Path, password: str) -> bytes:
    """The secret in a keystore. Raises `KeystoreRefused`."""
    text = _read_private(path)
    try:
        return bytes(Account.decrypt(json.loads(text), password))
    except (ValueError, KeyError, TypeError) as error:
        raise KeystoreRefused(
            f"keystore {path} does not open: {error}", remedy="check the password file, and that the file is whole"
        ) from error


def load_or_create_secret(path: Path, password: str) -> bytes:
    """The secret in a keystore, which is made now if there is none."""
    return load_secret(path, password) if path.exists() else create_secret(path, password)


def load_key(path: Path, password: str) -> PrivateKey:
    """The signing key in a keystore. Raises `KeystoreRefused`."""
    return parse_key(load_secret(path, password))


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_private(path: Path) -> str:
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeystoreRefused(f"{path} can be read by others", remedy=f"chmod 600 {path}")
        return path.read_text()
    except OSError as error:
        raise KeystoreRefused(f"{path} cannot be read: {error.strerror}") from error
