"""What a running network writes down of its users' secrets: nothing."""

import asyncio
import secrets
from pathlib import Path
from typing import Any

import openai
import pytest
from msgspec.structs import replace

from tests.e2e.conftest import MODEL, Customer
from tests.support.network import CliNetwork
from tristrata.client.api import RouterApi, RouterRefused
from tristrata.custody.keystore import load_secret, read_password
from tristrata.devnet.user import BUDGET

_ACTORS = ("router", "miner-1", "miner-2", "settler", "relayer", "admission", "validator-1")


async def test_logs__after_everything_that_users_do__hold_no_secret(network: CliNetwork, customer: Customer) -> None:
    word = f"kumquat{secrets.token_hex(8)}"
    session = await customer.open(replace(BUDGET))
    signed = await customer.account.sign_in()
    told: list[str] = [session.api_key, signed.token, word, customer.key.secret.hex()]
    async with RouterApi(customer.settings.router, signed.token) as router:
        made = await router.create_api_key(name="laptop", sessions=[f"0x{session.session.hex()}"])
        rotated = await router.rotate_api_key(made["id"], 0)
        told += [made["secret"], rotated["secret"]]
        await router.revoke_api_key(made["id"])
        with pytest.raises(RouterRefused):
            await router.rotate_api_key("key_none")
    client = customer.client(session)
    answer = await client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": f"Say {word} and then count to ten."}], max_tokens=30
    )
    told.append(answer.choices[0].message.content or word)
    await _fail(client, word)
    wrong = f"sk-tri-wrong-{secrets.token_hex(8)}"
    with pytest.raises(openai.AuthenticationError):
        await customer.client_with(wrong).models.list()
    told.append(wrong)
    home = network.home
    password = read_password(home.password_file)
    told += [password, *(load_secret(path, password).hex() for path in home.keys.glob("*") if _is_keystore(path))]
    await asyncio.sleep(1)

    logs = {name: (home.logs / f"{name}.log").read_text(errors="replace") for name in _ACTORS}
    assert logs["router"] and logs["settler"], "actors that log nothing prove nothing"
    found = {(name, secret[:12]) for name, log in logs.items() for secret in told if secret in log}
    assert found == set()


async def _fail(client: openai.AsyncOpenAI, word: str) -> None:
    """Calls that are refused in as many ways as a user comes upon, each with the word that must not be written."""
    bad: list[dict[str, Any]] = [
        {"model": word},
        {"temperature": 9},
        {"messages": [{"role": word, "content": word}]},
        {"messages": [{"role": "user", "content": f"{word} a b " * 2_000}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": word}}}},
    ]
    for changes in bad:
        asked = {"model": MODEL, "messages": [{"role": "user", "content": word}], "max_tokens": 5, **changes}
        with pytest.raises(openai.APIStatusError):
            await client.chat.completions.create(**asked)
    with pytest.raises(openai.APIStatusError):
        await client.post(f"/nowhere/{word}", cast_to=object, body={"text": word})


def _is_keystore(path: Path) -> bool:
    return path.is_file() and b'"crypto"' in path.read_bytes().lower()
