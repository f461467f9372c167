"""A call that is paid for itself: priced, checked, answered, and settled before its answer goes out."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, TypeVar

import structlog
from starlette.requests import Request
from starlette.types import ASGIApp

from tristrata.chains.evm import Level
from tristrata.chains.writer import Inclusion, TransactionReverted
from tristrata.config.network import PayPerCall as PayPerCallSettings
from tristrata.protocol.authorization import Asset
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address, Caip2, checksum
from tristrata.protocol.units import Amount, Timestamp, cost_of
from tristrata.router.accounts.desk import AccountDesk
from tristrata.router.acknowledge import PROMPT_OVERHEAD_TOKENS
from tristrata.router.endpoint import Events, EventStream
from tristrata.router.http import Refusal
from tristrata.router.openai.asking import answers_of
from tristrata.router.openai.calls import Call
from tristrata.router.pay_per_call.house import HouseSessions
from tristrata.router.pay_per_call.x402 import (
    PAYMENT_HEADER,
    REQUIRED_HEADER,
    RESPONSE_HEADER,
    Offer,
    Payment,
    PaymentInvalid,
    read_payment,
    required_header,
    response_header,
)
from tristrata.router.serving import Desk
from tristrata.storage.payments import Payments, PaymentTaken

Check = Callable[[bytes], Call]
"""From an owner's account, raw, to the call that is asked in its name. Raises `Refusal`."""

Result = TypeVar("Result")
_USED = "invalid_exact_evm_nonce_already_used"
_log = structlog.get_logger()


class PayPerCall:
    """Sells single calls. ``house`` are the sessions that pay miners, ``accounts`` carries payments to their hubs."""

    def __init__(
        self,
        settings: PayPerCallSettings,
        house: HouseSessions,
        accounts: AccountDesk,
        desk: Desk,
        payments: Payments,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.house = house
        self._settings = settings
        self._accounts = accounts
        self._desk = desk
        self._payments = payments
        self._clock = clock
        self._assets: dict[Caip2, Asset] = {}
        self._pending: Counter[tuple[Caip2, Address]] = Counter()
        self._background: set[asyncio.Task[Any]] = set()

    async def sell(self, request: Request, body: bytes, check: Check) -> ASGIApp:
        """The answer to a call that its payment pays for. Raises `Refusal`: 402 with the offers, where none does."""
        call = check(b"")
        offers = await self._offers(call)
        try:
            payment = read_payment(request.headers.get(PAYMENT_HEADER), offers, int(self._clock()))
            await self._accounts.state.fleet.lead()
            return await self._sell(payment, keccak(request.url.path.encode() + b"\0" + body), check)
        except PaymentInvalid as error:
            refusal = Refusal(402, "payment_required", str(error))
            offered = required_header(list(offers.values()), str(request.url), error.reason)
            refusal.headers = [(REQUIRED_HEADER.encode(), offered)]
            if error.settlement:
                refusal.headers.append((RESPONSE_HEADER.encode(), error.settlement.encode()))
            raise refusal from error

    async def drain(self) -> None:
        """Wait until every payment that was left behind is settled."""
        while self._background:
            await asyncio.wait(self._background)

    async def _offers(self, call: Call) -> dict[Caip2, Offer]:
        """What the call costs on each hub whose session here can pay its miners."""
        prices = self._settings.prompt_price, self._settings.output_price
        most = sum(
            cost_of(len(question.body) + PROMPT_OVERHEAD_TOKENS, question.max_output_tokens + 1, *prices)
            for question in call.questions
        )
        offers = {}
        for chain in self.house.hubs:
            session = self.house.find(chain, call.model.model_id)
            if session is not None and session.book.available >= most:
                asset = await self._asset(chain)
                amount = Amount(most + self._settings.fee)
                offers[chain] = Offer(chain, asset, self.house.owner, amount)
        if not offers:
            raise _unavailable()
        return offers

    async def _asset(self, chain: Caip2) -> Asset:
        if chain not in self._assets:
            self._assets[chain] = await self._accounts.hub(chain).hub.asset_domain()
        return self._assets[chain]

    async def _sell(self, payment: Payment, request: bytes, check: Check) -> ASGIApp:
        name = payment.offer.chain, payment.payer, payment.authorization.nonce
        try:
            is_new = await self._payments.take(*name, payment.offer.amount, request, self._now())
        except PaymentTaken as error:
            raise PaymentInvalid(_USED, f"{error.message}; {error.remedy}") from error
        sale = _Sale(is_new)
        try:
            with self._pending_of(payment) as pending:
                if is_new:
                    await self._require_money(payment, pending)
                return await self._answer(payment, check(payment.payer), sale)
        except BaseException:
            # Once it may be settled, only the same request may be asked with it again.
            undo = self._payments.leave if sale.may_be_settled else self._payments.release
            await asyncio.shield(self._spawn(undo(*name)))
            raise

    async def _answer(self, payment: Payment, call: Call, sale: "_Sale") -> ASGIApp:
        model = call.model
        session = self.house.find(payment.offer.chain, model.model_id)
        if session is None:
            raise _unavailable()
        starts = [partial(self._desk.serve, session, model.model_id, each, key=None) for each in call.questions]
        answers = answers_of(starts, call.names)
        if call.events is None:
            response = await call.whole(answers)
            response.headers[RESPONSE_HEADER] = await self._settle(payment, sale)
            return response
        headers: dict[str, str] = {}
        events = call.events(answers, headers)
        try:
            first = await anext(events)
            headers[RESPONSE_HEADER] = await self._settle(payment, sale)
        except BaseException:
            await events.aclose()
            raise
        return EventStream(_resumed(first, events), headers)

    async def _settle(self, payment: Payment, sale: "_Sale") -> str:
        """Carry the payment to its chain, whoever leaves meanwhile; gives the header that tells it."""
        sale.may_be_settled = True
        try:
            done = await asyncio.shield(self._spawn(self._carry(payment)))
        except TransactionReverted as error:
            sale.may_be_settled = False
            _log.info("payment refused by its asset", payer=payment.payer.hex(), reason=error.message)
            refusal = PaymentInvalid("transaction_failed", f"the asset refused the payment: {error.message}")
            refusal.settlement = response_header(payment, None, refusal.reason)
            raise refusal from error
        await self._payments.answer(payment.offer.chain, payment.payer, payment.authorization.nonce, self._now())
        return response_header(payment, done.tx_hash)

    async def _carry(self, payment: Payment) -> Inclusion:
        chain = payment.offer.chain
        hub, writer = self._accounts.hub(chain).hub, await self._accounts.writer(chain)
        return await hub.transfer_authorized(writer, payment.authorization, payment.signature)

    async def _require_money(self, payment: Payment, pending: Amount) -> None:
        """Raise `PaymentInvalid` unless the chain would take it, and all others of the payer's that are under way."""
        hub, payer = self._accounts.hub(payment.offer.chain).hub, payment.payer
        head = (await hub.chain.block(Level.SOFT)).number
        nonce = payment.authorization.nonce
        is_used, balance = await asyncio.gather(
            hub.asset.read("authorizationState", payer, nonce, at=head), hub.balance(payer, at=head)
        )
        if is_used:
            raise PaymentInvalid(_USED, "the authorization's nonce was used already; sign another one")
        if balance < pending:
            raise PaymentInvalid(
                "invalid_exact_evm_insufficient_balance",
                f"{checksum(payer)} holds {balance} base units; its payments under way need {pending}",
            )

    @contextmanager
    def _pending_of(self, payment: Payment) -> Iterator[Amount]:
        """All that the payer has under way on a chain, this payment with it."""
        place = payment.offer.chain, payment.payer
        self._pending[place] += payment.offer.amount
        try:
            yield Amount(self._pending[place])
        finally:
            self._pending[place] -= payment.offer.amount
            if not self._pending[place]:
                del self._pending[place]

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _now(self) -> Timestamp:
        return Timestamp(int(self._clock()))


class _Sale:
    """How far a sale has come. One whose payment was shown before may have been settled then."""

    def __init__(self, is_new: bool) -> None:
        self.may_be_settled = not is_new


def _unavailable() -> Refusal:
    return Refusal(503, "pay_per_call_unavailable", "no call can be paid for itself now: use an API key")


async def _resumed(first: tuple[bytes, bool], events: Events) -> Events:
    async with aclosing(events):
        yield first
        async for each in events:
            yield each
