"""A person's own accounts: keystore files where Foundry keeps them, or secrets in the system's keyring.

The keyring is whatever the `keyring` library finds: the login keyring of a desktop, Keychain, Windows' vault.
"""

import secrets
from collections.abc import Callable
from pathlib import Path

from coincurve import PrivateKey

from tristrata.custody.keystore import KeystoreRefused, create_secret, load_key
from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.signing import parse_key

SERVICE = "tristrata"
"""What the keyring files our secrets under."""

_MAX_NAME = 64


class WalletUnknown(TristrataError):
    """There is no such wallet."""


class KeyringUnavailable(TristrataError):
    """This system has no keyring, or it does not open."""


class Wallets:
    """The wallets of this machine's user. ``folder`` is where keystore files are."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path.home() / ".foundry" / "keystores"

    def create(self, name: str, password: str) -> PrivateKey:
        """A new key in a keystore file. Raises `KeystoreRefused` where there is one of this name."""
        return parse_key(create_secret(self._file(name), password))

    def create_in_keyring(self, name: str) -> PrivateKey:
        """A new key in the system's keyring. Raises `KeystoreRefused` or `KeyringUnavailable`."""
        if self._file(name).exists() or _ask_keyring("get_password", name) is not None:
            raise KeystoreRefused(f"there is a wallet {name!r} already", remedy="choose another name")
        secret = secrets.token_bytes(32)
        _ask_keyring("set_password", name, secret.hex())
        return parse_key(secret)

    def open(self, name: str, password: Callable[[], str]) -> PrivateKey:
        """The key of a wallet: a path, a file in the folder, or a name in the keyring.

        ``password`` is asked for a file's only. Raises `WalletUnknown`, `KeystoreRefused` or `KeyringUnavailable`.
        """
        path = Path(name) if "/" in name else self._file(name)
        if path.exists():
            return load_key(path, password())
        secret = None if "/" in name else _ask_keyring("get_password", name)
        if secret is None:
            raise WalletUnknown(
                f"there is no wallet {name!r}, neither {path} nor in the system's keyring",
                remedy=f"make one: tristrata wallet new {name}",
            )
        return parse_key(bytes.fromhex(secret))

    def files(self) -> list[str]:
        """The names of the keystore files. What a keyring has, it does not tell."""
        return sorted(path.name for path in self.folder.glob("*") if path.is_file()) if self.folder.exists() else []

    def _file(self, name: str) -> Path:
        if not (0 < len(name) <= _MAX_NAME and name.isprintable() and "/" not in name and not name.startswith(".")):
            raise InvalidValue(f"wallet name {name!r} must have 1 to {_MAX_NAME} printable characters, and no '/'")
        return self.folder / name


def _ask_keyring(function: str, name: str, *values: str) -> str | None:
    import keyring
    from keyring.errors import KeyringError

    try:
        found: str | None = getattr(keyring, function)(SERVICE, name, *values)
    except KeyringError as error:
        raise KeyringUnavailable(
            f"the system's keyring cannot be used: {error or type(error).__name__}",
            remedy="keep the key in a keystore file: tristrata wallet new NAME",
        ) from error
    return found
