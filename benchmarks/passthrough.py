"""The floor: the least that a Python gateway can do. uvicorn, a raw ASGI function, aiohttp upstream; nothing is read.

What has arrived from upstream is passed on as one piece, so 20 chunks that were sent at once are one or two writes.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvicorn

from benchmarks.load import LOOPBACK

_Message = dict[str, Any]
_PASSED_ON = (b"content-type", b"content-length")


async def run(port: int, upstream_port: int) -> None:
    """Serve until cancelled, in front of the stub on ``upstream_port``."""
    url = f"http://{LOOPBACK}:{upstream_port}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False) as session:

        async def app(
            _: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
        ) -> None:
            body, more = b"", True
            while more:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
                headers = [(name, value) for name, value in answer.raw_headers if name in _PASSED_ON]
                await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                async for piece in answer.content.iter_any():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})

        options: _Message = {"log_level": "warning", "lifespan": "off", "server_header": False}
        await uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, **options)).serve()
