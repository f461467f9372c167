"""The embedded network's money: test ether and test dollars for whoever joins. Nothing like it exists elsewhere."""

import asyncio
import fcntl
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tristrata.bindings.hub import open_hubs
from tristrata.chains.pool import Chains
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.ids import Address
from tristrata.protocol.units import Amount
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

OPERATOR = "operator"
"""Keystore: the account that deployed the network and mints its test dollars."""

_ETHER = 10**18
_LOCK_POLL_SECONDS = 0.05


async def give_ether(chains: Chains, names: list[str], account: Address) -> None:
    """Set the account's balance to 100 test ether on each of these chains."""
    await asyncio.gather(
        *(chains[name].rpc("anvil_setBalance", "0x" + account.hex(), hex(100 * _ETHER)) for name in names)
    )


async def give_dollars(
    settings: ActorSettings, chains: Chains, grants: list[tuple[str, Address, Amount]]
) -> list[Inclusion]:
    """Mint test dollars: ``(hub, account, base units)`` each."""
    async with _writers(settings, chains) as writers:
        hubs = {hub.name: hub for hub in open_hubs(settings.network, settings.manifest, chains).values()}
        return list(
            await asyncio.gather(
                *(
                    hubs[name].asset.write(writers[name], f"mint {secrets.token_hex(8)}", "mint", account, amount)
                    for name, account, amount in grants
                )
            )
        )


@asynccontextmanager
async def _writers(settings: ActorSettings, chains: Chains) -> AsyncIterator[dict[str, TransactionWriter]]:
    """The operator's writers, one process at a time: a key has one writer, which owns its nonce."""
    home = settings.home
    async with AsyncExitStack() as stack:
        lock = stack.enter_context((home.keys / "operator.lock").open("w"))
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        database = await Database.open(home.actor(OPERATOR) / f"{OPERATOR}.sqlite")
        stack.push_async_callback(database.close)
        key = load_key(home.keystore(OPERATOR), read_password(home.password_file))
        yield {name: TransactionWriter(chains[name], key, Intents(database)) for name in settings.network.roles.hubs}
