"""One request, from its reservation to its receipt in the book."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec
import structlog
from nats.aio.client import Client

from tristrata.fabric import subjects
from tristrata.fabric.connection import ReplyInbox
from tristrata.fabric.frames import (
    Accepted,
    Cancel,
    Delta,
    Failure,
    Finish,
    Reply,
    Task,
    VoucherNotice,
    encode,
)
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, ModelId, RequestId, show
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Milliseconds, cost_of
from tristrata.protocol.voucher_book import Release, Reserve, apply
from tristrata.router.acknowledge import PROMPT_OVERHEAD_TOKENS, Streamed, acknowledge, check_receipt
from tristrata.router.matching import Match, match
from tristrata.router.presence import Presence
from tristrata.router.sessions import ServedSession
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

_DEADLINE_SECONDS = 600
_SILENCE_CHECK_SECONDS = 1.0
_log = structlog.get_logger()


class MinerLost(TristrataError):
    """The miner that was answering is gone, or broke off; nothing is owed for the answer."""


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


class Ended(msgspec.Struct, frozen=True):
    """The answer is complete: why it ended, and what the miner's checked receipt counts."""

    finish_reason: str
    prompt_tokens: int
    output_tokens: int


class Receipted(msgspec.Struct, frozen=True):
    """The receipt is acknowledged and in the book."""

    entry: BookEntry


ReplyQueue = asyncio.Queue[Reply | None]
Served = Text | Ended | Receipted


class Desk:
    """Serves requests: reserves, sends tasks, relays answers, acknowledges receipts. No chain call anywhere."""

    def __init__(self, connection: Client, inbox: ReplyInbox, presence: Presence, book: ReceiptBook, name: str) -> None:
        self._connection = connection
        self._inbox = inbox
        self._presence = presence
        self._book = book
        self._name = name

    async def serve(
        self, session: ServedSession, model: ModelId, request: dict[str, Any], max_output_tokens: int
    ) -> AsyncGenerator[Served, None]:
        """The answer as it comes; the receipt last. Closing it cancels the miner and bills what was streamed.

        Raises `ServiceRefused`, `NoCapacity` or `MinerLost`. Another miner is tried as long as nothing was streamed.
        """
        tried: frozenset[Address] = frozenset()
        while True:
            found = match(
                session.hub.chain,
                model,
                session.book,
                self._presence.statuses(),
                bound=session.bound,
                excluded=tried,
            )
            task = _make_task(session, model, found, request, max_output_tokens)
            most = cost_of(
                len(task.body) + PROMPT_OVERHEAD_TOKENS, max_output_tokens + 1, task.prompt_price, task.output_price
            )
            session.book, _ = apply(session.book, Reserve(RequestId(task.request_id), most))
            streamed = False
            try:
                async with aclosing(self._attempt(session, found, task)) as attempt:
                    async for served in attempt:
                        streamed = True
                        yield served
                return
            except MinerLost:
                if streamed:
                    raise
                tried |= {found.miner}
            finally:
                session.book, _ = apply(session.book, Release(RequestId(task.request_id)))

    async def _attempt(self, session: ServedSession, found: Match, task: Task) -> AsyncGenerator[Served, None]:
        queue = self._inbox.open(task.request_id)
        reply = subjects.reply(self._name, task.request_id)
        await self._connection.publish(subjects.task(found.miner), encode(task), reply=reply)
        text: list[str] = []
        tokens = 0
        finished: Finish | None = None
        try:
            while finished is None:
                frame = await self._next(queue, found.miner)
                if isinstance(frame, Delta):
                    text.append(frame.text)
                    tokens += frame.tokens
                    yield Text(frame.text)
                elif isinstance(frame, Finish):
                    finished = frame
            entry = await self._acknowledge(session, found, task, finished, Streamed("".join(text), tokens))
            session.bound = found.miner
            receipt = entry.receipt
            yield Ended(finished.finish_reason, receipt.prompt_tokens, receipt.output_tokens)
            yield Receipted(entry)
        except GeneratorExit:
            if finished is None:
                await self._cancel(session, found, task, queue, text, tokens)
            raise
        finally:
            self._inbox.close(task.request_id)

    async def _next(self, queue: ReplyQueue, miner: Address) -> Delta | Finish:
        while True:
            try:
                frame = await asyncio.wait_for(queue.get(), _SILENCE_CHECK_SECONDS)
            except TimeoutError:
                if self._presence.is_there(miner):
                    continue
                raise MinerLost(f"miner {show(miner)} is gone; nothing is owed for this answer") from None
            if frame is None:
                raise MinerLost(f"miner {show(miner)} cannot be reached")
            if isinstance(frame, Failure):
                raise MinerLost(f"miner {show(miner)} gave up: {frame.code}: {frame.message}")
            if not isinstance(frame, Accepted):
                return frame

    async def _cancel(
        self,
        session: ServedSession,
        found: Match,
        task: Task,
        queue: ReplyQueue,
        text: list[str],
        tokens: int,
    ) -> None:
        """The client is gone: stop the miner, and take its receipt for what it had streamed."""
        await self._connection.publish(subjects.cancel(found.miner), encode(Cancel(task.request_id)))
        try:
            while not isinstance(frame := await self._next(queue, found.miner), Finish):
                if isinstance(frame, Delta):
                    text.append(frame.text)
                    tokens += frame.tokens
            await self._acknowledge(session, found, task, frame, Streamed("".join(text), tokens))
        except TristrataError as error:
            _log.info("cancelled answer stays unpaid", request=task.request_id.hex(), reason=error.message)

    async def _acknowledge(
        self, session: ServedSession, found: Match, task: Task, finish: Finish, streamed: Streamed
    ) -> BookEntry:
        receipt: Receipt = codec.receipt_from_json(codec.decode(finish.receipt))
        hub = session.hub
        signing_key = hub.signing_keys.get(found.miner)
        if signing_key is None:
            raise MinerLost(f"miner {show(found.miner)} is not registered on {hub.chain}")
        check_receipt(receipt, finish.signature, task, found.miner, signing_key, streamed, hub.separator)
        done = acknowledge(session.book, receipt, session.key, hub.separator)
        session.book = done.book
        entry = BookEntry(
            chain=hub.chain,
            position=done.position,
            receipt=receipt,
            signature=finish.signature,
            voucher=done.voucher,
            prompt_salt=task.prompt_salt,
            output_salt=task.output_salt,
            appended_at=Milliseconds(time.time_ns() // 1_000_000),
        )
        await self._book.append(entry)
        notice = encode(VoucherNotice(hub.chain, codec.encode(codec.voucher_to_json(done.voucher))))
        for split in done.voucher.splits:
            if split.payee != session.book.terms.router:
                await self._connection.publish(subjects.voucher(split.payee), notice)
        return entry


def _make_task(
    session: ServedSession, model: ModelId, found: Match, request: dict[str, Any], max_output_tokens: int
) -> Task:
    return Task(
        request_id=os.urandom(32),
        chain=session.hub.chain,
        session=session.book.session,
        model_id=model,
        body=msgspec.json.encode(request),
        max_output_tokens=max_output_tokens,
        prompt_price=found.offer.prompt_price,
        output_price=found.offer.output_price,
        assurance=session.book.terms.assurance,
        deadline=time.time_ns() // 1_000_000 + _DEADLINE_SECONDS * 1_000,
        prompt_salt=os.urandom(32),
        output_salt=os.urandom(32),
    )
