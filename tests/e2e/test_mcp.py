"""Tools for agents with the stock client: money within an allowance over stdio, many callers' keys over HTTP."""

import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from mcp import Client as McpClient
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.e2e.conftest import MODEL, Customer
from tests.support.network import COMMAND, CliNetwork, wait_for

QUESTION: dict[str, Any] = {"prompt": "What is the capital of Japan?", "temperature": 0, "max_tokens": 12}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.fixture(scope="module")
def url(network: CliNetwork) -> Iterator[str]:
    """A server over HTTP beside the network's router."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{found.getsockname()[1]}"
    process = subprocess.Popen(
        [*COMMAND, "mcp", "--listen", listen, "--origin", "https://app.example"],
        env=network.environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://{listen}/mcp"

    def answers() -> bool:
        try:
            return httpx.post(url, json=LIST).status_code == 401
        except httpx.HTTPError:
            return False

    try:
        wait_for(answers)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@asynccontextmanager
async def connect(url: str, api_key: str) -> AsyncIterator[McpClient]:
    """The stock client, as an agent's host sets it up."""
    async with AsyncExitStack() as stack:
        headers = {"authorization": f"Bearer {api_key}"}
        http = await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=60))
        yield await stack.enter_async_context(McpClient(streamable_http_client(url, http_client=http)))


async def call(client: McpClient, tool: str, **arguments: Any) -> dict[str, Any]:
    """What a tool gives."""
    done = await client.call_tool(tool, arguments)
    assert not done.is_error and done.structured_content is not None, done.content
    return done.structured_content


async def test_stdio__spending_is_allowed__sessions_are_opened_topped_up_and_closed_within_it(
    network: CliNetwork,
) -> None:
    server = StdioServerParameters(
        command=COMMAND[0],
        args=[*COMMAND[1:], "mcp", "--allow-spending", "500000"],
        env={**os.environ, **network.environment},
    )
    async with McpClient(stdio_client(server)) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert {"infer", "verify", "open_session", "top_up_session", "close_session"} <= names
        opened = await call(client, "open_session", model=MODEL, deposit=300_000)
        assert opened["left"] == "200000"
        session = opened["session"]
        topped = await call(client, "top_up_session", session=session, amount=50_000)
        assert (topped["deposit"], topped["left"]) == ("350000", "150000")
        assert session in {each["id"] for each in (await call(client, "balance"))["sessions"]}
        assert (await call(client, "infer", **QUESTION))["text"]

        for tool, arguments, says in (
            ("open_session", {"model": MODEL, "deposit": 150_001}, "150000 is left"),
            ("open_session", {"model": MODEL, "deposit": 0}, "0 base units were asked for"),
            ("top_up_session", {"session": session, "amount": 10**12}, "150000 is left"),
            ("top_up_session", {"session": "0x12", "amount": 1}, "session"),
            ("open_session", {"model": "gpt-7", "deposit": 1}, "gpt-7"),
        ):
            refused = await client.call_tool(tool, arguments)
            assert refused.is_error and says in refused.content[0].text, (tool, refused)
        assert (await call(client, "close_session", session=session))["ending"]


async def test_http__two_callers__each_has_its_own_sessions_and_answers(url: str, customer: Customer) -> None:
    first, second = await customer.open(), await customer.open()
    seen = []
    for session in (first, second):
        async with connect(url, session.api_key) as client:
            assert "open_session" not in {tool.name for tool in (await client.list_tools()).tools}
            answer = await call(client, "infer", **QUESTION)
            assert answer["text"]
            verdict = await call(client, "verify", receipt=answer["request_id"])
            assert verdict["status"] in ("awaiting", "proven")
            seen.append({each["id"] for each in (await call(client, "balance"))["sessions"]})
    assert seen == [{f"0x{first.session.hex()}"}, {f"0x{second.session.hex()}"}]


async def test_http__wrong_key__tool_says_so(url: str) -> None:
    async with connect(url, "sk-tri-wrong") as client:
        refused = await client.call_tool("infer", QUESTION)
    assert refused.is_error and "API key" in refused.content[0].text


async def test_http__foreign_page_or_host_or_huge_body__is_refused(url: str) -> None:
    headers = {"authorization": "Bearer sk-tri-any", "accept": "application/json, text/event-stream"}
    async with httpx.AsyncClient(headers=headers, timeout=60) as http:
        assert (await http.post(url, json=LIST, headers={"origin": "https://evil.example"})).status_code == 403
        assert (await http.post(url, json=LIST, headers={"host": "evil.example"})).status_code == 421
        assert (await http.post(url, json=LIST, headers={"origin": "https://app.example"})).status_code == 200
        assert (await http.post(url, content=b"x" * 1_100_000)).status_code == 413
        without = await http.post(url, json=LIST, headers={"authorization": ""})
    assert without.status_code == 401 and without.headers["www-authenticate"] == "Bearer"


def test_listen__with_spending_or_no_port__is_refused(network: CliNetwork) -> None:
    done = network.run("mcp", "--listen", "127.0.0.1:1", "--allow-spending", "5")
    assert done.returncode == 1 and "cannot go with --listen" in done.stderr
    done = network.run("mcp", "--listen", "nowhere")
    assert done.returncode == 1 and "HOST:PORT" in done.stderr
