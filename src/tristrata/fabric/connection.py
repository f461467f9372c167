"""A connection to the fabric that survives restarts of its server."""

import asyncio
from collections.abc import Awaitable, Callable

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.frames import Reply, decode_reply
from tristrata.fabric.keys import seed_text

_log = structlog.get_logger()
_REPLY_QUEUE = 4_096


async def connect(
    url: str, seed: bytes, name: str, *, on_reconnect: Callable[[], Awaitable[None]] | None = None
) -> Client:
    """Connect as the holder of ``seed``, and stay connected: the client reconnects for ever, ten times a second."""

    async def told(error: Exception) -> None:
        _log.info("fabric", connection=name, error=repr(error))

    async def again() -> None:
        if on_reconnect is not None:
            await on_reconnect()

    return await nats.connect(
        url,
        name=name,
        nkeys_seed_str=seed_text(seed).decode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        connect_timeout=5,
        ping_interval=10,
        error_cb=told,
        reconnected_cb=again,
    )


async def settle(connection: Client) -> None:
    """Wait until the server has all that was said to it, subscriptions above all.

    Twice, because nats-py writes the first ping ahead of what is still in its buffer.
    """
    await connection.flush()
    await connection.flush()


class ReplyInbox:
    """One wildcard subscription for all answers of one router; each request has a bounded queue of frames."""

    def __init__(self, connection: Client, router_id: str) -> None:
        self._connection = connection
        self._router_id = router_id
        self._queues: dict[str, asyncio.Queue[Reply | None]] = {}

    async def start(self) -> None:
        """Subscribe."""
        await self._connection.subscribe(subjects.replies(self._router_id), cb=self._dispatch)
        await settle(self._connection)

    def open(self, request_id: bytes) -> "asyncio.Queue[Reply | None]":
        """The queue of one request; ``None`` in it means that nobody serves the subject or that it overflowed."""
        queue: asyncio.Queue[Reply | None] = asyncio.Queue(_REPLY_QUEUE)
        self._queues[request_id.hex()] = queue
        return queue

    def close(self, request_id: bytes) -> None:
        """Forget a request; late frames are dropped."""
        self._queues.pop(request_id.hex(), None)

    async def _dispatch(self, message: Msg) -> None:
        queue = self._queues.get(message.subject.rpartition(".")[2])
        if queue is None:
            return
        frame = None if _nobody_there(message) else decode_reply(message.data)
        if queue.full():
            queue.get_nowait()
            frame = None
        queue.put_nowait(frame)


def _nobody_there(message: Msg) -> bool:
    return bool(message.headers and message.headers.get("Status") == "503")
