"""A small OpenAI-compatible server that calls tools, as vLLM streams them: SmolLM2's template knows no tools."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

CITY = '{"city":"Kyōto"}'


@asynccontextmanager
async def tool_backend() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Its base URL, and the requests that it gets. It calls the first tool with `CITY`, and reports what tools say."""
    asked: list[dict[str, Any]] = []

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked.append(body)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in [*_events(body), {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 12}}]:
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application()
    app.add_routes([web.get("/v1/models", _models), web.post("/v1/chat/completions", chat)])
    async with TestServer(app) as running:
        yield str(running.make_url("/v1")), asked


async def _models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "m"}]})


def _events(body: dict[str, Any]) -> list[dict[str, Any]]:
    last = body["messages"][-1]
    if not body.get("tools") or body.get("tool_choice") == "none" or last["role"] == "tool":
        return [_choice({"role": "assistant", "content": f"It says: {last['content']}"}), _choice({}, "stop")]
    name = body["tools"][0]["function"]["name"]
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": piece}} for piece in (CITY[:5], CITY[5:])]
    calls = [_choice({"tool_calls": [each]}) for each in [first, *pieces]]
    return [_choice({"role": "assistant", "content": "Wait."}), *calls, _choice({}, "tool_calls")]


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}
