"""Wallets in Foundry's folder, and in a keyring (`keyrings.alt`'s, which needs no desktop)."""

from pathlib import Path

import keyring
import pytest
from eth_account import Account
from keyring.backends import fail
from keyrings.alt.file import PlaintextKeyring

from tristrata.custody.keystore import KeystoreRefused
from tristrata.custody.wallets import KeyringUnavailable, Wallets, WalletUnknown
from tristrata.protocol.errors import InvalidValue


@pytest.fixture
def wallets(tmp_path: Path) -> Wallets:
    return Wallets(tmp_path / "keystores")


@pytest.fixture
def plain_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = PlaintextKeyring()
    monkeypatch.setattr(PlaintextKeyring, "file_path", str(tmp_path / "keyring.cfg"))
    monkeypatch.setattr(keyring.core, "_keyring_backend", backend)


def never() -> str:
    raise AssertionError("no password is needed")


def test_create__in_a_file__opens_with_its_password_and_with_eth_account(wallets: Wallets) -> None:
    key = wallets.create("alice", "secret words")

    assert wallets.open("alice", lambda: "secret words").secret == key.secret
    assert wallets.open(str(wallets.folder / "alice"), lambda: "secret words").secret == key.secret
    assert bytes(Account.decrypt((wallets.folder / "alice").read_text(), "secret words")) == key.secret
    assert wallets.files() == ["alice"]
    with pytest.raises(KeystoreRefused, match="does not open"):
        wallets.open("alice", lambda: "wrong")
    with pytest.raises(KeystoreRefused, match="exists already"):
        wallets.create("alice", "other")


@pytest.mark.usefixtures("plain_keyring")
def test_create_in_keyring__key__is_in_no_file_and_opens_without_password(wallets: Wallets) -> None:
    key = wallets.create_in_keyring("bob")

    assert wallets.open("bob", never).secret == key.secret
    assert wallets.files() == []
    with pytest.raises(KeystoreRefused, match="already"):
        wallets.create_in_keyring("bob")


@pytest.mark.usefixtures("plain_keyring")
def test_open__nobody__says_where_it_looked(wallets: Wallets) -> None:
    with pytest.raises(WalletUnknown, match="keyring"):
        wallets.open("nobody", never)
    with pytest.raises(WalletUnknown):
        wallets.open(str(wallets.folder / "nobody"), never)


@pytest.mark.parametrize("name", ["", ".hidden", "a\n", "x" * 65])
def test_create__name_that_is_none__is_refused(wallets: Wallets, name: str) -> None:
    with pytest.raises(InvalidValue, match="wallet name"):
        wallets.create(name, "secret words")


def test_keyring__system_without_one__says_what_to_do(wallets: Wallets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", fail.Keyring())

    with pytest.raises(KeyringUnavailable) as refused:
        wallets.create_in_keyring("bob")

    assert "tristrata wallet new" in refused.value.remedy
