"""An account that deposits up to an allowance: what an agent may do with its owner's money."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from msgspec.structs import replace

from tristrata.client.account import Account, Budget
from tristrata.client.api import RouterApi
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import SessionId, parse_bytes32, show
from tristrata.protocol.units import Amount

OpenAccount = Callable[[], AbstractAsyncContextManager[Account]]
Fund = Callable[[Account, Amount], Awaitable[None]]
"""Gives an account dollars on the hub before it deposits them, where there are such givers: the embedded network."""


class AllowanceReached(TristrataError):
    """Depositing this would go beyond what the account's owner has allowed; nothing was signed."""


class Wallet:
    """Deposits at most ``allowance`` base units in all, on one hub, at the prices and caps of ``budget``.

    What was deposited counts also when it goes back after a close, and when a deposit failed after it was signed.
    """

    def __init__(
        self,
        open_account: OpenAccount,
        router: str,
        hub: str,
        allowance: Amount,
        budget: Budget,
        fund: Fund | None = None,
    ) -> None:
        self._open_account = open_account
        self._router = router
        self._hub = hub
        self._allowance = allowance
        self._budget = budget
        self._fund = fund
        self._used = Amount(0)

    async def open_session(self, model: str, deposit: int, api_key: str) -> dict[str, Any]:
        """Open a managed session that ``api_key`` may use from now on. Raises `AllowanceReached`."""
        amount = self._allow(deposit)
        async with self._account(amount) as account:
            hub = account.hub(self._hub)
            await account.join(hub)
            terms = replace(self._budget, deposit=amount, exposure_cap=amount)
            opened = await account.open_session(hub, model, terms, api_key=api_key)
        return {"session": show(opened.session), "model": model, "deposit": str(amount), "left": str(self._left)}

    async def top_up(self, session: str, amount: int) -> dict[str, Any]:
        """Put more into one of the account's sessions. Raises `AllowanceReached`."""
        session_id, more = SessionId(parse_bytes32(session, "session")), self._allow(amount)
        async with self._account(more) as account, AsyncExitStack() as stack:
            token = (await account.sign_in()).token
            router = await stack.enter_async_context(RouterApi(self._router, token))
            found = await account.top_up(account.hub(self._hub), session_id, more, router=router)
        return {**found, "left": str(self._left)}

    async def close_session(self, session: str) -> dict[str, Any]:
        """Ask for the end of one of the account's sessions: what was not charged goes back after the grace period."""
        async with self._account(Amount(0)) as account:
            return await account.close_session(account.hub(self._hub), SessionId(parse_bytes32(session, "session")))

    @property
    def _left(self) -> Amount:
        return Amount(self._allowance - self._used)

    def _allow(self, amount: int) -> Amount:
        if not 0 < amount <= self._left:
            raise AllowanceReached(
                f"{amount} base units were asked for; of the allowance of {self._allowance}, {self._left} is left",
                remedy="ask for less, or have the owner allow more: --allow-spending",
            )
        self._used = Amount(self._used + amount)
        return Amount(amount)

    @asynccontextmanager
    async def _account(self, spending: Amount) -> AsyncIterator[Account]:
        async with self._open_account() as account:
            if spending and self._fund is not None:
                await self._fund(account, spending)
            yield account
