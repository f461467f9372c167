"""Registrations, from the Welcome Center to the hubs.

Until bridges exist the hubs believe the relayer's own key: what it carries is the operator's word, not a proof.
"""

import asyncio

import structlog

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub
from tristrata.bindings.welcome import Welcome, registration_message
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.protocol.terms import Role

_log = structlog.get_logger()


class Registrations:
    """From one Welcome Center to some hubs, each with the writer that sends there."""

    def __init__(self, welcome: Welcome, routes: list[tuple[Hub, TransactionWriter]]) -> None:
        self._welcome = welcome
        self._routes = routes
        self._next_block = welcome.first_block

    async def carry(self) -> None:
        """Carry every registration up to the newest soft block to every hub that does not know it."""
        head = (await self._welcome.chain.block(Level.SOFT)).number
        if head < self._next_block:
            return
        for event in await self._welcome.events(self._next_block, head):
            await asyncio.gather(*(self._carry(event, hub, writer) for hub, writer in self._routes))
        self._next_block = head + 1

    async def _carry(self, event: Event, hub: Hub, writer: TransactionWriter) -> None:
        account, role = event.values["account"], Role(event.values["role"])
        message = (self._welcome.ref, self._welcome.sender, registration_message(account, role))
        purpose = f"carry registration of {account.hex()} as {role.name.lower()}"
        try:
            await hub.sessions.write(writer, purpose, "on_message", *message)
        except TransactionReverted as error:  # the hub will not take it, now or later: others must not wait for it
            _log.error("registration refused by the hub", hub=hub.name, account=account.hex(), reason=error.message)
            return
        _log.info("registration carried", hub=hub.name, account=account.hex())
