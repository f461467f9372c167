"""The miner as a process: registered on its hubs, connected to the fabric, answering."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from coincurve import PrivateKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from tristrata.fabric import subjects
from tristrata.fabric.connection import settle, when_reconnected
from tristrata.fabric.frames import (
    Cancel,
    Delta,
    Failure,
    FrameInvalid,
    Offer,
    Status,
    Task,
    decode,
    encode,
    encode_replies,
)
from tristrata.inference.runtime import Runtime
from tristrata.miner.sender import AnswerSender
from tristrata.miner.tasks import Worker
from tristrata.protocol.ids import Address

_STATUS_SECONDS = 1.0
_DRAIN_SECONDS = 10.0
_REMEMBERED_REQUESTS = 10_000
_log = structlog.get_logger()


class MinerService:
    """One miner over one connection. ``offers`` are what it registered, ``slots`` how many tasks it takes at once.

    ``on_voucher`` gets the notices of vouchers that pay it.
    """

    def __init__(
        self,
        connection: Client,
        runtime: Runtime,
        *,
        miner: Address,
        key: PrivateKey,
        separators: dict[str, bytes],
        offers: Iterable[Offer],
        slots: int,
        region: str = "",
        on_voucher: Callable[[Msg], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._worker = Worker(runtime, miner, key, separators)
        self._miner = miner
        self._run = os.urandom(16)
        self._offers = {(offer.chain, offer.model_id): offer for offer in offers}
        self._slots = slots
        self._region = region
        self._on_voucher = on_voucher
        self._running: set[asyncio.Task[None]] = set()
        self._seen: dict[bytes, None] = {}
        self._draining = False
        self._speed = 0.0

    async def run(self) -> None:
        """Serve until cancelled; then finish what is running, for ten seconds at most."""
        await self._connection.subscribe(subjects.task(self._miner), cb=self._on_task)
        await self._connection.subscribe(subjects.cancel(self._miner), cb=self._on_cancel)
        await self._connection.subscribe(subjects.HELLO, cb=self._on_hello)
        if self._on_voucher is not None:
            await self._connection.subscribe(subjects.voucher(self._miner), cb=self._on_voucher)
        await settle(self._connection)
        when_reconnected(self._connection, self._begin_anew)
        try:
            while True:
                await self._announce()
                await asyncio.sleep(_STATUS_SECONDS)
        finally:
            self._draining = True
            await self._announce()
            if self._running:
                await asyncio.wait(self._running, timeout=_DRAIN_SECONDS)

    def _begin_anew(self) -> None:
        """The connection was lost: so may be pieces of what was being answered. Another run says so at once."""
        self._run = os.urandom(16)
        for running in self._running:
            running.cancel()

    async def _announce(self) -> None:
        if self._connection.is_connected:
            status = Status(
                miner=self._miner,
                run=self._run,
                offers=tuple(self._offers.values()),
                slots=self._slots,
                busy=len(self._running),
                region=self._region,
                speed=self._speed,
                draining=self._draining,
            )
            await self._connection.publish(subjects.status(self._miner), encode(status))

    async def _on_hello(self, _: Msg) -> None:
        await self._announce()

    async def _on_cancel(self, message: Msg) -> None:
        try:
            self._worker.cancel(decode(message.data, Cancel).request_id)
        except FrameInvalid as error:
            _log.warning("cancel refused", reason=error.message)

    async def _on_task(self, message: Msg) -> None:
        try:
            task = decode(message.data, Task)
        except FrameInvalid as error:
            await message.respond(encode_replies([Failure("invalid", error.message)]))
            return
        if refusal := self._refusal(task):
            await message.respond(encode_replies([refusal]))
            return
        self._seen[task.request_id] = None
        if len(self._seen) > _REMEMBERED_REQUESTS:
            del self._seen[next(iter(self._seen))]
        running = asyncio.create_task(self._answer(task, message))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def _refusal(self, task: Task) -> Failure | None:
        offer = self._offers.get((task.chain, task.model_id))
        if self._draining:
            return Failure("draining", "this miner is stopping")
        if offer is None:
            return Failure("model", "this miner does not offer the model on that hub")
        if (task.prompt_price, task.output_price) != (offer.prompt_price, offer.output_price):
            return Failure("price", f"this miner asks for {offer.prompt_price} and {offer.output_price}")
        if task.request_id in self._seen:
            return Failure("duplicate", "this miner has had the request already")
        if len(self._running) >= self._slots:
            return Failure("busy", f"all {self._slots} slots are taken")
        return None

    async def _answer(self, task: Task, message: Msg) -> None:
        loop: Any = asyncio.get_running_loop()
        started, tokens = loop.time(), 0
        sender = AnswerSender(message)
        try:
            async for frame in self._worker.answer(task):
                if isinstance(frame, Delta):
                    tokens += frame.tokens
                sender.send(frame)
        except Exception as error:  # whatever it was, the router must not wait for more
            _log.exception("task failed", request=task.request_id.hex())
            sender.send(Failure("internal", f"this miner failed: {type(error).__name__}"))
        await sender.flush()
        if tokens:
            self._speed = tokens / max(loop.time() - started, 1e-3)
