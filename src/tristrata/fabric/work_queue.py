"""Work for any one of the routers: a NATS JetStream queue on disk, from which each piece is taken until it is done."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, Error

from tristrata.protocol.errors import TristrataError

ACK_SECONDS = 30.0
"""How long whoever took a piece of work may be silent before another gets it."""

_CONSUMER = "routers"
_REPLICAS = (3, 1)
_DUPLICATE_SECONDS = 600.0
_ERRORS = (NatsError, Error, OSError, asyncio.TimeoutError)


class QueueUnavailable(TristrataError):
    """The queue's NATS server does not answer, or has no JetStream."""


class Work:
    """A piece of work: its ``name``, as it was put in."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.name = message.data.decode(errors="replace")

    async def go_on(self) -> None:
        """Say that it is still being done, as often as `ACK_SECONDS` asks."""
        await _done(self._message.in_progress())

    async def finish(self) -> None:
        """It is done: nobody gets it again."""
        await _done(self._message.ack())

    async def give_back(self, seconds: float) -> None:
        """Let somebody take it, after so many seconds."""
        await _done(self._message.nak(delay=seconds))


class WorkQueue:
    """One queue. On a cluster of three servers or more it survives the loss of one."""

    def __init__(self, connection: Client, name: str) -> None:
        self._name = name
        self._subject = f"work.{name}"
        self._jetstream = connection.jetstream(timeout=5)
        self._pull: JetStreamContext.PullSubscription | None = None

    async def put(self, name: str) -> None:
        """Put a piece of work in; the same name again within ten minutes changes nothing. Raises `QueueUnavailable`."""
        try:
            await self._open()
            await self._jetstream.publish(self._subject, name.encode(), headers={"Nats-Msg-Id": name})
        except _ERRORS as error:
            raise self._unavailable(error) from error

    async def take(self, seconds: float) -> Work | None:
        """The next piece, or `None` where there is none for so long. Raises `QueueUnavailable`."""
        try:
            pull = await self._open()
            [message] = await pull.fetch(1, timeout=seconds)
        except TimeoutError:
            return None
        except _ERRORS as error:
            self._pull = None
            raise self._unavailable(error) from error
        return Work(message)

    async def _open(self) -> JetStreamContext.PullSubscription:
        if self._pull is None:
            await self._make_stream()
            config = ConsumerConfig(ack_wait=ACK_SECONDS, max_deliver=-1)
            self._pull = await self._jetstream.pull_subscribe(
                self._subject, durable=_CONSUMER, stream=self._name, config=config
            )
        return self._pull

    async def _make_stream(self) -> None:
        for replicas in _REPLICAS:
            config = StreamConfig(
                name=self._name,
                subjects=[self._subject],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                num_replicas=replicas,
                duplicate_window=_DUPLICATE_SECONDS,
            )
            try:
                await self._jetstream.add_stream(config)
                return
            except APIError:
                if await self._is_there():
                    return
                if replicas == 1:
                    raise

    async def _is_there(self) -> bool:
        try:
            await self._jetstream.stream_info(self._name)
        except APIError:
            return False
        return True

    def _unavailable(self, error: Exception) -> QueueUnavailable:
        return QueueUnavailable(
            f"the queue {self._name!r} cannot be used: {error!r}", remedy="see that NATS runs, with JetStream enabled"
        )


async def _done(saying: Coroutine[Any, Any, None]) -> None:
    """Tell the server, if it can be told: what it does not hear, it gives to somebody again."""
    with contextlib.suppress(*_ERRORS):
        await saying
