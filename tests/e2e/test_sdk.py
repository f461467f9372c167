"""The SDK and the MCP server on the running network."""

import json
import os
import subprocess
import sys
import time

import pytest
from mcp import Client as McpClient
from mcp.client.stdio import StdioServerParameters, stdio_client

import tristrata
from tests.support.network import COMMAND, CliNetwork
from tristrata.client import RouterRefused
from tristrata.custody.api_keys import read_api_keys

ANSWER = "The capital of Japan is Tokyo."
OPTIONS = {"temperature": 0, "seed": 7, "max_tokens": 40}


@pytest.fixture
def access(network: CliNetwork, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("TRISTRATA_HOME", network.environment["TRISTRATA_HOME"])
    return f"{network.settings().router}/v1", read_api_keys(network.home.api_keys_file)["arbitrum"].api_key


def test_client__asks_streams_and_proves(access: tuple[str, str]) -> None:
    url, key = access
    with tristrata.Client(url, api_key=key) as client:
        before = client.balance()
        answer = client.chat("What is the capital of Japan?", **OPTIONS)
        streamed = "".join(client.stream("What is the capital of Japan?", **OPTIONS))
        assert answer.text == streamed == ANSWER
        assert (answer.finish_reason, answer.output_tokens) == ("stop", 8)
        assert client.receipt(answer)["receipt"] == answer.receipt["receipt"]
        assert client.balance() <= before - 2 * answer.price + 2  # each may be rounded up
        assert client.models()[0] == "smollm2-135m-instruct"
        deadline = time.monotonic() + 90
        while not (verdict := client.verify(answer)).is_proven:
            assert verdict.status == "awaiting", verdict.found
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert verdict.found["checkpoint"]["ledger_is_trusted"]
        assert client.verify(answer, checkpoint="0x" + "11" * 32).status == "broken"


async def test_async_client__router_refuses__says_why(access: tuple[str, str]) -> None:
    url, key = access
    async with tristrata.AsyncClient(url, api_key=key) as client:
        with pytest.raises(RouterRefused, match="does not exist") as caught:
            await client.chat("Hello", model="gpt-7")
        assert caught.value.status == 404
    async with tristrata.AsyncClient(url, api_key="sk-wrong") as client:
        with pytest.raises(RouterRefused, match="API key"):
            await client.chat("Hello", model="smollm2-135m-instruct")


def test_import__of_the_package__brings_nothing_slow() -> None:
    code = "import sys, tristrata.client.verifying; print(sorted({'aiohttp', 'mcp', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_mcp__over_stdio__infers_verifies_and_tells_money(network: CliNetwork, access: tuple[str, str]) -> None:
    server = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "mcp"], env={**os.environ, **network.environment}
    )
    async with McpClient(stdio_client(server)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"infer", "verify", "receipt_file", "balance", "models"}
        question = {"prompt": "What is the capital of Japan?", "temperature": 0, "max_tokens": 40}
        answer = (await client.call_tool("infer", question)).structured_content
        assert answer is not None
        assert answer["text"] == ANSWER
        verdict = (await client.call_tool("verify", {"receipt": answer["request_id"]})).structured_content
        assert verdict is not None
        assert verdict["status"] in ("awaiting", "proven")
        file = json.loads(
            (await client.call_tool("receipt_file", {"request_id": answer["request_id"]})).content[0].text
        )
        file["receipt"]["price"] = "1"
        broken = (await client.call_tool("verify", {"receipt": json.dumps(file)})).structured_content
        assert broken is not None
        assert broken["status"] == "broken"
        money = (await client.call_tool("balance", {})).structured_content
        assert money is not None
        assert money["available"] > 0
        refused = await client.call_tool("infer", {"prompt": "Hi", "model": "gpt-7"})
        assert refused.is_error
