"""One router among others: whose a session is, how it changes hands, and how a request finds its owner.

A session's hot state (what is reserved, its voucher book) has one owner. Whoever is asked for a session of another live
router forwards the whole request there; what nobody live owns it takes over, reading its state anew from the
database. Alone, over a SQLite file, a router owns everything.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
from asyncpg import InterfaceError, PostgresError
from sqlalchemy.exc import SQLAlchemyError

from tristrata.protocol.errors import TristrataError
from tristrata.router.sessions import ServedSession
from tristrata.storage.ownership import LEADERSHIP, LEASE_SECONDS, NameTaken, Ownerships

BEAT_SECONDS = 0.5
_DATABASE_ERRORS = (OSError, SQLAlchemyError, PostgresError, InterfaceError)
_log = structlog.get_logger()

Restore = Callable[[ServedSession], Awaitable[None]]
"""Reads a session's state anew from the database."""


class OwnedElsewhere(TristrataError):
    """Another router owns it: its name, and ``address``, where it answers."""

    def __init__(self, router: str, address: str) -> None:
        super().__init__(f"router {router!r} serves this", remedy="ask again in a few seconds")
        self.router = router
        self.address = address


class OwnerUnreachable(TristrataError):
    """The session's owner takes no connection; nothing was sent to it."""


class OwnerLost(TristrataError):
    """The session's owner went away before its answer began. Whether it is charged is in the receipts."""


class FleetUnavailable(TristrataError):
    """Who owns the session cannot be found out now: the database does not answer."""


class Fleet(Protocol):
    """Who owns what."""

    def owns(self, session: ServedSession) -> bool:
        """Whether this router may serve the session now, without asking anybody."""

    async def own(self, session: ServedSession) -> None:
        """See to it that it may. Raises `OwnedElsewhere` or `FleetUnavailable`."""

    async def lead(self) -> None:
        """See to it that this router writes to the chains. Raises as `own`."""

    async def run(self) -> None:
        """Stay in the fleet until cancelled."""


class Alone:
    """The only router of its sessions."""

    def __init__(self, restore: Restore) -> None:
        self._restore = restore

    def owns(self, session: ServedSession) -> bool:
        """Always, but after a failure to keep an answer."""
        return not session.is_stale

    async def own(self, session: ServedSession) -> None:
        """Read the session anew."""
        await self._restore(session)

    async def lead(self) -> None:
        """Nobody else writes."""

    async def run(self) -> None:
        """Nobody needs to know."""


class Member:
    """One of several routers over one PostgreSQL."""

    def __init__(self, ownerships: Ownerships, restore: Restore) -> None:
        self._ownerships = ownerships
        self._restore = restore
        self._owned: dict[bytes, int] = {}
        self._leads = False
        self._claims: dict[bytes, asyncio.Task[None]] = {}
        self._alive_until = float("-inf")

    async def start(self) -> None:
        """Join the fleet."""
        await self._ownerships.start()
        self._alive_until = asyncio.get_running_loop().time() + LEASE_SECONDS

    async def leave(self) -> None:
        """Leave it: others may take over at once."""
        try:
            await self._ownerships.stop()
        except _DATABASE_ERRORS as error:
            _log.warning("the fleet was not told that this router leaves", reason=type(error).__name__)

    async def run(self) -> None:
        """Stay in it until cancelled. Raises `NameTaken`."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                asked = loop.time()
                try:
                    await self._ownerships.beat()
                    self._alive_until = asked + LEASE_SECONDS
                except NameTaken:
                    raise
                except _DATABASE_ERRORS as error:
                    _log.warning("the fleet's database does not answer", reason=type(error).__name__)
                await asyncio.sleep(BEAT_SECONDS)
        finally:
            self._alive_until = float("-inf")

    def owns(self, session: ServedSession) -> bool:
        """Whether it is owned, and nobody can have taken it over since the last beat."""
        return session.book.session in self._owned and not session.is_stale and self._is_alive()

    async def own(self, session: ServedSession) -> None:
        """Claim the session, and read its state anew if it was not owned."""
        subject = session.book.session
        claiming = self._claims.get(subject)
        if claiming is None:
            claiming = asyncio.create_task(self._take(session))
            self._claims[subject] = claiming
            claiming.add_done_callback(lambda _: self._claims.pop(subject, None))
        await asyncio.shield(claiming)

    async def lead(self) -> None:
        """Claim the leadership."""
        if not (self._leads and self._is_alive()):
            self._leads = False
            await self._claim(LEADERSHIP)
            self._leads = True

    async def is_alive(self, router: str) -> bool:
        """Whether another router was heard lately, or nobody can tell."""
        try:
            return await self._ownerships.is_alive(router)
        except _DATABASE_ERRORS:
            return True

    def _is_alive(self) -> bool:
        return asyncio.get_running_loop().time() < self._alive_until

    async def _take(self, session: ServedSession) -> None:
        subject = session.book.session
        last = self._owned.pop(subject, None)
        fence = await self._claim(subject)
        if fence != last or session.is_stale:  # another router may have served it meanwhile
            session.is_stale = True
            try:
                await self._restore(session)
            except _DATABASE_ERRORS as error:
                raise _no_answer() from error
        self._owned[subject] = fence

    async def _claim(self, subject: bytes) -> int:
        try:
            claim = await self._ownerships.claim(subject)
        except _DATABASE_ERRORS as error:
            raise _no_answer() from error
        if claim.router != self._ownerships.name:
            raise OwnedElsewhere(claim.router, claim.address)
        return claim.fence


def _no_answer() -> FleetUnavailable:
    return FleetUnavailable("the router's database does not answer", remedy="try again in a few seconds")
