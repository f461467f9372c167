"""The admission actor: answers the NATS server's question about every newcomer from the hubs' miner registries."""

import asyncio
from contextlib import AsyncExitStack

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_secret, read_password
from tristrata.fabric.admission import Admission
from tristrata.fabric.connection import connect
from tristrata.protocol.ids import Address

ADMISSION_NATS, ISSUER = "admission-nats", "fabric-issuer"
"""Keystores: the seed with which this actor connects, and the one that signs admissions."""


async def run(settings: ActorSettings) -> None:
    """Answer until cancelled."""
    home = settings.home
    password = read_password(home.password_file)
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(settings.network))
        hubs = list(open_hubs(settings.network, settings.manifest, chains).values())
        seed = load_secret(home.keystore(ADMISSION_NATS), password)
        connection = await connect(settings.fabric, seed, settings.name)
        stack.push_async_callback(connection.close)

        async def admit(key: bytes) -> Address | None:
            return await _registered(hubs, key)

        await Admission(connection, load_secret(home.keystore(ISSUER), password), admit).start()
        await asyncio.Event().wait()


async def _registered(hubs: list[Hub], key: bytes) -> Address | None:
    """The active miner that a NATS key belongs to on any hub."""
    for hub in hubs:
        head = (await hub.chain.block(Level.SOFT)).number
        account: Address = await hub.miners.read("miner_by_nats_key", key, at=head)
        if any(account) and (await hub.miner(account, at=head)).active:
            return account
    return None
