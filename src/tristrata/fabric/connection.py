"""A connection to the fabric that survives restarts of its server."""

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.frames import FrameInvalid, Reply, decode_replies
from tristrata.fabric.keys import seed_text
from tristrata.protocol.ids import Address

MAX_WAITING_BYTES = 4 * 1_048_576
"""How much of one answer may wait for a client that reads slowly."""

_RECONNECTED: WeakKeyDictionary[Client, list[Callable[[], None]]] = WeakKeyDictionary()
_log = structlog.get_logger()


async def connect(url: str, seed: bytes, name: str) -> Client:
    """Connect as the holder of ``seed``, and stay connected: the client reconnects for ever, ten times a second.

    ``url`` is a server's address, or those of a cluster's servers with commas between.
    """

    async def told(error: Exception) -> None:
        _log.info("fabric", connection=name, error=repr(error))

    again: list[Callable[[], None]] = []

    async def reconnected() -> None:
        for callback in again:
            callback()

    connection = await nats.connect(
        url.split(","),
        name=name,
        nkeys_seed_str=seed_text(seed).decode(),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,
        connect_timeout=5,
        ping_interval=10,
        error_cb=told,
        reconnected_cb=reconnected,
    )
    _RECONNECTED[connection] = again
    return connection


def when_reconnected(connection: Client, callback: Callable[[], None]) -> None:
    """Have ``callback`` called whenever the connection was lost and is there again: what was under way may be lost."""
    _RECONNECTED[connection].append(callback)


async def settle(connection: Client) -> None:
    """Wait until the server has all that was said to it, subscriptions above all.

    Twice, because nats-py writes the first ping ahead of what is still in its buffer.
    """
    await connection.flush()
    await connection.flush()


class Replies:
    """The frames of one answer, as they arrive. ``heard_at`` is when the last came, by the event loop's clock.

    ``was_heard`` says whether any has.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._frames: list[Reply] = []
        self._size = 0
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self.heard_at = self._loop.time()
        self.was_heard = False

    async def get(self) -> list[Reply]:
        """All frames that are there, once there are any; none when no more will come."""
        if not self._frames and not self._is_over:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        frames, self._frames, self._size = self._frames, [], 0
        return frames

    def put(self, data: bytes) -> None:
        """Take in a message. One that is no reply, or too much that nobody reads, ends the answer."""
        self.heard_at = self._loop.time()
        self.was_heard = True
        self._size += len(data)
        try:
            self._frames += decode_replies(data)
        except FrameInvalid as error:
            _log.warning("answer broken off", reason=error.message)
            self._is_over = True
        if self._size > MAX_WAITING_BYTES:
            _log.warning("answer broken off", reason="too much of it waits to be read", bytes=self._size)
            self._is_over = True
        self._wake()

    def end(self) -> None:
        """No more will come: nobody serves the subject, or the miner is gone."""
        self._is_over = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ReplyInbox:
    """One wildcard subscription for all answers of one router."""

    def __init__(self, connection: Client, router_id: str) -> None:
        self._connection = connection
        self._router_id = router_id
        self._open: dict[str, Replies] = {}

    async def start(self) -> None:
        """Subscribe."""
        await self._connection.subscribe(subjects.replies(self._router_id), cb=self._dispatch)
        await settle(self._connection)
        when_reconnected(self._connection, self._end_all)

    def open(self, miner: Address, request_id: bytes) -> Replies:
        """What one miner replies to one request, from now on."""
        replies = Replies()
        self._open[subjects.reply(self._router_id, miner, request_id)] = replies
        return replies

    def close(self, miner: Address, request_id: bytes) -> None:
        """Forget a request; late frames are dropped."""
        self._open.pop(subjects.reply(self._router_id, miner, request_id), None)

    def _end_all(self) -> None:
        for replies in self._open.values():
            replies.end()

    async def _dispatch(self, message: Msg) -> None:
        replies = self._open.get(message.subject)
        if replies is None:
            return
        if _nobody_there(message):
            replies.end()
        else:
            replies.put(message.data)


def _nobody_there(message: Msg) -> bool:
    return bool(message.headers and message.headers.get("Status") == "503")
