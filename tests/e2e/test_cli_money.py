"""`tristrata session`, `keys` and `wallet` as people type them, on the running network."""

import json
import os
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import MODEL
from tests.support.network import CliNetwork

QUESTION: Any = [{"role": "user", "content": "What is the capital of Japan?"}]


def run(network: CliNetwork, *arguments: str) -> Any:
    """What a command says for machines."""
    done = network.run(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def refused(network: CliNetwork, *arguments: str) -> str:
    done = network.run(*arguments)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def ask(network: CliNetwork, api_key: str) -> str:
    client = openai.OpenAI(base_url=f"{network.settings().router}/v1", api_key=api_key, max_retries=0)
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=12)
    return answer.choices[0].message.content or ""


def test_session__opened_topped_up_closed_and_refunded__money_goes_and_comes_back(network: CliNetwork) -> None:
    opened = run(network, "session", "open", "--deposit", "300000")
    assert (opened["model"], opened["deposit"]) == (MODEL, "300000")
    assert ask(network, opened["api_key"])

    beginning = opened["session"][:14]
    topped = run(network, "session", "top-up", beginning, "50000")
    assert topped["deposit"] == "350000" and int(topped["cumulative"]) > 0
    assert run(network, "session", "show", beginning)["id"] == opened["session"]
    assert opened["session"] in {each["id"] for each in run(network, "session", "list")}
    listed = network.run("session", "list").stdout
    assert beginning in listed and "left of 0.350000 tUSD" in listed
    shown = network.run("session", "show", beginning).stdout
    assert "deposit    0.350000 tUSD" in shown and "open" in shown

    assert "nobody has asked" in refused(network, "session", "refund", beginning)
    closed = run(network, "session", "close", beginning, "--wait")
    assert closed["refund"]["state"] == "closed"
    assert 0 < int(closed["refund"]["amount"]) < 350_000
    again = run(network, "session", "refund", beginning)
    assert again["refund"] == closed["refund"]


def test_session__what_is_wrong__is_said(network: CliNetwork) -> None:
    assert "gpt-7" in refused(network, "session", "open", "--model", "gpt-7")
    assert "there is no hub 'mars'" in refused(network, "session", "open", "--hub", "mars")
    assert "0 of your sessions" in refused(network, "session", "show", "0xffff")
    assert "you have no session" in refused(network, "session", "show", "0x" + "ab" * 32)
    assert "no wallet 'nobody'" in refused(network, "session", "list", "--wallet", "nobody")


def test_keys__made_rotated_and_revoked__work_as_long_as_they_should(network: CliNetwork) -> None:
    made = run(network, "keys", "create", "--name", "laptop", "--budget", "100000", "--days", "2")
    assert ask(network, made["secret"])
    rotated = run(network, "keys", "rotate", made["id"], "--grace", "0")
    assert ask(network, rotated["secret"])
    with pytest.raises(openai.AuthenticationError):
        ask(network, made["secret"])

    [listed] = [key for key in run(network, "keys", "list") if key["id"] == made["id"]]
    assert (listed["name"], listed["budget"]) == ("laptop", "100000") and int(listed["spent"]) > 0
    table = network.run("keys", "list").stdout
    assert "laptop" in table and "of 0.100000 tUSD" in table and made["secret"] not in table

    run(network, "keys", "revoke", made["id"])
    with pytest.raises(openai.AuthenticationError):
        ask(network, rotated["secret"])
    assert "was revoked" in refused(network, "keys", "rotate", made["id"])
    assert "you have no API key" in refused(network, "keys", "revoke", "key_none")
    assert "scope 'root'" in refused(network, "keys", "create", "--scope", "root")


def test_keys__secret__is_the_only_line_on_standard_output(network: CliNetwork) -> None:
    done = network.run("keys", "create", "--name", "script")

    assert done.stdout.startswith("sk-tri-") and done.stdout.count("\n") == 1
    assert "shown only now" in done.stderr


@pytest.mark.parametrize("kept", ["file", "keyring"])
def test_wallet__of_ones_own__opens_a_session_with_its_own_money(
    network: CliNetwork, tmp_path: Path, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("correct horse battery staple")
    environment = {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "share"),
        "PYTHON_KEYRING_BACKEND": "keyrings.alt.file.PlaintextKeyring",
    }
    monkeypatch.setattr(network, "environment", {**network.environment, **environment})
    how = ["--keyring"] if kept == "keyring" else ["--password-file", str(password)]
    opens = [] if kept == "keyring" else ["--password-file", str(password)]

    made = run(network, "wallet", "new", "alice", *how)

    assert run(network, "wallet", "show", "alice", *opens)["address"] == made["address"]
    assert run(network, "wallet", "list")["wallets"] == (["alice"] if kept == "file" else [])
    assert (tmp_path / ".foundry/keystores/alice").exists() == (kept == "file")
    opened = run(network, "session", "open", "--deposit", "100000", "--wallet", "alice", *opens)
    assert ask(network, opened["api_key"])
    [mine] = run(network, "session", "list", "--wallet", "alice", *opens)
    assert mine["id"] == opened["session"] and mine["owner"].lower().endswith(made["address"].lower()[2:])
    assert "already" in refused(network, "wallet", "new", "alice", *how)
    with httpx.Client(base_url=network.settings().router) as http:
        assert http.get("/v1/sessions", headers={"authorization": "Bearer nobody"}).status_code == 401
    assert os.environ.get("HOME") != str(tmp_path)
