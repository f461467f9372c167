"""One request, from its reservation to its receipt in the book."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

import msgspec
import structlog
from nats.aio.client import Client

from tristrata.fabric import subjects
from tristrata.fabric.connection import ReplyInbox
from tristrata.fabric.frames import (
    REQUEST_REJECTED,
    Cancel,
    Delta,
    Failure,
    Finish,
    Reply,
    Task,
    encode,
)
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, ModelId, RequestId, show
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Amount, Milliseconds, cost_of
from tristrata.protocol.voucher_book import Release, Reserve, apply
from tristrata.router.acknowledge import PROMPT_OVERHEAD_TOKENS, acknowledge, check_receipt
from tristrata.router.matching import Match, match
from tristrata.router.own_keys import OwnKeyDesk, publish_voucher
from tristrata.router.presence import Presence
from tristrata.router.sessions import ServedSession
from tristrata.storage.api_keys import ApiKey
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

_DEADLINE_SECONDS = 600
_IDLE_SECONDS = 60
_SILENCE_CHECK_SECONDS = 1.0
_log = structlog.get_logger()
Result = TypeVar("Result")


class MinerLost(TristrataError):
    """The miner that was answering is gone, or broke off; nothing is owed for the answer."""


class RequestUnanswerable(TristrataError):
    """The model cannot answer this request, whichever miner runs it: a prompt longer than its context."""


class Began(msgspec.Struct, frozen=True):
    """The first frame of the answer is there; from here on no other miner is tried."""

    request_id: RequestId


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


class Ended(msgspec.Struct, frozen=True):
    """The answer is complete: why it ended, and what the miner's checked receipt counts."""

    finish_reason: str
    prompt_tokens: int
    output_tokens: int


class Receipted(msgspec.Struct, frozen=True):
    """The receipt is acknowledged and in the book; with own keys, it awaits its owner's voucher."""

    entry: BookEntry | AwaitingReceipt


Served = Began | Text | Ended | Receipted


class Desk:
    """Serves requests: reserves, sends tasks, relays answers, acknowledges receipts. No chain call anywhere."""

    def __init__(
        self,
        connection: Client,
        inbox: ReplyInbox,
        presence: Presence,
        book: ReceiptBook,
        own_keys: OwnKeyDesk,
        name: str,
    ) -> None:
        self._connection = connection
        self._inbox = inbox
        self._presence = presence
        self._book = book
        self._own_keys = own_keys
        self._name = name
        self._background: set[asyncio.Task[Any]] = set()

    async def serve(
        self,
        session: ServedSession,
        model: ModelId,
        request: dict[str, Any],
        max_output_tokens: int,
        *,
        key: ApiKey | None,
    ) -> AsyncGenerator[Served, None]:
        """The answer as it comes; the receipt last. ``key`` is the API key that asks, whose budget is held to.

        Closing it, or cancelling whoever awaits it, stops the miner and bills what was streamed. Raises
        `ServiceRefused`, `NoCapacity`, `RequestUnanswerable` or `MinerLost`. Another miner is tried as long as nothing
        was streamed.
        """
        tried: frozenset[Address] = frozenset()
        began = False
        while True:
            attempt = self._reserve(session, model, request, max_output_tokens, tried, key)
            try:
                reply = subjects.reply(self._name, attempt.task.request_id)
                await self._connection.publish(subjects.task(attempt.miner), encode(attempt.task), reply=reply)
                piece = await attempt.advance()
                began = True
                yield Began(RequestId(attempt.task.request_id))
                while piece is not None:
                    yield piece
                    piece = await attempt.advance()
                attempt.acknowledging = self._spawn(self._acknowledge(attempt))
                entry = await asyncio.shield(attempt.acknowledging)
                attempt.close()
                yield Ended(attempt.finish_reason, entry.receipt.prompt_tokens, entry.receipt.output_tokens)
                yield Receipted(entry)
                return
            except MinerLost:
                attempt.close()
                await self._stop(attempt)
                if began:
                    raise
                tried |= {attempt.miner}
            except (asyncio.CancelledError, GeneratorExit):  # nobody waits any more
                if attempt.is_open:
                    self._spawn(self._wind_up(attempt))
                raise
            except BaseException:
                attempt.close()
                raise

    async def drain(self) -> None:
        """Wait until every answer that was left behind is wound up."""
        while self._background:
            await asyncio.wait(self._background)

    def _reserve(
        self,
        session: ServedSession,
        model: ModelId,
        request: dict[str, Any],
        max_output_tokens: int,
        tried: frozenset[Address],
        key: ApiKey | None,
    ) -> "_Attempt":
        statuses = self._presence.statuses()
        found = match(session.hub.chain, model, session.book, statuses, bound=session.bound, excluded=tried)
        task = _make_task(session, model, found, request, max_output_tokens)
        most = cost_of(
            len(task.body) + PROMPT_OVERHEAD_TOKENS, max_output_tokens + 1, task.prompt_price, task.output_price
        )
        if session.key is None:
            self._own_keys.require_vouchers(session, most)
        reserved, _ = apply(session.book, Reserve(RequestId(task.request_id), most))
        if key is not None:
            key.hold(most)
        session.book = reserved
        return _Attempt(session, found, task, self._inbox, self._presence, key, most)

    async def _wind_up(self, attempt: "_Attempt") -> None:
        """The client is gone: stop the miner, and take its receipt for what it had streamed."""
        try:
            if attempt.acknowledging is not None:
                await attempt.acknowledging
                return
            await self._stop(attempt)
            while await attempt.advance() is not None:
                pass
            await self._acknowledge(attempt)
        except TristrataError as error:
            _log.info("cancelled answer stays unpaid", request=attempt.task.request_id.hex(), reason=error.message)
        finally:
            attempt.close()

    async def _stop(self, attempt: "_Attempt") -> None:
        cancel = encode(Cancel(attempt.task.request_id))
        await self._connection.publish(subjects.cancel(attempt.miner), cancel)

    async def _acknowledge(self, attempt: "_Attempt") -> BookEntry | AwaitingReceipt:
        assert attempt.finish is not None
        session, task, signature = attempt.session, attempt.task, attempt.finish.signature
        hub = session.hub
        receipt = codec.receipt_from_json(codec.decode(attempt.finish.receipt))
        signing_key = hub.signing_keys.get(attempt.miner)
        if signing_key is None:
            raise MinerLost(f"miner {show(attempt.miner)} is not registered on {hub.chain}")
        streamed = "".join(attempt.text)
        check_receipt(receipt, signature, task, attempt.miner, signing_key, streamed, hub.separator)
        if attempt.key is not None:
            attempt.key.spend(receipt.price)
        if session.key is None:
            return await self._await_voucher(attempt, receipt, signature)
        done = acknowledge(session.book, receipt, session.key, hub.separator)
        session.book, session.bound = done.book, attempt.miner
        entry = BookEntry(
            chain=hub.chain,
            position=done.position,
            receipt=receipt,
            signature=signature,
            voucher=done.voucher,
            prompt_salt=task.prompt_salt,
            output_salt=task.output_salt,
            appended_at=Milliseconds(time.time_ns() // 1_000_000),
            key_id=attempt.key.id if attempt.key else "",
        )
        await self._book.append(entry)
        await publish_voucher(self._connection, session, done.voucher)
        return entry

    async def _await_voucher(self, attempt: "_Attempt", receipt: Receipt, signature: bytes) -> AwaitingReceipt:
        awaiting = AwaitingReceipt(
            chain=attempt.session.hub.chain,
            receipt=receipt,
            signature=signature,
            prompt_salt=attempt.task.prompt_salt,
            output_salt=attempt.task.output_salt,
            ended_at=Milliseconds(time.time_ns() // 1_000_000),
            key_id=attempt.key.id if attempt.key else "",
        )
        await self._own_keys.add(attempt.session, awaiting)
        attempt.session.bound = attempt.miner
        return awaiting

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


class _Attempt:
    """One request at one miner: what was reserved for it, and what has come back so far."""

    def __init__(
        self,
        session: ServedSession,
        found: Match,
        task: Task,
        inbox: ReplyInbox,
        presence: Presence,
        key: ApiKey | None,
        held: Amount,
    ) -> None:
        self.session = session
        self.miner = found.miner
        self._run = found.run
        self.task = task
        self.key = key
        self._held = held
        self.text: list[str] = []
        self.finish: Finish | None = None
        self.acknowledging: asyncio.Task[BookEntry | AwaitingReceipt] | None = None
        self.is_open = True
        self._inbox = inbox
        self._presence = presence
        self._queue = inbox.open(task.request_id)

    @property
    def finish_reason(self) -> str:
        """Why the answer ended; empty while it has not."""
        return self.finish.finish_reason if self.finish else ""

    async def advance(self) -> Text | None:
        """The next piece; `None` at the end. Raises `MinerLost` or `RequestUnanswerable`."""
        while True:
            frame = await self._frame() if self._queue.empty() else self._queue.get_nowait()
            if frame is None:
                raise MinerLost(f"miner {show(self.miner)} cannot be reached; nothing is owed for this answer")
            if isinstance(frame, Failure):
                raise self._failed(frame)
            if isinstance(frame, Finish):
                self.finish = frame
                return None
            if isinstance(frame, Delta):
                self.text.append(frame.text)
                return Text(frame.text)

    async def _frame(self) -> Reply | None:
        """The next frame, as long as the miner is there and patience lasts. Raises `MinerLost`."""
        patience = _IDLE_SECONDS if self.text else _DEADLINE_SECONDS
        waited_since = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(_SILENCE_CHECK_SECONDS):
                    return await self._queue.get()
            except TimeoutError:
                if self._presence.is_there(self.miner, self._run) and time.monotonic() - waited_since < patience:
                    continue
                raise MinerLost(f"miner {show(self.miner)} is gone; nothing is owed for this answer") from None

    def close(self) -> None:
        """Release what was reserved, and hear no more."""
        if self.is_open:
            self.is_open = False
            if self.task.request_id not in self.session.awaiting:  # what awaits its voucher stays reserved
                self.session.book, _ = apply(self.session.book, Release(RequestId(self.task.request_id)))
            if self.key is not None:
                self.key.release(self._held)
            self._inbox.close(self.task.request_id)

    def _failed(self, failure: Failure) -> TristrataError:
        if failure.code == REQUEST_REJECTED:
            return RequestUnanswerable(failure.message, remedy="shorten the messages, or ask another model")
        return MinerLost(f"miner {show(self.miner)} gave up ({failure.code}: {failure.message}); nothing is owed")


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
