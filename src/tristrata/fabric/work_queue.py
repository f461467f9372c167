"""Work for any one of the routers: a NATS JetStream queue on disk, from which each piece is taken until it is done."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, Error

from tristrata.protocol.errors import TristrataError

ACK_SECONDS = 15.0
"""How long whoever took a piece of work may be silent before another gets it."""

_CONSUMER = "routers"
_REPLICAS = (3, 1)
_ANSWER_SECONDS = 5.0
_IS_THERE = 10077  # JetStream's error code: as many messages of the subject as there may be
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
        await _tell(self._message.in_progress())

    async def finish(self) -> None:
        """It is done: nobody gets it again."""
        await _tell(self._message.ack())

    async def give_back(self, seconds: float) -> None:
        """Let somebody take it, after so many seconds."""
        await _tell(self._message.nak(delay=seconds))


class WorkQueue:
    """One queue; each name is in it once. On a cluster of three servers or more it survives the loss of one."""

    def __init__(self, connection: Client, name: str) -> None:
        self._name = name
        self._jetstream = connection.jetstream(timeout=_ANSWER_SECONDS)
        self._pull: JetStreamContext.PullSubscription | None = None
        self._opening = asyncio.Lock()

    async def put(self, name: str) -> None:
        """Put a piece of work in; nothing where it is in, or is being done. Raises `QueueUnavailable`.

        ``name`` has letters, digits, ``_`` and ``-`` only.
        """
        try:
            await self._open()
            await self._jetstream.publish(self._subject(name), name.encode())
        except APIError as error:
            if error.err_code != _IS_THERE:
                raise self._unavailable(error) from error
        except _ERRORS as error:
            self._pull = None
            raise self._unavailable(error) from error

    async def take(self, seconds: float) -> Work | None:
        """The next piece, or `None` where there is none for so long. Raises `QueueUnavailable`."""
        try:
            pull = await self._open()
        except _ERRORS as error:
            raise self._unavailable(error) from error
        try:
            [message] = await pull.fetch(1, timeout=seconds)
        except TimeoutError:
            return None
        except _ERRORS as error:
            self._pull = None
            raise self._unavailable(error) from error
        return Work(message)

    async def _open(self) -> JetStreamContext.PullSubscription:
        async with self._opening:
            if self._pull is None:
                await self._make_stream()
                config = ConsumerConfig(ack_wait=ACK_SECONDS, max_deliver=-1)
                self._pull = await self._jetstream.pull_subscribe(
                    self._subject("*"), durable=_CONSUMER, stream=self._name, config=config
                )
            return self._pull

    async def _make_stream(self) -> None:
        for replicas in _REPLICAS:
            config = StreamConfig(
                name=self._name,
                subjects=[self._subject("*")],
                retention=RetentionPolicy.WORK_QUEUE,
                storage=StorageType.FILE,
                num_replicas=replicas,
                max_msgs_per_subject=1,
                discard=DiscardPolicy.NEW,
                discard_new_per_subject=True,
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

    def _subject(self, name: str) -> str:
        return f"work.{self._name}.{name}"

    def _unavailable(self, error: Exception) -> QueueUnavailable:
        return QueueUnavailable(
            f"the queue {self._name!r} cannot be used: {error!r}", remedy="see that NATS runs, with JetStream enabled"
        )


async def _tell(saying: Coroutine[Any, Any, None]) -> None:
    """Tell the server, if it can be told: what it does not hear, it gives to somebody again."""
    with contextlib.suppress(*_ERRORS):
        await saying
