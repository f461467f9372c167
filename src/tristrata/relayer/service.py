"""Carries registrations from the Welcome Center to the hubs.

Until bridges exist the hubs believe the relayer's own key: what it carries is the operator's word, not a proof.
"""

import asyncio
from contextlib import AsyncExitStack

import structlog

from tristrata.bindings.contract import Event
from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.welcome import Welcome, registration_message
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.terms import Role
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

RELAYER = "relayer"
"""Keystore: the account whose messages the hubs believe, and which pays their gas."""

_POLL_SECONDS = 0.25
_log = structlog.get_logger()


async def run(settings: ActorSettings) -> None:
    """Carry until cancelled. Messages that were carried already are known from the intents, and cost nothing."""
    network, home = settings.network, settings.home
    key = load_key(home.keystore(RELAYER), read_password(home.password_file))
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        intents = Intents(database)
        hubs = open_hubs(network, settings.manifest, chains).values()
        routes = [(hub, TransactionWriter(hub.chain, key, intents)) for hub in hubs]
        name = network.roles.onboarding[0]
        relayer = Relayer(Welcome(network, settings.manifest, name, chains[name]), routes)
        while True:
            try:
                await relayer.carry_new()
            except TristrataError as error:
                _log.warning("not carried, tried again soon", reason=error.message)
            await asyncio.sleep(_POLL_SECONDS)


class Relayer:
    """From one Welcome Center to some hubs, each with the writer that sends there."""

    def __init__(self, welcome: Welcome, routes: list[tuple[Hub, TransactionWriter]]) -> None:
        self._welcome = welcome
        self._routes = routes
        self._next_block = welcome.first_block

    async def carry_new(self) -> None:
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
