import json
from pathlib import Path

import pytest
from eth_account import Account

from tristrata.custody.keystore import (
    KeystoreRefused,
    create_password,
    create_secret,
    load_key,
    load_or_create_secret,
    load_secret,
    read_password,
)
from tristrata.custody.session_keys import derive_session_key
from tristrata.protocol.ids import SessionId


def test_keystore__created__opens_here_and_with_eth_account(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "router.json"
    password = create_password(tmp_path / "keys" / "password")

    secret = create_secret(path, password)

    assert load_secret(path, password) == load_or_create_secret(path, password) == secret
    assert load_key(path, password).secret == secret
    assert bytes(Account.decrypt(json.loads(path.read_text()), password)) == secret
    assert secret.hex() not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_password(tmp_path / "keys" / "password") == create_password(tmp_path / "keys" / "password")


def test_create_secret__file_exists__is_refused(tmp_path: Path) -> None:
    create_secret(tmp_path / "a.json", "x")

    with pytest.raises(KeystoreRefused, match="exists already"):
        create_secret(tmp_path / "a.json", "x")


def test_load_secret__wrong_password_missing_broken_or_open_to_others__is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    create_secret(path, "right")
    with pytest.raises(KeystoreRefused, match="does not open"):
        load_secret(path, "wrong")
    with pytest.raises(KeystoreRefused, match="cannot be read"):
        load_secret(tmp_path / "none.json", "right")
    path.chmod(0o644)
    with pytest.raises(KeystoreRefused, match="read by others"):
        load_secret(path, "right")
    path.write_text("{}")
    path.chmod(0o600)
    with pytest.raises(KeystoreRefused, match="does not open"):
        load_secret(path, "right")


def test_derive_session_key__per_session_and_master__differs_and_repeats() -> None:
    one, two = SessionId(b"\1" * 32), SessionId(b"\2" * 32)
    keys = {derive_session_key(master, session).secret for master in (b"m" * 32, b"n" * 32) for session in (one, two)}

    assert len(keys) == 4
    assert derive_session_key(b"m" * 32, one) == derive_session_key(b"m" * 32, one)
