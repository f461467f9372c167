"""The relayer as a process: registrations across, sealed epochs and evidence up, the validator set down."""

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol

import structlog

from tristrata.bindings.hub import open_hubs
from tristrata.bindings.security import Security
from tristrata.bindings.welcome import Welcome
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.errors import TristrataError
from tristrata.relayer.checkpoints import ToEthereum, ToParent
from tristrata.relayer.evidence import Evidence
from tristrata.relayer.registrations import Registrations
from tristrata.relayer.validator_set import ValidatorSets
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

RELAYER = "relayer"
"""Keystore: the account whose messages the hubs believe, and which pays the gas of what it carries."""

_POLL_SECONDS = 0.25
_log = structlog.get_logger()


class Route(Protocol):
    """Something that is carried again and again."""

    async def carry(self) -> None:
        """Carry what is new; what was carried already costs nothing."""


async def run(settings: ActorSettings) -> None:
    """Carry until cancelled."""
    network, home = settings.network, settings.home
    key = load_key(home.keystore(RELAYER), read_password(home.password_file))
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        intents, attestations = Intents(database), Attestations(Bulletin(home.bulletin))
        hubs = {hub.name: hub for hub in open_hubs(network, settings.manifest, chains).values()}
        writers = {name: TransactionWriter(hub.chain, key, intents) for name, hub in hubs.items()}
        to_hubs = [(hub, writers[name]) for name, hub in hubs.items()]
        security = Security(network, settings.manifest, chains)
        l1_writer = TransactionWriter(security.chain, key, intents)
        name = network.roles.onboarding[0]
        welcome = Welcome(network, settings.manifest, name, chains[name])
        routes: list[Route] = [
            Registrations(welcome, to_hubs),
            ValidatorSets(security, l1_writer, to_hubs, network.parameters.set_validity_seconds),
        ]
        for name, hub in hubs.items():
            routes.append(Evidence(hub, security, l1_writer))
            parent = network.chains[name].parent
            if parent in hubs:
                routes.append(ToParent(hub, hubs[parent], writers[parent], attestations))
            else:
                routes.append(ToEthereum(hub, security, l1_writer, attestations))
        await asyncio.gather(*(_carry_on(route) for route in routes))


async def _carry_on(route: Route) -> None:
    while True:
        try:
            await route.carry()
        except TristrataError as error:
            _log.warning("not carried, tried again soon", route=type(route).__name__, reason=error.message)
        await asyncio.sleep(_POLL_SECONDS)
