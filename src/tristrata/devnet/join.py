"""Joining the embedded network with a miner of one's own: keys, test ether and test dollars for the bond."""

import asyncio

from tristrata.bindings.hub import open_hubs
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.config.actor import ActorSettings
from tristrata.config.network import MinerSettings
from tristrata.custody.keystore import load_or_create_secret, read_password
from tristrata.devnet.treasury import OPERATOR, give_dollars, give_ether
from tristrata.miner.actor import miner_keystores
from tristrata.protocol.signing import address_of, parse_key
from tristrata.protocol.units import Amount


async def provide_miner(settings: ActorSettings, miner: MinerSettings) -> None:
    """Make the miner's keystores where there are none, and fund its account where this home can.

    A home without the operator's key is not an embedded network's: there the account must have its bond already.
    """
    home = settings.home
    password = read_password(home.password_file)
    secrets = [load_or_create_secret(home.keystore(name), password) for name in miner_keystores(settings.name)]
    if not home.keystore(OPERATOR).exists():
        return
    account, bond = address_of(parse_key(secrets[0]).public_key), Amount(settings.network.parameters.min_bond)
    async with Chains(settings.network) as chains:
        hubs = [
            hub for hub in open_hubs(settings.network, settings.manifest, chains).values() if hub.name in miner.hubs
        ]
        lacking = []
        for hub in hubs:
            head = (await hub.chain.block(Level.SOFT)).number
            if not (await hub.miner(account, at=head)).active and await hub.balance(account, at=head) < bond:
                lacking.append(hub.name)
        if lacking:
            await asyncio.gather(
                give_ether(chains, lacking, account),
                give_dollars(settings, chains, [(name, account, bond) for name in lacking]),
            )
