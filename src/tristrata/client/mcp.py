"""Tools for agents over the Model Context Protocol (https://modelcontextprotocol.io): ask, verify, look at money."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from mcp.server import MCPServer

from tristrata import __version__
from tristrata.client.sdk import AsyncClient
from tristrata.client.verifying import verify_document

MAX_FILE_CHARACTERS = 1_048_576
_INSTRUCTIONS = (
    "Tristrata answers questions with models that run on miners' machines, and proves each answer against Ethereum. "
    "Prices are base units of the session's asset, millionths of a dollar on the embedded network."
)


def make_server(client: AsyncClient, *, network: str = "local") -> MCPServer[Any]:
    """An MCP server over one router's client. ``network`` is the one on this machine that `verify` asks L1 of."""

    @asynccontextmanager
    async def lifespan(_: MCPServer[Any]) -> AsyncIterator[None]:
        async with client:
            yield None

    server: MCPServer[Any] = MCPServer(
        "tristrata", version=__version__, instructions=_INSTRUCTIONS, lifespan=lifespan, log_level="ERROR"
    )

    @server.tool()
    async def infer(prompt: str, model: str = "", max_tokens: int = 512, temperature: float = 1.0) -> dict[str, Any]:
        """Ask a model. Gives the text, what it cost, and the id of the receipt that proves it."""
        answer = await client.chat(prompt, model=model, max_tokens=max_tokens, temperature=temperature)
        found: dict[str, Any] = msgspec.to_builtins(answer)
        return found

    @server.tool()
    async def verify(receipt: str) -> dict[str, Any]:
        """Check a receipt against Ethereum: the id of an answer's receipt, or a receipt file's JSON.

        ``status`` is proven, broken (and at which link), awaiting (signed, not on Ethereum yet) or unchecked.
        """
        if receipt.lstrip().startswith("{"):
            _, found = verify_document(receipt[:MAX_FILE_CHARACTERS].encode(), network=network)
            return found
        return (await client.verify(receipt)).found

    @server.tool()
    async def receipt_file(request_id: str) -> str:
        """The receipt file of an answer, which anybody can check: its way to Ethereum as far as it has come."""
        return json.dumps(await client.proof(request_id))

    @server.tool()
    async def balance() -> dict[str, Any]:
        """What the sessions of this key can still pay, in all and each."""
        return {"available": await client.balance(), "sessions": await client.sessions()}

    @server.tool()
    async def models() -> list[str]:
        """The models that can be asked."""
        return await client.models()

    return server
