"""One request, from its reservation to its receipt in the book."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog
from coincurve import PrivateKey
from nats.aio.client import Client

from tristrata.fabric import subjects
from tristrata.fabric.connection import ReplyInbox
from tristrata.fabric.frames import Cancel, Delta, Task, encode
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, ModelId, RequestId, show
from tristrata.protocol.receipt import Receipt
from tristrata.protocol.units import Milliseconds, cost_of
from tristrata.protocol.voucher_book import Reserve, apply
from tristrata.router.acknowledge import PROMPT_OVERHEAD_TOKENS, acknowledge, check_receipt
from tristrata.router.attempt import FIRST_PIECE_SECONDS, Acknowledging, Attempt, MinerLost, Question
from tristrata.router.fleet import Fleet
from tristrata.router.hedging import first_to_begin
from tristrata.router.matching import Match
from tristrata.router.metrics import Metrics
from tristrata.router.own_keys import OwnKeyDesk
from tristrata.router.presence import Presence
from tristrata.router.sessions import ServedSession
from tristrata.router.voucher_notices import VoucherNotices
from tristrata.router.waiting import WaitingRoom
from tristrata.storage.api_keys import ApiKey
from tristrata.storage.awaiting import AwaitingReceipt
from tristrata.storage.receipt_book import BookEntry, BookUnavailable, ReceiptBook

_log = structlog.get_logger()
Result = TypeVar("Result")


class Began(msgspec.Struct, frozen=True):
    """The first frame of the answer is there; from here on no other miner is tried."""

    request_id: RequestId


class Pieces(msgspec.Struct, frozen=True):
    """The next pieces of the answer: all that are there now."""

    deltas: Sequence[Delta]


class Ended(msgspec.Struct, frozen=True):
    """The answer is complete: why it ended, and its receipt.

    That is acknowledged and in the book; with own keys it awaits its owner's voucher.
    """

    finish_reason: str
    entry: BookEntry | AwaitingReceipt


Served = Began | Pieces | Ended


class Desk:
    """Serves requests: reserves, sends tasks, relays answers, acknowledges receipts. No chain call anywhere."""

    def __init__(
        self,
        connection: Client,
        inbox: ReplyInbox,
        presence: Presence,
        book: ReceiptBook,
        own_keys: OwnKeyDesk,
        notices: VoucherNotices,
        fleet: Fleet,
        name: str,
        *,
        room: WaitingRoom | None = None,
        metrics: Metrics | None = None,
        hedge_seconds: float = 0,
    ) -> None:
        """With ``hedge_seconds`` a second miner is asked where the first has not begun by then: see `hedging`."""
        self._hedge_seconds = hedge_seconds
        self._connection = connection
        self._inbox = inbox
        self._presence = presence
        self._book = book
        self._own_keys = own_keys
        self._notices = notices
        self._fleet = fleet
        self._name = name
        self.room = room or WaitingRoom(0, 0)
        self._metrics = metrics or Metrics()
        presence.market.on_free = self.room.wake
        self._background: set[asyncio.Task[Any]] = set()

    async def serve(
        self,
        session: ServedSession,
        model: ModelId,
        question: Question,
        *,
        key: ApiKey | None,
        waits: bool = True,
    ) -> AsyncGenerator[Served, None]:
        """The answer as it comes; the receipt last. ``key`` is the API key that asks, whose budget is held to.

        ``waits`` says whether it may stand in the queue for a free miner.

        Closing it, or cancelling whoever awaits it, stops the miner and bills what was streamed. Raises
        `OwnedElsewhere`, `FleetUnavailable`, `ServiceRefused`, `NoCapacity`, `FeatureMissing`, `RequestUnanswerable` or
        `MinerLost`. Another miner is tried as long as nothing was streamed.
        """
        await self.own(session)
        tried: frozenset[Address] = frozenset()
        began = False
        while True:
            reserve = partial(self._reserve, session, model, question, tried, key)
            attempt = await self.room.until_free(reserve) if waits else reserve()
            try:
                await self._send(attempt)
                if self._hedge_seconds and question.keep is None:
                    another = partial(self._ask_another, session, model, question, tried | {attempt.miner}, key)
                    attempt, pieces = await first_to_begin(attempt, self._hedge_seconds, another, self._drop)
                else:
                    pieces = await attempt.advance()
                began = True
                yield Began(RequestId(attempt.task.request_id))
                while pieces is not None:
                    yield Pieces(pieces)
                    pieces = await attempt.advance()
                # Shielded: what the miner has signed is acknowledged and kept, whoever leaves meanwhile.
                attempt.acknowledging = self._acknowledge(attempt)
                entry = await asyncio.shield(attempt.acknowledging)
                attempt.close()
                assert attempt.finish is not None  # there are no more pieces
                yield Ended(attempt.finish.finish_reason, entry)
                return
            except MinerLost:
                await self._drop(attempt)
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

    async def own(self, session: ServedSession) -> None:
        """See to it that this router may serve the session. Raises `OwnedElsewhere` or `FleetUnavailable`."""
        if not self._fleet.owns(session):
            await self._fleet.own(session)

    async def drain(self) -> None:
        """Wait until every answer that was left behind is wound up, and the miners know of their vouchers."""
        while self._background:
            await asyncio.wait(self._background)
        await self._notices.flush()

    def _reserve(
        self,
        session: ServedSession,
        model: ModelId,
        question: Question,
        tried: frozenset[Address],
        key: ApiKey | None,
    ) -> Attempt:
        market = self._presence.market
        found = market.match(
            session.hub.chain, model, session.book, bound=session.bound, excluded=tried, needs=question.needs
        )
        task = _make_task(session, model, found, question)
        most = cost_of(
            len(task.body) + PROMPT_OVERHEAD_TOKENS, task.max_output_tokens + 1, task.prompt_price, task.output_price
        )
        if session.key is None:
            self._own_keys.require_vouchers(session, most)
        reserved, _ = apply(session.book, Reserve(RequestId(task.request_id), most))
        if key is not None:
            key.hold(most)
        session.book = reserved
        attempt = Attempt(session, found, task, key, most, question)
        attempt.open(self._inbox, self._presence)
        return attempt

    async def _wind_up(self, attempt: Attempt) -> None:
        """The client is gone: stop the miner, and take its receipt for what it had streamed."""
        try:
            if attempt.acknowledging is not None:
                await attempt.acknowledging
                return
            await self._stop(attempt)
            if attempt.question.keep is not None:
                return
            while await attempt.advance() is not None:
                pass
            await self._acknowledge(attempt)
        except TristrataError as error:
            _log.info("cancelled answer stays unpaid", request=attempt.task.request_id.hex(), reason=error.message)
        finally:
            attempt.close()

    async def _send(self, attempt: Attempt) -> None:
        reply = subjects.reply(self._name, attempt.miner, attempt.task.request_id)
        await self._connection.publish(subjects.task(attempt.miner), encode(attempt.task), reply=reply)

    async def _ask_another(
        self,
        session: ServedSession,
        model: ModelId,
        question: Question,
        tried: frozenset[Address],
        key: ApiKey | None,
    ) -> Attempt:
        attempt = self._reserve(session, model, question, tried, key)
        await self._send(attempt)
        return attempt

    async def _drop(self, attempt: Attempt) -> None:
        attempt.close()
        await self._stop(attempt)

    async def _stop(self, attempt: Attempt) -> None:
        cancel = encode(Cancel(attempt.task.request_id))
        await self._connection.publish(subjects.cancel(attempt.miner), cancel)

    def _acknowledge(self, attempt: Attempt) -> Acknowledging:
        """Check the receipt, and have it paid: done when that is on disk, whoever waits for it."""
        assert attempt.finish is not None
        session = attempt.session
        receipt = codec.receipt_from_json(codec.decode(attempt.finish.receipt))
        signing_key = session.hub.signing_keys.get(attempt.miner)
        if signing_key is None:
            raise MinerLost(f"miner {show(attempt.miner)} is not registered on {session.hub.chain}")
        signature, separator = attempt.finish.signature, session.hub.separator
        check_receipt(receipt, signature, attempt.task, attempt.miner, signing_key, attempt.output, separator)
        if attempt.question.check is not None:
            attempt.question.check(attempt.text)
        if attempt.question.keep is not None or session.key is None:
            return self._spawn(self._keep_and_pay(attempt, receipt))
        return self._pay(attempt, receipt, session.key)

    async def _keep_and_pay(self, attempt: Attempt, receipt: Receipt) -> BookEntry | AwaitingReceipt:
        assert attempt.finish is not None
        if attempt.question.keep is not None:
            request_id = RequestId(attempt.task.request_id)
            await attempt.question.keep(request_id, attempt.pieces, attempt.finish.finish_reason)
        if attempt.session.key is None:
            return await self._await_voucher(attempt, receipt, attempt.finish.signature)
        return await self._pay(attempt, receipt, attempt.session.key)

    def _pay(self, attempt: Attempt, receipt: Receipt, key: PrivateKey) -> "asyncio.Future[BookEntry]":
        """Acknowledge a checked receipt, and write it down with its voucher."""
        assert attempt.finish is not None
        session = attempt.session
        if session.is_stale:
            raise BookUnavailable("an answer of this session before this one could not be kept", remedy="ask again")
        if attempt.key is not None:
            attempt.key.spend(receipt.price, receipt.prompt_tokens + receipt.output_tokens)
        done = acknowledge(session.book, receipt, key, session.hub.separator)
        session.book, session.bound = done.book, attempt.miner
        entry = BookEntry(
            chain=session.hub.chain,
            position=done.position,
            receipt=receipt,
            signature=attempt.finish.signature,
            voucher=done.voucher,
            prompt_salt=attempt.task.prompt_salt,
            output_salt=attempt.task.output_salt,
            appended_at=Milliseconds(time.time_ns() // 1_000_000),
            key_id=attempt.key.id if attempt.key else "",
        )
        appended = self._book.append(entry)
        appended.add_done_callback(partial(self._appended, session, time.perf_counter()))
        return appended

    def _appended(self, session: ServedSession, started: float, appended: "asyncio.Future[BookEntry]") -> None:
        if appended.cancelled() or appended.exception() is not None:
            session.is_stale = True  # it may have an answer that the book does not have
            return
        entry = appended.result()
        self._metrics.kept(entry.receipt, time.perf_counter() - started)
        self._notices.tell(session, entry.voucher)

    async def _await_voucher(self, attempt: Attempt, receipt: Receipt, signature: bytes) -> AwaitingReceipt:
        if attempt.key is not None:
            attempt.key.spend(receipt.price, receipt.prompt_tokens + receipt.output_tokens)
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


def _make_task(session: ServedSession, model: ModelId, found: Match, question: Question) -> Task:
    random = os.urandom(96)
    return Task(
        request_id=random[:32],
        chain=session.hub.chain,
        session=session.book.session,
        model_id=model,
        body=question.body,
        max_output_tokens=question.max_output_tokens,
        prompt_price=found.offer.prompt_price,
        output_price=found.offer.output_price,
        assurance=session.book.terms.assurance,
        deadline=time.time_ns() // 1_000_000 + FIRST_PIECE_SECONDS * 1_000,
        prompt_salt=random[32:64],
        output_salt=random[64:],
        kind=question.kind,
    )
