"""After an answer: its receipt is checked, and with own keys paid; when something is wrong, no more is asked."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tristrata.bindings.hub import Hub
from tristrata.client.api import RouterApi, RouterRefused, RouterUnreachable
from tristrata.client.checks import ReceiptBroken, check_answer
from tristrata.client.own_session import Answered, OwnSession
from tristrata.custody.limits import LimitReached, SigningLimits, Spent, spend
from tristrata.protocol import codec
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.units import Amount

_RETRY_SECONDS = 1.0


class Checked(msgspec.Struct, frozen=True):
    """What the companion tells of an answer. Amounts are base units; ``problem`` is empty where all is well."""

    request_id: str
    price: int
    spent: int
    checked: int
    problem: str = ""


Tell = Callable[[Checked], None]


class Payer(Protocol):
    """Checks and pays for answers. ``problem`` is why nothing more is asked; empty while all is well."""

    problem: str

    async def answered(self, outputs: list[str], receipts: list[dict[str, Any]], request_bytes: int) -> None:
        """An answer has come, with these receipts in the order of its choices."""

    def require_budget(self) -> None:
        """Raise `LimitReached` where the budget is spent."""


class _Counting:
    """What both kinds of payers count and tell."""

    def __init__(self, limits: SigningLimits, tell: Tell) -> None:
        self.problem = ""
        self.checked = 0
        self._limits = limits
        self._tell = tell

    def stop(self, request_id: str, spent: Amount, error: TristrataError) -> None:
        """Ask no more."""
        self.problem = f"{error.message}. {error.remedy}" if error.remedy else error.message
        self._tell(Checked(request_id, 0, spent, self.checked, self.problem))


class OwnKeyPayer(_Counting):
    """Pays for answers of a session whose key is here."""

    def __init__(self, session: OwnSession, api: RouterApi, limits: SigningLimits, tell: Tell) -> None:
        super().__init__(limits, tell)
        self._session = session
        self._api = api
        self._paying = asyncio.Lock()

    async def answered(self, outputs: list[str], receipts: list[dict[str, Any]], request_bytes: int) -> None:
        """Write down what was seen, then pay. A router that does not answer is tried again until it does."""
        ids = []
        for output, document in zip(outputs, receipts, strict=True):
            receipt = codec.receipt_from_json(document["receipt"])
            self._session.saw(receipt.request_id, Answered(output, request_bytes))
            ids.append(document["receipt"]["request_id"])
        await self.catch_up(ids[0] if ids else "")

    async def catch_up(self, request_id: str = "", *, pay_unseen: bool = False) -> None:
        """Pay everything that awaits a voucher."""
        async with self._paying:
            while not self.problem:
                before = self._session.spent.total
                try:
                    paid = await self._session.pay(self._api, pay_unseen=pay_unseen)
                except RouterUnreachable:
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                except (TristrataError, RouterRefused) as error:
                    self.stop(request_id, self._session.spent.total, error)
                    return
                self.checked += paid
                if paid:
                    spent = self._session.spent.total
                    self._tell(Checked(request_id, spent - before, spent, self.checked))
                return

    def require_budget(self) -> None:
        """Raise `LimitReached` where the budget is spent."""
        _require_budget(self._limits, self._session.spent)


class ManagedPayer(_Counting):
    """Checks answers of a session whose key the router has; it pays, within the budget that is set here."""

    def __init__(self, hub: Hub, api: RouterApi, limits: SigningLimits, tell: Tell) -> None:
        super().__init__(limits, tell)
        self._hub = hub
        self._api = api
        self._spent = Spent()

    async def answered(self, outputs: list[str], receipts: list[dict[str, Any]], request_bytes: int) -> None:
        """Compare the receipt, the voucher and the hub's registries with what was seen."""
        for output, signed in zip(outputs, receipts, strict=True):
            request_id = signed["receipt"]["request_id"]
            try:
                receipt, _ = await check_answer(await self._api.receipt(request_id), output, self._hub)
                if codec.receipt_to_json(receipt) != signed["receipt"]:
                    raise ReceiptBroken("the router shows another receipt than it sent with the answer")
                self._spent = spend(self._limits, self._spent, receipt)
            except RouterUnreachable:
                continue
            except TristrataError as error:
                self.stop(request_id, self._spent.total, error)
                return
            self.checked += 1
            self._tell(Checked(request_id, receipt.price, self._spent.total, self.checked))

    def require_budget(self) -> None:
        """Raise `LimitReached` where the budget is spent."""
        _require_budget(self._limits, self._spent)


def _require_budget(limits: SigningLimits, spent: Spent) -> None:
    if spent.total >= limits.budget:
        raise LimitReached(f"the budget of {limits.budget} base units is spent", remedy="set a higher one: --budget")
