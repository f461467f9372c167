"""Tools for agents over the Model Context Protocol (https://modelcontextprotocol.io): ask, verify, look at money."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import Any, TypeVar

import msgspec
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from tristrata import __version__
from tristrata.client.sdk import AsyncClient
from tristrata.client.verifying import verify_document
from tristrata.client.wallet import Wallet
from tristrata.protocol.errors import TristrataError

Tool = TypeVar("Tool", bound=Callable[..., Awaitable[Any]])
ClientOf = Callable[[Context], AbstractAsyncContextManager[AsyncClient]]
"""The client of whoever calls a tool."""

MAX_FILE_CHARACTERS = 1_048_576
_INSTRUCTIONS = (
    "Tristrata answers questions with models that run on miners' machines, and proves each answer against Ethereum. "
    "Prices are base units of the session's asset, millionths of a dollar on the embedded network."
)


def make_server(client_of: ClientOf, *, network: str = "local") -> MCPServer[Any]:
    """An MCP server. ``network`` is the one on this machine that `verify` asks L1 of."""
    server: MCPServer[Any] = MCPServer("tristrata", version=__version__, instructions=_INSTRUCTIONS, log_level="ERROR")

    @_tool(server)
    async def infer(
        ctx: Context, prompt: str, model: str = "", max_tokens: int = 512, temperature: float = 1.0
    ) -> dict[str, Any]:
        """Ask a model. Gives the text, what it cost, and the id of the receipt that proves it."""
        async with client_of(ctx) as client:
            answer = await client.chat(prompt, model=model, max_tokens=max_tokens, temperature=temperature)
        found: dict[str, Any] = msgspec.to_builtins(answer)
        return found

    @_tool(server)
    async def verify(ctx: Context, receipt: str) -> dict[str, Any]:
        """Check a receipt against Ethereum: the id of an answer's receipt, or a receipt file's JSON.

        ``status`` is proven, broken (and at which link), awaiting (signed, not on Ethereum yet) or unchecked.
        """
        if receipt.lstrip().startswith("{"):
            data = receipt[:MAX_FILE_CHARACTERS].encode()
            _, found = await asyncio.to_thread(verify_document, data, network=network)
            return found
        async with client_of(ctx) as client:
            return (await client.verify(receipt)).found

    @_tool(server)
    async def receipt_file(ctx: Context, request_id: str) -> str:
        """The receipt file of an answer, which anybody can check: its way to Ethereum as far as it has come."""
        async with client_of(ctx) as client:
            return json.dumps(await client.proof(request_id))

    @_tool(server)
    async def balance(ctx: Context) -> dict[str, Any]:
        """What the sessions of this key can still pay, in all and each."""
        async with client_of(ctx) as client:
            return {"available": await client.balance(), "sessions": await client.sessions()}

    @_tool(server)
    async def models(ctx: Context) -> list[str]:
        """The models that can be asked."""
        async with client_of(ctx) as client:
            return await client.models()

    return server


def add_wallet(server: MCPServer[Any], wallet: Wallet, api_key: str) -> None:
    """Let agents deposit, within the wallet's allowance; what they open, ``api_key`` may use."""

    @_tool(server)
    async def open_session(model: str, deposit: int) -> dict[str, Any]:
        """Open a session that pays for a model's answers. ``deposit`` is in base units, within what is allowed."""
        return await wallet.open_session(model, deposit, api_key)

    @_tool(server)
    async def top_up_session(session: str, amount: int) -> dict[str, Any]:
        """Put more into a session. ``amount`` is in base units, within the owner's allowance."""
        return await wallet.top_up(session, amount)

    @_tool(server)
    async def close_session(session: str) -> dict[str, Any]:
        """Ask for a session's end: what was not charged goes back to its owner after the grace period."""
        return await wallet.close_session(session)


def _tool(server: MCPServer[Any]) -> Callable[[Tool], Tool]:
    """Register a tool; what it raises of ours is told to whoever calls it."""

    def register(function: Tool) -> Tool:
        @wraps(function)
        async def told(*arguments: Any, **named: Any) -> Any:
            try:
                return await function(*arguments, **named)
            except TristrataError as error:
                raise ToolError(f"{error.message}. {error.remedy}" if error.remedy else error.message) from error

        server.tool()(told)
        return function

    return register
